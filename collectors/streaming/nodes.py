"""What the ledger knows about nodes: one node, an outage, and which nodes exist. Rows belong to the ledger."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from collectors.streaming.completeness import Completeness

ABSENT_US = 60_000_000
"""A node has left when relay's list has lacked it for this long and it has sent nothing since."""
FIRST_US, REPEAT_US = 15_000_000, 300_000_000
"""A continuing outage is booked for the first time after FIRST_US and then every REPEAT_US, so that it is visible before it ends."""


@dataclass(slots=True)
class Away:
    """An outage of a node or of an address. Times are microseconds since 1970, by our clock."""

    since: int
    """The time from which it has not been booked yet."""
    reason: str
    is_booked: bool = False
    """Whether its beginning has been booked."""

    def is_due(self, at: int) -> bool:
        """Whether a part of it should be booked although it continues."""
        return at - self.since > (REPEAT_US if self.is_booked else FIRST_US)


class Hole(NamedTuple):
    """Time of a node in which flows may be missing."""

    known: int
    """The last flow before which none is missing."""
    first: int
    """The last flow received before the hole."""
    last: int
    """The first flow received after it."""


class Unbooked(NamedTuple):
    """The state of a node that is noted with each batch, so that another ledger can continue after a crash."""

    booked: int
    """Where its next `connected` row begins."""
    received: int
    """Flows received since then."""
    complete_until: int
    """The last flow before which no loss can have gone unreported."""


@dataclass(slots=True)
class Node:
    """What the ledger knows of one node. Times are microseconds since 1970: by the node's clock, or by ours where noted."""

    address: str = ""
    until: int | None = None
    """Time of the last flow received from it."""
    booked: int | None = None
    """Where the next `connected` row begins."""
    received: int = 0
    """Flows received since then."""
    doubt: str | None = None
    """Set while it is not known whether flows are missing before its next one: the source of the gap if some are."""
    doubted_at: int = 0
    """When `doubt` was set, by our clock."""
    arrived_at: int = 0
    """When its last flow arrived, by our clock."""
    duplicate_at: int = 0
    """When a flow that had been received before arrived again, by our clock."""
    complete: Completeness = field(default_factory=Completeness)
    """Up to which flow its history is known to be complete."""
    replay: Hole | None = None
    """The hole in front of the flows that it last sent again: from the last flow known to be complete to the first one sent again."""
    steps: deque[tuple[int, Hole]] = field(default_factory=lambda: deque(maxlen=64))
    """For each arrival its time, by our clock, and the longest time between two of its flows."""
    last_gap: int | None = None
    started_at: int | None = None
    seen: int = 0
    """The number of flows it had seen at `seen_at`."""
    seen_at: int = 0
    """When it was asked for the first time after a flow had arrived here, by our clock."""
    reported: int = 0
    """The number of flows it had seen when it was last asked."""
    overrun: list[dict[str, Any]] = field(default_factory=list)
    """`lost` rows for flows that the ring had dropped before they were read; booked only if the next flow is new."""
    away: Away | None = None
    """The outage, while relay has no stream to it."""
    listed_at: int | None = None
    """When its address last listed it, by our clock; None if it never did."""
    absent_since: int | None = None
    """When it was first missing from that list, by our clock; None while it is listed."""

    @property
    def unbooked(self) -> Unbooked | None:
        """What has not been booked about it; None if everything has been booked."""
        known = self.complete.known
        if self.booked is None or self.until is None or known is None:
            return None
        is_something = self.until >= self.booked or self.received > 0 or known < self.until
        return Unbooked(self.booked, self.received, known) if is_something else None

    def end_doubt(self) -> None:
        """Note that flows that are missing before its newest one, if any, have been booked."""
        self.doubt = self.replay = None
        self.complete.continues = True

    def longest_step(self, *, since: int) -> Hole | None:
        """Return the longest time between two flows among those that arrived since then, by our clock; None if none arrived."""
        return max((hole for arrival, hole in self.steps if arrival >= since), key=lambda hole: hole.last - hole.first, default=None)


def resume_us(nodes: Iterable[Node]) -> int | None:
    """Return the time from which a stream must begin to prove that no flow of any node is missing; None if there is no flow yet."""
    times = [known for node in nodes if node.until is not None and (known := node.complete.known) is not None]
    return min(times, default=None)


class Members:
    """Which nodes the addresses of a cluster list. Times are microseconds since 1970, by our clock."""

    def __init__(self, *, has_one_address: bool) -> None:
        self._has_one_address = has_one_address
        self._listed: dict[str, tuple[int, frozenset[str]]] = {}
        """For each address the time of its last list, and the names in it."""

    def changes(
        self, nodes: dict[str | None, Node], address: str, uptimes_ns: Mapping[str, int], at: int
    ) -> tuple[list[tuple[str, int]], list[tuple[str | None, int]]]:
        """The nodes that joined since the address's last list, with the start of their agents, and those that left, with the time
        since which they have been missing. Nodes that are new are added to `nodes`.

        A node has left when it has been missing for a while and has sent nothing since. An empty list says nothing: it is that of
        a node that was asked itself, or of a relay that has just started. Nor does the first list say who joined.
        """
        if not uptimes_ns:
            return [], []
        before = self._listed.get(address)
        self._listed[address] = (at, frozenset(uptimes_ns))
        joined: list[tuple[str, int]] = []
        for name, uptime_ns in uptimes_ns.items():
            known = nodes.get(name)
            if before is not None and name not in before[1] and (known is None or known.listed_at is None):
                joined.append((name, at - uptime_ns // 1000 if uptime_ns else before[0]))
            node = nodes.setdefault(name, Node(address=address))
            node.listed_at, node.absent_since = at, None
        left: list[tuple[str | None, int]] = []
        for missing, node in nodes.items():
            is_of_address = node.address == address or (not node.address and self._has_one_address)
            if missing in uptimes_ns or not is_of_address:
                continue
            if node.absent_since is None or node.arrived_at >= node.absent_since:
                node.absent_since = at
            elif at - node.absent_since >= ABSENT_US:
                left.append((missing, node.absent_since))
        return joined, left
