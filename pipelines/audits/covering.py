"""Whether everything that one rule matches is certain to be matched by another one. Pure.

Only what follows from the rules' own text counts, whatever pods exist. Where that cannot be told, the answer is no.
"""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.policy.labels import ANY_SOURCE
from pipelines.policy.model import Network, Rule
from pipelines.policy.peers import CidrPeer, LabelPeer, NamePeer, Peer
from pipelines.policy.ports import PortMatch
from pipelines.policy.selectors import DOES_NOT_EXIST, EXISTS, IN, NOT_IN, Requirement, Selector


def rule_covers(wide: Rule, narrow: Rule) -> bool:
    """Whether the wide rule selects every subject of the narrow one, and matches everything there that the narrow one matches."""
    return (
        wide.direction is narrow.direction
        and wide.selects_nodes == narrow.selects_nodes
        and selector_covers(wide.subject, narrow.subject)
        and _peers_cover(wide.peers, narrow.peers)
        and _ports_cover(wide.ports, narrow.ports)
    )


def selector_covers(wide: Selector, narrow: Selector) -> bool:
    """Whether every label set that the narrow selector matches is matched by the wide one."""
    return all(any(_implies(given, wanted) for given in narrow.requirements) for wanted in wide.requirements)


def _implies(given: Requirement, wanted: Requirement) -> bool:
    """Whether a label set that meets one condition always meets the other one."""
    if given == wanted:
        return True
    if given.key != wanted.key:
        return False
    if given.source != wanted.source:
        # A label of one source is also one of any source, but another source may come first with another value.
        return wanted.source == ANY_SOURCE and wanted.operator == EXISTS and given.operator in (IN, EXISTS)
    if wanted.operator == IN:
        return given.operator == IN and set(given.values) <= set(wanted.values)
    if wanted.operator == EXISTS:
        return given.operator == IN
    if wanted.operator == NOT_IN:
        absent = given.operator == DOES_NOT_EXIST
        apart = given.operator == IN and not set(given.values) & set(wanted.values)
        return absent or apart or (given.operator == NOT_IN and set(wanted.values) <= set(given.values))
    return False


def _peers_cover(wide: Sequence[Peer] | None, narrow: Sequence[Peer] | None) -> bool:
    if wide is None:
        return True
    if narrow is None:
        return any(isinstance(one, LabelPeer) and one.selector.is_wildcard for one in wide)
    return all(any(_peer_covers(one, other) for one in wide) for other in narrow)


def _peer_covers(wide: Peer, narrow: Peer) -> bool:
    if wide == narrow:
        return True
    if isinstance(wide, LabelPeer):
        if wide.selector.is_wildcard:
            return True
        return isinstance(narrow, LabelPeer) and selector_covers(wide.selector, narrow.selector)
    if isinstance(wide, CidrPeer) and isinstance(narrow, CidrPeer):
        kinds = wide.matches_pods >= narrow.matches_pods and wide.matches_nodes >= narrow.matches_nodes
        return kinds and _within(narrow.network, wide.network) and all(_is_out(one, narrow) for one in wide.exceptions)
    if isinstance(wide, NamePeer) and isinstance(narrow, NamePeer):
        text = narrow.pattern.text
        return wide.pattern.text == "*" or ("*" not in text and wide.pattern.matches(text))
    return False


def _within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.network_address in outer and inner.prefixlen >= outer.prefixlen


def _is_out(exception: Network, narrow: CidrPeer) -> bool:
    """Whether no address of an exception is matched by the narrow peer."""
    apart = exception.version != narrow.network.version or not exception.overlaps(narrow.network)
    return apart or any(_within(exception, one) for one in narrow.exceptions)


def _ports_cover(wide: Sequence[PortMatch] | None, narrow: Sequence[PortMatch] | None) -> bool:
    if wide is None:
        return True
    if narrow is None:
        return False
    return all(any(_port_covers(one, other) for one in wide) for other in narrow)


def _port_covers(wide: PortMatch, narrow: PortMatch) -> bool:
    if wide.protocol != narrow.protocol or (wide.layer7 is not None and wide.layer7 != narrow.layer7):
        return False
    if wide.name:
        return wide.name == narrow.name and wide.agreed == narrow.agreed
    if narrow.name:
        return (wide.first, wide.last) == (0, 65535)
    return wide.first <= narrow.first and narrow.last <= wide.last
