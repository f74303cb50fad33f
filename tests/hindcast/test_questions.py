"""The commands that ask the lake, as people run them."""

import contextlib
import csv
import io
import itertools
import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, FLOWS, TABLES

HINDCAST = [sys.executable, "-c", "from hindcast.cli import main; main()"]


def store(lake: Lake, flows: list[flow_pb2.Flow], cluster: str = "eu-central") -> None:
    rows = decode([flow.SerializeToString() for flow in flows], cluster=cluster, recorded=datetime.now(UTC), live=False).rows
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration and a lake with the traffic of the last minutes, half of the hour observed."""
    folder = tmp_path_factory.mktemp("questions")
    grants = [{"subject": "group:payments", "role": "namespace-owner", "namespaces": ["payments"]}]
    (folder / "hindcast.yaml").write_text(json.dumps({"ownership": {"grants": grants}}))
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    now = datetime.now(UTC)
    fleet = build_fleet(1, clusters=("eu-central",))
    store(lake, list(itertools.islice(Traffic(fleet, 1, now - timedelta(minutes=20), 5.0).flows(), 1000)))
    row = {"cluster": "eu-central", "from": now - timedelta(minutes=30), "to": now, "node_name": "eu-central/worker-001"}
    row |= {"date": row["from"].date(), "state": "connected", "flows_received": 1000, "source": "stream"}  # type: ignore[attr-defined]
    ledger = pa.Table.from_pylist([row, row | {"state": "lost", "flows_lost": 42, "flows_received": None}], schema=COVERAGE.schema)
    lake.commit(COVERAGE, lake.write_files(COVERAGE, ledger), transactions={}, metadata={})
    return folder


def run(folder: Path, *arguments: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HINDCAST, *arguments], cwd=folder, input=given, capture_output=True, text=True, timeout=600, check=False)


# Wrong questions --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["sql", "selec 1"], 1, "syntax error"),
        (["sql", "SELECT nope FROM flows"], 1, "nope"),
        (["sql", "DROP TABLE flows"], 1, "only queries"),
        (["sql", "-"], 2, "no query"),
        (["sql", "SELECT 1", "--since", "yesterday"], 2, "--since: 'yesterday'"),
        (["sql", "SELECT 1", "--config", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["flows", "--until", "soon"], 2, "--until"),
        (["sql", "SELECT 1", "--as", "eve"], 1, "eve owns no namespace"),
        (["flows", "--as", "eve"], 1, "eve owns no namespace"),
        (["status", "--as", "eve"], 1, "eve owns no namespace"),
    ],
)
def test_what_is_wrong_with_a_question_is_reported_without_a_traceback(arguments: list[str], code: int, words: str, folder: Path) -> None:
    done = run(folder, *arguments, given="")
    assert done.returncode == code
    assert words in done.stderr
    assert "Traceback" not in done.stderr


# sql --------------------------------------------------------------------------------------------------------


def test_rows_come_as_json_csv_parquet_and_a_table(folder: Path) -> None:
    query = (
        "SELECT verdict, count(*)::INT AS n, list(DISTINCT l4_protocol ORDER BY l4_protocol) AS protocols FROM flows GROUP BY 1 ORDER BY 1"
    )
    as_json = [json.loads(line) for line in run(folder, "sql", query, "--output", "json").stdout.splitlines()]
    assert sum(row["n"] for row in as_json) == 1000
    as_csv = list(csv.DictReader(io.StringIO(run(folder, "sql", query, "--output", "csv").stdout)))
    assert [(row["verdict"], int(row["n"]), json.loads(row["protocols"])) for row in as_csv] == [tuple(row.values()) for row in as_json]
    assert run(folder, "sql", query, "--output", "parquet", "--file", "out.parquet").returncode == 0
    assert pq.read_table(folder / "out.parquet").to_pylist() == as_json
    done = run(folder, "sql", "-", given=query + ";\n")
    assert "FORWARDED" in done.stdout
    assert "1 file," in done.stderr


def test_the_line_below_says_that_rows_were_cut_and_how_much_was_observed(folder: Path) -> None:
    done = run(folder, "sql", "SELECT * FROM flows WHERE time > now() - INTERVAL 1 HOUR", "--limit", "5", "--output", "csv")
    assert "limit reached" in done.stderr
    assert "observed eu-central 50" in done.stderr or "observed eu-central 49.9" in done.stderr
    assert "42 flows known lost" in done.stderr


def test_the_prompt_answers_goes_on_after_an_error_and_ends(folder: Path) -> None:
    master, slave = pty.openpty()
    environment = {"HOME": str(folder), "TERM": "xterm", "LANG": "C.UTF-8"}
    process = subprocess.Popen([*HINDCAST, "sql"], cwd=folder, stdin=slave, stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    said, began = "", time.monotonic()

    def expect(words: str) -> None:
        nonlocal said
        deadline = time.monotonic() + 30
        while words not in said:
            assert time.monotonic() < deadline, said
            if select.select([master], [], [], 0.1)[0]:
                said += os.read(master, 65536).decode(errors="replace")

    try:
        expect("sql>")
        os.write(master, b"SELECT nope FROM flows;\r")
        expect("not found")
        os.write(master, b"SELECT count(*) + 4000 AS total\r")
        os.write(master, b"FROM flows;\r")
        expect("5000")
        while process.poll() is None:
            with contextlib.suppress(OSError):
                os.write(master, b"\x04")
            with contextlib.suppress(OSError):  # it has gone
                if select.select([master], [], [], 0.3)[0]:
                    said += os.read(master, 65536).decode(errors="replace")
            assert time.monotonic() < began + 60, said
        assert process.returncode == 0
    finally:
        process.kill()
        os.close(master)
    assert "total" in (folder / ".local/state/hindcast/sql_history").read_text()


def test_an_owner_sees_her_own_through_every_command(folder: Path) -> None:
    counted = run(folder, "sql", "SELECT count(*)::INT AS n FROM flows", "--as", "paula", "--group", "payments", "-o", "json")
    (row,) = [json.loads(line) for line in counted.stdout.splitlines()]
    assert 0 < row["n"] < 1000
    listed = run(folder, "flows", "-n", "5000", "--as", "paula", "--group", "payments", "-o", "json")
    flows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert len(flows) == row["n"]
    assert all("payments" in (flow["source_namespace"], flow["destination_namespace"]) for flow in flows)


# flows ------------------------------------------------------------------------------------------------------


def test_flows_are_printed_oldest_first_and_filtered(folder: Path) -> None:
    lines = run(folder, "flows", "--verdict", "dropped", "--namespace", "payments", "--namespace", "identity").stdout.splitlines()
    assert lines
    assert all("DROPPED" in line or "DENIED" in line for line in lines)
    assert [line[:19] for line in lines] == sorted(line[:19] for line in lines)
    assert len(run(folder, "flows", "-n", "7").stdout.splitlines()) == 7


def test_jsonpb_is_what_hubble_would_have_printed(folder: Path) -> None:
    responses = [json.loads(line) for line in run(folder, "flows", "-n", "3", "-o", "jsonpb").stdout.splitlines()]
    assert [set(response) for response in responses] == [{"flow", "node_name", "time"}] * 3


def flow_of(seconds_ago: float) -> flow_pb2.Flow:
    made = flow_pb2.Flow(uuid=str(uuid.uuid4()), node_name="n", verdict=flow_pb2.FORWARDED, Summary=f"{seconds_ago} s ago")
    made.time.FromDatetime(datetime.now(UTC) - timedelta(seconds=seconds_ago))
    return made


@contextlib.contextmanager
def following(folder: Path, *options: str) -> Iterator[Iterator[str]]:
    """The lines that `hindcast flows --follow` prints, as they come; it is interrupted at the end, and has to print no other line."""
    command = [*HINDCAST, "flows", "--lake", str(folder / "lake"), "--follow", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield (line.rpartition("(")[2].strip(" )\n") for line in process.stdout)
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=300)
        assert rest == ""
        assert process.returncode == 130
    finally:
        process.kill()
        process.wait()


def test_following_prints_each_new_flow_once_also_a_late_one(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    store(lake, [flow_of(30)])
    with following(tmp_path) as lines:
        assert next(lines) == "30 s ago"
        store(lake, [flow_of(1), flow_of(2)])
        assert [next(lines), next(lines)] == ["2 s ago", "1 s ago"]
        store(lake, [flow_of(20)])
        assert next(lines) == "20 s ago"
        store(lake, [flow_of(0)])  # what is printed again would be printed before it
        assert next(lines) == "0 s ago"


def test_last_limits_what_is_printed_before_new_flows_are_followed(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    store(lake, [flow_of(number + 10) for number in range(60)])
    with following(tmp_path, "--last", "5") as lines:
        assert [next(lines) for _ in range(5)] == [f"{number} s ago" for number in (14, 13, 12, 11, 10)]
        store(lake, [flow_of(5)])
        assert next(lines) == "5 s ago"
        store(lake, [flow_of(40.5)])
        assert next(lines) == "40.5 s ago"


def test_the_help_of_sql_names_every_table(folder: Path) -> None:
    printed = run(folder, "sql", "--help").stdout
    assert TABLES.keys() - set(re.findall(r"\w+", printed)) == set()


# status -----------------------------------------------------------------------------------------------------


def test_status_shows_each_node_and_the_size_of_the_lake(folder: Path) -> None:
    (row,) = [json.loads(line) for line in run(folder, "status", "-o", "json").stdout.splitlines()]
    expected: dict[str, Any] = {"cluster": "eu-central", "node": "eu-central/worker-001", "lost_1h": 42, "lost_24h": 42}
    assert {name: row[name] for name in expected} == expected
    assert row["covered_1h"] in ("49.9%", "50.0%", "49.8%")
    assert row["covered_24h"] == "2.1%"
    printed = run(folder, "status").stdout
    assert "lake: " in printed
    assert " files" in printed  # with those of the access log, which each command adds to


def test_status_has_the_nodes_of_imported_flows_and_prints_only_as_many_as_wanted(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    rows = [
        {"cluster": "files", "date": at.date(), "time": at, "node_name": f"n{number}"}
        for number in range(3)
        if (at := now - timedelta(hours=1 + number))
    ]
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema)), transactions={}, metadata={})
    found = [json.loads(line) for line in run(tmp_path, "status", "--lake", str(tmp_path / "lake"), "-o", "json").stdout.splitlines()]
    assert [(row["node"], row["state"]) for row in found] == [("n0", "imported"), ("n1", "imported"), ("n2", "imported")]
    assert found[1]["last_flow"] == f"{now - timedelta(hours=2):%Y-%m-%d %H:%M:%S} UTC"
    printed = run(tmp_path, "status", "--lake", str(tmp_path / "lake"), "--nodes", "1").stdout
    assert "n0" in printed
    assert "n1" not in printed
    assert "files: 2 more nodes (2 imported)" in printed


def test_status_of_an_empty_lake_has_no_node(tmp_path: Path) -> None:
    done = run(tmp_path, "status", "--lake", str(tmp_path / "lake"))
    assert done.returncode == 0
    assert "no flow yet" in done.stdout
