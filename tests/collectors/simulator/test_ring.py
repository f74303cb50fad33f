"""What a node remembers, against a plain list."""

from __future__ import annotations

import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.ring import NANOSECONDS, Event, Query, Ring


def flow(seconds: int) -> flow_pb2.Flow:
    """A flow that is nothing but its time."""
    made = flow_pb2.Flow(uuid=f"u{seconds}")
    made.time.FromSeconds(seconds)
    return made


def filled(count: int, capacity: int = 7) -> Ring:
    """A ring after `count` flows at seconds 0, 1, 2..."""
    ring = Ring(capacity)
    for second in range(count):
        ring.write(flow(second))
    return ring


def seconds(events: list[Event]) -> list[int]:
    """The times of flows; a lost event here is a failure."""
    assert all(isinstance(event, flow_pb2.Flow) for event in events)
    return [event.time.seconds for event in events if isinstance(event, flow_pb2.Flow)]


@pytest.mark.parametrize("capacity", [-1, 0, 2, 4_096, 131_071])
def test_a_ring_of_another_size_is_refused(capacity: int) -> None:
    with pytest.raises(ValueError, match=r"2\^n-1"):
        Ring(capacity)


def test_first_with_follow_is_refused() -> None:
    with pytest.raises(ValueError, match="first"):
        Query(first=True, follow=True)


def test_an_empty_ring_yields_nothing() -> None:
    assert list(Ring().read(Query())) == []


def test_the_newest_flow_is_readable_only_after_the_next() -> None:
    ring = filled(1)
    assert list(ring.read(Query())) == []
    ring.write(flow(1))
    assert seconds(list(ring.read(Query()))) == [0]


def test_since_is_inclusive_and_says_where_to_start_while_number_says_how_many() -> None:
    asked = Query(number=2, first=True, since_ns=3 * NANOSECONDS)
    assert seconds(list(filled(7).read(asked))) == [3, 4]


def test_since_older_than_the_ring_starts_at_the_oldest_without_a_marker() -> None:
    assert seconds(list(filled(20).read(Query(since_ns=0)))) == [12, 13, 14, 15, 16, 17, 18]


def test_lost_events_pass_filters_and_do_not_count() -> None:
    ring = filled(2)
    ring.write(flow_pb2.LostEvent(source=flow_pb2.OBSERVER_EVENTS_QUEUE, num_events_lost=9))
    ring.write(flow(3))
    kept = list(ring.read(Query(matches=lambda _flow: False, since_ns=0)))
    assert [type(event) for event in kept] == [flow_pb2.LostEvent]


def test_a_follow_ends_at_the_first_event_past_until() -> None:
    ring = filled(7)
    assert seconds(list(ring.read(Query(follow=True, since_ns=0, until_ns=2 * NANOSECONDS)))) == [0, 1, 2]


def test_a_follow_from_now_sees_only_what_comes() -> None:
    ring = filled(3)
    seen: list[Event] = []
    done = threading.Event()

    def reader() -> None:
        seen.extend(ring.read(Query(follow=True, until_ns=11 * NANOSECONDS)))
        done.set()

    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    time.sleep(0.2)
    for second in (10, 11, 12, 13):
        ring.write(flow(second))
    assert done.wait(5)
    assert seconds(seen) == [2, 10, 11]  # 2 was written, but not yet readable


def test_a_follower_that_was_overrun_learns_a_second_later_how_much_it_lost_after_another_event() -> None:
    now = [0]
    ring = Ring(7, clock=lambda: now[0])
    ring.write(flow(0))
    ring.write(flow(1))
    reading = ring.read(Query(follow=True, since_ns=0))
    assert next(reading) == flow(0)
    for second in range(2, 30):
        ring.write(flow(second))
    assert next(reading) == flow(22)
    for second in range(30, 60):
        ring.write(flow(second))
    assert next(reading) == flow(52)  # within the same second: nothing is reported yet
    assert next(reading) == flow(53)
    now[0] = NANOSECONDS
    report = next(reading)
    assert isinstance(report, flow_pb2.LostEvent)
    assert (report.source, report.num_events_lost, report.HasField("cpu")) == (flow_pb2.HUBBLE_RING_BUFFER, 21 + 29, False)
    assert next(reading) == flow(54)


@given(
    times=st.lists(st.integers(0, 20), max_size=40),
    number=st.integers(0, 10),
    first=st.booleans(),
    since=st.none() | st.integers(0, 20),
    until=st.none() | st.integers(0, 20),
    odd=st.booleans(),
)
def test_reads_are_those_of_a_plain_list(
    times: list[int], number: int, first: bool, since: int | None, until: int | None, odd: bool
) -> None:
    ring = Ring(7)
    for at in sorted(times):
        ring.write(flow(at))
    wanted = [at for at in sorted(times)[:-1][-7:] if not odd or at % 2]
    if since is not None:
        wanted = [at for at in wanted if at >= since]
    elif number and not first:
        wanted = wanted[-number:]
    wanted = [at for at in wanted if until is None or at <= until][: number or None]
    query = Query(
        number=number,
        first=first,
        since_ns=None if since is None else since * NANOSECONDS,
        until_ns=None if until is None else until * NANOSECONDS,
        matches=lambda each: not odd or bool(each.time.seconds % 2),
    )
    assert seconds(list(ring.read(query))) == wanted
