"""What many streams brought is decoded together, and each cluster gets its own of it, in order."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.streaming import arrivals
from collectors.streaming.arrivals import Flows, Notice, Taken, Unreadable, steps_of
from collectors.streaming.messages import Messages
from collectors.streaming.stream import Arrived, Opened
from warehouse import config

REDACT = config.Redact()


def message(kind: str, number: int) -> bytes:
    match kind:
        case "flow":
            return observer_pb2.GetFlowsResponse(flow=flow_pb2.Flow(uuid=str(number))).SerializeToString()
        case "lost":
            return observer_pb2.GetFlowsResponse(lost_events=flow_pb2.LostEvent(num_events_lost=number)).SerializeToString()
        case "flow that cannot be read":
            return b"\x0a\x04\xff\xff\xff\xff"
        case _:
            return b"\xff"


def seen(steps: list[Any]) -> list[Any]:
    """The steps as plain values; neighbouring flows as one list."""
    found: list[Any] = []
    for step in steps:
        match step:
            case Flows(rows=rows):
                assert step.arrivals[-1][0] == rows.num_rows
                found += list(zip(rows["cluster"].to_pylist(), rows["uuid"].to_pylist(), strict=True))
            case Notice(response=response, at=at):
                found.append((response.lost_events.num_events_lost, at))
            case Unreadable(messages=messages):
                found += [one.message for one in messages]
            case other:
                found.append(other)
    return found


KINDS = st.sampled_from(["flow", "flow", "flow", "lost", "flow that cannot be read", "garbage"])
STREAMS = st.lists(st.lists(st.one_of(st.none(), st.lists(KINDS, min_size=1, max_size=4)), max_size=4), max_size=4)


def taken(streams: list[list[list[str] | None]]) -> list[Taken]:
    number, found = 0, []
    for place, items in enumerate(streams):
        made: list[Any] = []
        for kinds in items:
            number += 10
            made.append(Opened(number) if kinds is None else Arrived(number, Messages.of([message(kind, number) for kind in kinds])))
        found.append(Taken(cluster=f"c{place}", items=made))
    return found


def test_nothing_taken_gives_no_steps() -> None:
    assert steps_of([], REDACT) == []
    assert steps_of([Taken(cluster="c1", items=[])], REDACT) == [[]]


@given(STREAMS)
def test_streams_that_are_decoded_together_give_the_same_steps_as_each_alone(streams: list[list[list[str] | None]]) -> None:
    together = steps_of(taken(streams), REDACT)
    alone = [steps_of([one], REDACT)[0] for one in taken(streams)]
    assert [seen(steps) for steps in together] == [seen(steps) for steps in alone]


def test_flows_of_fifty_clusters_are_decoded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, decode = [], arrivals.decode
    monkeypatch.setattr(arrivals, "decode", lambda *given, **more: calls.append(1) or decode(*given, **more))
    steps = steps_of(taken([[["flow", "flow"]] * 3] * 50), REDACT)
    assert calls == [1]
    assert [len(mine) for mine in steps] == [1] * 50
    assert {step.rows.num_rows for mine in steps for step in mine if isinstance(step, Flows)} == {6}


def test_flows_that_arrive_within_two_seconds_count_as_one_arrival_but_not_across_a_pause() -> None:
    second = 1_000_000
    times = [0.0, 0.9, 1.8, 2.4, 3.0, 9.0, 9.1]
    items = [Arrived(int(time * second), Messages.of([message("flow", number)])) for number, time in enumerate(times, start=1)]
    ((step,),) = steps_of([Taken(cluster="c1", items=items)], REDACT)
    assert isinstance(step, Flows)
    arrivals_in_seconds = [(rows, since / second, at / second) for rows, since, at in step.arrivals]
    assert arrivals_in_seconds == [(3, 0, 1.8), (5, 2.4, 3), (7, 9, 9.1)]
