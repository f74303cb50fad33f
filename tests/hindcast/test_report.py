"""`hindcast report`: files that are written, exit codes, and mistakes named before anything is made."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import Result
from typer.testing import CliRunner

from hindcast import report
from hindcast.cli import app
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, REPORTS

AT = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
SPAN = ("--since", "2026-03-02", "--until", "2026-03-03")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a configuration, and a lake with one flow."""
    made = tmp_path_factory.mktemp("report")
    grants = [{"subject": "group:shop", "role": "namespace-owner", "namespaces": ["shop"]}]
    (made / "ports.yaml").write_text(
        "title: Ports\nqueries: {p: {sql: SELECT destination_port AS port FROM flows}}\nsections: [{id: p, title: P, query: p}]"
    )
    document = {"lake": {"url": "lake"}, "ownership": {"grants": grants}, "reports": {"files": ["ports.yaml"]}}
    (made / "hindcast.yaml").write_text(json.dumps(document))
    lake = Lake.open(config.load_config(made / "hindcast.yaml").lake)
    row = {"cluster": "c1", "date": AT.date(), "time": AT, "uuid": "a", "verdict": "FORWARDED", "flow_count": 1, "source_namespace": "shop"}
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist([row], schema=FLOWS.schema)), transactions={}, metadata={})
    return made


def run(folder: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["report", *arguments, "--config", str(folder / "hindcast.yaml")])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fleat", *SPAN), "there is no report 'fleat'; the reports are: fleet, owner, segmentation, access, changes, ports"),
        (("fleet", "--format", "pdf"), "--format: pdf is not a format; formats are html, csv, json, parquet, oscal"),
        (("fleet", "--since", "2026-03-03", "--until", "2026-03-02"), "is empty: --since must be before --until"),
        (("fleet", "--window", "week"), "--window: 'week' is not a duration"),
        (("fleet", "--file", "report.pdf"), "--file report.pdf: give a name that ends in .html"),
        (("owner", *SPAN), "report owner: say for whom with --for USER or --for group:NAME"),
        (("fleet", "--for", "mallory", *SPAN), "--for mallory: no grant names this user or group"),
        (("segmentation", *SPAN), "the configuration names no zones"),
        (("fleet", "--deliver-to", "nowhere", *SPAN, "--file", "never.html"), "there is no delivery named 'nowhere'"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_made(
    arguments: tuple[str, ...], message: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = run(folder, *arguments)
    assert message in str(done.exception)
    assert getattr(done.exception, "exit_code", None) == 2
    assert list(tmp_path.iterdir()) == []


def test_it_is_made_verified_and_found_changed(folder: Path, tmp_path: Path) -> None:
    page = tmp_path / "shop.html"
    done = run(folder, "owner", "--for", "shop", *SPAN, "--file", str(page), "--format", "html,csv,oscal")
    assert done.exit_code == 0, done.exception
    assert str(page) in done.stdout.split()
    assert {path.name for path in tmp_path.iterdir()} >= {"shop.html", "shop.manifest.json", "shop.oscal.json", "shop.inbound.csv"}
    assert page.stat().st_mode & 0o077 == 0
    verified = run(folder, "verify", str(page))
    assert (verified.exit_code, verified.stdout.split(":")[0]) == (0, "identical")
    page.write_text(page.read_text().replace("Who talked to us", "Who spoke to us", 1))
    changed = run(folder, "verify", str(page))
    assert changed.exit_code == 1
    assert "- shop.html was changed after it was made" in changed.stdout
    lake = Lake.open(config.load_config(folder / "hindcast.yaml").lake)
    assert [row["event"] for row in lake.read(REPORTS).sort_by("time").to_pylist()] == ["made", "identical", "differs"]


def test_a_window_ends_no_later_than_everything_in_it_is_committed(folder: Path, tmp_path: Path) -> None:
    half, minute = dt.timedelta(seconds=30), dt.timedelta(minutes=1)
    for now, until, end in (
        (AT + half, None, AT - dt.timedelta(hours=1)),
        (AT + minute, None, AT),
        (AT + half, AT.isoformat(), AT - half),
        (AT, "1h", AT - dt.timedelta(hours=1)),
    ):
        assert report._window(None, until, "2h", now=now, known=now - minute) == (end - dt.timedelta(hours=2), end)
    assert run(folder, "ports", "--until", "1s", "--file", str(tmp_path / "ports.html"), "--format", "csv").exit_code == 0
    described = json.loads((tmp_path / "ports.manifest.json").read_text())
    asked, made = described["asked"], dt.datetime.fromisoformat(described["made"])
    assert dt.datetime.fromisoformat(asked["until"]) <= dt.datetime.fromisoformat(asked["known"]) <= made - minute


def test_a_report_of_ones_own_is_made_by_its_name(folder: Path, tmp_path: Path) -> None:
    done = run(folder, "ports", *SPAN, "--file", str(tmp_path / "ports.html"), "--format", "csv")
    assert done.exit_code == 0, done.exception
    assert (tmp_path / "ports.p.csv").read_text().splitlines()[0] == "port"
    assert run(folder, "verify", str(tmp_path / "ports.manifest.json")).exit_code == 0


def test_the_verdict_about_a_page_that_the_lake_does_not_know_is_not_recorded(folder: Path, tmp_path: Path) -> None:
    assert run(folder, "ports", *SPAN, "--file", str(tmp_path / "ports.html"), "--format", "csv").exit_code == 0
    manifest = tmp_path / "ports.manifest.json"
    lake = Lake.open(config.load_config(folder / "hindcast.yaml").lake)
    before = lake.read(REPORTS).num_rows
    text = manifest.read_text()
    for forged, said in (
        (text.replace("FROM flows", "FROM coverage"), "- the manifest is not the one that was recorded"),
        (text.replace(json.loads(text)["id"], "another"), "- the lake has no record that this report was made"),
    ):
        manifest.write_text(forged)
        verified = run(folder, "verify", str(manifest))
        assert verified.exit_code == 1
        assert said in verified.stdout
    assert Lake.open(config.load_config(folder / "hindcast.yaml").lake).read(REPORTS).num_rows == before
