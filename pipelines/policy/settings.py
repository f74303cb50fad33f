"""The agent's settings, and everything in which releases of Cilium differ, as data. Pure.

Code asks a `Release` or `AgentSettings` what holds and never compares versions itself. Sources are Cilium's release
notes and its released Go modules, against which `tests/peers/test_policy_engines.py` compares this engine.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from warehouse.errors import ConfigError

_ENTITIES_1_18 = frozenset(
    ("all", "world", "cluster", "host", "init", "ingress", "unmanaged", "remote-node", "health", "none", "kube-apiserver")
)
_PROTOCOLS_1_18 = frozenset({"TCP", "UDP", "SCTP", "VRRP", "IGMP", "ANY"})


class Semantics(StrEnum):
    """Whose reading of a Kubernetes NetworkPolicy counts."""

    CILIUM = "cilium"
    KUBERNETES = "kubernetes"


@dataclass(frozen=True)
class Release:
    """What a minor release of Cilium does with policies."""

    version: tuple[int, int]
    entities: frozenset[str]
    """Entities that rules may name; another one is refused."""
    protocols: frozenset[str]
    """Protocols that `toPorts` may name."""
    multi_label_wildcard: bool
    """`**.` at the beginning of a pattern stands for one or more labels; before, it was `*.`."""
    local_cluster_by_default: bool
    """Selectors that name no cluster select the local cluster's pods only."""
    requires_must_be_empty: bool
    """fromRequires and toRequires are refused unless they are empty."""
    named_ports_per_peer: bool
    """A named port on egress is resolved for each destination; before, all pods had to agree on one number."""
    localhost_needs_rules: bool
    """The implicit allow for the local host lies below all rules, and is absent where no rule selects the endpoint."""
    http_and_dns_only: bool
    """Kafka and generic `l7proto` rules are refused."""
    except_must_be_narrower: bool
    """An except that is wider than its CIDR is refused."""
    cluster_network_policy: bool
    """ClusterNetworkPolicy can be read, where the agent's option for it is on."""


_R1_18 = Release(
    version=(1, 18),
    entities=_ENTITIES_1_18,
    protocols=_PROTOCOLS_1_18,
    multi_label_wildcard=False,
    local_cluster_by_default=False,
    requires_must_be_empty=False,
    named_ports_per_peer=False,
    localhost_needs_rules=False,
    http_and_dns_only=False,
    except_must_be_narrower=False,
    cluster_network_policy=False,
)
_R1_19 = dataclasses.replace(_R1_18, version=(1, 19), multi_label_wildcard=True, local_cluster_by_default=True, requires_must_be_empty=True)
_R1_20 = dataclasses.replace(
    _R1_19,
    version=(1, 20),
    entities=_ENTITIES_1_18 | {"cluster-mesh"},
    protocols=_PROTOCOLS_1_18 | {"GRE", "IPIP", "IPV6", "ESP", "AH"},
    named_ports_per_peer=True,
    localhost_needs_rules=True,
    http_and_dns_only=True,
    except_must_be_narrower=True,
    cluster_network_policy=True,
)
RELEASES = (_R1_18, _R1_19, _R1_20)
"""Releases from which something changed, oldest first."""


def release_of(version: str) -> Release:
    """What a version such as `1.20.2` or `v1.19` does: the newest release known here that is not newer than it.

    Raises:
        ConfigError: the version cannot be read.
    """
    parts = version.strip().removeprefix("v").split(".")
    try:
        wanted = (int(parts[0]), int(parts[1]))
    except (ValueError, IndexError):
        raise ConfigError(f"Cilium version {version!r} cannot be read; write it like 1.20 or 1.20.2") from None
    older = [one for one in RELEASES if one.version <= wanted]
    return older[-1] if older else RELEASES[0]


@dataclass(frozen=True)
class AgentSettings:
    """Options of the agent that change verdicts, by default as the agent has them. Names are those of `cilium-config`."""

    release: Release = _R1_20
    semantics: Semantics = Semantics.CILIUM
    cluster_name: str = "default"
    enable_policy: str = "default"
    """default, always or never."""
    policy_cidr_match_mode: frozenset[str] = frozenset()
    """`nodes` and `pods` let CIDR rules match nodes and pods, too."""
    policy_default_local_cluster: bool | None = None
    """Whether selectors that name no cluster mean the local one; None is the release's default."""
    allow_localhost: bool = True
    """Whether the pod's own node always reaches it."""
    enable_host_firewall: bool = True
    enable_node_selector_labels: bool = False
    """Without it, rules with fromNodes and toNodes are refused."""
    enable_l7_proxy: bool = True
    enable_extended_ip_protocols: bool = False
    enable_cluster_network_policy: bool = True

    @property
    def cilium(self) -> bool:
        """Whether a NetworkPolicy is read as Cilium reads it."""
        return self.semantics is Semantics.CILIUM

    @property
    def local_cluster(self) -> str | None:
        """The cluster that selectors mean which name none; None when they mean every cluster."""
        wanted = self.policy_default_local_cluster
        if wanted is None:
            wanted = self.release.local_cluster_by_default
        return self.cluster_name if wanted else None


_BOOLEANS = {
    "policy-default-local-cluster": "policy_default_local_cluster",
    "enable-host-firewall": "enable_host_firewall",
    "enable-node-selector-labels": "enable_node_selector_labels",
    "enable-l7-proxy": "enable_l7_proxy",
    "enable-extended-ip-protocols": "enable_extended_ip_protocols",
    "enable-k8s-cluster-network-policy": "enable_cluster_network_policy",
}


def from_cilium_config(data: dict[str, str], base: AgentSettings | None = None) -> AgentSettings:
    """Settings from the data of the `cilium-config` ConfigMap; keys that do not change verdicts are passed over.

    Raises:
        ConfigError: a value is not one that the agent knows.
    """
    changed: dict[str, Any] = {}
    for key, name in _BOOLEANS.items():
        if key in data:
            changed[name] = str(data[key]).lower() == "true"
    if "cluster-name" in data:
        changed["cluster_name"] = data["cluster-name"]
    if "enable-policy" in data:
        if data["enable-policy"] not in ("default", "always", "never"):
            raise ConfigError(f"enable-policy: {data['enable-policy']!r} is not one of default, always, never")
        changed["enable_policy"] = data["enable-policy"]
    if "policy-cidr-match-mode" in data:
        modes = frozenset(data["policy-cidr-match-mode"].replace(",", " ").split())
        if modes - {"nodes", "pods"}:
            raise ConfigError(f"policy-cidr-match-mode: {data['policy-cidr-match-mode']!r} may hold nodes and pods only")
        changed["policy_cidr_match_mode"] = modes
    if "allow-localhost" in data:
        changed["allow_localhost"] = data["allow-localhost"] != "policy"
    return dataclasses.replace(base or AgentSettings(), **changed)
