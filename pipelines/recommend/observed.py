"""Traffic that a recommendation is made from: the two ends of an edge, and what was observed of it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from pipelines.policy.labels import POD_NAMESPACE, LabelSet
from pipelines.policy.model import Connection, Direction, Side
from warehouse.wording import counted

ALLOWED_VERDICTS = frozenset({"FORWARDED", "REDIRECTED", "AUDIT"})
"""Verdicts of packets that reached the other end. TRACED and TRANSLATED are the socket's view, before a Service's address
is translated, so their port may be the Service's."""


@dataclass(frozen=True)
class End:
    """One end of an edge: what policies see of it, and what people call it."""

    side: Side
    """Labels, address and DNS names, as the policy engine reads them; `seen_as` is None where labels are not known."""
    namespace: str = ""
    workload: str = ""
    cluster: str = ""
    """The cluster of a pod in another cluster than the one that observed the edge; empty for that one."""
    names_inferred: bool = False
    """Whether the DNS names come from the history of names rather than from the flow."""

    @property
    def labels(self) -> LabelSet | None:
        """All of its labels; None where some of them are not known."""
        found = self.side.seen_as
        return found if found is not None and found.complete else None

    @property
    def is_pod(self) -> bool:
        """Whether this is a pod in a namespace."""
        return bool(self.namespace) or (self.side.seen_as is not None and self.side.seen_as.get("any", POD_NAMESPACE) is not None)

    @property
    def text(self) -> str:
        """The end as people call it."""
        if self.namespace:
            return f"{self.cluster + '/' if self.cluster else ''}{self.namespace}/{self.workload or '(workload not known)'}"
        return self.side.names[0] if self.side.names else self.side.name


@dataclass(frozen=True)
class ObservedEdge:
    """Traffic from a client to a server that was observed in a window."""

    source: End
    """The end that opened the connection."""
    destination: End
    protocol: str
    """TCP, UDP, SCTP, ICMPv4 or ICMPv6; empty where it is not known."""
    port: int | None
    """The server's port; None for protocols without ports, and where it is not known."""
    flows: int
    first_seen: datetime
    last_seen: datetime
    days: frozenset[date]
    """Days, in UTC, on which it was seen."""
    verdict: str = "FORWARDED"
    seen_at: frozenset[Direction] = frozenset(Direction)
    """The ends that reported it: egress is the client's, ingress the server's."""
    icmp_type: int | None = None
    drop_reason: str = ""
    is_reply: bool = False
    """Whether these are replies, so that source and destination are exchanged and the port is the client's."""
    examples: tuple[str, ...] = ()
    """A few uuids of its flows."""

    def subject(self, direction: Direction) -> End:
        """The end at which a policy for this direction is enforced."""
        return self.destination if direction is Direction.INGRESS else self.source

    def peer(self, direction: Direction) -> End:
        """The other end."""
        return self.source if direction is Direction.INGRESS else self.destination

    @property
    def connection(self) -> Connection:
        """The edge as the policy engine asks about it."""
        return Connection(self.source.side, self.destination.side, self.protocol, self.port, self.icmp_type)

    @property
    def text(self) -> str:
        """The edge as people call it: `shop/web to shop/cart on TCP 8080`."""
        number = self.icmp_type if self.protocol.startswith("ICMP") else self.port
        what = self.protocol or "an unknown protocol"
        return f"{self.source.text} to {self.destination.text} on {what}{'' if number is None else f' {number}'}"


@dataclass(frozen=True)
class Evidence:
    """What was observed of the traffic that a rule, or one port of it, is made from."""

    flows: int
    first_seen: datetime | None
    last_seen: datetime | None
    days: frozenset[date]
    edges: tuple[ObservedEdge, ...]

    @classmethod
    def of(cls, edges: Iterable[ObservedEdge]) -> Evidence:
        """The evidence of some edges; without any, nothing was observed."""
        found = tuple(edges)
        return cls(
            sum(edge.flows for edge in found),
            min((edge.first_seen for edge in found), default=None),
            max((edge.last_seen for edge in found), default=None),
            frozenset(day for edge in found for day in edge.days),
            found,
        )

    def __str__(self) -> str:
        if self.first_seen is None or self.last_seen is None:
            return "not seen"
        days = counted(len(self.days), "day")
        return f"{counted(self.flows, 'flow')} from {self.first_seen:%Y-%m-%d %H:%M} to {self.last_seen:%Y-%m-%d %H:%M} UTC, on {days}"


@dataclass(frozen=True)
class Seen:
    """The window that was looked at, and how much of it was observed."""

    since: datetime
    until: datetime
    covered: float | None = None
    """Share of the window that was observed, from 0 to 1; None where nobody recorded it."""
    gaps: tuple[str, ...] = ()
    """What was not observed, in words: a node and a time."""
    flows_lost: int = 0
    """Flows that are known to be lost."""

    spanned: timedelta | None = None
    """From the first to the last traffic; stands for what was observed where nobody recorded that."""

    @property
    def days(self) -> float:
        """How many days' worth of time was observed, as far as that is known."""
        if self.covered is None and self.spanned is not None:
            return self.spanned / timedelta(days=1)
        return (self.until - self.since) / timedelta(days=1) * (1.0 if self.covered is None else self.covered)
