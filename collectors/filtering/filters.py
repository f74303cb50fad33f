"""The filters of a request: whitelist minus blacklist, OR between filters, AND between the fields of one.

Every field that a request sets is either applied or refused by name: silently ignoring a filter would return
flows that were not requested.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from collectors.filtering import matching
from collectors.hubble_api.flow import flow_pb2

Match = Callable[[flow_pb2.Flow], bool]
Build = Callable[[Sequence[Any]], Match]


class RefusedFilterError(ValueError):
    """A filter that this node does not support; the message names the field."""


def _among(read: Callable[[flow_pb2.Flow], Any]) -> Build:
    """Match values that are among the requested ones."""

    def build(values: Sequence[Any]) -> Match:
        wanted = set(values)
        return lambda flow: read(flow) in wanted

    return build


def _any(parse: Callable[[Any], Callable[[Any], bool]], read: Callable[[flow_pb2.Flow], Any]) -> Build:
    """Match if any of the parsed tests accepts the value read from the flow."""

    def build(values: Sequence[Any]) -> Match:
        tests = [parse(value) for value in values]

        def match(flow: flow_pb2.Flow) -> bool:
            found = read(flow)
            return any(test(found) for test in tests)

        return match

    return build


def _ends(side: str) -> dict[str, Build]:
    """Return the fields that exist for both the source and the destination."""

    def end(flow: flow_pb2.Flow) -> flow_pb2.Endpoint:
        return flow.source if side == "source" else flow.destination

    def service(flow: flow_pb2.Flow) -> tuple[str, str]:
        found = flow.source_service if side == "source" else flow.destination_service
        return found.namespace, found.name

    def names(flow: flow_pb2.Flow) -> Iterable[str]:
        return flow.source_names if side == "source" else flow.destination_names

    return {
        f"{side}_ip": _any(matching.address, lambda flow: getattr(flow.IP, side)),
        f"{side}_pod": _any(matching.namespaced_prefix, lambda flow: (end(flow).namespace, end(flow).pod_name)),
        f"{side}_fqdn": _any(matching.fqdn, names),
        f"{side}_label": _any(matching.selector, lambda flow: end(flow).labels),
        f"{side}_service": _any(matching.namespaced_prefix, service),
        f"{side}_workload": _any(matching.workload, lambda flow: end(flow).workloads),
        f"{side}_cluster_name": _any(matching.given, lambda flow: end(flow).cluster_name),
        f"{side}_identity": _among(lambda flow: end(flow).identity),
        f"{side}_port": _any(matching.port, partial(matching.port_of, side=side)),
    }


def _http(flow: flow_pb2.Flow) -> flow_pb2.HTTP | None:
    return flow.l7.http if flow.l7.HasField("http") else None


def _on_http(parse: Callable[[Any], Callable[[flow_pb2.HTTP], bool]]) -> Build:
    """Return a test of HTTP requests that never matches other flows."""

    def build(values: Sequence[Any]) -> Match:
        tests = [parse(value) for value in values]

        def match(flow: flow_pb2.Flow) -> bool:
            http = _http(flow)
            return http is not None and any(test(http) for test in tests)

        return match

    return build


def _method(value: str) -> Callable[[flow_pb2.HTTP], bool]:
    return lambda http: http.method.upper() == value.upper()


def _path(value: str) -> Callable[[flow_pb2.HTTP], bool]:
    pattern = matching.expression(value)
    return lambda http: pattern.search(urlsplit(http.url).path) is not None


def _url(value: str) -> Callable[[flow_pb2.HTTP], bool]:
    pattern = matching.expression(value)
    return lambda http: pattern.search(http.url) is not None


def _header(value: flow_pb2.HTTPHeader) -> Callable[[flow_pb2.HTTP], bool]:
    return lambda http: any(each.key.lower() == value.key.lower() and each.value == value.value for each in http.headers)


def _event_type(value: flow_pb2.EventTypeFilter) -> Match:
    return lambda flow: flow.event_type.type == value.type and (not value.match_sub_type or flow.event_type.sub_type == value.sub_type)


def _interface(value: flow_pb2.NetworkInterface) -> Match:
    return lambda flow: flow.HasField("interface") and value.index in (0, flow.interface.index) and value.name in ("", flow.interface.name)


def _dns_query(value: str) -> Match:
    pattern = matching.expression(value)
    return lambda flow: flow.l7.HasField("dns") and pattern.search(flow.l7.dns.query) is not None


def _itself(flow: flow_pb2.Flow) -> flow_pb2.Flow:
    return flow


FIELDS: dict[str, Build] = {
    **_ends("source"),
    **_ends("destination"),
    "source_ip_xlated": _any(matching.address, lambda flow: flow.IP.source_xlated),
    "uuid": _among(lambda flow: flow.uuid),
    "verdict": _among(lambda flow: flow.verdict),
    "traffic_direction": _among(lambda flow: flow.traffic_direction),
    "drop_reason_desc": _among(lambda flow: flow.drop_reason_desc or None),  # a flow without a reason is never meant
    "interface": _any(_interface, _itself),
    "event_type": _any(_event_type, _itself),
    "protocol": _any(matching.protocol, _itself),
    "reply": _among(lambda flow: flow.is_reply.value),  # Cilium's filter treats unknown as not a reply
    "dns_query": _any(_dns_query, _itself),
    "http_status_code": _on_http(matching.status_code),
    "http_method": _on_http(_method),
    "http_path": _on_http(_path),
    "http_url": _on_http(_url),
    "http_header": _on_http(_header),
    "tcp_flags": _any(matching.tcp_flags, _itself),
    "node_name": _any(matching.node_name, lambda flow: flow.node_name),
    "node_labels": _any(matching.selector, lambda flow: flow.node_labels),
    "ip_version": _among(lambda flow: flow.IP.ipVersion),
    "trace_id": _among(lambda flow: flow.trace_context.parent.trace_id),
    "ip_trace_id": _among(lambda flow: flow.ip_trace_id.trace_id),
    "encrypted": _among(lambda flow: flow.IP.encrypted),
}


_L7 = 129
"""The type of events of layer 7."""
_OF_L7 = ("http_status_code", "http_method", "http_path", "http_url", "http_header")


def _compile_one(wanted: flow_pb2.FlowFilter, expressions: Build | None) -> Match:
    tests: list[Match] = []

    for field, values in wanted.ListFields():
        build = FIELDS.get(field.name)
        if field.name == "experimental":
            if not values.cel_expression:
                continue
            if expressions is None:
                raise RefusedFilterError(
                    "filter field experimental: CEL expressions are not evaluated here; use the other fields of the filter"
                )
            build, values = expressions, values.cel_expression
        if build is None:
            raise RefusedFilterError(f"filter field {field.name} is not supported by this node")
        try:
            tests.append(build(values))
        except ValueError as error:
            raise RefusedFilterError(f"filter field {field.name}: {error}") from error
    types = [one.type for one in wanted.event_type]
    if types and _L7 not in types and (named := [field.name for field, _ in wanted.ListFields() if field.name in _OF_L7]):
        raise RefusedFilterError(f"filter field {named[0]} matches events of type {_L7} only, which event_type leaves out")
    return lambda flow: all(test(flow) for test in tests)


def compile_filters(
    whitelist: Iterable[flow_pb2.FlowFilter], blacklist: Iterable[flow_pb2.FlowFilter], *, expressions: Build | None = None
) -> Match:
    """Return the combined test of a request: some whitelist filter matches (or there is none), and no blacklist filter does.

    `expressions` builds the test of CEL expressions, of which one must hold; without it they are refused. Raises RefusedFilterError.
    """
    wanted = [_compile_one(each, expressions) for each in whitelist]
    unwanted = [_compile_one(each, expressions) for each in blacklist]
    return lambda flow: (not wanted or any(test(flow) for test in wanted)) and not any(test(flow) for test in unwanted)
