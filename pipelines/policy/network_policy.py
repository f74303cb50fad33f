"""Kubernetes NetworkPolicy: validated as the API server does, and read as the text says or as Cilium does. Pure.

Cilium departs from the text in three places: it applies the rules of a direction that `policyTypes` leaves out, its
ipBlocks match neither pods nor nodes unless `policy-cidr-match-mode` says so, and selectors mean the local cluster.
"""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

from pipelines.policy.labels import KUBERNETES, NAMESPACE_LABELS, POD_NAMESPACE
from pipelines.policy.model import Action, Direction, Rule
from pipelines.policy.peers import CidrPeer, LabelPeer, Network, Peer, cidr_peer
from pipelines.policy.ports import TRANSPORTS, PortMatch, is_service_name
from pipelines.policy.reading import Reading
from pipelines.policy.refusals import API_SERVER, Fields, Refused, check_selector
from pipelines.policy.selectors import Selector, SelectorDraft
from pipelines.policy.settings import AgentSettings

KIND = "NetworkPolicy"
_DIRECTIONS = {Direction.INGRESS: ("ingress", "from", "Ingress"), Direction.EGRESS: ("egress", "to", "Egress")}


def read(reading: Reading) -> list[Rule]:
    """The rules of one NetworkPolicy.

    Raises:
        Refused: the API server would not take it.
    """
    spec = reading.spec
    selector = check_selector(spec.mapping("podSelector"), API_SERVER)
    subject = pods_of_namespace(selector, reading.namespace)
    types = _policy_types(spec)
    rules: list[Rule] = []
    for direction, (key, peers_key, type_name) in _DIRECTIONS.items():
        written = _rules_of(reading, direction, key, peers_key, subject)
        isolates = type_name in types
        if reading.settings.cilium:
            isolates = isolates or bool(written)
        elif not isolates:
            continue
        if isolates and not written:
            written = [_isolation(reading, direction, subject)]
        rules.extend(written)
    return rules


def _policy_types(spec: Fields) -> set[str]:
    types = spec.texts("policyTypes") or []
    for name, path in types:
        if name not in ("Ingress", "Egress"):
            raise Refused(path, f"{name!r} is not one of Ingress, Egress", API_SERVER)
    if len(types) > 2:
        raise Refused(f"{spec.path}.policyTypes", "may not have more than two entries", API_SERVER)
    if types:
        return {name for name, _ in types}
    return {"Ingress", "Egress"} if spec.items("egress") else {"Ingress"}


def _isolation(reading: Reading, direction: Direction, subject: Selector) -> Rule:
    """A rule that allows nothing: it makes the selected pods deny what no other rule allows."""
    return Rule(origin=reading.origin(direction, -1, "spec"), direction=direction, action=Action.ALLOW, subject=subject, peers=(), ports=())


def _rules_of(reading: Reading, direction: Direction, key: str, peers_key: str, subject: Selector) -> list[Rule]:
    rules = []
    for index, item in enumerate(reading.spec.each(key)):
        peers = [_peer(reading, peer) for peer in item.each(peers_key)]
        ports = [port for entry in item.each("ports") for port in read_port(entry)]
        rules.append(
            Rule(
                origin=reading.origin(direction, index, item.path),
                direction=direction,
                action=Action.ALLOW,
                subject=subject,
                peers=tuple(peers) or None,
                ports=reading.agreed_ports(ports, direction) or None,
            )
        )
    return rules


def _peer(reading: Reading, peer: Fields) -> Peer:
    if peer.has("ipBlock"):
        if peer.has("podSelector") or peer.has("namespaceSelector"):
            raise Refused(f"{peer.path}.ipBlock", "may not be specified together with podSelector or namespaceSelector", API_SERVER)
        return ip_block(peer.mapping("ipBlock"), reading.settings)
    if not peer.has("podSelector") and not peer.has("namespaceSelector"):
        raise Refused(peer.path, "must specify a peer: podSelector, namespaceSelector or ipBlock", API_SERVER)
    pods = SelectorDraft.read(check_selector(peer.mapping("podSelector"), API_SERVER), KUBERNETES)
    if reading.settings.cilium:
        reading.bind_to_cluster(pods)
    if not peer.has("namespaceSelector"):
        pods.must_equal(KUBERNETES, POD_NAMESPACE, reading.namespace)
        return LabelPeer(pods.build())
    selector = check_selector(peer.mapping("namespaceSelector"), API_SERVER)
    return LabelPeer(namespaces(selector, reading.settings).join(pods).build())


def pods_of_namespace(selector: Any, namespace: str) -> Selector:
    """The selector of pods by label in one namespace."""
    draft = SelectorDraft.read(selector, KUBERNETES)
    draft.must_equal(KUBERNETES, POD_NAMESPACE, namespace)
    return draft.build()


def namespaces(selector: Any, settings: AgentSettings) -> SelectorDraft:
    """The selector of pods whose namespace has the labels; an empty one selects the pods of every namespace.

    By the text it selects pods only. Cilium's NotIn and DoesNotExist hold for whatever has no namespace, too: nodes, and
    addresses outside of the cluster.
    """
    draft = SelectorDraft.read(selector, KUBERNETES, f"{NAMESPACE_LABELS}.")
    if not settings.cilium or not list(draft.keys()):
        draft.must_exist(KUBERNETES, POD_NAMESPACE)
    return draft


def ip_block(block: Fields, settings: AgentSettings) -> CidrPeer:
    """An ipBlock with its exceptions."""
    network = _network(block.text("cidr"), f"{block.path}.cidr")
    exceptions = []
    for text, path in block.texts("except") or []:
        one = _network(text, path)
        if one.version != network.version or not one.subnet_of(network) or one == network:  # type: ignore[arg-type]
            raise Refused(path, f"{text} must lie within {block.text('cidr')} and be smaller", API_SERVER)
        exceptions.append(one)
    modes = settings.policy_cidr_match_mode if settings.cilium else frozenset({"pods", "nodes"})
    return cidr_peer(network, tuple(exceptions), modes)


def _network(text: str, path: str) -> Network:
    if "/" not in text:
        raise Refused(path, f"{text!r} is not a range of addresses such as 10.0.0.0/8 or 2001:db8::/32", API_SERVER)
    try:
        return ip_network(text, strict=False)
    except ValueError:
        raise Refused(path, f"{text!r} is not a range of addresses such as 10.0.0.0/8 or 2001:db8::/32", API_SERVER) from None


def read_port(entry: Fields) -> list[PortMatch]:
    """An entry of `ports`; without a protocol it is TCP, without a port every port of the protocol."""
    protocol = entry.text("protocol") or "TCP"
    if protocol not in TRANSPORTS:
        raise Refused(f"{entry.path}.protocol", f"{protocol!r} is not one of TCP, UDP, SCTP", API_SERVER)
    port, end = entry.value.get("port"), entry.integer("endPort")
    if port is None:
        if end is not None:
            raise Refused(f"{entry.path}.endPort", "may not be specified without port", API_SERVER)
        return [PortMatch(protocol)]
    if isinstance(port, str):
        if not is_service_name(port) or port != port.lower() or "--" in port:
            raise Refused(f"{entry.path}.port", f"{port!r} is not a port's name: 1 to 15 of a-z, 0-9 and '-', with a letter", API_SERVER)
        if end is not None:
            raise Refused(f"{entry.path}.endPort", "may not be specified when port is a name", API_SERVER)
        return [PortMatch(protocol, name=port)]
    number = entry.integer("port")
    if number is None or not 1 <= number <= 65535:
        raise Refused(f"{entry.path}.port", f"{port} is not between 1 and 65535", API_SERVER)
    if end is not None and not number <= end <= 65535:
        raise Refused(f"{entry.path}.endPort", f"{end} must be from {number} (the port) to 65535", API_SERVER)
    return [PortMatch(protocol, number, number if end is None else end)]
