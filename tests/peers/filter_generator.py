"""Generates filters of GetFlows from the values that given flows have, and from values a little beside them."""

import random
from collections.abc import Callable, Sequence
from typing import Any

from collectors.hubble_api.flow import flow_pb2

ODD = ("", "*", "a", "/", "//", "///", "a/b/c", "10.0.0.0/8", "::1", "nowhere", "kube-*", "(", "65536", "-1", "00080", "k8s:", "!", "=")


def filters(flows: Sequence[flow_pb2.Flow], seed: int) -> Callable[[], flow_pb2.FlowFilter]:
    """Return a function that makes a filter of one to three fields."""
    chance = random.Random(seed)
    fields: list[Any] = [field for field in flow_pb2.FlowFilter.DESCRIPTOR.fields if field.name != "experimental"]

    def make() -> flow_pb2.FlowFilter:
        made = flow_pb2.FlowFilter()
        for field in chance.sample(fields, chance.choice([1, 1, 1, 2, 2, 3])):
            for _ in range(chance.choice([1, 1, 2])):
                _add(made, field, chance.choice(flows), chance)
        return made

    return make


def _add(made: flow_pb2.FlowFilter, field: Any, flow: flow_pb2.Flow, chance: random.Random) -> None:
    values = getattr(made, field.name)
    if field.name in ("source_workload", "destination_workload"):
        listed = getattr(flow, field.name.partition("_")[0]).workloads
        known = listed[0] if listed else flow_pb2.Workload(name="web", kind="Deployment")
        given = [known, flow_pb2.Workload(name=known.name), flow_pb2.Workload(kind=known.kind), flow_pb2.Workload(name="x")]
        values.append(chance.choice(given))
    elif field.name == "interface":
        values.append(chance.choice([flow.interface, flow_pb2.NetworkInterface(name="eth0"), flow_pb2.NetworkInterface(index=1)]))
    elif field.name == "event_type":
        sub = chance.random() < 0.5
        values.append(flow_pb2.EventTypeFilter(type=flow.event_type.type, match_sub_type=sub, sub_type=flow.event_type.sub_type * sub))
    elif field.name == "http_header":
        headers = list(flow.l7.http.headers) or [flow_pb2.HTTPHeader(key="Host", value="x")]
        values.append(chance.choice(headers))
    elif field.name == "tcp_flags":
        given = [flow.l4.TCP.flags, flow_pb2.TCPFlags(SYN=True), flow_pb2.TCPFlags(ACK=True, PSH=True), flow_pb2.TCPFlags()]
        values.append(chance.choice(given))
    else:
        values.append(_plain(field.name, flow, chance))


def _plain(name: str, flow: flow_pb2.Flow, chance: random.Random) -> Any:
    side = flow.source if name.startswith("source") else flow.destination
    part = name.partition("_")[2]
    service = flow.source_service if name.startswith("source") else flow.destination_service
    address = flow.IP.source if name.startswith("source") else flow.IP.destination
    names = list(flow.source_names if name.startswith("source") else flow.destination_names) or ["www.example.com"]
    l4 = flow.l4.WhichOneof("protocol") or "TCP"
    port = str(getattr(getattr(flow.l4, l4), f"{name.partition('_')[0]}_port", 80)) if part == "port" else "80"
    label = chance.choice(list(side.labels) or ["reserved:world"])
    made: dict[str, list[Any]] = {
        "uuid": [flow.uuid, "x"],
        "ip": [address, f"{address.rpartition('.')[0]}.0/24" if "." in address else address, "10.0.0.0/8", "0.0.0.0/0", "::/0"],
        "ip_xlated": [flow.IP.source_xlated or "10.0.0.1"],
        "pod": [
            f"{side.namespace}/{side.pod_name}",
            f"{side.namespace}/",
            f"/{side.pod_name[:4]}",
            side.pod_name,
            f"{side.namespace}/{side.pod_name[:6]}",
            side.namespace,
            "//",
            f"{side.namespace}//",
            f"//{side.pod_name[:4]}",
            f"/{side.pod_name[:4]}/more",
            f"{side.namespace}/{side.pod_name[:4]}/more",
        ],
        "fqdn": [names[0], f"*.{names[0].partition('.')[2]}", "*", names[0].upper(), "*.*", f"{names[0]}."],
        "label": [
            label,
            label.partition("=")[0],
            label.partition(":")[2],
            f"!{label.partition('=')[0]}",
            f"{label},{label}",
            f"{label.partition('=')[0]} in (a, {label.partition('=')[2]})",
            f"{label.partition('=')[0]}!=x",
        ],
        "service": [
            f"{service.namespace}/{service.name}",
            f"{service.namespace}/",
            service.name,
            f"/{service.name}",
            "//",
            f"/{service.name}/more",
        ],
        "cluster_name": [side.cluster_name, "c2", f"{side.cluster_name}/", f"{side.cluster_name}*", side.cluster_name.upper()],
        "identity": [side.identity, 2],
        "port": [port, "53", "0"],
    }
    whole: dict[str, list[Any]] = {
        "uuid": made["uuid"],
        "traffic_direction": [flow.traffic_direction, 0, 1, 2],
        "verdict": [flow.verdict, 1, 2, 0],
        "drop_reason_desc": [flow.drop_reason_desc, 133, 0],
        "http_status_code": [str(flow.l7.http.code or 200), "2+", "40+", "404", "5+"],
        "protocol": [l4.lower(), l4, "icmp", "dns", "http", "UDP", "sctp", "vrrp", "igmp"],
        "reply": [flow.is_reply.value, True, False],
        "dns_query": [flow.l7.dns.query or "example", "^a", "cluster.local", ".*"],
        "http_method": [flow.l7.http.method or "GET", "get", "POST"],
        "http_path": ["/", "^/api", ".*", "/v1/.*"],
        "http_url": [flow.l7.http.url[:20] or "http", "svc", ".*"],
        "node_name": [
            flow.node_name,
            flow.node_name.partition("/")[2],
            flow.node_name.partition("/")[0] + "/",
            "*",
            "test/*",
            "other/*",
            "node-?",
            "*/node-1",
        ],
        "node_labels": [chance.choice(list(flow.node_labels) or ["kubernetes.io/os=linux"]), "kubernetes.io/arch", "!x"],
        "ip_version": [flow.IP.ipVersion, 1, 2, 0],
        "trace_id": [flow.trace_context.parent.trace_id or "abc", ""],
        "ip_trace_id": [flow.ip_trace_id.trace_id, 0, 7],
        "encrypted": [flow.IP.encrypted, True, False],
    }
    values = whole.get(name) or made[part]
    if isinstance(values[0], str) and chance.random() < 0.08:
        return chance.choice(ODD)
    return chance.choice(values)


def expressions(flows: Sequence[flow_pb2.Flow], seed: int) -> Callable[[], list[str]]:
    """Return a function that makes one or two CEL expressions."""
    chance = random.Random(seed)

    def joined(depth: int) -> str:
        if not depth or chance.random() < 0.3:
            return chance.choice(_TERMS).format(**_values(chance.choice(flows), chance))
        kind = chance.choice(["{} && {}", "{} || {}", "!({}) || {}", "({}) ? ({}) : false"])
        return kind.format(joined(depth - 1), joined(depth - 1))

    return lambda: [joined(chance.choice([0, 0, 0, 1, 2])) for _ in range(chance.choice([1, 1, 1, 2]))]


_TERMS = (
    "_flow.verdict == Verdict.{verdict}",
    "_flow.verdict == flow.Verdict.{verdict}",
    "_flow.verdict in [1, 2]",
    "_flow.verdict > 1",
    "_flow.traffic_direction == TrafficDirection.{direction}",
    "_flow.Type == FlowType.L7",
    "_flow.source.namespace == '{namespace}'",
    "_flow.destination.namespace != '{namespace}'",
    "_flow.source.pod_name.startsWith('{pod}')",
    "_flow.destination.pod_name.contains('{pod}')",
    "_flow.source.pod_name.matches('^{pod}.*-[a-z0-9]+$')",
    "_flow.source.pod_name.matches('(')",
    "_flow.source.identity == {identity}u",
    "_flow.source.identity == {identity}",
    "_flow.source.identity == uint({identity})",
    "int(_flow.source.identity) % 2 == 0",
    "10 / int(_flow.source.identity - _flow.source.identity) == 1",
    "_flow.source.labels.exists(l, l == '{label}')",
    "_flow.source.labels.all(l, l.startsWith('k8s:'))",
    "_flow.destination.labels.exists_one(l, l.contains('app'))",
    "_flow.source.labels.filter(l, l.contains('=')).size() > 3",
    "_flow.source.labels.map(l, l.size()).exists(n, n > 20)",
    "'{label}' in _flow.source.labels",
    "size(_flow.source.labels) > 4",
    "_flow.source.labels[0] == '{label}'",
    "_flow.source.labels[1000] == ''",
    "has(_flow.l7)",
    "has(_flow.l7.http)",
    "has(_flow.l4.TCP) && _flow.l4.TCP.destination_port == {port}u",
    "has(_flow.source.namespace)",
    "_flow.l4.UDP.destination_port == 53u",
    "_flow.l4.TCP.flags.SYN",
    "_flow.l7.http.code >= 400u",
    "_flow.l7.http.headers.exists(h, h.key == 'Host')",
    "_flow.l7.dns.query.endsWith('.')",
    "_flow.is_reply == true",
    "_flow.is_reply == null",
    "_flow.is_reply",
    "_flow.is_reply.value",
    "_flow.IP.source == '{address}'",
    "_flow.IP.encrypted || _flow.IP.source_xlated != ''",
    "_flow.event_type.type == 4",
    "_flow.node_name == '{node}'",
    "_flow.time > timestamp('{time}')",
    "_flow.time.getHours() == 0",
    "_flow.time.getMinutes('Europe/Berlin') > 1",
    "_flow.time - timestamp('{time}') < duration('10s')",
    "_flow.source.workloads.exists(w, w.kind == 'Deployment')",
    "_flow.source.workloads[0].name.size() > 4",
    "_flow.source_names.size() == 1",
    "_flow.trace_context.parent.trace_id == 'trace-1'",
    "_flow.source == _flow.destination",
    "_flow.nothing == 1",
    "_flow.verdict",
    "'text'",
    "true",
    "1 == 1.0",
    "dyn(1) == 1.0",
    "Flow{{}} == _flow",
    "type(_flow) == Flow",
    "[1, 2].exists(x, x > 1)",
    "{{'a': 1}}['b'] == 1",
    "string(_flow.verdict) == '1'",
    "_flow.summary == ''",
    "",
)


def _values(flow: flow_pb2.Flow, chance: random.Random) -> dict[str, Any]:
    return {
        "verdict": flow_pb2.Verdict.Name(flow.verdict),
        "direction": flow_pb2.TrafficDirection.Name(flow.traffic_direction),
        "namespace": flow.source.namespace,
        "pod": flow.source.pod_name[:4],
        "identity": flow.source.identity,
        "label": chance.choice(list(flow.source.labels) or ["k8s:app=x"]),
        "port": flow.l4.TCP.destination_port,
        "address": flow.IP.source,
        "node": flow.node_name,
        "time": flow.time.ToJsonString(),
    }
