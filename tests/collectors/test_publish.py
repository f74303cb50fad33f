"""One collector at a time for a unit: a living one keeps it, a dead one loses it, and one that was paused stores nothing any more."""

import socket
from typing import Any

import pytest

from collectors.streaming.claims import UNLEASED_SECONDS, Claims, Resume
from collectors.streaming.nodes import Unbooked
from collectors.streaming.publish import Publisher, TakenOverError, app_id
from collectors.streaming.spool import Batch
from warehouse import schema


class Clock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Collector:
    """What a collector has to do with claims; `living` are the instances that it takes to be alive."""

    def __init__(self, stand: Any, clock: Clock, living: dict[str, str]) -> None:
        self.publisher = Publisher(stand.lake.apart(schema.FLOWS), clock=clock)
        self.publisher._lake._open_table(schema.COVERAGE)
        self.claims = Claims(self.publisher._lake, self.publisher, living.get, clock=clock)
        living[self.publisher.instance] = "another"

    def claim(self, *units: str, **more: Any) -> Any:
        answers = self.claims.claim({unit: unit.partition("#")[0] for unit in units or ("c1",)}, **more)
        return answers if units else answers["c1"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def living() -> dict[str, str]:
    return {}


@pytest.fixture
def first(stand: Any, clock: Clock, living: dict[str, str]) -> Collector:
    return Collector(stand, clock, living)


@pytest.fixture
def second(stand: Any, clock: Clock, living: dict[str, str]) -> Collector:
    return Collector(stand, clock, living)


def batch(sequence: int, unit: str = "c1", **more: Any) -> Batch:
    return Batch(cluster=unit.partition("#")[0], unit=unit, sequence=sequence, rows=schema.FLOWS.schema.empty_table(), **more)


def test_a_living_collector_keeps_its_unit(first: Collector, second: Collector) -> None:
    first.claim()
    assert second.claim() == "another"


def test_a_collector_that_lost_its_unit_while_it_was_paused_can_commit_nothing(
    stand: Any, first: Collector, second: Collector, living: dict[str, str]
) -> None:
    resume = first.claim()
    living.clear()
    taken = second.claim()
    assert (resume.sequence, taken.sequence) == (1, 2)
    versions = stand.lake.version(schema.FLOWS), stand.lake.version(schema.COVERAGE)
    with pytest.raises(TakenOverError):
        first.publisher.publish([batch(2)])
    assert (stand.lake.version(schema.FLOWS), stand.lake.version(schema.COVERAGE)) == versions
    second.publisher.publish([batch(3)])


def test_a_unit_that_was_lost_does_not_keep_the_others_from_being_stored(
    first: Collector, second: Collector, living: dict[str, str]
) -> None:
    first.claim("c1", "c2")
    living.clear()
    second.claim("c2")
    with pytest.raises(TakenOverError) as refused:
        first.publisher.publish([batch(2, "c1"), batch(2, "c2")])
    assert refused.value.units == ["c2"]
    first.publisher.publish([batch(2, "c1")])


def test_of_two_that_claim_at_once_the_later_gets_nothing(first: Collector, second: Collector, monkeypatch: pytest.MonkeyPatch) -> None:
    finish, calls = first.publisher.finish, iter((lambda: None, second.claim))

    def finish_and_be_overtaken(*earlier: Any) -> None:
        next(calls)()
        finish(*earlier)

    monkeypatch.setattr(first.publisher, "finish", finish_and_be_overtaken)  # called before the numbers are read, and before the commit
    assert isinstance(first.claim(), str)
    assert isinstance(second.claim(), Resume)


def test_a_unit_that_was_released_is_free_although_its_collector_lives(first: Collector, second: Collector) -> None:
    first.claim()
    first.publisher.publish([batch(2, released=True)])
    assert isinstance(second.claim(), Resume)


def test_what_the_spool_has_of_another_s_unit_is_stored_by_force_and_the_other_goes_on_after_it(
    first: Collector, second: Collector
) -> None:
    first.claim()
    forced = second.claim(by_force=["c1"])
    second.publisher.publish([batch(forced.sequence + 1, until_us={"n1": 7})])
    second.claims.release("c1", "c1", Resume(sequence=forced.sequence + 1, is_empty=True, until_us={"n1": 7}))
    with pytest.raises(TakenOverError):
        first.publisher.publish([batch(2)])
    again = first.claim()
    assert (again.sequence, again.until_us) == (5, {"n1": 7})


def test_units_are_claimed_by_one_commit_however_many(stand: Any, first: Collector) -> None:
    before = stand.lake.version(schema.FLOWS)
    answers = first.claim(*(f"c{number}" for number in range(50)), "big#0", "big#1")
    assert all(isinstance(answer, Resume) for answer in answers.values())
    assert stand.lake.version(schema.FLOWS) == before + 1


def test_numbers_that_were_used_without_a_note_are_not_used_again(stand: Any, first: Collector) -> None:
    stand.lake.commit(schema.FLOWS, [], transactions={app_id("c1"): 41}, metadata={})
    assert first.claim().sequence == 42


def test_a_collector_of_an_earlier_version_keeps_its_unit_until_it_has_noted_nothing_for_a_minute(
    clock: Clock, first: Collector, second: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = Publisher._owner
    monkeypatch.setattr(Publisher, "_owner", lambda self, one: owner(self, one) | {"leased": False, "host": "elsewhere"})
    first.publisher.publish([batch(1)])
    assert "elsewhere" in second.claim()
    clock.now += UNLEASED_SECONDS
    first.publisher.publish([batch(2)])
    clock.now += 1
    assert "elsewhere" in second.claim()
    clock.now += UNLEASED_SECONDS + 1
    assert isinstance(second.claim(), Resume)


def test_notes_can_be_read_by_collectors_of_earlier_versions(first: Collector) -> None:
    first.claim()
    note = first.publisher.notes()["c1"]
    assert (note["host"], note["released"]) == (socket.gethostname(), False)
    assert {"instance", "pid", "at", "sequence", "until_us", "unbooked", "coverage"} <= note.keys()


def test_what_was_not_booked_yet_is_handed_on_to_the_next_collector(first: Collector, second: Collector) -> None:
    unbooked: dict[str | None, Unbooked] = {"n1": Unbooked(3, 5, 7)}
    first.publisher.publish([batch(1, until_us={"n1": 9, None: 8}, unbooked=unbooked, released=True)])
    resume = second.claim()
    assert (resume.until_us, resume.unbooked) == ({"n1": 9, None: 8}, unbooked)
