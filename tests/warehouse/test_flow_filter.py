"""A filter as queries of one end after the other, and with a place of its own for what rollups know."""

from __future__ import annotations

import datetime as dt
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse.questions import conditions
from warehouse.questions.flow_filter import FlowFilter, flow_conditions, matching, plain
from warehouse.schema import FLOWS

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
WORDS = st.sampled_from(["shop", "cart", "web", None])
ROW = st.fixed_dictionaries(
    {
        "time": st.integers(-1, 60).map(lambda minutes: START + dt.timedelta(minutes=minutes)),
        "cluster": st.sampled_from(["eu", "us"]),
        "verdict": st.sampled_from(["FORWARDED", "DROPPED"]),
        **{f"{side}_{name}": WORDS for side in ("source", "destination") for name in ("namespace", "pod_name", "ip")},
    }
)
SOME = st.lists(st.sampled_from(["shop", "cart", "we"]), max_size=2, unique=True).map(tuple)
TEXTS = ["ns=shop", "ns=shop,cart", "src.ns=web", "dst.ns=cart", "ns!=shop", "verdict=dropped", "cluster=eu", "pod~^w", "pod=web"]
FILTER = st.builds(
    FlowFilter,
    since=st.just(START),
    until=st.just(START + HOUR),
    namespaces=SOME,
    pods=SOME,
    ips=SOME,
    conditions=st.lists(st.sampled_from(TEXTS), max_size=2).map(lambda texts: tuple(conditions.parse(text) for text in texts)),
    match_any=st.booleans(),
    both_ways=st.booleans(),
)


def places(rows: list[dict[str, Any]], sql: str, values: list[Any]) -> list[int]:
    """The rows that a query over `visible_flows` gives, by their numbers."""
    table = pa.Table.from_pylist([{name: row.get(name) for name in FLOWS.schema.names} for row in rows], schema=FLOWS.schema)
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register("visible_flows", table.append_column("place", pa.array(range(len(rows)), pa.int64())))
        found: list[int] = [place for (place,) in connection.execute(f"SELECT place FROM ({sql}) ORDER BY place", values).fetchall()]
    return found


@given(st.lists(ROW, max_size=12), FILTER)
@settings(max_examples=60)
def test_one_end_after_the_other_finds_each_flow_that_the_condition_holds_for_once(rows: list[dict[str, Any]], wanted: FlowFilter) -> None:
    where, values = flow_conditions(wanted)
    expected = places(rows, f"SELECT * FROM visible_flows WHERE {where}", values)
    for is_laid_out in (True, False):
        assert places(rows, *matching(wanted, {"visible_flows": is_laid_out})) == expected


def filter_of(*texts: str, **more: Any) -> FlowFilter:
    return FlowFilter(since=START, until=START + HOUR, conditions=tuple(conditions.parse(text) for text in texts), **more)


@pytest.mark.parametrize(
    "kept",
    [
        filter_of("ns!=shop"),
        filter_of("ns~^sh"),
        filter_of("port=443"),
        filter_of("ns=shop", namespaces=("cart",)),
        filter_of("ns=shop", "verdict=dropped", match_any=True),
        filter_of("src.ns=shop", both_ways=True),
    ],
)
def test_a_condition_that_says_something_else_stays_a_condition(kept: FlowFilter) -> None:
    assert plain(kept) == kept


def test_the_second_of_two_conditions_on_one_field_stays_a_condition() -> None:
    wanted = plain(filter_of("ns=shop", "ns=cart"))
    assert (wanted.namespaces, [str(condition) for condition in wanted.conditions]) == (("shop",), ["ns=cart"])


def test_conditions_that_a_rollup_knows_take_their_own_place() -> None:
    wanted = plain(filter_of("ns=shop,cart", "dst.ns=db", "verdict=dropped", "cluster=eu", "reason=policy_denied"))
    assert wanted == FlowFilter(
        since=START,
        until=START + HOUR,
        namespaces=("shop", "cart"),
        destination_namespaces=("db",),
        verdicts=("DROPPED",),
        clusters=("eu",),
        drop_reasons=("POLICY_DENIED",),
    )
