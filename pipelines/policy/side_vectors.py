"""What every selector, peer and named port gives for every distinct end, as numpy arrays. Pure.

Each matcher is worked out once for all ends. A result is a pair of boolean arrays over the ends: those that match for
certain, and those that may match because something is not known.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

import numpy as np
from numpy.typing import NDArray

from pipelines.policy.labels import NODE_LABELS, RESERVED, WORLD_LABELS, parse_label
from pipelines.policy.model import Missing, Side
from pipelines.policy.peers import CidrPeer, LabelPeer, Network, Peer
from pipelines.policy.selectors import EXISTS, IN, NOT_IN, Requirement, Selector

Mask = NDArray[np.bool_]
Masks = tuple[Mask, Mask]
"""Matches for certain, and matches or may match."""

NO_PORT = -1
UNKNOWN_PORT = -2


class SideVectors:
    """The distinct ends of connections, and what matches them."""

    def __init__(self, sides: Sequence[Side]) -> None:
        self.sides = tuple(sides)
        self.count = len(self.sides)
        self._values: dict[tuple[str, str], dict[str, list[int]]] = {}
        self._unknown = np.zeros(self.count, bool)
        self._partial = np.zeros(self.count, bool)
        self._address = np.full(self.count, -1, np.int64)
        self._selectors: dict[Selector, Masks] = {}
        self._peers: dict[Peer, Masks] = {}
        self._ports: dict[tuple[str, str], NDArray[np.int64]] = {}
        for index, side in enumerate(self.sides):
            self._add(index, side)
        self._world = self._any_reserved(WORLD_LABELS)
        self._node = self._any_reserved(NODE_LABELS)
        self.host = self._any_reserved(("host",))

    @property
    def labels_unknown(self) -> Mask:
        """The ends whose labels are not known."""
        return self._unknown

    def _add(self, index: int, side: Side) -> None:
        if side.address is not None and side.address.version == 4:
            self._address[index] = int(side.address)
        if side.seen_as is None:
            self._unknown[index] = True
            return
        self._partial[index] = not side.seen_as.complete
        for text in side.seen_as.texts:
            source, key, value = parse_label(text)
            for name in ((source, key), ("any", key)):
                places = self._values.setdefault(name, {}).setdefault(value, [])
                if side.seen_as.get(*name) == value and (not places or places[-1] != index):
                    places.append(index)

    def _any_reserved(self, names: Sequence[str]) -> Mask:
        found = np.zeros(self.count, bool)
        for name in names:
            found |= self._requirement(Requirement(RESERVED, name, EXISTS))[0]
        return found

    def _requirement(self, requirement: Requirement) -> Masks:
        values = self._values.get((requirement.source, requirement.key), {})
        wanted = requirement.values if requirement.operator in (IN, NOT_IN) else tuple(values)
        found = np.zeros(self.count, bool)
        for value in wanted:
            found[values.get(value, [])] = True
        if requirement.operator not in (IN, EXISTS):
            found = ~found
        if requirement.source == RESERVED or not self._partial.any():
            return found, found
        unknown = self._partial.copy()
        for places in values.values():
            unknown[places] = False
        return found & ~unknown, found | unknown

    def selector(self, selector: Selector) -> Masks:
        """The ends whose labels match: for certain, and those of which some or all labels are not known as well."""
        found = self._selectors.get(selector)
        if found is None:
            sure, maybe = ~self._unknown, np.ones(self.count, bool)
            for requirement in selector.requirements:
                one = self._requirement(requirement)
                sure, maybe = sure & one[0], maybe & (one[1] | self._unknown)
            found = self._selectors[selector] = (sure, maybe)
        return found

    def peer(self, peer: Peer) -> Masks:
        """The ends that a peer matches."""
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = self._match(peer)
        return found

    def _match(self, peer: Peer) -> Masks:
        if isinstance(peer, LabelPeer):
            if peer.selector.is_wildcard:
                everyone = np.ones(self.count, bool)
                return everyone, everyone
            return self.selector(peer.selector)
        if isinstance(peer, CidrPeer) and peer.network.version == 4:
            return self._cidr(peer)
        return self._one_by_one(peer, np.arange(self.count))

    def _cidr(self, peer: CidrPeer) -> Masks:
        """Addresses of IPv4 at once; ends without one, or whose labels are not known, one by one."""
        inside = self._within(peer.network)
        for one in peer.exceptions:
            inside &= ~self._within(one)
        allowed = self._world.copy()
        if peer.matches_nodes:
            allowed |= self._node
        if peer.matches_pods:
            allowed |= ~self._world & ~self._node
        sure = inside & allowed & ~self._unknown
        rest = np.flatnonzero(self._unknown | ((self._address < 0) & allowed))
        one_by_one = self._one_by_one(peer, rest)
        return sure | one_by_one[0], sure | one_by_one[1]

    def _within(self, network: Network) -> Mask:
        if not isinstance(network, IPv4Network):
            return np.zeros(self.count, bool)
        first = int(network.network_address)
        return np.asarray((self._address >= first) & (self._address < first + network.num_addresses))

    def _one_by_one(self, peer: Peer, places: NDArray[np.int64]) -> Masks:
        sure, maybe = np.zeros(self.count, bool), np.zeros(self.count, bool)
        for index in places:
            match = peer.matches(self.sides[index])
            sure[index] = match is True
            maybe[index] = match is True or isinstance(match, Missing)
        return sure, maybe

    def port_numbers(self, protocol: str, name: str) -> NDArray[np.int64]:
        """For each end, the number of its port of this name; NO_PORT or UNKNOWN_PORT where there is none."""
        key = (protocol, name)
        found = self._ports.get(key)
        if found is None:
            numbers = [UNKNOWN_PORT if side.named_ports is None else side.named_ports.get(key, NO_PORT) for side in self.sides]
            found = self._ports[key] = np.array(numbers, np.int64)
        return found
