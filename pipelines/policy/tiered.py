"""What ClusterNetworkPolicy and AdminNetworkPolicy share: subjects, peers, and rules that decide in their order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import ip_network

from pipelines.policy.labels import CLUSTER, KUBERNETES, RESERVED
from pipelines.policy.model import Action, Direction, Rule, Tier
from pipelines.policy.names import name_pattern
from pipelines.policy.network_policy import namespaces
from pipelines.policy.peers import LabelPeer, NamePeer, Peer, cidr_peer
from pipelines.policy.ports import PortMatch
from pipelines.policy.reading import Reading
from pipelines.policy.refusals import API_SERVER, Fields, Refused, check_selector
from pipelines.policy.selectors import Selector, SelectorDraft

_RULE_STEP = 1 / 1000
"""Between the rules of one policy, whose priorities are whole numbers; a policy has at most 100 rules."""
_EGRESS_ONLY = ("nodes", "networks", "domainNames")


@dataclass(frozen=True)
class Dialect:
    """In what the kinds differ."""

    tier: Tier
    priority: int
    actions: Mapping[str, Action]
    most_rules: int
    ports_key: str
    """The field with ports: `protocols` or `ports`."""
    read_port: Callable[[Fields], list[PortMatch]]


def read_rules(reading: Reading, dialect: Dialect) -> list[Rule]:
    """The rules of a policy, each at a priority of its own.

    Raises:
        Refused: the API server would not take the policy, or the agent cannot enforce it.
    """
    subject = _subject(reading)
    rules: list[Rule] = []
    for direction, key, peers_key in ((Direction.INGRESS, "ingress", "from"), (Direction.EGRESS, "egress", "to")):
        items = reading.spec.mappings(key) or []
        if len(items) > dialect.most_rules:
            raise Refused(f"spec.{key}", f"has {len(items)} rules; at most {dialect.most_rules} are allowed", API_SERVER)
        for index, item in enumerate(items):
            rules.extend(_rules(reading, dialect, direction, subject, item, peers_key, index))
    return rules


def _subject(reading: Reading) -> Selector:
    subject = reading.spec.mapping("subject")
    kind = _only(subject, ("namespaces", "pods"))
    if kind == "namespaces":
        return namespaces(check_selector(subject.mapping("namespaces"), API_SERVER), reading.settings).build()
    return _pods(reading, subject.mapping("pods")).build()


def _pods(reading: Reading, peer: Fields) -> SelectorDraft:
    if not peer.has("podSelector"):
        raise Refused(f"{peer.path}.podSelector", "must be specified", API_SERVER)
    pods = SelectorDraft.read(check_selector(peer.mapping("podSelector"), API_SERVER), KUBERNETES)
    return namespaces(check_selector(peer.mapping("namespaceSelector"), API_SERVER), reading.settings).join(pods)


def _rules(
    reading: Reading, dialect: Dialect, direction: Direction, subject: Selector, item: Fields, peers_key: str, index: int
) -> list[Rule]:
    action = dialect.actions.get(item.text("action"))
    if action is None:
        raise Refused(f"{item.path}.action", f"{item.text('action')!r} is not one of {', '.join(dialect.actions)}", API_SERVER)
    peers = item.mappings(peers_key)
    if not peers:
        raise Refused(f"{item.path}.{peers_key}", "must have at least one entry", API_SERVER)
    ports = [port for entry in item.each(dialect.ports_key) for port in dialect.read_port(entry)]
    has_names = any(port.name for port in ports)
    found: list[Peer] = []
    extra: list[Rule] = []
    origin = reading.origin(direction, index, item.path)
    priority = dialect.priority + index * _RULE_STEP
    for peer in peers:
        kind = _only(peer, ("namespaces", "pods") + (_EGRESS_ONLY if direction is Direction.EGRESS else ()))
        if has_names and kind in _EGRESS_ONLY:
            raise Refused(f"{peer.path}.{kind}", "may not be combined with named ports, which only pods have", API_SERVER)
        if kind == "domainNames" and action is not Action.ALLOW:
            raise Refused(f"{peer.path}.domainNames", "are supported in rules that accept only")
        found.extend(_peers(reading, peer, kind))
        if kind == "domainNames" and reading.settings.cilium:
            extra.append(Rule(origin, direction, Action.ALLOW, subject, *_dns(), default_deny=False, tier=dialect.tier, priority=priority))
    rule = Rule(
        origin=origin,
        direction=direction,
        action=action,
        subject=subject,
        peers=tuple(found),
        ports=tuple(ports) or None,
        default_deny=False,
        tier=dialect.tier,
        priority=priority,
    )
    return [rule, *extra]


def _peers(reading: Reading, peer: Fields, kind: str) -> list[Peer]:
    if kind == "namespaces":
        return [LabelPeer(namespaces(check_selector(peer.mapping("namespaces"), API_SERVER), reading.settings).build())]
    if kind == "pods":
        draft = _pods(reading, peer.mapping("pods"))
        if reading.settings.cilium:
            reading.bind_to_cluster(draft)
        return [LabelPeer(draft.build())]
    if kind == "nodes":
        return _nodes(reading, peer)
    if kind == "networks":
        return [_network(reading, text, path) for text, path in peer.texts("networks") or []]
    many = True  # `*.example.com` stands for every name below example.com here
    names = [text for text, _ in peer.texts("domainNames") or []]
    return [NamePeer(name_pattern(f"*{text}" if text.startswith("*.") else text, many)) for text in names]


def _nodes(reading: Reading, peer: Fields) -> list[Peer]:
    if reading.settings.cilium and not reading.settings.enable_node_selector_labels:
        raise Refused(f"{peer.path}.nodes", "needs the agent's option enable-node-selector-labels")
    selector = check_selector(peer.mapping("nodes"), API_SERVER)
    found: list[Peer] = []
    for label in ("host", "remote-node"):
        draft = SelectorDraft.read(selector, "node")
        draft.must_exist(RESERVED, label)
        cluster = reading.settings.local_cluster
        if reading.settings.cilium and cluster is not None and not draft.names_key(CLUSTER, "node"):
            draft.must_equal(KUBERNETES, CLUSTER, cluster)
        found.append(LabelPeer(draft.build()))
    return found


def _network(reading: Reading, text: str, path: str) -> Peer:
    try:
        network = ip_network(text, strict=False) if "/" in text else None
    except ValueError:
        network = None
    if network is None:
        raise Refused(path, f"{text!r} is not a range of addresses such as 10.0.0.0/8 or 2001:db8::/32", API_SERVER)
    # The API says that traffic within the cluster is checked, too; Cilium does not.
    modes = reading.settings.policy_cidr_match_mode if reading.settings.cilium else frozenset({"pods", "nodes"})
    return cidr_peer(network, (), modes)


def _dns() -> tuple[tuple[Peer, ...], tuple[PortMatch, ...]]:
    """What Cilium allows beside a rule with domainNames: queries to the cluster's DNS, so that names can be learned."""
    draft = SelectorDraft()
    draft.must_equal("any", "k8s-app", "kube-dns")
    ports = tuple(PortMatch(protocol, name=name) for name in ("dns", "dns-tcp") for protocol in ("TCP", "UDP", "SCTP"))
    return (LabelPeer(draft.build(), "kube-dns"),), ports


def _only(fields: Fields, kinds: tuple[str, ...]) -> str:
    """The one field that is written; refused when there is none or more than one."""
    written = [kind for kind in kinds if fields.has(kind)]
    if len(written) != 1:
        raise Refused(fields.path, f"must have exactly one of {', '.join(kinds)}", API_SERVER)
    return written[0]
