"""Flows in another order than the newest first: of all that match, and by nothing but what the principal sees."""

import datetime as dt
import itertools
from typing import Any

import pytest

from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits
from warehouse.errors import QueryError
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.flow_questions import ORDERS, Order
from warehouse.schema import FLOWS

START = dt.datetime(2026, 3, 2, 10, tzinfo=dt.UTC)
HOURS = FlowFilter(since=START, until=START + dt.timedelta(hours=2))
OWNER = Principal(user="paula")
GRANTS = [config.Grant(subject="paula", role="namespace-owner", namespaces=("payments",))]


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    """Over two hours in four files, so that an order of what is read first would differ from one of all that match."""
    lake = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("order"))))
    flows = list(itertools.islice(Traffic(build_fleet(1, clusters=("c1",)), 1, START, 1.0).flows(), 4_000))
    for begin in range(0, 4_000, 1_000):
        rows = decode([flow.SerializeToString() for flow in flows[begin : begin + 1_000]], cluster="c1", recorded=START, live=False).rows
        lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})
    return Door(lake, config.Ownership(grants=tuple(GRANTS), peer_detail="hidden"))


def asked(door: Door, order: Order, who: Principal = OPERATOR, rows: int = 50, columns: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    names = ["time", "uuid", "verdict", "source_namespace", "destination_namespace", "destination_port", "l7_latency_ns", *columns]
    question = flow_questions.ordered(HOURS, order, columns=names, limits=Limits(rows=rows))
    found: list[dict[str, Any]] = door.answer(who, question).rows.to_pylist()
    return found


def test_an_order_that_does_not_exist_is_refused_with_those_that_do(door: Door) -> None:
    with pytest.raises(QueryError, match=r"'speed'.*time.*latency"):
        asked(door, Order("speed", descending=True))


@pytest.mark.parametrize("by", list(ORDERS))
@pytest.mark.parametrize("descending", [True, False])
def test_the_first_rows_are_the_first_of_all_that_match(by: str, descending: bool, door: Door) -> None:
    every, first = (asked(door, Order(by, descending=descending), rows=rows) for rows in (100_000, 50))
    assert len(every) > 1_000
    assert first == every[:50]


def test_the_slowest_and_the_oldest_come_first_and_what_has_no_value_last(door: Door) -> None:
    every = asked(door, Order("latency", descending=True), rows=100_000)
    values = [row["l7_latency_ns"] for row in every]
    known = [value for value in values if value is not None]
    assert values == [*sorted(known, reverse=True), *[None] * (len(values) - len(known))]
    fastest = asked(door, Order("latency", descending=False), rows=100_000)
    assert [row["l7_latency_ns"] for row in fastest][: len(known)] == sorted(known)
    times = [row["time"] for row in asked(door, Order("time", descending=False), rows=100_000)]
    assert times == sorted(times)


def test_rows_that_are_equal_in_the_order_come_newest_first(door: Door) -> None:
    rows = asked(door, Order("verdict", descending=False), rows=100_000)
    for _, group in itertools.groupby(rows, key=lambda row: row["verdict"]):
        times = [row["time"] for row in group]
        assert times == sorted(times, reverse=True)


def test_an_owner_is_given_no_order_by_what_is_hidden_from_her(door: Door) -> None:
    """Her peers' namespaces and workloads are hidden; were they sorted by, their places would tell which rows share one."""
    rows = asked(
        door, Order("source", descending=False), OWNER, rows=100_000, columns=("source_workload_name", "source_pod_name", "source_ip")
    )
    hidden = [row for row in rows if row["source_namespace"] is None and row["source_workload_name"] is None and row["source_ip"] is None]
    assert hidden
    times = [row["time"] for row in hidden]
    assert times == sorted(times, reverse=True)
