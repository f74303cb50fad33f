"""AdminNetworkPolicy and BaselineAdminNetworkPolicy (v1alpha1), the forerunners of ClusterNetworkPolicy. Pure.

Cilium reads neither, so in its semantics they enforce nothing.
"""

from __future__ import annotations

from pipelines.policy.cluster_policy import port_number, port_range, read_priority
from pipelines.policy.model import Action, Rule, Tier
from pipelines.policy.ports import TRANSPORTS, PortMatch
from pipelines.policy.reading import Reading
from pipelines.policy.refusals import API_SERVER, Fields, Refused
from pipelines.policy.tiered import Dialect, read_rules

KIND = "AdminNetworkPolicy"
BASELINE_KIND = "BaselineAdminNetworkPolicy"
_ACTIONS = {"Allow": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_MOST_RULES = 100


def read(reading: Reading) -> list[Rule]:
    """The rules of one AdminNetworkPolicy.

    Raises:
        Refused: the API server would not take it, or the agent does not read the kind.
    """
    _check_read(reading)
    return read_rules(reading, Dialect(Tier.ADMIN, read_priority(reading.spec), _ACTIONS, _MOST_RULES, "ports", _port))


def read_baseline(reading: Reading) -> list[Rule]:
    """The rules of the cluster's one BaselineAdminNetworkPolicy.

    Raises:
        Refused: the API server would not take it, or the agent does not read the kind.
    """
    _check_read(reading)
    if reading.name != "default":
        raise Refused("metadata.name", f"{reading.name!r} must be 'default'; a cluster has only one {BASELINE_KIND}", API_SERVER)
    actions = {name: action for name, action in _ACTIONS.items() if action is not Action.PASS}
    return read_rules(reading, Dialect(Tier.BASELINE, 0, actions, _MOST_RULES, "ports", _port))


def _check_read(reading: Reading) -> None:
    if reading.settings.cilium:
        raise Refused("kind", f"Cilium does not read {reading.kind}; ClusterNetworkPolicy takes its place")


def _port(entry: Fields) -> list[PortMatch]:
    kinds = [kind for kind in ("portNumber", "namedPort", "portRange") if entry.has(kind)]
    if len(kinds) != 1:
        raise Refused(entry.path, "must have exactly one of portNumber, namedPort, portRange", API_SERVER)
    if kinds == ["namedPort"]:
        return [PortMatch(protocol, name=entry.text("namedPort")) for protocol in TRANSPORTS]
    port = entry.mapping(kinds[0])
    protocol = port.text("protocol") or "TCP"
    if protocol not in TRANSPORTS:
        raise Refused(f"{port.path}.protocol", f"{protocol!r} is not one of TCP, UDP, SCTP", API_SERVER)
    if kinds == ["portNumber"]:
        number = port_number(port, "port")
        return [PortMatch(protocol, number, number)]
    return [PortMatch(protocol, *port_range(port))]
