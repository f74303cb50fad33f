"""What every reader of a kind of policy works with: the manifest, the settings and the surroundings. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipelines.policy.labels import CLUSTER, KUBERNETES
from pipelines.policy.model import Direction, Origin
from pipelines.policy.peers import Network
from pipelines.policy.ports import PortMatch
from pipelines.policy.refusals import API_SERVER, Fields, Refused
from pipelines.policy.selectors import SelectorDraft
from pipelines.policy.settings import AgentSettings


@dataclass(frozen=True)
class Document:
    """One manifest and where it was read."""

    manifest: Mapping[str, Any]
    source: str = ""
    lines: Mapping[str, int] = field(default_factory=dict)
    """Line of each path, such as `spec.ingress[0]`; empty where the manifest was not read from a file."""

    @property
    def kind(self) -> str:
        """The manifest's kind; empty without one."""
        return str(self.manifest.get("kind") or "")

    @property
    def identity(self) -> tuple[str, str, str]:
        """Kind, namespace and name, as far as they are written."""
        metadata = self.manifest.get("metadata")
        names = metadata if isinstance(metadata, Mapping) else {}
        return self.kind, str(names.get("namespace") or ""), str(names.get("name") or "")

    def line(self, path: str) -> int | None:
        """The line of a path, or of the nearest path above it that is written."""
        while path:
            if path in self.lines:
                return self.lines[path]
            cut = max(path.rfind("."), path.rfind("["))
            path = path[:cut] if cut > 0 else ""
        return self.lines.get("")


@dataclass(frozen=True)
class CidrGroup:
    """A CiliumCIDRGroup."""

    labels: Mapping[str, str]
    networks: tuple[Network, ...]


@dataclass(frozen=True)
class Service:
    """A Kubernetes Service with a selector, which toServices may name."""

    namespace: str
    name: str
    labels: Mapping[str, str]
    selector: Mapping[str, str]


@dataclass(frozen=True)
class Surroundings:
    """Objects that policies refer to. None means that nobody knows them, so what depends on them is uncertain."""

    cidr_groups: Mapping[str, CidrGroup] | None = None
    services: tuple[Service, ...] | None = None
    named_ports: Mapping[tuple[str, str], frozenset[int]] | None = None
    """All numbers that pods of the cluster give a named port, by protocol and name."""


@dataclass(frozen=True)
class Reading:
    """One policy while it is read."""

    document: Document
    kind: str
    namespace: str
    name: str
    spec: Fields
    settings: AgentSettings
    surroundings: Surroundings

    def origin(self, direction: Direction, index: int, path: str) -> Origin:
        """Where a rule of this policy stands."""
        line = self.document.line(path)
        return Origin(self.kind, self.namespace, self.name, direction.value, index, path, line, self.document.source)

    def bind_to_cluster(self, selector: SelectorDraft) -> None:
        """Let a selector that names no cluster mean the local one, where the agent reads it so."""
        cluster = self.settings.local_cluster
        if cluster is not None and not selector.names_key(CLUSTER, KUBERNETES, "any"):
            selector.must_equal(KUBERNETES, CLUSTER, cluster)

    def agreed_ports(self, ports: Iterable[PortMatch], direction: Direction) -> tuple[PortMatch, ...]:
        """The ports; on egress before Cilium 1.20, names stand for the one number that all pods agree on."""
        if direction is Direction.INGRESS or not self.settings.cilium or self.settings.release.named_ports_per_peer:
            return tuple(ports)
        known = self.surroundings.named_ports
        return tuple(
            port if not port.name or known is None else dataclasses.replace(port, agreed=known.get((port.protocol, port.name), frozenset()))
            for port in ports
        )


def begin(document: Document, settings: AgentSettings, surroundings: Surroundings, *, namespaced: bool) -> Reading:
    """The reading of a policy's `spec`.

    Raises:
        Refused: it has no name, or its metadata or spec is not a mapping.
    """
    whole = Fields(document.manifest, "")
    metadata = Fields(whole.mapping("metadata").value, "metadata")
    name = metadata.text("name")
    if not name:
        raise Refused("metadata.name", "must be specified", API_SERVER)
    namespace = (metadata.text("namespace") or "default") if namespaced else ""
    spec = Fields(whole.mapping("spec").value, "spec")
    return Reading(document, document.kind, namespace, name, spec, settings, surroundings)
