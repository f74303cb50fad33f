"""The topology of test cases, and the two ends of a probe. Pure."""

from __future__ import annotations

from ipaddress import ip_address

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Address, Side
from pipelines.policy.refusals import Fields, Refused
from pipelines.policy.settings import AgentSettings
from pipelines.policy.topology import Node, Pod, Topology, entity_side, world_side

_KEYS = ("pod", "node", "ip", "entity")
_ENTITIES = ("kube-apiserver", "health", "unmanaged", "init", "ingress", "host", "remote-node", "world", "world-ipv4", "world-ipv6")


def read_topology(whole: Fields, case: Fields) -> Topology:
    """A case's namespaces, pods and nodes; those of the file's `topology` where the case has none of its own.

    Raises:
        Refused: something is not in the format.
    """
    shared = whole.mapping("topology")

    def listed(key: str) -> list[Fields]:
        return (case if case.has(key) else shared).mappings(key) or []

    namespaces = {_name(one): _labels(one) for one in listed("namespaces")}
    nodes = {_name(one): Node(_name(one), _labels(one), _address(one), one.boolean("controlPlane") or False) for one in listed("nodes")}
    pods: dict[tuple[str, str], Pod] = {}
    for one in listed("pods"):
        pod = _pod(one)
        pods[pod.namespace, pod.name] = pod
    return Topology(namespaces, pods, nodes)


def _name(fields: Fields) -> str:
    name = fields.text("name")
    if not name:
        raise Refused(f"{fields.path}.name", "must be specified")
    return name


def _labels(fields: Fields) -> dict[str, str]:
    labels = fields.mapping("labels")
    for key, value in labels.value.items():
        if not isinstance(value, str):
            raise Refused(f"{labels.path}.{key}", f"must be a text, not {value!r}; write it in quotes")
    return dict(labels.value)


def _address(fields: Fields) -> Address | None:
    text = fields.text("ip")
    if not text:
        return None
    try:
        return ip_address(text)
    except ValueError:
        raise Refused(f"{fields.path}.ip", f"{text!r} is not an IP address") from None


def _pod(fields: Fields) -> Pod:
    ports: dict[tuple[str, str], int] = {}
    for port in fields.mappings("ports") or []:
        number = port.integer("containerPort")
        if port.has("name") and number is not None:
            ports[port.text("protocol") or "TCP", port.text("name")] = number
    return Pod(
        namespace=fields.text("namespace") or "default",
        name=_name(fields),
        labels=_labels(fields),
        address=_address(fields),
        node=fields.text("node"),
        host_network=fields.boolean("hostNetwork") or False,
        service_account=fields.text("serviceAccount") or "default",
        named_ports=ports,
        cluster=fields.text("cluster"),
    )


class SideReader:
    """Works out the two ends of a probe."""

    def __init__(self, topology: Topology, settings: AgentSettings) -> None:
        self._topology = topology
        self._settings = settings

    def read(self, probe: Fields) -> tuple[Side, Side]:
        """Source and destination of a probe.

        Raises:
            Refused: an end names a pod or node that the topology does not have, or is not in the format.
        """
        ends = {key: probe.mapping(key) for key in ("src", "dst")}
        for key, end in ends.items():
            if end.has("entity") and end.text("entity") not in _ENTITIES:
                raise Refused(f"{end.path}.entity", f"{end.text('entity')!r} is not one of {', '.join(_ENTITIES)}")
            if not any(end.has(one) for one in _KEYS):
                raise Refused(f"{probe.path}.{key}", f"must have one of {', '.join(_KEYS)}")
        dual_stack = any(":" in end.text("ip") for end in ends.values())
        nodes = {key: self._node_of(end) for key, end in ends.items()}
        source = self._side(probe, "src", ends["src"], nodes["dst"], dual_stack)
        destination = self._side(probe, "dst", ends["dst"], nodes["src"], dual_stack)
        return source, destination

    def _pod_of(self, end: Fields) -> Pod | None:
        namespace, _, name = end.text("pod").partition("/")
        return self._topology.pods.get((namespace, name))

    def _node_of(self, end: Fields) -> str | None:
        if end.has("node"):
            return end.text("node")
        pod = self._pod_of(end)
        return pod.node or None if pod else None

    def _side(self, probe: Fields, key: str, end: Fields, other_node: str | None, dual_stack: bool) -> Side:
        if end.has("pod"):
            return self._pod_side(probe, key, end, other_node)
        if end.has("node"):
            node = self._topology.nodes.get(end.text("node"))
            if node is None:
                raise Refused(f"{end.path}.node", f"the topology has no node {end.text('node')!r}")
            return self._topology.node_side(node, self._settings, other_node)
        if not end.has("ip"):
            return entity_side(end.text("entity"))
        names = [text for text, _ in end.texts("names") or []]
        try:
            return world_side(end.text("ip"), names, [end.text("entity")] if end.has("entity") else [], dual_stack=dual_stack)
        except ValueError:
            raise Refused(f"{end.path}.ip", f"{end.text('ip')!r} is not an IP address") from None

    def _pod_side(self, probe: Fields, key: str, end: Fields, other_node: str | None) -> Side:
        pod = self._pod_of(end)
        if pod is not None:
            return self._topology.pod_side(pod, self._settings, other_node)
        texts = probe.texts(f"{key}_labels")
        if texts is None:
            raise Refused(f"{end.path}.pod", f"the topology has no pod {end.text('pod')!r}; pods are written as namespace/name")
        labels = LabelSet(text for text, _ in texts)
        return Side(end.text("pod"), subject=labels, seen_as=labels)
