"""What people really have: exporter files with masks, holes, secrets, foreign fields and wrappings, through the command itself."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from warehouse import config, schema
from warehouse.lake.tables import Lake

FIELD = Path(__file__).parents[2] / "data" / "field"
HINDCAST = str(Path(sys.executable).with_name("hindcast"))


class Imported:
    """Runs `hindcast import` in a folder of its own and reads the lake."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def run(self, *paths: Path | str, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [HINDCAST, "import", "--lake", "lake", "--cluster", "red", "--quarantine", "q.tsv", *map(str, paths)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False, **options)

    def ask(self, *arguments: str) -> str:
        """What another command of ours prints about the lake, standard error included."""
        command = [HINDCAST, arguments[0], "--lake", "lake", *arguments[1:]]
        done = subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=True)
        return done.stdout + done.stderr

    def rows(self, table: schema.Table = schema.FLOWS) -> list[dict[str, Any]]:
        return Lake.open(config.Lake(url=str(self.folder / "lake"))).read(table).to_pylist()

    def connected(self) -> list[tuple[str, dt.datetime, dt.datetime]]:
        found = [(row["node_name"], row["from"], row["to"]) for row in self.rows(schema.COVERAGE) if row["state"] == "connected"]
        return sorted(found)

    @property
    def quarantine(self) -> str:
        file = self.folder / "q.tsv"
        return file.read_text() if file.exists() else ""


@pytest.fixture
def imported(tmp_path: Path) -> Imported:
    return Imported(tmp_path)


def at(hour: int, minute: int = 0, *, day: int = 1) -> dt.datetime:
    return dt.datetime(2026, 10, day, hour, minute, tzinfo=dt.UTC)


def test_a_flow_without_time_and_node_takes_them_from_its_event_and_a_second_run_adds_nothing(imported: Imported) -> None:
    file = FIELD / "01-mask-time-outside.jsonl"
    first = imported.run(file)
    assert (first.returncode, "3 flows added" in first.stdout) == (0, True), first.stderr
    assert sorted((row["time"], row["node_name"]) for row in imported.rows()) == [
        (at(10), "red/n1"), (at(11), "red/n2"), (at(12), "red/n1"),
    ]  # fmt: skip
    ledger = imported.rows(schema.COVERAGE)
    second = imported.run(file)
    assert "0 flows added, 3 known already" in second.stdout
    assert len(imported.rows()) == 3
    assert imported.rows(schema.COVERAGE) == ledger


def test_a_reason_holds_no_secret_and_is_short(imported: Imported) -> None:
    done = imported.run(FIELD / "03-secret-in-reason.json")
    assert done.returncode == 1
    assert "2 flows added" in done.stdout
    assert "hunter2" not in imported.quarantine + done.stderr + done.stdout
    assert "REDACTED" in imported.quarantine
    assert "flow.l7.http.headers" in done.stderr
    assert max(map(len, done.stderr.splitlines())) < 300
    assert "hunter2" not in str(imported.rows())


def test_a_file_of_twenty_days_is_observed_on_each_of_them(imported: Imported) -> None:
    assert imported.run(FIELD / "05-file-of-20-days.jsonl").returncode == 0
    assert "observed red 100.0%" in imported.ask("flows", "--since", "2026-10-08", "--until", "2026-10-09")
    assert max(end - begin for _, begin, end in imported.connected()) <= dt.timedelta(days=1)


def test_a_pause_within_a_file_is_not_observed(imported: Imported) -> None:
    assert imported.run(FIELD / "06-gap-within-file.jsonl").returncode == 0
    answer = imported.ask("flows", "--since", "2026-10-02", "--until", "2026-10-03")
    assert "100.0%" not in answer
    assert sum((end - begin for _, begin, end in imported.connected()), dt.timedelta()) < dt.timedelta(seconds=10)


def test_a_flow_with_an_extension_of_an_unknown_type_is_stored_and_the_extension_kept(imported: Imported) -> None:
    done = imported.run(FIELD / "08-extension-unknown.jsonl")
    assert (done.returncode, "3 flows added" in done.stdout) == (0, True), done.stderr
    assert "utils.RetinaMetadata" in done.stderr
    rows = sorted(imported.rows(), key=lambda row: row["time"])
    assert b"tcp_id" in rows[0]["rest"]
    assert [row["flow_count"] for row in rows] == [1, 12, 1]


def test_a_deep_line_is_set_aside_and_the_next_file_is_read(imported: Imported) -> None:
    done = imported.run(FIELD / "09-deep-line.jsonl", FIELD / "01-mask-time-outside.jsonl")
    assert (done.returncode, "5 flows added" in done.stdout) == (1, True), done.stderr
    assert "09-deep-line.jsonl:2" in done.stderr
    assert "Traceback" not in done.stderr


def test_rotated_and_shipped_files_are_read_whatever_their_names(imported: Imported) -> None:
    done = imported.run(FIELD / "10-folder-names.d")
    assert done.returncode == 0, done.stderr
    assert re.search(r"of 7 files: 14 flows added", done.stdout), done.stdout


def test_keys_beside_the_flow_are_no_problem(imported: Imported) -> None:
    done = imported.run(FIELD / "12-extra-outer-keys.log")
    assert (done.returncode, "3 flows added" in done.stdout) == (0, True), done.stderr
    assert imported.quarantine == ""


def test_wrapped_flows_are_unwrapped_and_what_cannot_be_is_named_with_a_way_out(imported: Imported) -> None:
    done = imported.run(FIELD / "13-wrapped.log")
    assert done.returncode == 1
    assert "7 flows added" in done.stdout, done.stderr
    assert sorted(row["uuid"][-2:] for row in imported.rows()) == [f"0{number}" for number in range(1, 8)]
    (line,) = [line for line in done.stderr.splitlines() if "13-wrapped.log:7" in line]
    assert "hubble observe -o jsonpb" in line


def test_a_new_field_on_every_line_is_reported_once_with_its_count(imported: Imported) -> None:
    lines = (FIELD / "12-extra-outer-keys.log").read_text().replace('"verdict"', '"shiny_new":{"a":1},"verdict"')
    (imported.folder / "a.log").write_text(lines)
    done = imported.run("a.log")
    assert (done.returncode, "3 flows added" in done.stdout) == (0, True), done.stderr
    (line,) = [line for line in done.stderr.splitlines() if "shiny_new" in line]
    assert "3" in line
    assert imported.quarantine == ""
    assert json.loads(lines.splitlines()[0])["flow"]["uuid"] in {row["uuid"] for row in imported.rows()}
