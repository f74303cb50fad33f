"""What the simulated datapath does with a new connection under the simulated company's policies.

It reads just the constructs that collectors.simulator.policies writes and refuses every other one. It deliberately shares
nothing with the policy engine in pipelines.policy, which is checked against the verdicts that are recorded from here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.policies import Manifest

Direction = Literal["ingress", "egress"]
_PEERS = {"ingress": ("fromEndpoints", "fromEntities"), "egress": ("toEndpoints", "toEntities", "toFQDNs")}
_KNOWN_FIELDS = {*_PEERS["ingress"], *_PEERS["egress"], "toPorts"}
_HOST, _WORLD = "reserved:host", "reserved:world"


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policies of one end give for a connection."""

    is_allowed: bool
    policies: tuple[flow_pb2.Policy, ...] = ()
    """The policies with a rule that allows it; for a denied one, those with a rule that denies it: none for a default deny."""
    is_proxied: bool = False
    """Whether a rule for requests is among those that allow it, so that it goes through the proxy."""


class Enforcement:
    """The policies of one cluster, as of one time."""

    def __init__(self, policies: Sequence[Manifest], settings: Manifest) -> None:
        self._policies = policies
        self._always = settings["data"]["enable-policy"] == "always"
        self._known: dict[tuple[object, ...], Decision] = {}

    def decide(
        self, direction: Direction, subject: flow_pb2.Endpoint, peer: flow_pb2.Endpoint, *, port: int, protocol: str = "TCP"
    ) -> Decision:
        """Return what happens to a new connection at one of its ends, the subject.

        Raises:
            ValueError: a policy holds something that this simulation does not know.
        """
        key = (direction, subject.identity, peer.identity, port, protocol)
        if key not in self._known:
            self._known[key] = self._decide(direction, subject, peer, (str(port), protocol))
        return self._known[key]

    def _decide(self, direction: Direction, subject: flow_pb2.Endpoint, peer: flow_pb2.Endpoint, port: tuple[str, str]) -> Decision:
        selecting = [policy for policy in self._policies if _selects(policy, subject)]
        allowing: list[tuple[Manifest, bool]] = []
        denying: list[Manifest] = []
        isolated = self._always
        for policy in selecting:
            spec = policy["spec"]
            isolated |= bool(spec.get(direction) or spec.get(f"{direction}Deny")) or direction.title() in spec.get("policyTypes", ())
            denying += [policy for rule in spec.get(f"{direction}Deny", ()) if _matches(rule, direction, policy, peer, port)]
            allowing += [
                (policy, _has_requests(rule, port)) for rule in spec.get(direction, ()) if _matches(rule, direction, policy, peer, port)
            ]
        if denying:
            return Decision(False, _named(denying))
        if allowing:
            return Decision(True, _named([policy for policy, _ in allowing]), any(requests for _, requests in allowing))
        # The node of a pod always reaches it.
        return Decision(not isolated or (direction == "ingress" and _HOST in peer.labels))


def _selects(policy: Manifest, subject: flow_pb2.Endpoint) -> bool:
    namespace, spec = policy["metadata"].get("namespace"), policy["spec"]
    if namespace is not None and namespace != subject.namespace:
        return False
    return _has_labels(spec.get("endpointSelector", spec.get("podSelector")), subject)


def _has_labels(selector: Manifest, endpoint: flow_pb2.Endpoint) -> bool:
    expressions = selector.get("matchExpressions", ())
    if selector.keys() - {"matchLabels", "matchExpressions"} or any(one["operator"] != "Exists" for one in expressions):
        raise ValueError(f"the simulation does not know the selector {selector}")
    labels = set(endpoint.labels)
    keys = {label.partition("=")[0] for label in labels}
    return all(one["key"] in keys for one in expressions) and all(
        f"k8s:{key.removeprefix('k8s:')}={value}" in labels for key, value in selector.get("matchLabels", {}).items()
    )


def _matches(rule: Manifest, direction: Direction, policy: Manifest, peer: flow_pb2.Endpoint, port: tuple[str, str]) -> bool:
    if policy["kind"] == "NetworkPolicy":
        if rule:
            raise ValueError(f"the simulation does not know this rule of a NetworkPolicy: {rule}")
        return True  # an empty rule of a NetworkPolicy allows everyone
    if rule.keys() - _KNOWN_FIELDS:
        raise ValueError(f"the simulation does not know this rule of a {policy['kind']}: {rule}")
    return _has_port(rule, port) and any(_is_peer(name, one, peer) for name in _PEERS[direction] for one in rule.get(name, ()))


def _is_peer(name: str, wanted: Any, peer: flow_pb2.Endpoint) -> bool:
    if name.endswith("Endpoints"):
        return bool(peer.namespace) and _has_labels(wanted, peer)
    if name == "toFQDNs":
        return f"fqdn:{wanted['matchName']}" in peer.labels
    if wanted != "world":
        raise ValueError(f"the simulation does not know the entity {wanted}")
    return _WORLD in peer.labels


def _port_rules(rule: Manifest) -> Iterator[tuple[tuple[str, str], bool]]:
    """Yield each port and protocol of a rule, and whether requests to it are looked at."""
    for listed in rule["toPorts"]:
        for port in listed["ports"]:
            yield (port["port"], port["protocol"]), "rules" in listed


def _has_port(rule: Manifest, port: tuple[str, str]) -> bool:
    return "toPorts" not in rule or any(port == each for each, _ in _port_rules(rule))


def _has_requests(rule: Manifest, port: tuple[str, str]) -> bool:
    return "toPorts" in rule and any(port == each and requests for each, requests in _port_rules(rule))


def _named(policies: Sequence[Manifest]) -> tuple[flow_pb2.Policy, ...]:
    """Return the policies as Hubble names them, each once."""
    found = {}
    for policy in policies:
        name, namespace, kind = policy["metadata"]["name"], policy["metadata"].get("namespace", ""), policy["kind"]
        labels = [f"k8s:io.cilium.k8s.policy.derived-from={kind}", f"k8s:io.cilium.k8s.policy.name={name}"]
        if namespace:
            labels.append(f"k8s:io.cilium.k8s.policy.namespace={namespace}")
        found[kind, namespace, name] = flow_pb2.Policy(name=name, namespace=namespace, kind=kind, labels=labels)
    return tuple(found.values())
