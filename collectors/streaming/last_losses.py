"""The moment before a collector stops: streams are read on, only to learn which flows before the stop were lost.

A Hubble ring reports flows that it overwrote a second after it noticed, so a stream that is broken at once takes that report
with it. Flows that arrive after the stop are left out: the next run reads them from the ring, or books a gap.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from collectors.hubble_api.flow import flow_pb2
from collectors.streaming import responses
from collectors.streaming.intake import Intake
from collectors.streaming.stream import Arrived, Item, Stream, now_us

REPORT_SECONDS = 2.0
"""A loss is reported at most this long after a flow that came behind it: Hubble gathers losses for a second, and relay sorts."""
LONGEST_SECONDS = 5.0
"""For a stream from which something comes, but only now and then."""
_LOOK_SECONDS = 0.1


def book_last_losses(intakes: Iterable[Intake]) -> None:
    """Book losses that are reported late, until every stream has had time to report them or has been silent for a while."""
    began, began_us = time.monotonic(), now_us()
    waiting = [(intake, stream) for intake in intakes for stream in intake.streams if not _is_silent(stream)]
    while waiting and time.monotonic() < began + LONGEST_SECONDS:
        time.sleep(_LOOK_SECONDS)
        waiting = [(intake, stream) for intake, stream in waiting if not _book(intake, stream, began_us + int(REPORT_SECONDS * 1e6))]


def _is_silent(stream: Stream) -> bool:
    return not stream.connected or stream.idle_seconds >= REPORT_SECONDS


def _book(intake: Intake, stream: Stream, until_us: int) -> bool:
    """Book the losses that a stream reported, and return whether it has no more to report.

    Of nodes from which flows came late enough, the ledger learns that they have reported everything.
    """
    items: list[Item] = stream.take()
    arrived = [item for item in items if isinstance(item, Arrived)]
    for item in arrived:
        for _, response in responses.split(item.messages).others:
            if response.lost_events.source == flow_pb2.HUBBLE_RING_BUFFER:  # others stay in the ring and are read by the next run
                intake.book_loss(response, item.at)
    late = [item for item in arrived if item.at >= until_us]
    intake.reported(
        {responses.node_name(message) for item in late for message in map(item.messages.__getitem__, range(len(item.messages)))}
    )
    return _is_silent(stream) or bool(late)
