"""Exports for programs and files are whole and stream; only what is shown to people is cut, and every cut is said."""

import csv
import io
import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.access import access_log
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG, FLOWS

HINDCAST = [sys.executable, "-c", "from hindcast.cli import main; main()"]
MANY = "SELECT x AS number FROM range(150000) t(x)"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake with 1,000 flows of two days, and a configuration with an owner of one namespace."""
    folder = tmp_path_factory.mktemp("exports")
    grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]}]
    (folder / "hindcast.yaml").write_text(json.dumps({"ownership": {"grants": grants}}))
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    for seed, ago in enumerate((timedelta(days=1), timedelta(minutes=20))):
        traffic = Traffic(build_fleet(1, clusters=("eu",)), seed, datetime.now(UTC) - ago, 5.0)
        messages = [flow.SerializeToString() for flow in itertools.islice(traffic.flows(), 500)]
        rows = decode(messages, cluster="eu", recorded=datetime.now(UTC), live=False).rows
        lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run([*HINDCAST, *arguments], cwd=folder, capture_output=True, timeout=600, check=False)


def test_a_query_that_fails_leaves_the_file_that_was_there(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "kept.csv"
    file.write_text("as it was")
    wrong = "SELECT CASE WHEN x > 120000 THEN error('too far') ELSE x END AS n FROM range(150000) t(x)"
    ended = run(folder, "sql", wrong, "-o", "csv", "--file", str(file))
    assert ended.returncode != 0
    assert b"too far" in ended.stderr
    assert file.read_text() == "as it was"
    assert list(tmp_path.iterdir()) == [file]


def test_a_file_in_a_folder_that_is_not_there_is_named(folder: Path) -> None:
    ended = run(folder, "sql", MANY, "-o", "csv", "--file", "missing/rows.csv")
    assert ended.returncode == 2
    assert b"--file missing/rows.csv: cannot be written" in ended.stderr


@pytest.mark.parametrize("who", [[], ["--as", "paula"]], ids=["operator", "owner"])
@pytest.mark.parametrize("form", ["csv", "jsonl", "json", "parquet"])
def test_every_row_of_a_query_is_written(form: str, who: list[str], folder: Path) -> None:
    ended = run(folder, "sql", MANY, "-o", form, *who)
    assert ended.returncode == 0, ended.stderr
    if form == "parquet":
        numbers = pq.read_table(io.BytesIO(ended.stdout))["number"].to_pylist()
    elif form == "csv":
        numbers = [int(row["number"]) for row in csv.DictReader(io.StringIO(ended.stdout.decode()))]
    else:
        numbers = [json.loads(line)["number"] for line in ended.stdout.splitlines()]
    assert numbers == list(range(150_000))
    assert b"150,000 rows" in ended.stderr


def test_an_export_that_a_limit_cuts_ends_with_1_and_says_so(folder: Path) -> None:
    ended = run(folder, "sql", MANY, "-o", "csv", "--limit", "70000")
    assert ended.returncode == 1
    assert len(ended.stdout.splitlines()) == 70_001
    assert b"not everything: only the first 70,000 rows" in ended.stderr
    exact = run(folder, "sql", MANY, "-o", "csv", "--limit", "150000")
    assert exact.returncode == 0
    assert b"not everything" not in exact.stderr


def test_a_table_for_people_is_cut_and_says_so(folder: Path) -> None:
    ended = run(folder, "sql", MANY)
    assert ended.returncode == 0
    assert len(ended.stdout.splitlines()) == 10_001
    assert b"there are more" in ended.stderr


@pytest.mark.parametrize("form", ["csv", "jsonl", "jsonpb"])
def test_all_flows_are_exported_and_the_newest_200_are_shown(form: str, folder: Path) -> None:
    assert len(run(folder, "flows", "--since", "2d").stdout.splitlines()) == 200
    ended = run(folder, "flows", "--since", "2d", "-o", form)
    assert ended.returncode == 0, ended.stderr
    assert len(ended.stdout.splitlines()) == 1_000 + (form == "csv")
    assert len(run(folder, "flows", "--since", "2d", "-o", form, "--last", "7").stdout.splitlines()) == 7 + (form == "csv")


def test_exported_flows_are_those_of_sql_oldest_first_and_only_the_owners(folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "flows.parquet"
    assert run(folder, "flows", "--since", "2d", "-o", "parquet", "--file", str(file)).returncode == 0
    flows = pq.read_table(file)
    assert flows.schema.names == FLOWS.schema.names
    assert flows["time"].to_pylist() == sorted(flows["time"].to_pylist())
    assert flows.num_rows == len(set(flows["uuid"].to_pylist())) == 1_000
    assert run(folder, "flows", "--since", "2d", "--as", "paula", "-o", "parquet", "--file", str(file)).returncode == 0
    hers = pq.read_table(file)
    payments = flows.filter(
        [("payments" in pair) for pair in zip(*(flows[f"{side}_namespace"].to_pylist() for side in ("source", "destination")), strict=True)]
    )
    assert 0 < hers.num_rows < flows.num_rows
    assert set(hers["uuid"].to_pylist()) == set(payments["uuid"].to_pylist())


def test_nobody_exports_what_no_grant_allows_and_it_is_noted(folder: Path) -> None:
    ended = run(folder, "flows", "--since", "2d", "-o", "csv", "--as", "mallory")
    assert ended.returncode != 0
    assert ended.stdout == b""
    access_log.flush()
    rows = Lake.open(config.Lake(url=str(folder / "lake"))).read(ACCESS_LOG).to_pylist()
    assert any(row["principal"] == "mallory" and row["outcome"] == "denied" for row in rows)
