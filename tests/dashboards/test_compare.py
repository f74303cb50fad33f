"""Compare: filtered, by shares of the traffic, with deployments among the changes, and as SQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.edges import comparison
from dashboards.edges.edges import Edge, End
from dashboards.flows import open_as_sql
from dashboards.history import changes
from warehouse.questions import conditions
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import WORKLOADS

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]
AT = datetime(2026, 3, 2, 14, tzinfo=UTC)
HOUR = timedelta(hours=1)


def edge(name: str, flows: int) -> Edge:
    return Edge(
        source=End("shop", "web"), destination=End("cart", name), port="8080/TCP", clusters=("c1",), flows=flows, denied=0, audited=0,
        reason=None, first=AT, last=AT, first_denied=None, buckets=(flows,),
    )  # fmt: skip


def test_a_busier_window_changes_no_edge_when_shares_are_compared() -> None:
    a, b = [edge("api", 100), edge("db", 300)], [edge("api", 200), edge("db", 600)]
    assert len(comparison.compare(a, b)[0]) == 2
    assert comparison.compare(a, b, scale=comparison.volume_scale(a, b)) == ([], 2)


def test_a_change_of_volume_is_told_against_what_was_expected() -> None:
    a, b = [edge("api", 100), edge("db", 300)], [edge("api", 600), edge("db", 200)]
    (most, least), _ = comparison.compare(a, b, scale=comparison.volume_scale(a, b))
    assert most.change == pytest.approx(600 / 200 - 1)
    assert least.change == pytest.approx(200 / 600 - 1)


def test_a_window_without_flows_is_compared_as_it_is() -> None:
    assert comparison.volume_scale([], [edge("api", 5)]) == 1.0
    assert comparison.volume_scale([edge("api", 5)], []) == 1.0


def test_versions_of_workloads_are_among_the_changes() -> None:
    assert WORKLOADS in changes.WITH_DEPLOYMENTS


def test_map_and_comparison_are_queries_that_run(filled: Path, look: Look) -> None:
    now = datetime.now(UTC)
    where = (conditions.parse("ns=payments"),)
    after = FlowFilter(since=now - HOUR, until=now, conditions=where)
    before = FlowFilter(since=now - 2 * HOUR, until=now - HOUR, conditions=where)
    for query in (open_as_sql.edges(after), open_as_sql.comparison(before, after)):
        app = look("sql", user="paula", last="2h", run="1", q=query)
        assert not app.error, [error.value for error in app.error]
        assert len(app.dataframe[-1].value)


def test_compare_has_the_filter_bar_and_applies_it(filled: Path, look: Look, said: Said) -> None:
    app = look("compare", user="ada", last="15m", against="before", f=["ns=payments"], housekeeping="1", volumes="counts")
    shown = [edge for frame in app.dataframe if "Edge" in frame.value for edge in frame.value["Edge"]]
    assert shown
    assert all("payments" in edge for edge in shown)
    assert "Open as SQL" in [link.proto.label for link in app.get("page_link")]
