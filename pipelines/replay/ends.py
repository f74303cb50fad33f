"""The ends of recorded edges and flows as the policy engine reads them.

Labels come from the flows themselves. Where they are not known, the namespace still says some of them; the verdict is then
uncertain only if others decide.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from pipelines.policy.labels import CLUSTER, KUBERNETES, NAMESPACE_LABELS, POD_NAMESPACE, LabelSet
from pipelines.policy.model import Address, Network, Side

NOT_YOURS = "labels of a peer that is not yours"
"""What is missing where ownership hides the labels of an end."""
_ENFORCED_ENTITIES = ("host", "health")
"""Ends that are not pods in a namespace but endpoints of an agent; all others are outside of the cluster, or on another node."""
_ALSO = {"kube-apiserver": ("remote-node",)}


@dataclass(frozen=True, kw_only=True)
class End:
    """One end of an edge or flow, as it was recorded. Two ends with equal fields are one end."""

    cluster: str
    """The cluster that saw it."""
    cluster_name: str | None = None
    """Its own cluster if that is another one."""
    namespace: str | None = None
    workload: str | None = None
    entity: str | None = None
    dns_name: str | None = None
    cidr: str | None = None
    address: str | None = None
    """Of an end outside the cluster, if one was recorded."""
    labels: tuple[str, ...] | None = None
    """None when they are not known."""
    names: tuple[str, ...] | None = None
    """All DNS names that the agent had learned for the address; None when only `dns_name` is known."""
    is_hidden: bool = False
    """Whether the labels may be known but are not the principal's to see."""
    some_labels: tuple[str, ...] = ()
    """Those that are known of a pod, where `labels` is None."""
    missing: str = ""
    """What is not known of the labels, in words; by default all of them."""

    @property
    def title(self) -> str:
        """The end as people call it."""
        where = f"{self.cluster_name}:" if self.cluster_name else ""
        if self.namespace is not None:
            return where + (f"{self.namespace}/{self.workload}" if self.workload else self.namespace)
        outside = self.dns_name or self.address or self.cidr
        return where + (f"{self.entity} {outside}" if self.entity and outside else outside or self.entity or "an end that is not known")


@dataclass(frozen=True, kw_only=True)
class LearnedNames:
    """Which addresses each DNS name had in a window, and which other names those addresses had."""

    addresses: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """By cluster and name."""
    others: Mapping[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """Further names of the addresses of a name, by cluster and name."""

    @classmethod
    def read(cls, rows: Iterable[Mapping[str, str]]) -> LearnedNames:
        """From rows of `edge_questions.names`, which have `cluster`, `ip` and `name`."""
        names: dict[tuple[str, str], set[str]] = {}
        addresses: dict[tuple[str, str], set[str]] = {}
        for row in rows:
            names.setdefault((row["cluster"], row["ip"]), set()).add(row["name"])
            addresses.setdefault((row["cluster"], row["name"]), set()).add(row["ip"])
        return cls(
            addresses={key: tuple(sorted(found)) for key, found in addresses.items()},
            others={
                (cluster, name): tuple(sorted(set().union(*(names[cluster, ip] for ip in found)) - {name}))
                for (cluster, name), found in addresses.items()
            },
        )


NOTHING_LEARNED = LearnedNames()


def side_of(
    end: End,
    *,
    named_ports: Mapping[tuple[str, str], int] | None = None,
    learned: LearnedNames = NOTHING_LEARNED,
    selects_nodes: bool = False,
) -> Side:
    """Return an end as the engine reads it.

    Args:
        end: the end.
        named_ports: of the end's pods; None when they are not known.
        learned: names and addresses of a window, used where the end has a name and no address.
        selects_nodes: whether a policy selects nodes; which node a host is, and so its labels, is not recorded for edges.
    """
    if end.namespace is not None:
        return _pod(end, named_ports)
    if end.entity is None and end.labels is None:
        return Side(end.title, enforced=False, networks=_networks(end, learned), names=None, unknown_labels=_unknown(end))
    texts = end.labels if end.labels is not None else tuple(f"reserved:{name}" for name in (end.entity, *_ALSO.get(end.entity or "", ())))
    labels = LabelSet(text for text in texts if not text.startswith(("cidr:", "fqdn:", "cidrgroup:")))
    enforced = any(labels.has_reserved(name) for name in _ENFORCED_ENTITIES) and end.cluster_name is None
    names, others = _names(end, learned)
    return Side(
        end.title,
        subject=None if not enforced or (selects_nodes and labels.has_reserved("host")) else labels,
        enforced=enforced,
        seen_as=labels,
        address=address_of(end.address),
        networks=_networks(end, learned),
        names=names,
        possible_names=others,
        named_ports={},
    )


def _pod(end: End, named_ports: Mapping[tuple[str, str], int] | None) -> Side:
    is_local = end.cluster_name is None
    if end.labels is not None:
        labels = LabelSet(end.labels)
        return Side(end.title, subject=labels if is_local else None, enforced=is_local, seen_as=labels, names=(), named_ports=named_ports)
    known = LabelSet(end.some_labels or namespace_labels(end.namespace or "", end.cluster_name or end.cluster, {}), complete=False)
    return Side(end.title, enforced=is_local, seen_as=known, names=(), named_ports=named_ports, unknown_labels=_unknown(end))


def namespace_labels(name: str, cluster_name: str, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the labels that Cilium gives every pod of a namespace with these labels of its own."""
    every = {"kubernetes.io/metadata.name": name, **labels}
    return (
        f"{KUBERNETES}:{POD_NAMESPACE}={name}",
        f"{KUBERNETES}:{CLUSTER}={cluster_name}",
        *(f"{KUBERNETES}:{NAMESPACE_LABELS}.{key}={value}" for key, value in every.items()),
    )


def _unknown(end: End) -> str:
    return NOT_YOURS if end.is_hidden else end.missing


def known_labels(labels: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return labels as an end has them; None if none were recorded."""
    return tuple(sorted(labels)) if labels else None


def known_names(names: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return DNS names as an end has them; None if none were recorded."""
    return tuple(sorted(name.rstrip(".") for name in names)) if names else None


def address_of(text: str | None) -> Address | None:
    """Parse an address as it was recorded, without its zone; None if there is none, or if what was recorded is not an address."""
    try:
        return ip_address(text.split("%")[0]) if text else None
    except ValueError:
        return None


def valid_address(text: str | None) -> str | None:
    """Return a recorded address without its zone; None if there is none, or if what was recorded is not an address."""
    address = address_of(text)
    return None if address is None else str(address)


def is_within(text: str | None, cidr: str | None) -> bool:
    """Whether a recorded address is within a range; every one is within None, and one that is not an address is within no range."""
    address = address_of(text)
    return cidr is None or (address is not None and address in ip_network(cidr))


def _networks(end: End, learned: LearnedNames) -> tuple[Network, ...]:
    if end.address:
        return ()
    if end.cidr:
        return (ip_network(end.cidr),)
    found = learned.addresses.get((end.cluster, end.dns_name or ""), ())
    return tuple(ip_network(address) for text in found if (address := address_of(text)) is not None)


def _names(end: End, learned: LearnedNames) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names that the end had for certain, and those that it may have had."""
    if end.names is not None:
        return end.names, ()
    if not end.dns_name:
        return (), ()
    return (end.dns_name,), learned.others.get((end.cluster, end.dns_name), ())


def unique(ends: Sequence[End]) -> tuple[list[End], list[int]]:
    """Return the distinct ends, and for each end its place among them."""
    places: dict[End, int] = {}
    numbers = [places.setdefault(end, len(places)) for end in ends]
    return list(places), numbers
