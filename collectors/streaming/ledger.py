"""The completeness ledger: from what arrives, and what does not, to the rows of `coverage`.

A node counts as observed only while that is proven. Hubble marks neither the start of a ring nor what fell out of it
during an outage; but a stream that resumes begins with a flow that is held already, if the ring still has it. If a node's
first flow is new instead, what lies between is a gap. Nothing here talks to Hubble or to the lake.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.relay import relay_pb2
from collectors.streaming.held import is_steady, node_codes
from warehouse import schema

ERROR_DELAY_US = 15_000_000
"""Relay gathers node errors for 10 s before it tells; a break may be this much older than its message."""
LOSS_DELAY_US = 3_000_000
"""A ring tells of losses at most once a second, and relay sorts: they lie behind a flow that came at most this long before."""
PAUSE_US = 500_000
"""Of a longer time in which nothing came of a node only this much counts: whoever paused told nothing meanwhile."""
REPEAT_US = 300_000_000
"""An outage that goes on is booked this often, so that it shows before it ends."""
SHORTEST_OUTAGE_US = 1_000_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Node:
    """One node. Times are microseconds since 1970, by the node's clock unless said."""

    address: str = ""
    until: int | None = None
    """Its last flow that is held."""
    booked: int | None = None
    """Where the next `connected` row begins."""
    received: int = 0
    doubt: str | None = None
    """Why its next flow must prove that none is missing: source of the gap if it does not."""
    doubted_at: int = 0
    arrived_at: int = 0
    duplicate_at: int = 0
    steps: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=64))
    """Arrival by our clock, and the longest time between two flows that came then."""
    awake: int = 0
    """How long its flows have come, by our clock and without pauses."""
    ends: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=256))
    """Its last flow held before each batch that came, and `awake` at that batch."""
    last_gap: int | None = None
    started_at: int | None = None
    seen: int = 0
    """How many flows it had seen when it was asked first after one had arrived here, ..."""
    seen_at: int = 0
    """... when that was by our clock, ..."""
    reported: int = 0
    """... and how many when it was asked last."""
    overrun: list[dict[str, Any]] = field(default_factory=list)
    """Rows of flows that the ring had dropped when they were to be read; lost only if the next flow is not held already."""
    away: tuple[int, str] | None = None
    """Since when, by our clock, relay has no stream to it, and what relay says."""


class Ledger:
    """The ledger of one cluster. `at` is our clock in microseconds since 1970. Not for use by several threads."""

    def __init__(self, cluster: str, *, until_us: dict[str | None, int], addresses: tuple[str, ...], at: int) -> None:
        """`until_us`: time of the last stored flow of each node."""
        self._cluster = cluster
        self._rows: list[dict[str, Any]] = []
        self._nodes = {name: _Node(until=until, booked=until + 1, doubt="ring_overrun") for name, until in until_us.items()}
        self._away: dict[str, tuple[int, str]] = dict.fromkeys(addresses, (at, "not connected yet"))

    @property
    def until_us(self) -> dict[str | None, int]:
        """Time of the last flow of each node: what a stream resumes from."""
        return {name: node.until for name, node in self._nodes.items() if node.until is not None}

    # Streams ----------------------------------------------------------------------------------------------

    def opened(self, address: str, at: int) -> None:
        """The first message of a stream has come: each of its nodes has to prove that nothing is missing."""
        since = self._away.pop(address, None)
        if since is not None:
            self._book_outage(address, since, at)
        for node in self._nodes.values():
            if node.address in ("", address):
                node.doubt, node.doubted_at = "ring_overrun", at

    def ended(self, address: str, at: int, reason: str) -> None:
        """The stream is over."""
        self._away.setdefault(address, (at, reason))

    def held_back(self, since: int, at: int) -> None:
        """From `since` to now the streams were not read, because the spool was full."""
        self._book(None, (since, at), "disconnected", "spool_full", detail="the lake is away and the spool is full: streams were held")

    # What came --------------------------------------------------------------------------------------------

    def flows(self, address: str, rows: pa.Table, fresh: npt.NDArray[np.bool_], at: int) -> None:
        """Flows came, in this order; `fresh` says which are not held already."""
        names, codes = node_codes(rows)
        times = rows.column("time").cast(pa.int64()).to_numpy()
        counts = rows.column("flow_count").to_numpy()
        steady = is_steady(rows)
        for code, name in enumerate(names):
            mine = np.flatnonzero(codes == code)
            node = self._nodes.setdefault(name, _Node())
            node.awake += min(at - node.arrived_at, PAUSE_US)
            node.address, node.arrived_at = address, at
            if node.away is not None:
                self._back(name, node, at)
            self._settle(name, node, times[mine], fresh[mine], steady[mine], at)
            node.received += int(counts[mine][fresh[mine]].sum())

    def _settle(
        self,
        name: str | None,
        node: _Node,
        times: npt.NDArray[np.int64],
        fresh: npt.NDArray[np.bool_],
        steady: npt.NDArray[np.bool_],
        at: int,
    ) -> None:
        """Decide a doubt, then move the node's end forward."""
        later = times[fresh & steady]
        if not fresh.all():
            node.duplicate_at = at
        if node.until is None:
            node.doubt = None
            if not later.size:
                return
            node.booked = int(later.min())
            node.until = node.booked
        decisive = np.flatnonzero(~fresh | (steady & (times > node.until)))
        proven = bool(decisive.size) and not fresh[decisive[0]]
        if decisive.size and node.overrun:
            self._rows += [] if proven else node.overrun
            node.overrun.clear()
        later = np.sort(later[later > node.until])
        node.ends.append((node.awake, node.until))
        if later.size:
            whole = np.concatenate(([node.until], later))
            longest = int(np.argmax(np.diff(whole)))
            node.steps.append((at, int(whole[longest]), int(whole[longest + 1])))
        if node.doubt is not None and decisive.size:
            if not proven:
                first = int(times[decisive[0]])
                hole = (
                    (node.until, first) if node.doubt != "node_error" else self._longest_step(node, since=node.doubted_at - ERROR_DELAY_US)
                )
                self._gap(name, node, hole)
            node.doubt = None
        if later.size:
            node.until = int(later[-1])

    def lost(self, response: observer_pb2.GetFlowsResponse, at: int) -> int:
        """A LostEvent came; gives the number of flows lost."""
        event, name = response.lost_events, self._known(_plain(response.node_name))
        told = response.time.ToMicroseconds() if response.HasField("time") else at
        times = [moment.ToMicroseconds() for field_ in ("first", "last") if event.HasField(field_) for moment in (getattr(event, field_),)]
        node = self._nodes.get(name)
        if node is not None and node.until is not None:
            times += [node.until, *(end for awake, end in node.ends if awake >= node.awake - LOSS_DELAY_US)]
        source = flow_pb2.LostEventSource.Name(event.source) if event.source in flow_pb2.LostEventSource.values() else str(event.source)
        interval = _moment(min([told, *times])), _moment(max([told, *times]) + 1)
        row = coverage_row(self._cluster, interval, name, "lost", source, None, event.num_events_lost, None)
        if event.source == flow_pb2.HUBBLE_RING_BUFFER and node is not None:
            node.overrun.append(row)
        else:
            self._rows.append(row)
        return event.num_events_lost

    def rejected(self, count: int, at: int) -> None:
        """Messages came that hold no flow that can be read."""
        self._book(None, (at, at + 1), "lost", "decode", lost=count, detail="messages that could not be read were set aside")

    # Nodes' states ----------------------------------------------------------------------------------------

    def node_status(self, response: observer_pb2.GetFlowsResponse, at: int) -> None:
        """Relay says, inside the stream, that nodes are away or that their streams broke."""
        status = response.node_status
        for name in map(_plain, status.node_names):
            node = self._nodes.setdefault(name, _Node())
            if status.state_change == relay_pb2.NODE_ERROR:
                if node.until is not None and node.doubt is None and node.duplicate_at < at - ERROR_DELAY_US:
                    node.doubt, node.doubted_at = "node_error", at
            elif status.state_change == relay_pb2.NODE_CONNECTED:
                self._back(name, node, at)
            elif node.away is None:
                node.away = (at, status.message)

    def polled(self, address: str, nodes: tuple[observer_pb2.Node, ...], at: int) -> None:
        """The nodes' states and counters, as `Client.nodes` gives them."""
        for report in nodes:
            name = _plain(report.name) if report.name else self._only_node(address)
            if name is None:
                continue
            node = self._nodes.setdefault(name, _Node(address=address))
            if report.state == relay_pb2.NODE_CONNECTED:
                self._back(name, node, at)
                self._started(name, node, at - report.uptime_ns // 1000, at)
            elif node.away is None:
                node.away = (at, f"relay says {relay_pb2.NodeState.Name(report.state)}")
            if node.arrived_at > node.seen_at or report.seen_flows < node.seen:
                node.seen, node.seen_at = report.seen_flows, at
            node.reported = report.seen_flows

    def silent(self, at: int, after_us: int) -> dict[str, str]:
        """Addresses whose stream should be opened anew, each with a node that goes on seeing flows of which none arrive."""
        found = {}
        for name, node in self._nodes.items():
            if node.away is None and node.reported > node.seen and 0 < node.arrived_at < at - after_us and node.address:
                found[node.address] = str(name)
                node.arrived_at = at
        return found

    def _started(self, name: str | None, node: _Node, started: int, at: int) -> None:
        before, node.started_at = node.started_at, started
        if before is None or started - before < 2_000_000 or node.until is None:
            return
        hole = next(((first, last) for _, first, last in node.steps if first <= started <= last), None)
        if hole:
            self._gap(name, node, hole)
            node.doubt = None
        elif node.until <= started:
            node.doubt, node.doubted_at = "node_restart", at

    # Booking ----------------------------------------------------------------------------------------------

    def take(self, at: int) -> list[dict[str, Any]]:
        """The rows (columns of `coverage`) that became known since the last call."""
        for address, since in self._away.items():
            if at - since[0] > REPEAT_US:
                self._book_outage(address, since, at)
                self._away[address] = (at, since[1])
        for name, node in self._nodes.items():
            if node.away is not None and at - node.away[0] > REPEAT_US:
                message = node.away[1]
                self._back(name, node, at)
                node.away = (at, message)
            if node.until is not None and node.booked is not None and (node.until >= node.booked or node.received):
                end = max(node.until + 1, node.booked)
                self._book(name, (node.booked, end), "connected", "stream", received=node.received)
                node.booked, node.received = end, 0
            if node.overrun and node.arrived_at < at - ERROR_DELAY_US:
                self._rows += node.overrun
                node.overrun.clear()
        taken, self._rows = self._rows, []
        now = _moment(at)
        return [row | {"recorded": now} for row in taken]

    def _gap(self, name: str | None, node: _Node, hole: tuple[int, int] | None) -> None:
        if hole is None or hole[0] == node.last_gap:
            return
        node.last_gap = hole[0]
        restarted = node.started_at is not None and hole[0] < node.started_at <= hole[1]
        source = "node_restart" if restarted or node.doubt == "node_restart" else "ring_overrun"
        detail = (
            "the node began a new ring"
            if source == "node_restart"
            else "the ring no longer held the flows after the last one that was stored"
        )
        self._book(name, (hole[0] + 1, hole[1]), "gap", source, detail=detail)
        if node.booked is not None and node.booked <= hole[0] + 1:
            if node.until is not None and hole[0] + 1 > node.booked:
                self._book(name, (node.booked, hole[0] + 1), "connected", "stream", received=node.received)
                node.received = 0
            node.booked = hole[1]

    def _back(self, name: str | None, node: _Node, at: int) -> None:
        if node.away is not None:
            since, message = node.away
            node.away = None
            if at - since >= SHORTEST_OUTAGE_US:
                self._book(name, (since, at), "node_unavailable", "relay", detail=message)

    def _book_outage(self, address: str, since: tuple[int, str], at: int) -> None:
        if at - since[0] >= SHORTEST_OUTAGE_US:
            self._book(None, (since[0], at), "disconnected", "stream", detail=f"{address}: {since[1]}")

    def _book(
        self,
        node: str | None,
        interval: tuple[int, int],
        state: str,
        source: str,
        *,
        received: int | None = None,
        lost: int | None = None,
        detail: str | None = None,
    ) -> None:
        begin, end = interval
        if end > begin:
            row = coverage_row(self._cluster, (_moment(begin), _moment(end)), node, state, source, received, lost, detail)
            self._rows.append(row)

    def _longest_step(self, node: _Node, *, since: int) -> tuple[int, int] | None:
        recent = [(last - first, first, last) for arrival, first, last in node.steps if arrival >= since]
        return max(recent)[1:] if recent else None

    def _known(self, name: str) -> str | None:
        """The node as flows name it: lost events may leave out the cluster."""
        if name in self._nodes:
            return name
        matches = [known for known in self._nodes if known and known.endswith(f"/{name}")]
        return matches[0] if name and len(matches) == 1 else name or None

    def _only_node(self, address: str) -> str | None:
        names = [name for name, node in self._nodes.items() if node.address == address]
        return names[0] if len(names) == 1 else None


def coverage_row(
    cluster: str,
    interval: tuple[datetime, datetime],
    node: str | None,
    state: str,
    source: str,
    received: int | None,
    lost: int | None,
    detail: str | None,
    recorded: datetime | None = None,
) -> dict[str, Any]:
    """A row of `coverage`."""
    values = (cluster, interval[0].date(), *interval, node, state, source, received, lost, detail, recorded)
    return dict(zip(schema.COVERAGE.schema.names, values, strict=True))


def _moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def _plain(name: str) -> str:
    """Nodes of a cluster called default carry no prefix in flows, but they do in relay's lists."""
    return name.removeprefix("default/")
