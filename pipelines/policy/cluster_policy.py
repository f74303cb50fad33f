"""ClusterNetworkPolicy of policy.networking.k8s.io, v1alpha2 and v1beta1, which have the same schema. Pure."""

from __future__ import annotations

from pipelines.policy.model import Action, Rule, Tier
from pipelines.policy.ports import TRANSPORTS, PortMatch
from pipelines.policy.reading import Reading
from pipelines.policy.refusals import API_SERVER, Fields, Refused
from pipelines.policy.tiered import Dialect, read_rules

KIND = "ClusterNetworkPolicy"
_TIERS = {"Admin": Tier.ADMIN, "Baseline": Tier.BASELINE}
_ACTIONS = {"Accept": Action.ALLOW, "Deny": Action.DENY, "Pass": Action.PASS}
_MOST_RULES = 25


def read(reading: Reading) -> list[Rule]:
    """The rules of one ClusterNetworkPolicy.

    Raises:
        Refused: the API server would not take it, or the agent does not read the kind.
    """
    settings = reading.settings
    if settings.cilium and not settings.release.cluster_network_policy:
        raise Refused("kind", f"{KIND} is read since Cilium 1.20")
    if settings.cilium and not settings.enable_cluster_network_policy:
        raise Refused("kind", "needs the agent's option enable-k8s-cluster-network-policy")
    tier = _TIERS.get(reading.spec.text("tier"))
    if tier is None:
        raise Refused("spec.tier", f"{reading.spec.text('tier')!r} is not one of {', '.join(_TIERS)}", API_SERVER)
    return read_rules(reading, Dialect(tier, read_priority(reading.spec), _ACTIONS, _MOST_RULES, "protocols", _protocol))


def read_priority(spec: Fields) -> int:
    """The policy's priority, which must be written."""
    priority = spec.integer("priority")
    if priority is None or not 0 <= priority <= 1000:
        raise Refused("spec.priority", "must be a number from 0 to 1000", API_SERVER)
    return priority


def _protocol(entry: Fields) -> list[PortMatch]:
    kinds = [kind for kind in ("tcp", "udp", "sctp", "destinationNamedPort") if entry.has(kind)]
    if len(kinds) != 1:
        raise Refused(entry.path, "must have exactly one of tcp, udp, sctp, destinationNamedPort", API_SERVER)
    if kinds == ["destinationNamedPort"]:
        name = entry.text("destinationNamedPort")
        return [PortMatch(protocol, name=name.lower()) for protocol in TRANSPORTS]
    protocol = entry.mapping(kinds[0])
    port = protocol.mapping("destinationPort")
    if not port.value:
        raise Refused(f"{protocol.path}.destinationPort", "must be specified", API_SERVER)
    if port.has("number") == port.has("range"):
        raise Refused(port.path, "must have either number or range", API_SERVER)
    if port.has("number"):
        number = port_number(port, "number")
        return [PortMatch(kinds[0].upper(), number, number)]
    return [PortMatch(kinds[0].upper(), *port_range(port.mapping("range")))]


def port_number(fields: Fields, key: str) -> int:
    """A port from 1 to 65535."""
    number = fields.integer(key)
    if number is None or not 1 <= number <= 65535:
        raise Refused(f"{fields.path}.{key}", "must be a number from 1 to 65535", API_SERVER)
    return number


def port_range(fields: Fields) -> tuple[int, int]:
    """The first and last port of a range."""
    first, last = port_number(fields, "start"), port_number(fields, "end")
    if first >= last:
        raise Refused(fields.path, f"start ({first}) must be less than end ({last})", API_SERVER)
    return first, last
