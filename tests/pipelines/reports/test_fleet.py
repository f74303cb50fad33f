"""The fleet report: what it says of a lake, and what it never says."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.evidence.reports import making
from pipelines.evidence.reports.asked import ReportOf
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError, ConfigError

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def make(fleet: Any, formats: tuple[str, ...] = ("html", "csv", "json", "parquet"), **more: Any) -> making.Made:
    request = ReportOf(name=more.pop("name", "fleet"), since=START, until=START + 2 * DAY, known=START + 3 * DAY, **more)
    return making.make(fleet.settings, fleet.lake, request, formats=formats, stem="r", by="test", made=request.known)


def rows(made: making.Made, section: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(one.rows for one in made.report.sections if one.id == section and one.rows is not None).to_pylist()
    return found


def test_an_unknown_report_is_refused_with_the_names_there_are(read_fleet: Any) -> None:
    with pytest.raises(ConfigError, match="there is no report 'fleat'; the reports are: fleet"):
        make(read_fleet, name="fleat")


def test_a_stranger_gets_no_report(read_fleet: Any) -> None:
    with pytest.raises(AccessDeniedError):
        make(read_fleet, subject=Principal(user="mallory"))


def test_of_an_empty_lake_nothing_is_claimed(empty_fleet: Any) -> None:
    page = make(empty_fleet).files["r.html"].decode()
    assert "No node was expected to be observed in this window: nothing is known about it." in page
    assert "No flow was recorded in this window." in page
    assert "No control was evaluated by then" in page


def test_an_owner_reads_nothing_of_others(read_fleet: Any) -> None:
    made = make(read_fleet, subject=Principal(user="group:payments", groups=frozenset({"payments"})))
    everything = b"".join(content for name, content in made.files.items() if not name.endswith(".parquet"))
    assert b"us/n1" not in everything
    assert b"shop/cart" not in everything
    assert {row["namespace"] for row in rows(made, "namespaces")} == {"pay", "shop", "db"}  # peers of pay, by name
    assert sum(row["flows"] for row in rows(made, "volume")) == 40 + 20 + 40 + 20 + 3
    assert rows(made, "drops") == []
    assert rows(made, "posture") == []
    assert set(made.manifest["tables"]) == {"flows"}


def test_it_counts_what_was_recorded_and_names_what_was_not_observed(read_fleet: Any) -> None:
    made = make(read_fleet)
    assert sum(row["flows"] for row in rows(made, "volume")) == 143
    assert rows(made, "drops") == [{"cluster": "eu", "drop_reason_desc": "POLICY_DENIED", "drops": 10, "flows": 10}]
    least = rows(made, "coverage")[0]
    assert (least["node"], least["observed"], least["longest_gap"], least["cause"]) == ("us/n1", "50 %", "1 d", "the ring was overrun")
    page = made.files["r.html"].decode().replace("<wbr>", "")
    assert "Never evaluated, so nothing is known about their posture: us." in page
    assert "spec.ingress differs &lt;script&gt;" in page
    assert page.count("<svg") >= 4


def test_the_data_files_hold_the_rows_and_no_formula(read_fleet: Any) -> None:
    made = make(read_fleet)
    listed = list(csv.DictReader(io.StringIO(made.files["r.findings.csv"].decode())))
    assert [row["summary"] for row in listed] == ["'=1+1 unused"]
    assert pq.read_table(io.BytesIO(made.files["r.findings.parquet"]))["summary"].to_pylist() == ["=1+1 unused"]
    whole = json.loads(made.files["r.json"])
    assert [section["id"] for section in whole["sections"]] == ["coverage", "volume", "drops", "namespaces", "posture", "drift", "findings"]


def test_the_same_question_gives_the_same_bytes(read_fleet: Any) -> None:
    assert make(read_fleet).files == make(read_fleet).files
