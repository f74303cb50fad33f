"""The completeness ledger: derives rows of `coverage` from the flows and messages that arrive, and from those that do not.

A node counts as observed only while that is proven. Hubble marks neither the start of a ring nor what fell out of it
during an outage; but a stream that resumes begins with a flow that was received before, if the ring still has it. If a
node's first flow is new instead, the time in between is a gap. So is the time whose losses the node had not reported when its
stream broke (collectors/streaming/completeness.py), unless the ring still holds it. Nodes come and go: one that has left is
booked as `left` once and then forgotten. Nothing here talks to Hubble or to the lake.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.relay import relay_pb2
from collectors.streaming.bookings import Bookings
from collectors.streaming.completeness import Completeness, ReadingTime
from collectors.streaming.coverage_rows import moment
from collectors.streaming.known_flows import is_steady, node_codes
from collectors.streaming.losses import time_of_loss
from collectors.streaming.nodes import Away, Hole, Members, Node, Unbooked, resume_us

ERROR_DELAY_US = 15_000_000
"""Relay collects node errors for 10 s before it reports them; a break may be this much older than its message."""
BOOK_US = 30_000_000
"""`connected` rows are booked this often; until then they are noted with each batch."""
HEARTBEAT_US = 60_000_000
"""A ledger that has had nothing to book for this long books that the collector is at work."""


LEDGER_COLUMNS = ["node_name", "time", "time_ns", "clock_skew", "flow_count"]
"""The columns of `flows` that a ledger needs."""


@dataclass(frozen=True, slots=True)
class _Flows:
    """Flows of one node that arrived together."""

    times: npt.NDArray[np.int64]
    fresh: npt.NDArray[np.bool_]
    """Which flows had not been received before."""
    steady: npt.NDArray[np.bool_]
    """Which flows have a reliable time."""
    at: int
    """When they had arrived, by our clock."""
    read: int
    """The reading time of their stream by then."""


class Ledger:
    """The ledger of one cluster. `at` is our clock in microseconds since 1970. Not for use by several threads."""

    def __init__(
        self,
        cluster: str,
        *,
        until_us: Mapping[str | None, int],
        unbooked: Mapping[str | None, Unbooked] | None = None,
        addresses: tuple[str, ...],
        at: int,
    ) -> None:
        """`until_us` is the time of each node's last stored flow; `unbooked` is what a ledger before this one gave as such."""
        self._cluster = cluster
        self._bookings = Bookings(cluster)
        self._nodes = {
            name: Node(until=until, booked=until + 1, doubt="ring_overrun", complete=Completeness(until))
            for name, until in until_us.items()
        }
        for name, left in (unbooked or {}).items():
            if name in self._nodes:
                node = self._nodes[name]
                node.booked, node.received, node.complete = left.booked, left.received, Completeness(left.complete_until)
        self._reading: dict[str, ReadingTime] = {}
        self._away = {address: Away(at, "not connected yet") for address in addresses}
        self._members = Members(has_one_address=len(addresses) == 1)
        self._left: list[str | None] = []
        self._booked_at = self._spoke_at = at

    @property
    def until_us(self) -> dict[str | None, int]:
        """Time of the last flow of each node that has not left."""
        return {name: node.until for name, node in self._nodes.items() if node.until is not None}

    @property
    def resume_us(self) -> int | None:
        """As `nodes.resume_us`. May be called from any thread."""
        return resume_us(list(self._nodes.values()))

    @property
    def unbooked(self) -> dict[str | None, Unbooked]:
        """What the next ledger has to know of the nodes besides `until_us`; nodes of which there is nothing to know are left out."""
        return {name: unbooked for name, node in self._nodes.items() if (unbooked := node.unbooked) is not None}

    def take_left(self) -> list[str | None]:
        """Return the nodes that left since the last call."""
        left, self._left = self._left, []
        return left

    # Streams ----------------------------------------------------------------------------------------------

    def opened(self, address: str, at: int) -> None:
        """Note that the first message of a stream has arrived: whether flows of its nodes are missing is now open."""
        away = self._away.pop(address, None)
        if away is not None:
            self._bookings.outage(self._only_node(address), f"{address}: {away.reason}", away.since, at)
        for node in self._nodes.values():
            if node.address in ("", address):
                node.doubt, node.doubted_at = "ring_overrun", at
                node.complete.begin_stream()

    def ended(self, address: str, at: int, reason: str) -> None:
        """Note that the stream has ended."""
        self._away.setdefault(address, Away(at, reason))

    def reported(self, name: str | None) -> None:
        """Note that a node has reported all its losses: flows came that it read later than a loss is reported."""
        node = self._nodes.get(name)
        if node is not None and node.until is not None and node.doubt is None:
            node.complete.complete(node.until)

    def paused(self, since: int, at: int) -> None:
        """Record that the streams were not read from `since` to `at`, because the spool was full."""
        self._bookings.add(
            None, (since, at), "disconnected", "spool_full", detail="the streams were paused: the lake was away and the spool was full"
        )

    # What came --------------------------------------------------------------------------------------------

    def flows(self, address: str, rows: pa.Table, fresh: npt.NDArray[np.bool_], arrival: tuple[int, int]) -> None:
        """Flows (LEDGER_COLUMNS) arrived between the two times, in this order; `fresh` says which were not received before."""
        names, codes = node_codes(rows)
        times = rows.column("time").cast(pa.int64()).to_numpy()
        counts = rows.column("flow_count").to_numpy()
        steady = is_steady(rows)
        reading, at = self._reading.setdefault(address, ReadingTime()), arrival[1]
        reading.advance(*arrival)
        for code, name in enumerate(names):
            mine = np.flatnonzero(codes == code)
            node = self._nodes.setdefault(name, Node())
            node.address, node.arrived_at = address, at
            if node.away is not None:
                self._bookings.back(name, node, at)
            self._settle(name, node, _Flows(times[mine], fresh[mine], steady[mine], at, reading.total))
            node.received += int(counts[mine][fresh[mine]].sum())

    def _settle(self, name: str | None, node: Node, came: _Flows) -> None:
        """Decide whether flows are missing before these, then move the time of the node's last flow."""
        times, fresh, steady, at = came.times, came.fresh, came.steady, came.at
        later = times[fresh & steady]
        known = node.complete.known
        if steady.any():
            begin = int(times[steady].min())
            node.complete.add(begin, int(times[steady].max()), came.read)
            if known is not None and not fresh.all() and node.duplicate_at < at - ERROR_DELAY_US:
                node.replay = Hole(known, known, begin)
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
            self._bookings.rows += [] if proven else node.overrun
            node.overrun.clear()
        later = np.sort(later[later > node.until])
        if later.size:
            whole = np.concatenate(([node.until], later))
            longest = int(np.argmax(np.diff(whole)))
            before = int(whole[longest])
            node.steps.append((at, Hole(min(before, known or before), before, int(whole[longest + 1]))))
        if node.doubt is not None and decisive.size:
            self._resolve(name, node, known, None if proven else int(times[decisive[0]]))
        if later.size:
            node.until = int(later[-1])

    def _resolve(self, name: str | None, node: Node, known: int | None, first_new: int | None) -> None:
        """End the doubt about a node: book the time in which flows are missing, or may be.

        `known` is the last flow that was known to be complete, `first_new` the first new flow, None if the ring reached back.
        """
        if node.doubt == "node_error":
            if first_new is None:
                self._bookings.unreported(name, node, node.replay)
            else:
                self._bookings.gap(name, node, node.longest_step(since=node.doubted_at - ERROR_DELAY_US))
        elif known is not None and node.until is not None and first_new is not None:
            self._bookings.gap(name, node, Hole(known, node.until, first_new))
        elif known is not None and node.complete.begin is not None:
            self._bookings.unreported(name, node, Hole(known, known, node.complete.begin))
        node.end_doubt()

    def lost(self, response: observer_pb2.GetFlowsResponse, at: int) -> int:
        """Record a LostEvent; return the number of flows lost."""
        event, name = response.lost_events, self._known(_plain(response.node_name))
        node = self._nodes.get(name)
        source = flow_pb2.LostEventSource.Name(event.source) if event.source in flow_pb2.LostEventSource.values() else str(event.source)
        interval = time_of_loss(response, None if node is None else node.complete, at)
        row = self._bookings.row(name, interval, "lost", source, lost=event.num_events_lost)
        (self._bookings.rows if node is None or event.source != flow_pb2.HUBBLE_RING_BUFFER else node.overrun).append(row)
        return event.num_events_lost

    def rejected(self, count: int, at: int) -> None:
        """Record messages whose flow cannot be read."""
        self._bookings.add(None, (at, at + 1), "lost", "decode", lost=count, detail="messages that could not be read were set aside")

    # Nodes' states ----------------------------------------------------------------------------------------

    def node_status(self, response: observer_pb2.GetFlowsResponse, at: int) -> None:
        """Record a change of nodes' states that relay reported inside the stream."""
        status = response.node_status
        for name in map(_plain, status.node_names):
            if status.state_change == relay_pb2.NODE_GONE:
                if name in self._nodes:
                    self._leave(name, self._nodes[name], at)
                continue
            node = self._nodes.setdefault(name, Node())
            if status.state_change == relay_pb2.NODE_ERROR:
                if node.until is None or node.doubt is not None:
                    continue
                if node.duplicate_at < at - ERROR_DELAY_US:
                    node.doubt, node.doubted_at = "node_error", at
                else:  # relay has begun anew with the node before it reported the error
                    self._bookings.unreported(name, node, node.replay)
                    node.replay = None
            elif status.state_change == relay_pb2.NODE_CONNECTED:
                self._bookings.back(name, node, at)
            elif node.away is None:
                node.away = Away(at, status.message)

    def polled(self, address: str, nodes: tuple[observer_pb2.Node, ...], at: int) -> None:
        """Record the nodes' states and counters, as returned by `Client.nodes`."""
        self._notice_changes(address, {_plain(report.name): report for report in nodes if report.name}, at)
        for report in nodes:
            name = _plain(report.name) if report.name else self._only_node(address)
            if name is None:
                continue
            node = self._nodes.setdefault(name, Node(address=address))
            if report.state == relay_pb2.NODE_CONNECTED:
                self._bookings.back(name, node, at)
                self._started(name, node, at - report.uptime_ns // 1000, at)
            elif node.away is None:
                node.away = Away(at, f"relay reports {relay_pb2.NodeState.Name(report.state)}")
            if node.arrived_at > node.seen_at or report.seen_flows < node.seen:
                node.seen, node.seen_at = report.seen_flows, at
            node.reported = report.seen_flows

    def _notice_changes(self, address: str, listed: dict[str, observer_pb2.Node], at: int) -> None:
        """Book which nodes joined, and which left, since the address listed its nodes before."""
        joined, left = self._members.changes(self._nodes, address, {name: report.uptime_ns for name, report in listed.items()}, at)
        for name, started in joined:
            self._bookings.add(name, (started, started + 1), "joined", "relay")
        for gone, absent_since in left:
            self._leave(gone, self._nodes[gone], absent_since)

    def _leave(self, name: str | None, node: Node, at: int) -> None:
        """Book that a node left by `at`, at some time since the last sign of it, and forget it."""
        last_sign = min(max(node.listed_at or 0, node.until or 0) or at, at)
        self._bookings.back(name, node, max(last_sign, node.away.since) if node.away else at)
        self._bookings.connected(name, node)
        self._bookings.rows += node.overrun
        self._bookings.add(name, (last_sign + 1, max(at, last_sign + 2)), "left", "relay", detail="relay no longer lists the node")
        del self._nodes[name]
        self._left.append(name)

    def silent(self, at: int, after_us: int) -> dict[str, str]:
        """Return addresses whose stream should be opened again, each with a node that keeps seeing flows while none arrive."""
        found = {}
        for name, node in self._nodes.items():
            if node.away is None and node.reported > node.seen and 0 < node.arrived_at < at - after_us and node.address:
                found[node.address] = str(name)
                node.arrived_at = at
        return found

    def _started(self, name: str | None, node: Node, started: int, at: int) -> None:
        before, node.started_at = node.started_at, started
        if before is None or started - before < 2_000_000 or node.until is None:
            return
        hole = next((hole for _, hole in node.steps if hole.first <= started <= hole.last), None)
        if hole:
            self._bookings.gap(name, node, hole)
            node.end_doubt()
        elif node.until <= started:
            node.doubt, node.doubted_at = "node_restart", at

    # Booking ----------------------------------------------------------------------------------------------

    def take(self, at: int, *, everything: bool = False) -> list[dict[str, Any]]:
        """The rows (columns of `coverage`) to be stored now; `connected` rows are among them every half minute.

        `everything` adds those, and losses that the next flow might have disproven: nothing comes after these rows.
        """
        for address, away in self._away.items():
            if away.is_due(at):
                self._bookings.outage(self._only_node(address), f"{address}: {away.reason}", away.since, at)
                self._away[address] = Away(at, away.reason, is_booked=True)
        connected = everything or at - self._booked_at >= BOOK_US
        if connected:
            self._booked_at = at
        for name, node in self._nodes.items():
            if node.away is not None and node.away.is_due(at) and node.absent_since is None:
                reason = node.away.reason
                self._bookings.back(name, node, at)
                node.away = Away(at, reason, is_booked=True)
            if connected:
                self._bookings.connected(name, node)
            if node.overrun and (everything or node.arrived_at < at - ERROR_DELAY_US):
                self._bookings.rows += node.overrun
                node.overrun.clear()
        if not self._bookings.rows and at - self._spoke_at >= HEARTBEAT_US:
            self._bookings.add(None, (self._spoke_at, at), "collecting", "heartbeat")
        taken = self._bookings.take()
        if taken:
            self._spoke_at = at
        now = moment(at)
        return [row | {"recorded": now} for row in taken]

    def _known(self, name: str) -> str | None:
        """Return the node's name in flows: LostEvents may leave out the cluster."""
        if name in self._nodes:
            return name
        matches = [known for known in self._nodes if known and known.endswith(f"/{name}")]
        return matches[0] if name and len(matches) == 1 else name or None

    def _only_node(self, address: str) -> str | None:
        names = [name for name, node in self._nodes.items() if node.address == address]
        return names[0] if len(names) == 1 else None


def _plain(name: str) -> str:
    """Nodes of a cluster called default carry no prefix in flows, but they do in relay's lists."""
    return name.removeprefix("default/")
