"""Compare: filtered, by shares of the traffic, with deployments among the changes, and as SQL."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from collectors.simulator import configuration
from collectors.simulator.fleet import build_fleet
from collectors.simulator.story import Story
from dashboards.edges import comparison
from dashboards.edges.edges import Edge, End
from dashboards.flows import open_as_sql
from dashboards.frame import clock
from pipelines.maintenance import rollup
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.questions import conditions
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS

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


def test_a_change_of_volume_is_compared_with_what_was_expected() -> None:
    a, b = [edge("api", 100), edge("db", 300)], [edge("api", 600), edge("db", 200)]
    (most, least), _ = comparison.compare(a, b, scale=comparison.volume_scale(a, b))
    assert most.change == pytest.approx(600 / 200 - 1)
    assert least.change == pytest.approx(200 / 600 - 1)


def test_a_window_without_flows_is_compared_as_it_is() -> None:
    assert comparison.volume_scale([], [edge("api", 5)]) == 1.0
    assert comparison.volume_scale([edge("api", 5)], []) == 1.0


def test_a_deployment_is_listed_once_among_the_changes_and_explains_what_came_with_it(filled: Path, look: Look, said: Said) -> None:
    now = datetime.now(UTC)
    story = Story(deployment=now - timedelta(minutes=20), incident=(now - 20 * HOUR, now - 19 * HOUR), new_host=now - 12 * HOUR)
    lake = Lake.open(config.Lake(url=str(filled / "lake")))
    configuration.backfill(lake, build_fleet(1, clusters=("c1",)), story, since=now - 48 * HOUR, until=now)
    text = said(look("compare", user="ada", last="15m", against="before"))
    assert "**checkout/checkout-api**" in text
    assert f"Deployment changed · by {configuration.DEPLOYER}" in text
    assert "PodLabels" not in text
    hers = said(look("compare", user="paula", last="15m", against="before"))
    assert "checkout-api**" not in hers, "another's deployment"


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


def test_compare_and_map_say_when_an_edge_was_first_seen_in_all_that_is_recorded(folder: Path, look: Look, said: Said) -> None:
    """The hour of B knows the edge from its own first minute; the rollup of the day before knows it longer."""
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0) - 3 * HOUR
    first, again = hour - timedelta(hours=20) + timedelta(minutes=7), hour + timedelta(minutes=11)
    lake.commit(FLOWS, lake.write_files(FLOWS, flows_at(first, again)), transactions={}, metadata={})
    rollup.roll_up_closed_hours(lake, config.Rollups(), now=hour + 3 * HOUR)
    window = {"from_": f"{hour:%Y-%m-%dT%H:%MZ}", "until": f"{hour + HOUR:%Y-%m-%dT%H:%MZ}"}
    (row,) = [row for frame in look("compare", user="ada", against="before", **window).dataframe if "Edge" in frame.value
              for row in frame.value.to_dict("records")]  # fmt: skip
    assert row["Verdict and evidence"] == f"first seen {clock.minute(first)}; in B since {clock.minute(again)}"
    frames = [frame.value for frame in look("map", user="ada", find="shop/web", **window).dataframe]
    (shown,) = [frame for frame in frames if "Peer" in frame]
    assert [moment.to_pydatetime().replace(tzinfo=UTC) for moment in shown["First"]] == [first]


def test_without_rollups_first_and_last_refer_to_the_windows_alone(filled: Path, look: Look) -> None:
    app = look("compare", user="ada", last="15m", against="week")
    texts = [text for frame in app.dataframe if "Edge" in frame.value for text in frame.value["Verdict and evidence"]]
    assert texts
    assert not any("first seen" in text or "on record" in text for text in texts)


def flows_at(*times: datetime) -> pa.Table:
    """Flows of one connection that was opened at each of the times."""
    ends = {
        f"{side}_{part}": value
        for side, name in (("source", "shop/web"), ("destination", "cart/api"))
        for part, value in zip(("namespace", "workload_name"), name.split("/"), strict=True)
    }
    rows = [
        dict.fromkeys(FLOWS.schema.names)
        | ends
        | {"uuid": f"flow {number}", "time": at, "date": at.date(), "cluster": "c1", "verdict": "FORWARDED", "l4_protocol": "TCP",
           "destination_port": 8080, "source_port": 40_000, "is_reply": False, "flow_count": 1}
        for number, at in enumerate(times)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=FLOWS.schema)
