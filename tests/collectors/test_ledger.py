"""Which nodes a ledger knows: they come and go, and one that has left costs nothing."""

import datetime as dt
import functools
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.relay import relay_pb2
from collectors.streaming.ledger import Ledger
from collectors.streaming.nodes import ABSENT_US
from collectors.streaming.spool import Batch
from warehouse import schema

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
NOON_US = int(NOON.timestamp()) * 1_000_000
SECOND = 1_000_000
RELAY = "relay:4245"


def at(seconds: float) -> int:
    return NOON_US + int(seconds * SECOND)


@functools.cache
def one_flow(node: str) -> pa.Table:
    """A decoded flow of a node at noon, of which `Book.flow` changes the time: decoding thousands one by one would take long."""
    flow = flow_pb2.Flow(uuid=node, node_name=node)
    flow.time.FromMicroseconds(at(0))
    return decode([flow.SerializeToString()], cluster="c1", recorded=NOON).rows


class Book:
    """A ledger of one relay, and all rows it gave."""

    def __init__(self, until_us: dict[str | None, int] | None = None) -> None:
        self.ledger = Ledger("c1", until_us=until_us or {}, addresses=(RELAY,), at=at(0))
        self.rows: list[dict[str, Any]] = []
        self.ledger.opened(RELAY, at(0))

    def flow(self, node: str, seconds: float, *, arrives: float | None = None, is_new: bool = True) -> None:
        """A flow of this time, which arrives at once or at the other time, for the first time or again."""
        rows = one_flow(node)
        place = rows.schema.get_field_index("time")
        rows = rows.set_column(place, rows.schema.field(place), pa.array([at(seconds)], pa.int64()).cast(schema.TIMESTAMP))
        came = at(seconds if arrives is None else arrives)
        self.ledger.flows(RELAY, rows, np.full(1, is_new), (came, came))

    def lost(self, node: str, seconds: float, source: int = flow_pb2.HUBBLE_RING_BUFFER, **noticed: float) -> None:
        """A LostEvent that the node sends at this time; `noticed` gives its fields first and last, in seconds."""
        event = flow_pb2.LostEvent(num_events_lost=5)
        event.source = source  # type: ignore[assignment]
        for name, when in noticed.items():
            getattr(event, name).FromMicroseconds(at(when))
        response = observer_pb2.GetFlowsResponse(lost_events=event, node_name=node)
        response.time.FromMicroseconds(at(seconds))
        self.ledger.lost(response, at(seconds))

    def poll(self, seconds: float, *names: str, state: int = relay_pb2.NODE_CONNECTED, uptime: float = 0) -> None:
        nodes = [observer_pb2.Node(name=name, uptime_ns=int(uptime * 1e9)) for name in names]
        for node in nodes:
            node.state = state  # type: ignore[assignment]
        self.ledger.polled(RELAY, tuple(nodes), at(seconds))

    def take(self, seconds: float) -> None:
        self.rows += self.ledger.take(at(seconds), everything=True)

    def of(self, *states: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["state"] in states]


def test_a_node_that_relay_no_longer_lists_is_booked_as_left_once_and_then_costs_nothing() -> None:
    book = Book()
    for node in ("n1", "n2"):
        book.flow(node, 1)
    book.poll(10, "n1", "n2")
    book.poll(20, "n1", "n2", state=relay_pb2.NODE_UNAVAILABLE)
    for seconds in range(30, 1500, 10):
        book.flow("n1", seconds)
        book.poll(seconds, "n1")
        book.take(seconds)
    (left,) = book.of("left")
    assert (left["node_name"], left["from"], left["to"]) == (
        "n2",
        NOON + dt.timedelta(seconds=20, microseconds=1),
        NOON + dt.timedelta(seconds=30),
    )
    assert [row["to"] for row in book.of("node_unavailable") if row["node_name"] == "n2"] == []
    assert set(book.ledger.until_us) == {"n1"}
    assert book.ledger.take_left() == ["n2"]
    assert {row["node_name"] for row in book.rows if row["from"] > NOON + dt.timedelta(minutes=2)} == {"n1"}


def test_a_node_that_relay_calls_gone_has_left_at_once() -> None:
    book = Book()
    book.flow("n1", 1)
    gone = observer_pb2.GetFlowsResponse(node_status={"state_change": relay_pb2.NODE_GONE, "node_names": ["n1", "never seen"]})  # type: ignore[arg-type]
    book.ledger.node_status(gone, at(5))
    book.take(6)
    assert [row["node_name"] for row in book.of("left")] == ["n1"]
    assert book.ledger.until_us == {}


def test_what_a_node_sent_before_it_left_is_booked_as_connected() -> None:
    book = Book()
    book.flow("n1", 1)
    book.flow("n1", 9)
    book.poll(10, "n1", "n2")
    for seconds in (20, 100):
        book.poll(seconds, "n2")
    book.take(101)
    (connected,) = book.of("connected")
    assert (connected["from"], connected["flows_received"]) == (NOON + dt.timedelta(seconds=1), 2)


@pytest.mark.parametrize("lists", [[()] * 50, [(), ("n1",)] * 25, [("n2",), ("n1", "n2")] * 25], ids=["empty", "restarts", "flaps"])
def test_a_list_that_is_empty_or_lacks_a_node_for_a_moment_makes_nobody_leave(lists: list[tuple[str, ...]]) -> None:
    book = Book()
    book.flow("n1", 1)
    for number, names in enumerate(lists):
        book.poll(10 + 10 * number, *names)
    book.take(1000)
    assert book.of("left") == []
    assert "n1" in book.ledger.until_us


def test_a_node_that_goes_on_sending_flows_has_not_left_whatever_the_list_says() -> None:
    book = Book()
    for seconds in range(1, 600, 5):
        book.flow("n1", seconds)
        book.poll(seconds, "called otherwise")
    book.take(601)
    assert book.of("left") == []


def test_a_node_that_appears_later_joined_when_its_agent_started_and_those_of_the_first_list_did_not() -> None:
    book = Book()
    book.poll(1, "n1")
    book.poll(100, "n1", "n2", uptime=30)
    book.poll(110, "n1", "n2", uptime=40)
    book.take(120)
    assert [(row["node_name"], row["from"]) for row in book.of("joined")] == [("n2", NOON + dt.timedelta(seconds=70))]


def test_a_node_that_left_and_comes_back_is_counted_again() -> None:
    book = Book()
    book.flow("n1", 1)
    for seconds, names in ((10, ("n1", "n2")), (20, ("n2",)), (100, ("n2",)), (200, ("n1", "n2"))):
        book.poll(seconds, *names)
    book.flow("n1", 201)
    book.take(202)
    assert [row["state"] for row in book.rows if row["node_name"] == "n1"] == ["connected", "left", "joined", "connected"]
    assert book.ledger.until_us["n1"] == at(201)


@pytest.mark.parametrize("past", [0, 1, 6000])
def test_nodes_that_left_before_add_nothing_to_rows_notes_or_the_time_streams_resume_from(past: int) -> None:
    book = Book({f"gone-{number}": at(-90_000) for number in range(past)} | {"n1": at(-10)})
    book.poll(10, "n1")
    book.poll(11 + ABSENT_US / SECOND, "n1")
    book.take(80)
    assert len(book.of("left")) == past
    book.rows.clear()
    book.flow("n1", 90)
    book.take(91)
    assert len(book.rows) == 2  # `connected`, and the gap before a flow that proves nothing
    batch = Batch(
        cluster="c1", sequence=1, rows=schema.FLOWS.schema.empty_table(), until_us=book.ledger.until_us, unbooked=book.ledger.unbooked
    )
    assert len(json.dumps(batch.note())) < 200
    assert set(book.ledger.until_us) == {"n1"}


# When flows were lost ------------------------------------------------------------------------------------------


def seconds_of(row: dict[str, Any]) -> tuple[float, float]:
    """From and to, in seconds after noon."""
    return (row["from"] - NOON).total_seconds(), (row["to"] - NOON).total_seconds()


def test_a_loss_reaches_back_only_as_far_as_the_flows_that_a_ring_may_have_read_before_it_reported() -> None:
    book = Book()
    for tenth in range(600):
        book.flow("n1", tenth / 10)
    book.lost("n1", 60)
    book.take(61)
    begin, end = seconds_of(book.of("lost")[0])
    assert 56 < begin < 58
    assert 60 <= end < 60.1


def test_a_loss_ends_when_the_ring_noticed_it_last() -> None:
    book = Book()
    for tenth in range(600):
        book.flow("n1", tenth / 10)
    book.lost("n1", 60, first=59, last=59.2)
    book.take(61)
    begin, end = seconds_of(book.of("lost")[0])
    assert 56 < begin < 58
    assert 59.2 < end < 59.3


def test_a_loss_reported_after_a_pause_reaches_back_to_the_flows_that_came_before_the_pause() -> None:
    book = Book()
    for tenth in range(100):
        book.flow("n1", tenth / 10)
    for tenth in range(10):  # the stream was not read for half a minute: what was under way comes first, then the ring's oldest flows
        book.flow("n1", 10 + tenth / 10, arrives=40 + tenth / 10)
    for tenth in range(10):
        book.flow("n1", 35 + tenth / 10, arrives=41 + tenth / 10)
    book.lost("n1", 41.5, first=40.4, last=40.4)
    book.take(43)
    begin, end = seconds_of(book.of("lost")[0])
    assert 7 < begin < 11
    assert 35 <= end < 41


def test_a_loss_that_a_paused_agent_reported_late_reaches_back_to_when_the_ring_noticed_it() -> None:
    book = Book()
    for tenth in range(200):
        book.flow("n1", tenth / 10)
        book.flow("n2", tenth / 10)
    for tenth in range(200, 400):  # the agent of n1 is paused
        book.flow("n2", tenth / 10)
    book.flow("n1", 19.95, arrives=40)
    book.lost("n1", 40, first=19.5, last=19.5)
    book.take(41)
    assert seconds_of(book.of("lost")[0])[0] < 19


def test_a_loss_of_the_agents_queue_is_of_the_time_in_which_it_refused_flows() -> None:
    book = Book()
    for tenth in range(100):
        book.flow("n1", tenth / 10)
    book.lost("n1", 10, flow_pb2.OBSERVER_EVENTS_QUEUE, first=8.5, last=9)
    book.lost("n1", 10, flow_pb2.OBSERVER_EVENTS_QUEUE)
    book.take(11)
    exact, vague = sorted(map(seconds_of, book.of("lost")), reverse=True)
    assert exact == (8.5, pytest.approx(9, abs=0.001))
    assert 6 < vague[0] < 8


def test_a_loss_of_a_node_that_sent_nothing_yet_is_of_the_time_that_the_report_names() -> None:
    book = Book()
    book.lost("n1", 10, first=8, last=9)
    book.lost("n2", 10)
    book.take(11)
    assert sorted(map(seconds_of, book.of("lost"))) == [(8, pytest.approx(9, abs=0.001)), (10, pytest.approx(10, abs=0.001))]


# What was not reported yet -------------------------------------------------------------------------------------


def test_a_stream_resumes_with_the_last_flow_before_which_all_losses_are_reported() -> None:
    book = Book()
    assert book.ledger.resume_us is None
    for tenth in range(300):
        book.flow("n1", tenth / 10)
    resume = book.ledger.resume_us
    assert resume is not None
    assert at(25) < resume < at(27.5)
    book.flow("n2", 10, arrives=29.95)
    book.flow("n2", 20, arrives=30)
    assert book.ledger.resume_us == at(10)


def test_a_node_that_rarely_sends_flows_has_no_gap_after_a_break_from_which_its_ring_reaches_back() -> None:
    book = Book()
    for minute in range(5):
        book.flow("n1", minute * 60)
    book.ledger.ended(RELAY, at(250), "the relay was restarted")
    resume = book.ledger.resume_us
    assert resume is not None
    book.ledger.opened(RELAY, at(251))
    for minute in range(5):
        if at(minute * 60) >= resume:
            book.flow("n1", minute * 60, arrives=251, is_new=False)
    book.flow("n1", 300)
    book.take(301)
    assert book.of("gap") == []


def test_what_is_known_to_be_complete_is_noted_for_the_next_ledger() -> None:
    book = Book()
    for tenth in range(300):
        book.flow("n1", tenth / 10)
    noted = book.ledger.unbooked["n1"]
    assert at(25) < noted.complete_until < at(27.5)
    again = Ledger("c1", until_us=book.ledger.until_us, unbooked=book.ledger.unbooked, addresses=(RELAY,), at=at(31))
    assert again.resume_us == noted.complete_until
    book.ledger.reported("n1")
    assert book.ledger.unbooked["n1"].complete_until == at(29.9)


# When rows are booked -----------------------------------------------------------------------------------------


def test_connected_time_is_booked_twice_a_minute_and_noted_until_then() -> None:
    ledger = Ledger("c1", until_us={}, addresses=(RELAY,), at=at(0))
    book = Book()
    book.ledger = ledger
    rows = []
    for second in range(120):
        book.flow("n1", second)
        rows += ledger.take(at(second))
    assert len([row for row in rows if row["state"] == "connected"]) == 3
    again = Ledger("c1", until_us=ledger.until_us, unbooked=ledger.unbooked, addresses=(RELAY,), at=at(120))
    rows += again.take(at(120), everything=True)
    assert sum(row["flows_received"] for row in rows if row["state"] == "connected") == 120
    assert max(row["to"] for row in rows) > NOON + dt.timedelta(seconds=119)


def test_a_ledger_with_nothing_to_say_books_every_minute_that_the_collector_is_at_work() -> None:
    ledger = Ledger("c1", until_us={}, addresses=(RELAY,), at=at(0))
    ledger.opened(RELAY, at(0))
    rows = [row for second in range(0, 600, 5) for row in ledger.take(at(second))]
    assert {row["state"] for row in rows} == {"collecting"}
    assert len(rows) == 9


def test_an_outage_that_goes_on_is_booked_before_it_ends_and_its_time_is_booked_once() -> None:
    ledger = Ledger("c1", until_us={}, addresses=(RELAY,), at=at(0))
    rows = [row for second in range(0, 700, 5) for row in ledger.take(at(second)) if row["state"] == "disconnected"]
    assert rows[0]["to"] <= NOON + dt.timedelta(seconds=20)
    assert [row["from"] for row in rows[1:]] == [row["to"] for row in rows[:-1]]
    assert len(rows) == 3
