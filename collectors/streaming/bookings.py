"""The rows of `coverage` that a ledger has booked and that are to be stored. Deciding what happened belongs to the ledger."""

from __future__ import annotations

from typing import Any

from collectors.streaming.coverage_rows import coverage_row, moment
from collectors.streaming.nodes import Hole, Node

SHORTEST_OUTAGE_US = 1_000_000


class Bookings:
    """The rows of one cluster. Times are microseconds since 1970. The name of a row's node is None if it is about the whole cluster."""

    def __init__(self, cluster: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self._cluster = cluster

    def take(self) -> list[dict[str, Any]]:
        """The rows booked since the last call."""
        taken, self.rows = self.rows, []
        return taken

    def connected(self, name: str | None, node: Node) -> None:
        """Book that a node was observed since its last `connected` row, up to its last flow."""
        if node.until is not None and node.booked is not None and (node.until >= node.booked or node.received):
            end = max(node.until + 1, node.booked)
            self.add(name, (node.booked, end), "connected", "stream", received=node.received)
            node.booked, node.received = end, 0

    def gap(self, name: str | None, node: Node, hole: Hole | None) -> None:
        """Book that flows are missing; the gap begins where losses before them might not have been reported."""
        if hole is None or hole.first == node.last_gap:
            return
        node.last_gap = hole.first
        restarted = node.started_at is not None and hole.first < node.started_at <= hole.last
        if restarted or node.doubt == "node_restart":
            self._gap(name, node, hole, "node_restart", "the node began a new ring")
        else:
            self._gap(name, node, hole, "ring_overrun", "the ring no longer contained the flows after the last one that was stored")

    def unreported(self, name: str | None, node: Node, hole: Hole | None) -> None:
        """Book the time in which unreported losses are possible, unless the ring still contained it."""
        if hole is not None and hole.known < hole.last:
            self._gap(name, node, hole, "unreported", "the stream broke before the node could report losses of this time")

    def _gap(self, name: str | None, node: Node, hole: Hole, source: str, detail: str) -> None:
        self.add(name, (hole.known + 1, hole.last), "gap", source, detail=detail)
        if node.booked is not None and node.booked <= hole.last:
            if hole.known + 1 > node.booked:
                self.add(name, (node.booked, hole.known + 1), "connected", "stream", received=node.received)
                node.received = 0
            node.booked = hole.last

    def back(self, name: str | None, node: Node, at: int) -> None:
        """Book that relay had no stream to a node, if it had none, and that it has one again."""
        away, node.away = node.away, None
        if away is not None and at - away.since >= SHORTEST_OUTAGE_US:
            self.add(name, (away.since, at), "node_unavailable", "relay", detail=away.reason)

    def outage(self, name: str | None, detail: str, since: int, at: int) -> None:
        """Book that there was no stream: to this node, or to the whole cluster."""
        if at - since >= SHORTEST_OUTAGE_US:
            self.add(name, (since, at), "disconnected", "stream", detail=detail)

    def add(self, name: str | None, interval: tuple[int, int], state: str, source: str, **more: Any) -> None:
        """Book a row; `more` as for `row`. Nothing is booked of a time without length."""
        if interval[1] > interval[0]:
            self.rows.append(self.row(name, interval, state, source, **more))

    def row(
        self,
        name: str | None,
        interval: tuple[int, int],
        state: str,
        source: str,
        *,
        received: int | None = None,
        lost: int | None = None,
        detail: str | None = None,
    ) -> dict[str, Any]:
        """A row of `coverage` that is not booked."""
        begin, end = interval
        return coverage_row(self._cluster, (moment(begin), moment(end)), name, state, source, received, lost, detail)
