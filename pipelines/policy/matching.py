"""Whether a rule matches a connection. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.policy.layer7 import Layer7
from pipelines.policy.model import Connection, Direction, Match, Rule, all_of, any_of


@dataclass(frozen=True)
class Matched:
    """A rule that matches a connection, or may."""

    rule: Rule
    match: Match
    layer7: tuple[Layer7, ...]
    """The request rules of the ports that matched; empty when one of them has none, so that every request is allowed."""

    @property
    def sure(self) -> bool:
        """Whether the rule matches for certain."""
        return self.match is True


def match_rule(rule: Rule, direction: Direction, connection: Connection) -> Matched | None:
    """Match a rule, whose subject is already known to be selected; None when it does not match."""
    ports, layer7 = _match_ports(rule, connection)
    if ports is False:
        return None
    peer = connection.peer(direction)
    peers: Match = True if rule.peers is None else any_of([one.matches(peer) for one in rule.peers])
    whole = all_of([peers, ports])
    return None if whole is False else Matched(rule, whole, layer7)


def _match_ports(rule: Rule, connection: Connection) -> tuple[Match, tuple[Layer7, ...]]:
    if rule.ports is None:
        return True, ()
    whole: Match = False
    parts: list[Layer7] = []
    plain = False
    for port in rule.ports:
        match = port.matches(connection, connection.destination)
        if match is False:
            continue
        whole = True if match is True else (whole or match)
        if port.layer7 is None:
            plain = True
        else:
            parts.append(port.layer7)
    return whole, () if plain else tuple(parts)
