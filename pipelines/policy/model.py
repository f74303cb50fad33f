"""The one rule model for every kind of policy, and the connection that it is asked about. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from pipelines.policy.labels import LabelSet
from pipelines.policy.selectors import Selector

if TYPE_CHECKING:
    from pipelines.policy.layer7 import DnsQuery, HttpRequest
    from pipelines.policy.peers import Peer
    from pipelines.policy.ports import PortMatch

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class Missing(str):
    """In place of yes or no: what must be known to tell, in words, such as "the labels of the source"."""

    __slots__ = ()


Match = bool | Missing
"""Whether something matches: True, False, or what is missing to tell."""


class Direction(StrEnum):
    """At which end of a connection a rule is enforced."""

    INGRESS = "ingress"
    EGRESS = "egress"


class Action(StrEnum):
    """What a rule does with what it matches."""

    ALLOW = "allow"
    DENY = "deny"
    PASS = "pass"  # noqa: S105 - an action, not a password
    """Leave the decision to the next tier."""


class Tier(IntEnum):
    """Order of rules: a lower number decides first. The numbers are those of Cilium 1.20."""

    ADMIN = 100
    NORMAL = 200
    BASELINE = 250
    DEFAULT = 255


@dataclass(frozen=True, order=True)
class Origin:
    """Where a rule comes from: the policy and the place in its YAML."""

    kind: str
    namespace: str
    name: str
    direction: str
    index: int
    """Position among the rules of its list, from 0; -1 for the policy as a whole."""
    path: str
    """Path in the YAML, such as `spec.ingress[0]`."""
    line: int | None = None
    """Line in the file that the policy was read from, from 1."""
    source: str = ""
    """The file, as it was named."""

    @property
    def policy(self) -> str:
        """The policy as people name it: `CiliumNetworkPolicy shop/web`."""
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"

    def __str__(self) -> str:
        where = f" ({self.source}:{self.line})" if self.source and self.line else f" (line {self.line})" if self.line else ""
        return f"{self.policy} {self.path}{where}"


@dataclass(frozen=True)
class Authentication:
    """The `authentication` of a rule: disabled, required or test-always-fail."""

    mode: str


@dataclass(frozen=True)
class Rule:
    """One rule of one policy in one direction."""

    origin: Origin
    direction: Direction
    action: Action
    subject: Selector
    """The endpoints that the rule is enforced at."""
    peers: tuple[Peer, ...] | None
    """The other end: any of these; None is everyone, an empty tuple is nobody."""
    ports: tuple[PortMatch, ...] | None
    """Any of these; None is every port of every protocol, an empty tuple is none."""
    selects_nodes: bool = False
    """Whether the subjects are nodes (`nodeSelector`) rather than endpoints."""
    default_deny: bool = True
    """Whether a selected endpoint denies in this direction what no rule allows."""
    tier: Tier = Tier.NORMAL
    priority: float = 0.0
    """Within its tier; a lower one decides first."""
    authentication: Authentication | None = None


@dataclass(frozen=True)
class Side:
    """One end of a connection."""

    name: str
    """As people call it: `shop/web`, `node-1`, `203.0.113.10`."""
    subject: LabelSet | None = None
    """Labels by which policies select this end; None when they are not known, or where nothing is enforced."""
    enforced: bool = True
    """Whether policies are enforced at this end; not at addresses outside of the cluster."""
    seen_as: LabelSet | None = None
    """Labels that policies at the other end see; None when they are not known, and not complete when only some are."""
    address: Address | None = None
    names: tuple[str, ...] | None = ()
    """DNS names learned for the address at that time; None when that is not known."""
    named_ports: Mapping[tuple[str, str], int] | None = None
    """Number of each named port by protocol and name; None when they are not known."""
    unknown_labels: str = ""
    """What is not known where labels are missing, in words; by default the labels of this end."""
    networks: tuple[Network, ...] = ()
    """Where the address lies, if the address itself is not known: in any of these ranges."""
    possible_names: tuple[str, ...] = ()
    """Further names that the address may have had."""

    @property
    def missing_labels(self) -> Missing:
        """What is missing where labels of this end decide that are not known."""
        return Missing(self.unknown_labels or f"the labels of {self.name}")


@dataclass(frozen=True)
class Connection:
    """A new connection, or its first packet. Replies need no rule and are not asked about."""

    source: Side
    destination: Side
    protocol: str
    """TCP, UDP, SCTP, ICMPv4, ICMPv6 or another protocol's name."""
    port: int | None = None
    """The destination's port, after the Service's address was translated; None for protocols without ports."""
    icmp_type: int | None = None
    request: HttpRequest | DnsQuery | None = None
    """What the connection carries, where that was recorded."""

    def subject(self, direction: Direction) -> Side:
        """The end that is asked for its rules."""
        return self.destination if direction is Direction.INGRESS else self.source

    def peer(self, direction: Direction) -> Side:
        """The other end."""
        return self.source if direction is Direction.INGRESS else self.destination


def any_of(matches: list[Match]) -> Match:
    """Whether one of them matches: True if one does, else what is missing for the first unknown one, else False."""
    unknown: Match = False
    for match in matches:
        if match is True:
            return True
        if isinstance(match, Missing) and unknown is False:
            unknown = match
    return unknown


def all_of(matches: list[Match]) -> Match:
    """Whether all of them match: False if one does not, else what is missing for the first unknown one, else True."""
    unknown: Match = True
    for match in matches:
        if match is False:
            return False
        if isinstance(match, Missing) and unknown is True:
            unknown = match
    return unknown
