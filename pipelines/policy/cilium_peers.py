"""The peers of a Cilium rule: fromEndpoints, toCIDRSet, toFQDNs and the others. Pure.

A list that is written but empty selects nobody. A rule without any list selects everyone on its ports, and without ports
nobody. Only one kind of peer may be used in one rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from pipelines.policy.labels import KUBERNETES, NAMESPACE_LABELS, POD_NAMESPACE, RESERVED, LabelSet
from pipelines.policy.model import Direction
from pipelines.policy.names import LONGEST_NAME, NAME_FORM, PATTERN_FORM, name_pattern
from pipelines.policy.peers import LabelPeer, NamePeer, Network, Peer, UnknownPeer, cidr_peer, entity_peers
from pipelines.policy.reading import CidrGroup, Reading, Service
from pipelines.policy.refusals import AGENT, API_SERVER, Fields, Refused, check_selector, is_dns_name
from pipelines.policy.selectors import Selector, SelectorDraft


@dataclass(frozen=True)
class Peers:
    """The peers of one rule."""

    peers: tuple[Peer, ...]
    everyone_with_ports: bool
    """No peers are written: everyone, if the rule has ports."""


def read_peers(reading: Reading, item: Fields, direction: Direction, *, selects_init: bool, allows: bool) -> Peers:
    """The peers of a rule.

    Args:
        reading: the policy.
        item: the rule.
        direction: decides between the `from` and `to` fields.
        selects_init: whether the subject names pods without labels.
        allows: whether this is an allow rule; only those may have toFQDNs.

    Raises:
        Refused: two kinds of peers, or a peer that is not valid.
    """
    word = "from" if direction is Direction.INGRESS else "to"
    readers: dict[str, Callable[[Reading, Fields, str], Iterable[Peer]]] = {
        f"{word}Endpoints": lambda one, rule, key: _endpoints(one, rule, key, selects_init),
        f"{word}CIDR": _cidrs,
        f"{word}CIDRSet": _cidr_set,
        f"{word}Entities": _entities,
        f"{word}Nodes": _nodes,
        f"{word}Groups": _groups,
    }
    if direction is Direction.EGRESS:
        readers["toServices"] = _services
        if allows:
            readers["toFQDNs"] = _names
    used = [key for key in readers if item.items(key)]
    if len(used) > 1:
        raise Refused(item.path, f"combining {used[0]} and {used[1]} in one rule is not supported; write one rule for each")
    written = [key for key in readers if item.has(key)]
    peers = tuple(peer for key in used for peer in readers[key](reading, item, key))
    # An empty list of names, groups or services is as if it was not written.
    empties = [key for key in written if not item.items(key) and not key.endswith(("FQDNs", "Groups", "Services"))]
    if empties:
        return Peers((), everyone_with_ports=False)
    # Cilium puts the pods behind Services in the place of toServices; without any, the rule has no peers at all.
    return Peers(peers, everyone_with_ports=not used or (used == ["toServices"] and not peers))


def _endpoints(reading: Reading, item: Fields, key: str, selects_init: bool) -> Iterable[Peer]:
    for selector in item.each(key):
        draft = SelectorDraft.read(check_selector(selector, AGENT, with_source=True))
        if not draft.names_prefix("", RESERVED):
            bind_to_namespace(reading, draft, selects_init)
            reading.bind_to_cluster(draft)
        yield LabelPeer(draft.build())


def bind_to_namespace(reading: Reading, draft: SelectorDraft, selects_init: bool) -> None:
    """Limit a selector that names no namespace: to the policy's own, or, clusterwide, to pods of any namespace."""
    if draft.names_key(POD_NAMESPACE, KUBERNETES, "any"):
        return
    if not reading.namespace:
        if not selects_init:
            draft.must_exist(KUBERNETES, POD_NAMESPACE)
    elif not draft.names_prefix(NAMESPACE_LABELS + ".", KUBERNETES, "any"):
        draft.must_equal(KUBERNETES, POD_NAMESPACE, reading.namespace)


def _cidrs(reading: Reading, item: Fields, key: str) -> Iterable[Peer]:
    for text, path in item.items(key) or []:
        yield cidr_peer(_network(_text(text, path), path), (), reading.settings.policy_cidr_match_mode)


def _text(value: object, path: str) -> str:
    """A range as a text; the CRD's schema lets some other types through, which the agent cannot read."""
    if isinstance(value, list):
        raise Refused(path, f"must be a text, not {value!r}")
    if not isinstance(value, str):
        raise Refused(path, f"must be a text, not {value!r}", API_SERVER)
    return value


def _network(text: str, path: str) -> Network:
    try:
        if "/" in text:
            return ip_network(text, strict=False)
        address = ip_network(ip_address(text))
    except ValueError:
        raise Refused(path, f"{text!r} is not a range of addresses such as 10.0.0.0/8 or 2001:db8::/32", API_SERVER) from None
    raise Refused(path, f"{text!r} needs a prefix length, such as {address}", API_SERVER)


def _cidr_set(reading: Reading, item: Fields, key: str) -> Iterable[Peer]:
    for entry in item.each(key):
        kinds = [name for name in ("cidr", "cidrGroupRef", "cidrGroupSelector") if entry.has(name)]
        if len(kinds) != 1:
            raise Refused(entry.path, "must have exactly one of cidr, cidrGroupRef, cidrGroupSelector", API_SERVER)
        exceptions = tuple(_network(_text(text, path), path) for text, path in entry.items("except") or [])
        if kinds == ["cidr"]:
            network = _network(_text(entry.value["cidr"], f"{entry.path}.cidr"), f"{entry.path}.cidr")
            for index, one in enumerate(exceptions):
                _check_exception(reading, network, one, f"{entry.path}.except[{index}]")
            yield cidr_peer(network, exceptions, reading.settings.policy_cidr_match_mode)
        else:
            yield from _groups_of_addresses(reading, entry, exceptions)


def _check_exception(reading: Reading, network: Network, one: Network, path: str) -> None:
    narrower = one.version == network.version and one.network_address in network
    if reading.settings.release.except_must_be_narrower:
        narrower = narrower and one.prefixlen >= network.prefixlen
    if not narrower:
        raise Refused(path, f"{one} does not lie within {network}")


def _groups_of_addresses(reading: Reading, entry: Fields, exceptions: tuple[Network, ...]) -> Iterable[Peer]:
    groups, name = reading.surroundings.cidr_groups, entry.text("cidrGroupRef")
    if entry.has("cidrGroupRef") and not is_dns_name(name):
        raise Refused(f"{entry.path}.cidrGroupRef", f"{name!r} is not the name of a CiliumCIDRGroup", API_SERVER)
    selector = check_selector(entry.mapping("cidrGroupSelector"), AGENT, with_source=True)
    if groups is None:
        yield UnknownPeer("the CiliumCIDRGroups of the cluster")
        return
    if entry.has("cidrGroupRef"):
        found = [groups[name]] if name in groups else []
    else:
        draft = SelectorDraft.read(selector, "cidrgroup")
        found = [group for group in groups.values() if _group_matches(draft.build(), group)]
    for group in found:
        for network in group.networks:
            yield cidr_peer(network, exceptions, reading.settings.policy_cidr_match_mode)


def _group_matches(selector: Selector, group: CidrGroup) -> bool:
    return selector.matches(LabelSet(f"cidrgroup:{key}={value}" for key, value in group.labels.items()))


def _entities(reading: Reading, item: Fields, key: str) -> Iterable[Peer]:
    for name, path in item.texts(key) or []:
        if name not in reading.settings.release.entities:
            raise Refused(path, f"{name!r} is not an entity of Cilium {'.'.join(map(str, reading.settings.release.version))}", API_SERVER)
        yield from entity_peers(name, reading.settings.cluster_name)


def _nodes(reading: Reading, item: Fields, key: str) -> Iterable[Peer]:
    if not reading.settings.enable_node_selector_labels:
        raise Refused(f"{item.path}.{key}", "needs the agent's option enable-node-selector-labels")
    for selector in item.each(key):
        draft = SelectorDraft.read(check_selector(selector, AGENT, with_source=True))
        draft.must_exist(RESERVED, "remote-node")
        reading.bind_to_cluster(draft)
        yield LabelPeer(draft.build())


def _groups(_reading: Reading, item: Fields, key: str) -> Iterable[Peer]:
    for entry in item.each(key):
        yield UnknownPeer(f"the addresses of the cloud provider's groups in {entry.path}")


def _names(reading: Reading, item: Fields, key: str) -> Iterable[Peer]:
    for entry in item.each(key):
        check_name_selector(entry)
        text = entry.text("matchName") or entry.text("matchPattern")
        yield NamePeer(name_pattern(text, reading.settings.release.multi_label_wildcard))


def check_name_selector(entry: Fields) -> None:
    """Refuse an entry of toFQDNs or DNS rules that has not exactly one valid matchName or matchPattern."""
    if entry.has("matchName") == entry.has("matchPattern"):
        raise Refused(entry.path, "must have either matchName or matchPattern", API_SERVER)
    for name, form in (("matchName", NAME_FORM), ("matchPattern", PATTERN_FORM)):
        text = entry.text(name)
        if entry.has(name) and (len(text) > LONGEST_NAME or not form.fullmatch(text)):
            raise Refused(f"{entry.path}.{name}", f"{text!r} is not a DNS name{' pattern' * (name == 'matchPattern')}", API_SERVER)


def _services(reading: Reading, item: Fields, key: str) -> Iterable[Peer]:
    for entry in item.each(key):
        wanted = _wanted_service(entry)
        if reading.surroundings.services is None:
            yield UnknownPeer(f"the pods behind the Services of {entry.path}")
            continue
        for service in filter(wanted, reading.surroundings.services):
            if not service.selector:
                yield UnknownPeer(f"the addresses behind the Service {service.namespace}/{service.name}")
                continue
            draft = SelectorDraft()
            for label, value in service.selector.items():
                draft.must_equal(KUBERNETES, label, value)
            draft.must_equal(KUBERNETES, POD_NAMESPACE, service.namespace)
            reading.bind_to_cluster(draft)
            yield LabelPeer(draft.build(), f"Service {service.namespace}/{service.name}")


def _wanted_service(entry: Fields) -> Callable[[Service], bool]:
    """Whether a Service is the one that an entry of toServices names, or has the labels that it selects."""
    named, selected = entry.mapping("k8sService"), entry.mapping("k8sServiceSelector")
    name, of_name = named.text("serviceName"), named.text("namespace")

    def is_named(service: Service) -> bool:
        return entry.has("k8sService") and service.name == name and of_name in ("", service.namespace)

    if not entry.has("k8sServiceSelector"):
        return is_named
    if not selected.has("selector"):
        raise Refused(f"{entry.path}.k8sServiceSelector.selector", "must be specified", API_SERVER)
    selector = SelectorDraft.read(check_selector(selected.mapping("selector"), AGENT, with_source=True)).build()
    namespace = selected.text("namespace")

    def matches(service: Service) -> bool:
        labels = LabelSet(f"k8s:{key}={value}" for key, value in service.labels.items())
        return is_named(service) or (selector.matches(labels) and namespace in ("", service.namespace))

    return matches
