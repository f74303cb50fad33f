"""Importing exporter files: what is stored, what is set aside, and that a second run adds nothing."""

import collections
import datetime as dt
import gzip
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collectors.importing import chunks, importer
from warehouse import config, schema
from warehouse.lake.tables import Lake

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
REAL_FLOWS = Path(__file__).parents[1] / "data" / "hubble" / "real_2021_gke.jsonl"


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path / "lake")))


def flow_line(number: int, **more: Any) -> str:
    time = f"2026-02-01T10:00:{number % 60:02d}.000000001Z"
    flow = {"time": time, "uuid": f"u{number}", "verdict": "FORWARDED", "node_name": "prod/node-1", **more}
    return json.dumps({"flow": flow, "node_name": "prod/node-1", "time": time}) + "\n"


def run(lake: Lake, path: Path) -> importer.Outcome:
    return importer.import_file(importer.Target(lake=lake, cluster="prod", recorded=NOW), path)


def test_an_empty_file_adds_nothing(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("")
    assert run(lake, tmp_path / "a.log") == importer.Outcome(source=str(tmp_path / "a.log"))
    assert lake.read(schema.COVERAGE).num_rows == 0


def test_malformed_lines_are_set_aside_with_their_place_and_the_rest_is_stored(lake: Lake, tmp_path: Path) -> None:
    file = tmp_path / "a.log"
    file.write_text(flow_line(1) + "{not json\n" + '{"flow": {"verdict": []}}\n' + '{"node_name": "x"}\n' + "[1]\n" + flow_line(2))
    outcome = run(lake, file)
    assert outcome.added == 2
    assert [problem.place for problem in outcome.problems] == [f"{file}:{n}" for n in (2, 3, 4, 5)]
    assert all(problem.reason for problem in outcome.problems)
    assert sorted(lake.read(schema.FLOWS).column("uuid").to_pylist()) == ["u1", "u2"]


def test_what_is_set_aside_holds_no_secrets(lake: Lake, tmp_path: Path) -> None:
    secret = '"url":"http://u:s3cr3t@h/?%74oken=s3cr3t","headers":[{"key":"Cookie","value":"s3cr3t"}]'
    broken = f'{{"flow":{{"l7":{{"http":{{{secret}}}}}}}'
    (tmp_path / "a.log").write_text(f'{broken}\n{broken}}}, "verdict": "http://u:s3cr3t@h"}}\n' + flow_line(1, shiny_new="/?token=s3cr3t"))
    outcome = run(lake, tmp_path / "a.log")
    assert {problem.place for problem in outcome.problems} == {f"{tmp_path}/a.log:{line}" for line in (1, 2)}
    assert "s3cr3t" not in str(outcome)
    assert "REDACTED" in outcome.problems[0].text


def test_a_field_this_version_does_not_know_is_reported_and_the_flow_stored_without_it(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(flow_line(1, shiny_new="x"))
    outcome = run(lake, tmp_path / "a.log")
    assert outcome.added == 1
    assert outcome.problems == []
    assert outcome.unknown == {"flow.shiny_new": 1}


def test_a_file_cut_off_within_its_gzip_keeps_what_came_before_and_says_where(lake: Lake, tmp_path: Path) -> None:
    whole = gzip.compress("".join(flow_line(number) for number in range(20_000)).encode())
    (tmp_path / "a.log.gz").write_bytes(whole[: len(whole) // 2])
    outcome = run(lake, tmp_path / "a.log.gz")
    assert re.search(r"a\.log\.gz:\d+: reading failed", outcome.failure or "")
    assert lake.read(schema.FLOWS).num_rows == outcome.added > 1000
    assert lake.read(schema.COVERAGE).num_rows == 1


def test_the_same_file_twice_adds_nothing(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("".join(map(flow_line, range(10))))
    assert run(lake, tmp_path / "a.log").added == 10
    coverage = lake.read(schema.COVERAGE)
    second = run(lake, tmp_path / "a.log")
    assert (second.added, second.known) == (0, 10)
    assert lake.read(schema.FLOWS).num_rows == 10
    assert lake.read(schema.COVERAGE).num_rows == coverage.num_rows == 1


def test_a_live_file_that_has_grown_adds_only_what_is_new(lake: Lake, tmp_path: Path) -> None:
    lost = {"lost_events": {"num_events_lost": "7"}, "node_name": "node-1", "time": "2026-02-01T10:00:05Z"}
    start = json.dumps(lost) + "\n" + "".join(map(flow_line, range(10)))
    (tmp_path / "a.log").write_text(start)
    run(lake, tmp_path / "a.log")
    (tmp_path / "a.log").write_text(start + "".join(map(flow_line, range(10, 15))))
    assert run(lake, tmp_path / "a.log").added == 5
    coverage = lake.read(schema.COVERAGE).to_pylist()
    assert sum(row["flows_received"] or 0 for row in coverage) == 15
    assert sum(row["flows_lost"] for row in coverage) == 7


def test_a_flow_of_one_uuid_is_stored_once_even_if_a_file_repeats_it(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(flow_line(1) * 2)
    assert run(lake, tmp_path / "a.log").added == 1


def test_equal_lines_without_uuid_are_as_many_flows_in_whatever_chunks_they_are_read(
    lake: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "BLOCK_BYTES", 250)
    (tmp_path / "a.log").write_text(flow_line(1, uuid="") * 5)
    assert run(lake, tmp_path / "a.log").added == 5
    assert run(lake, tmp_path / "a.log").added == 0


def test_lost_events_are_booked_under_the_name_flows_carry(lake: Lake, tmp_path: Path) -> None:
    lost = {"lost_events": {"source": "HUBBLE_RING_BUFFER", "num_events_lost": "7"}, "node_name": "node-1", "time": "2026-02-01T10:00:05Z"}
    (tmp_path / "a.log").write_text(flow_line(1) + json.dumps(lost) + "\n")
    run(lake, tmp_path / "a.log")
    run(lake, tmp_path / "a.log")
    booked = [row for row in lake.read(schema.COVERAGE).to_pylist() if row["state"] == "lost"]
    assert [(row["node_name"], row["source"], row["flows_lost"]) for row in booked] == [("prod/node-1", "HUBBLE_RING_BUFFER", 7)]


def test_aggregated_flows_count_as_their_counts(lake: Lake, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(flow_line(1, uuid="", aggregate={"ingress_flow_count": 40}))
    run(lake, tmp_path / "a.log")
    assert lake.read(schema.FLOWS).column("flow_count").to_pylist() == [40]
    assert lake.read(schema.COVERAGE).column("flows_received").to_pylist() == [40]


def test_a_real_cluster_s_file_imports_whole(lake: Lake) -> None:
    assert run(lake, REAL_FLOWS).added == 1916
    rows = lake.read(schema.FLOWS)
    flows = [json.loads(line)["flow"] for line in REAL_FLOWS.read_text().splitlines()]
    for column, truth in (
        ("verdict", [flow["verdict"] for flow in flows]),
        ("source_namespace", [flow["source"].get("namespace") for flow in flows]),
        ("destination_namespace", [flow["destination"].get("namespace") for flow in flows]),
        ("l7_type", [flow.get("l7", {}).get("type") for flow in flows]),
    ):
        assert collections.Counter(rows.column(column).to_pylist()) == collections.Counter(truth)
    assert run(lake, REAL_FLOWS).added == 0


def test_the_command_reads_standard_input_and_ends_with_1_when_lines_were_bad(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("hindcast")), "import", "--lake", "lake", "--cluster", "prod", "-"]
    done = subprocess.run(command, cwd=tmp_path, input=flow_line(1) + "oops\n", capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "1 flow added" in done.stdout
    assert "-:2: not JSON" in done.stderr
    assert (tmp_path / "hindcast-quarantine.tsv").read_text().startswith("-:2\tnot JSON")


def test_a_wrong_cluster_name_is_a_usage_error(tmp_path: Path) -> None:
    command = [str(Path(sys.executable).with_name("hindcast")), "import", "--lake", "lake", "--cluster", "../x", "-"]
    done = subprocess.run(command, cwd=tmp_path, input="", capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "../x" in done.stderr
