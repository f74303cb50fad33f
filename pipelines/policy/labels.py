"""Security labels as Cilium and Hubble write them: `k8s:app=web`, `reserved:world`. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

ANY_SOURCE = "any"
"""A selector's key of this source matches the label of every source."""
RESERVED = "reserved"
KUBERNETES = "k8s"

POD_NAMESPACE = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels"
CLUSTER = "io.cilium.k8s.policy.cluster"
SERVICE_ACCOUNT = "io.cilium.k8s.policy.serviceaccount"

WORLD_LABELS = ("world", "world-ipv4", "world-ipv6")
NODE_LABELS = ("host", "remote-node")


class LabelSet:
    """An immutable, hashable set of security labels. Two sets with the same labels are equal."""

    __slots__ = ("__dict__", "_hash", "complete", "texts")

    def __init__(self, texts: Iterable[str], *, complete: bool = True) -> None:
        """`complete` is false if there may be more labels than these; reserved labels are always complete."""
        self.texts: tuple[str, ...] = tuple(sorted(set(texts)))
        """The labels, each as `source:key=value`, sorted."""
        self.complete = complete
        self._hash = hash((self.texts, complete))

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LabelSet) and self.texts == other.texts and self.complete == other.complete

    def __repr__(self) -> str:
        return f"LabelSet({list(self.texts)!r}{'' if self.complete else ', complete=False'})"

    @cached_property
    def _by_source(self) -> dict[tuple[str, str], str]:
        found: dict[tuple[str, str], str] = {}
        for text in self.texts:
            source, key, value = parse_label(text)
            found.setdefault((source, key), value)
            found.setdefault((ANY_SOURCE, key), value)
        return found

    def get(self, source: str, key: str) -> str | None:
        """The value of a label, or None when the set does not have it; source `any` looks at every source."""
        return self._by_source.get((source, key))

    def may_have(self, source: str, key: str) -> bool:
        """Whether it is not known if the set has a label, because the set is not complete and does not name it."""
        return not self.complete and source != RESERVED and (source, key) not in self._by_source

    def has_reserved(self, *names: str) -> bool:
        """Whether the set has one of these reserved labels, such as `world`."""
        return any((RESERVED, name) in self._by_source for name in names)

    @property
    def is_world(self) -> bool:
        """Whether these are the labels of an address outside of the cluster."""
        return self.has_reserved(*WORLD_LABELS)

    @property
    def is_node(self) -> bool:
        """Whether these are the labels of a node: the local host or a remote node."""
        return self.has_reserved(*NODE_LABELS)

    @property
    def namespace(self) -> str | None:
        """The namespace of a pod, None for everything that is not a pod."""
        return self.get(KUBERNETES, POD_NAMESPACE)


def parse_label(text: str) -> tuple[str, str, str]:
    """Split `source:key=value` into its three parts; the source is `unspec` and the value empty where they are not written."""
    source, key = split_key(text.partition("=")[0], "unspec")
    return source, key, text.partition("=")[2]


def split_key(key: str, default_source: str) -> tuple[str, str]:
    """Split a selector's key into source and key; `$name` is an old form of `reserved:name`."""
    if key.startswith("$"):
        return RESERVED, key[1:]
    source, colon, rest = key.partition(":")
    return (source, rest) if colon and source else (default_source, rest if colon else key)
