"""When the flows were lost that a LostEvent reports. Booking the loss belongs to the ledger."""

from __future__ import annotations

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.streaming.completeness import GATHER_US, REPORT_US, Completeness


def time_of_loss(response: observer_pb2.GetFlowsResponse, complete: Completeness | None, at: int) -> tuple[int, int]:
    """When flows were lost that a LostEvent reports: from the first moment, up to but not including the second one.

    An overrun ring says when it noticed; the flows that it had overwritten by then are older, but newer than what came long before
    the report. The agent's queue says which flows it refused. Agents older than Cilium 1.19 say neither.
    """
    event = response.lost_events
    sent = response.time.ToMicroseconds() if response.HasField("time") else at
    first = event.first.ToMicroseconds() if event.HasField("first") else None
    last = event.last.ToMicroseconds() if event.HasField("last") else None
    if first is not None and last is not None and first <= last and event.source == flow_pb2.OBSERVER_EVENTS_QUEUE:
        return first, last + 1
    late = 0 if first is None else max(0, sent - first - GATHER_US)  # an agent that was paused reports later
    before = None if complete is None else complete.before_slices(REPORT_US + late) or complete.until
    begin = min(one for one in (sent, first, last, before) if one is not None)
    newest = None if complete is None else complete.last
    end = last if last is not None and last > begin else max(one for one in (sent, last, newest) if one is not None)
    return begin, end + 1
