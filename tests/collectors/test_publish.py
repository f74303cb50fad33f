"""One collector at a time for a cluster: a living one keeps its clusters, and a dead one loses them."""

import socket
from typing import Any

import pytest

from collectors.streaming.nodes import Unbooked
from collectors.streaming.publish import Publisher, Resume
from collectors.streaming.spool import Batch
from warehouse import schema
from warehouse.errors import LakeError

LEASE = 60.0


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class First(Publisher):
    """A collector that seems to run on another machine."""

    def publish(self, batches: list[Batch], *, released: bool = False) -> None:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(socket, "gethostname", lambda: "elsewhere")
            super().publish(batches, released=released)


@pytest.fixture
def first(stand: Any, clock: Clock) -> Publisher:
    """A collector elsewhere that has stored an empty batch."""
    publisher = First(stand.lake, lease_seconds=LEASE, clock=clock)
    publisher.publish([batch(1)])
    return publisher


def batch(sequence: int) -> Batch:
    return Batch(cluster="c1", sequence=sequence, rows=schema.FLOWS.schema.empty_table())


def test_a_collector_that_stores_nothing_for_hours_is_not_taken_over(stand: Any, clock: Clock, first: Publisher) -> None:
    second = Publisher(stand.lake, lease_seconds=LEASE, clock=clock)
    sequence = 1
    for _ in range(200):
        clock.now += 5
        if first.is_due("c1"):
            sequence += 1
            first.publish([batch(sequence)])
        assert isinstance(second.begin("c1"), str)
    assert 40 < sequence < 60


def test_a_collector_that_has_gone_is_taken_over_after_a_lease(stand: Any, clock: Clock, first: Publisher) -> None:
    second = Publisher(stand.lake, lease_seconds=LEASE, clock=clock)
    assert isinstance(second.begin("c1"), str)
    clock.now += LEASE + 1
    resume = second.begin("c1")
    assert isinstance(resume, Resume)
    assert resume.sequence == 1


def test_a_clock_that_is_an_hour_ahead_takes_nothing_over_while_the_other_is_heard_of(stand: Any, clock: Clock, first: Publisher) -> None:
    second = Publisher(stand.lake, lease_seconds=LEASE, clock=clock)
    assert isinstance(second.begin("c1"), str)
    ahead = Clock()
    second._clock = ahead
    ahead.now = clock.now + 3600
    for sequence in range(2, 12):
        clock.now += LEASE / 3
        ahead.now += LEASE / 3
        first.publish([batch(sequence)])
        assert isinstance(second.begin("c1"), str)


def test_a_lake_that_was_away_for_longer_than_a_lease_makes_nobody_take_over(
    stand: Any, clock: Clock, first: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = Publisher(stand.lake, lease_seconds=LEASE, clock=clock)
    assert isinstance(second.begin("c1"), str)

    def away(*_arguments: Any) -> None:
        raise LakeError("the lake is away")

    with monkeypatch.context() as patched:
        patched.setattr(stand.lake, "last_metadata", away)
        clock.now += 10 * LEASE
        with pytest.raises(LakeError):
            second.begin("c1")
    assert isinstance(second.begin("c1"), str)
    clock.now += LEASE + 1
    assert isinstance(second.begin("c1"), Resume)


def test_what_was_not_booked_yet_is_handed_on_to_the_next_collector(stand: Any, clock: Clock) -> None:
    publisher = Publisher(stand.lake, lease_seconds=LEASE, clock=clock)
    rows = schema.FLOWS.schema.empty_table()
    unbooked: dict[str | None, Unbooked] = {"n1": Unbooked(3, 5, 7)}
    publisher.publish([Batch(cluster="c1", sequence=1, rows=rows, until_us={"n1": 9, None: 8}, unbooked=unbooked)], released=True)
    resume = Publisher(stand.lake, lease_seconds=LEASE, clock=clock).begin("c1")
    assert isinstance(resume, Resume)
    assert (resume.until_us, resume.unbooked) == ({"n1": 9, None: 8}, unbooked)
