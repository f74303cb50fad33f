"""Reports of one's own: every mistake in a file is named with its line, and what it may ask stays within the subject's rows."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from pipelines.evidence.reports import making, own, verifying
from pipelines.evidence.reports.asked import ReportOf
from warehouse.access.principals import Principal
from warehouse.errors import ConfigError

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
TEXT = """title: Payments
text: |
  What payments does.

  Every week.
queries:
  ports: {sql: "SELECT destination_port AS port, count(*) AS flows FROM flows GROUP BY 1 ORDER BY 2 DESC, 1"}
  denied: {question: denials, filters: [ns=db]}
sections:
  - id: ports
    title: Ports
    query: ports
    chart: {kind: bars, names: port, values: [flows]}
  - {id: denied, title: Denied, query: denied, columns: [source_name, flows]}
  - {id: end, title: A last word, text: All of this is checked monthly.}
"""


def make(fleet: Any, text: str, **more: Any) -> making.Made:
    request = ReportOf(
        name="mine", since=START, until=START + 2 * dt.timedelta(days=1), known=START + 3 * dt.timedelta(days=1),
        settings=text, source="mine.yaml", **more,
    )  # fmt: skip
    return making.make(fleet.settings, fleet.lake, request, formats=("html", "csv"), stem="mine", by="test", made=request.known)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("title: Payments", "titel: Payments", r"mine.yaml:1: titel: unknown key; did you mean 'title'\?"),
        ("query: ports", "query: port", r"mine.yaml:12: sections.0.query: there is no query 'port'; the queries are: ports, denied"),
        ("filters: [ns=db]", "filters: [nz=db]", r"mine.yaml:8: queries.denied.filters.0: 'nz' is not a filter field"),
        ("id: end", "id: ports", r"mine.yaml:\d+: sections.\d.id: the id 'ports' is taken"),
        ("question: denials, filters: [ns=db]", "question: denials, sql: SELECT 1", "mine.yaml:8: .*give either question or sql"),
        ("title: Payments", "title: [", "mine.yaml:.*not valid YAML"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        own.parse(TEXT.replace(old, new), Path("mine.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("names: port", "names: prot", "mine.yaml:13: sections.0.chart: the query 'ports' has no column 'prot'; it has: port, flows"),
        ("values: [flows]", "values: [port2]", "has no column 'port2'"),
        ("kind: bars", "kind: columns", "mine.yaml:13: .*the column 'port' has no times"),
        ("count(*)", "cuont(*)", "mine.yaml:7: queries.ports: .*cuont"),
        ("FROM flows", "FROM timeline_1m", "timeline_1m does not record when its rows were learned|destination_port"),
    ],
)
def test_a_column_or_table_that_is_not_there_is_named_with_its_line(read_fleet: Any, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(read_fleet, TEXT.replace(old, new))


def test_a_file_that_is_not_there_and_a_name_that_is_taken_are_refused(fleet: Any) -> None:
    fleet.configured(reports={"files": ["reports/*.yaml"]})
    with pytest.raises(ConfigError, match=r"reports\.files: .*there is no such file"):
        own.files(fleet.settings)
    (fleet.folder / "reports").mkdir()
    (fleet.folder / "reports" / "fleet.yaml").write_text(TEXT)
    with pytest.raises(ConfigError, match="the name 'fleet' is taken"):
        own.files(fleet.settings)


def test_it_says_what_was_asked_within_what_the_subject_may_see(read_fleet: Any) -> None:
    whole = make(read_fleet, TEXT)
    page = whole.files["mine.html"].decode()
    assert "<p>Every week.</p>" in page
    assert "All of this is checked monthly." in page
    ports = {row["port"]: row["flows"] for row in whole.report.sections[0].rows.to_pylist()}
    assert ports == {8080: 100, 5432: 40, 443: 3}
    owner = make(read_fleet, TEXT, subject=Principal(user="group:payments", groups=frozenset({"payments"})))
    assert {row["port"]: row["flows"] for row in owner.report.sections[0].rows.to_pylist()} == {8080: 80, 5432: 40, 443: 3}
    assert owner.report.sections[1].rows.num_rows == 0


def test_the_operators_own_sql_reads_no_other_files(read_fleet: Any, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hidden")
    read = f"SELECT content FROM read_text('{tmp_path}/secret')"
    text = f'title: T\nqueries: {{q: {{sql: "{read}"}}}}\nsections: [{{id: s, title: S, query: q}}]'
    with pytest.raises(ConfigError, match=r"mine\.yaml:2: queries\.q: "):
        make(read_fleet, text)


def test_it_is_verified_by_the_file_as_it_was(read_fleet: Any, tmp_path: Path) -> None:
    report = make(read_fleet, TEXT)
    making.write(report, tmp_path)
    making.record(read_fleet.lake, report)
    assert verifying.verify(read_fleet.settings, read_fleet.lake, tmp_path / "mine.html").is_identical
