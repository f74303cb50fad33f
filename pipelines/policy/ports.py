"""Ports of a rule: numbers, ranges, names, ICMP types. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipelines.policy.layer7 import Layer7
from pipelines.policy.model import Connection, Match, Missing, Side

TRANSPORTS = ("TCP", "UDP", "SCTP")
"""The protocols that ANY stands for."""
ICMP = {"IPv4": "ICMPv4", "IPv6": "ICMPv6"}
_SERVICE_NAME = re.compile(r"([a-zA-Z0-9]-?)*[a-zA-Z](-?[a-zA-Z0-9])*")


@dataclass(frozen=True)
class PortMatch:
    """One entry of a rule's ports."""

    protocol: str
    first: int = 0
    """First port, or the ICMP type."""
    last: int = 65535
    name: str = ""
    """A named port; `first` and `last` say nothing then."""
    layer7: Layer7 | None = None
    agreed: frozenset[int] | None = None
    """For a named port that all pods must agree on (egress before Cilium 1.20): the numbers that pods give it."""

    def matches(self, connection: Connection, owner: Side) -> Match:
        """Whether the connection's protocol and port fit.

        Args:
            connection: what is asked about.
            owner: the side whose named ports count, which is always the destination.
        """
        if self.protocol != connection.protocol:
            return False
        number = connection.icmp_type if connection.protocol in ICMP.values() else connection.port
        if self.name:
            return self._name_matches(number, owner)
        if number is None:
            every = (self.first, self.last) == (0, 65535)
            return every or Missing("the ICMP type" if connection.protocol in ICMP.values() else "the destination port")
        return self.first <= number <= self.last

    def _name_matches(self, number: int | None, owner: Side) -> Match:
        if number is None:
            return Missing("the destination port")
        if self.agreed is not None:
            return self.agreed == {number}
        if owner.named_ports is None:
            return Missing(f"the number of the named port {self.name!r} at {owner.name}")
        return owner.named_ports.get((self.protocol, self.name)) == number

    def __str__(self) -> str:
        if self.name:
            return f"{self.name}/{self.protocol}"
        if (self.first, self.last) == (0, 65535):
            return f"any {self.protocol}"
        return f"{self.first}/{self.protocol}" if self.first == self.last else f"{self.first}-{self.last}/{self.protocol}"


def is_service_name(text: str) -> bool:
    """Whether this is a port's name by the rules of IANA: 1 to 15 letters, digits and single dashes, at least one letter."""
    return len(text) <= 15 and _SERVICE_NAME.fullmatch(text) is not None


def number_of(text: str) -> int:
    """A port written as text: decimal, or with Go's prefixes for other bases (a leading 0 is octal).

    Raises:
        ValueError: it is not a number from 0 to 65535.
    """
    if re.fullmatch(r"0[0-7_]+", text):
        value = int(text.replace("_", ""), 8)
    elif re.fullmatch(r"[0-9]+", text) and not (text.startswith("0") and len(text) > 1):
        value = int(text)
    else:
        raise ValueError(f"{text!r} is not a port number or a port name")
    if value > 65535:
        raise ValueError(f"port {text} is out of range, which ends at 65535")
    return value
