"""Erasure: what must stay, what goes with all that names it, and the finding that is left."""

import datetime as dt
import getpass
import io
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from hindcast import cli
from pipelines.maintenance import erasure
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, EDGES_1H, FINDINGS, FLOWS, ROLLUPS, TABLES

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
NOW = NOON + dt.timedelta(days=3)
HOUR = dt.timedelta(hours=1)


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


def store(lake: Lake, *flows: dict[str, Any]) -> None:
    usual = {"cluster": "c1", "time": NOON, "verdict": "FORWARDED", "flow_count": 1}
    rows = [usual | {"uuid": f"{number}"} | flow for number, flow in enumerate(flows)]
    rows = [row | {"date": row["time"].date()} for row in rows]  # type: ignore[attr-defined]
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema)), transactions={}, metadata={})


def request(**more: Any) -> erasure.Request:
    return erasure.Request(**{"cluster": "c1", "namespace": "pay", "reason": "request 7"} | more)


def uuids(lake: Lake) -> list[str]:
    return sorted(lake.read(FLOWS, ["uuid"])["uuid"].to_pylist())


def findings(lake: Lake) -> list[dict[str, Any]]:
    return sorted(lake.read(FINDINGS).to_pylist(), key=lambda row: str(row["kind"]))


def test_what_does_not_name_the_namespace_stays_and_nothing_is_left_behind(lake: Lake) -> None:
    store(lake, {"source_namespace": "payments"}, {"destination_namespace": "xpay"}, {}, {"source_labels": ["k8s:app=pay"]})
    assert erasure.erase(lake, request(), (), now=NOW) == []
    assert len(uuids(lake)) == 4
    assert findings(lake) == []


def test_a_dry_run_says_what_would_go_and_takes_nothing(lake: Lake) -> None:
    store(lake, {"source_namespace": "pay"}, {"source_namespace": "shop"})
    (would,) = erasure.erase(lake, request(), (), now=NOW, dry_run=True)
    assert (would.rows, uuids(lake), findings(lake)) == (1, ["0", "1"], [])


def test_every_flow_that_names_it_in_either_side_goes_also_those_of_another_owner(lake: Lake) -> None:
    label = "k8s:io.kubernetes.pod.namespace=pay"
    store(
        lake,
        {"source_namespace": "pay", "destination_namespace": "shop"},
        {"source_namespace": "shop", "destination_namespace": "pay"},
        {"source_namespace": "shop", "destination_service_namespace": "pay"},
        {"source_labels": ["k8s:app=x", label]},
        {"destination_labels": [None, label]},
        {"source_namespace": "shop", "source_labels": [], "destination_labels": None},
        {"source_namespace": "pay", "cluster": "c2"},
    )
    done = erasure.erase(lake, request(), (), now=NOW)
    assert sum(one.rows for one in done) == 5
    assert uuids(lake) == ["5", "6"], "the other cluster's namespace is another"
    assert erasure.erase(lake, request(), (), now=NOW) == []


def test_an_erasure_leaves_a_finding_with_who_requested_it_why_and_how_many_rows(lake: Lake) -> None:
    store(lake, {"source_namespace": "pay"}, {"source_namespace": "shop"})
    erasure.erase(lake, request(asked_by="ada"), (), now=NOW)
    begun, done = findings(lake)[1], findings(lake)[0]
    assert (done["kind"], begun["kind"]) == ("erased", "erasure_begun")
    assert (done["cluster"], done["namespace"], done["severity"], done["source"]) == ("c1", "pay", "info", "hindcast maintain erase")
    detail = json.loads(done["detail"])
    assert detail["rows"] == {"flows": 1}
    assert (detail["asked_by"], detail["reason"]) == ("ada", "request 7")
    assert "from the beginning until 2026-03-05T12:00:00Z was erased on request: 1 row" in done["summary"]


def test_an_erasure_is_recorded_under_the_user_who_runs_it_if_nobody_is_named(lake: Lake) -> None:
    store(lake, {"source_namespace": "pay"})
    erasure.erase(lake, request(), (), now=NOW)
    assert json.loads(findings(lake)[0]["detail"])["asked_by"] == getpass.getuser()


def test_only_the_window_goes_and_later_flows_stay(lake: Lake) -> None:
    hours = [{"source_namespace": "pay", "time": NOON + number * HOUR} for number in range(4)]
    store(lake, *hours, {"source_namespace": "pay", "time": NOW + HOUR})
    erasure.erase(lake, request(since=NOON + HOUR, until=NOON + 3 * HOUR), (), now=NOW)
    assert uuids(lake) == ["0", "3", "4"]
    erasure.erase(lake, request(), (), now=NOW)
    assert uuids(lake) == ["4"], "what comes after the request is another matter"


def test_a_hold_wins_and_is_reported(lake: Lake) -> None:
    store(lake, {"source_namespace": "pay"}, {"source_namespace": "pay", "time": NOON + HOUR})
    hold = config.Hold(namespace="pay", until=NOON + HOUR, reason="case 7")
    (done,) = erasure.erase(lake, request(), (hold,), now=NOW)
    assert (done.rows, done.held, uuids(lake)) == (1, 1, ["0"])
    assert json.loads(findings(lake)[0]["detail"])["held"] == {"flows": 1}
    assert "1 more are held" in findings(lake)[0]["summary"]


def test_a_crash_after_the_first_row_is_reported_and_the_next_run_finishes(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    store(lake, *({"source_namespace": "pay", "time": NOON + number * dt.timedelta(days=1)} for number in range(2)))
    replace, calls = Lake.replace, [0]

    def die_at_the_second(self: Lake, *arguments: Any, **options: Any) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        replace(self, *arguments, **options)

    with monkeypatch.context() as dying:
        dying.setattr(Lake, "replace", die_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            erasure.erase(lake, request(), (), now=NOW)
    assert uuids(lake) == ["1"]
    assert [row["kind"] for row in findings(lake)] == ["erasure_begun"]
    erasure.erase(lake, request(), (), now=NOW)
    assert uuids(lake) == []


def test_rollups_forget_it_too_and_do_not_learn_it_again(lake: Lake) -> None:
    label = "k8s:io.kubernetes.pod.namespace=pay"
    pay = {"source_namespace": "pay", "destination_namespace": "shop", "source_labels": [label], "verdict": "DROPPED"}
    store(lake, pay, {"source_namespace": "shop", "destination_namespace": "shop", "source_labels": ["k8s:app=x"]})
    roll_up_closed_hours(lake, config.Rollups(), now=NOW)
    assert "pay" in lake.read(EDGES_1H)["source_namespace"].to_pylist()
    erased = {one.table.name for one in erasure.erase(lake, request(), (), now=NOW)}
    assert {"flows", "edges_1h", "timeline_1m", "label_sets"} <= erased
    for again in (False, True):
        if again:
            roll_up_closed_hours(lake, config.Rollups(), now=NOW)
        for table in ROLLUPS:
            assert "pay" not in str(lake.read(table).to_pylist()), table.name
        assert lake.read(EDGES_1H)["flows"].to_pylist() == [1]


def test_findings_and_the_ledger_stay(lake: Lake) -> None:
    row = {"cluster": "c1", "date": NOON.date(), "time": NOON, "kind": "x", "severity": "low", "namespace": "pay", "source": "t"}
    lake.commit(FINDINGS, lake.write_files(FINDINGS, pa.Table.from_pylist([row], schema=FINDINGS.schema)), transactions={}, metadata={})
    store(lake, {"source_namespace": "pay"})
    erasure.erase(lake, request(), (), now=NOW)
    assert [row["kind"] for row in findings(lake)] == ["erased", "erasure_begun", "x"]
    assert {"findings", "coverage"}.isdisjoint(erasure.TABLE_NAMES)


def test_every_table_of_flows_and_rollups_is_erased_from() -> None:
    """A table that tells of traffic by both sides must not be forgotten."""
    told = {name for name, table in TABLES.items() if "source_namespace" in table.schema.names}
    assert told <= set(erasure.TABLE_NAMES)


# The commands ----------------------------------------------------------------------------------------------------


@dataclass
class Ended:
    """What a command left."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Runs `hindcast maintain` with arguments, in the lake's folder."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: str, given: str = "") -> Ended:
        monkeypatch.setattr(sys, "argv", ["hindcast", "maintain", *arguments])
        monkeypatch.setattr(sys, "stdin", io.StringIO(given))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        told = capsys.readouterr()
        return Ended(int(ended.value.code or 0), told.out, told.err)

    return command


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # the programs are given a folder
def test_the_commands_ask_refuse_and_do(lake: Lake, tmp_path: Path, run: Callable[..., Ended], place: Any) -> None:
    hold = {"namespace": "held", "reason": "case 7"}
    (tmp_path / "hindcast.yaml").write_text(json.dumps({"retention": {"flows": "2d", "holds": [hold]}}))
    today = dt.datetime.now(dt.UTC)
    store(
        lake,
        {"source_namespace": "pay", "time": today},
        {"source_namespace": "held", "destination_namespace": "pay", "time": today},
        {"source_namespace": "shop", "time": today - dt.timedelta(days=9)},
    )
    erase = ["erase", "--cluster", "c1", "--namespace", "pay", "--reason", "request 7"]
    assert run(*erase[:3]).returncode == 2
    assert "whole hour" in run(*erase, "--since", "2026-03-02T12:30Z").stderr
    assert "1 row would go; 1 more are held" in run(*erase, "--dry-run").stdout
    refused = run(*erase, given="n\n")
    assert (refused.returncode, "erase 1 row " in refused.stderr, len(uuids(lake))) == (1, True, 3)
    done = run(*erase, "--yes")
    assert (done.returncode, len(uuids(lake))) == (1, 2), "1, since a hold kept some"
    assert "1 row naming pay cannot be erased: a hold" in done.stderr
    assert "first vacuum after" in done.stdout

    assert run("retain", "--lake", str(place.folder), "--config", str(tmp_path / "no.yaml")).returncode == 2
    assert "1 row would go" in run("retain", "--dry-run").stdout
    rows = [json.loads(line) for line in run("retain", "--output", "json").stdout.splitlines()]
    assert [(row["table"], row["rows"], row["files_dropped"]) for row in rows] == [("flows", 1, 1)]
    assert "0 rows went" in run("retain").stdout
    assert COVERAGE.name not in [row["table"] for row in rows]

    assert "--after" in run("vacuum", "--after", "5m").stderr
    assert run("vacuum", "--after", "soon").returncode == 2
    assert "0 files, 0 bytes would be deleted" in run("vacuum", "--dry-run").stdout
    assert "flows: version" in run("checkpoint").stdout
    told = [json.loads(line) for line in run("statistics", "--output", "json").stdout.splitlines()]
    assert next((one["rows"], one["files"]) for one in told if one["table"] == "flows") == (1, 1)
