"""Which flows a request's filters let through."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import json_format

from collectors.filtering.filters import FIELDS, RefusedFilterError, compile_filters
from collectors.hubble_api.flow import flow_pb2

FLOW = json_format.ParseDict(
    {
        "uuid": "u1",
        "verdict": "DROPPED",
        "IP": {"source": "10.1.2.3", "destination": "fd00::7", "ipVersion": "IPv4"},
        "l4": {"TCP": {"source_port": 40000, "destination_port": 8080, "flags": {"SYN": True, "ACK": True}}},
        "source": {
            "identity": 4711,
            "namespace": "shop",
            "pod_name": "cart-7f9",
            "cluster_name": "eu",
            "labels": ["k8s:app=cart", "k8s:tier=web"],
            "workloads": [{"name": "cart", "kind": "Deployment"}],
        },
        "destination_names": ["api.example.com"],
        "node_name": "eu/node-1",
        "event_type": {"type": 129, "sub_type": 2},
        "drop_reason_desc": "POLICY_DENIED",
        "traffic_direction": "EGRESS",
        "l7": {"http": {"code": 404, "method": "GET", "url": "http://api.example.com/v1/cart?x=1"}},
        "destination_service": {"name": "api", "namespace": "pay"},
    },
    flow_pb2.Flow(),
)


def passes(white: list[dict[str, Any]], black: list[dict[str, Any]] | None = None) -> bool:
    """Whether the flow above gets through filters written as JSON."""

    def read(each: dict[str, Any]) -> flow_pb2.FlowFilter:
        return json_format.ParseDict(each, flow_pb2.FlowFilter())

    return compile_filters([read(each) for each in white], [read(each) for each in black or []])(FLOW)


@pytest.mark.parametrize(
    ("wanted", "named"),
    [
        ({"experimental": {"cel_expression": ["true"]}}, "experimental"),
        ({"source_ip": ["10.1.2.300"]}, "source_ip"),
        ({"source_label": ["app in cart"]}, "source_label"),
        ({"source_label": ["k8s:"]}, "source_label"),
        ({"event_type": [{"type": 4}], "http_method": ["GET"]}, "http_method"),
        ({"destination_port": ["http"]}, "destination_port"),
        ({"dns_query": ["("]}, "dns_query"),
        ({"http_status_code": ["9+"]}, "http_status_code"),
        ({"protocol": ["quic"]}, "protocol"),
        ({"source_pod": [""]}, "source_pod"),
        ({"node_name": [""]}, "node_name"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(wanted: dict[str, Any], named: str) -> None:
    with pytest.raises(RefusedFilterError, match=named):
        passes([wanted])
    with pytest.raises(RefusedFilterError, match=named):
        passes([], [wanted])


def test_no_filters_let_everything_through() -> None:
    assert passes([])


@pytest.mark.parametrize(
    ("field", "yes", "no"),
    [
        ("uuid", "u1", "u2"),
        ("verdict", "DROPPED", "FORWARDED"),
        ("source_ip", "10.1.0.0/16", "10.2.0.0/16"),
        ("destination_ip", "fd00::7", "10.1.2.3"),
        ("source_pod", "shop/cart-", "cart-"),
        ("source_pod", "/cart", "shop/art"),
        ("source_label", "app=cart,!gone", "app=cart,tier!=web"),
        ("source_label", "k8s:app", "any:app"),
        ("source_identity", 4711, 1),
        ("source_cluster_name", "eu", "us"),
        ("source_workload", {"name": "cart"}, {"name": "cart", "kind": "DaemonSet"}),
        ("source_port", "40000", "8080"),
        ("destination_port", "8080", "40000"),
        ("destination_fqdn", "*.EXAMPLE.com", "*.example.org"),
        ("destination_service", "pay/", "shop/api"),
        ("protocol", "TCP", "udp"),
        ("protocol", "http", "dns"),
        ("http_status_code", "4+", "200"),
        ("http_method", "get", "POST"),
        ("http_path", "^/v1/cart$", "x=1"),
        ("http_url", "x=1$", "^https"),
        ("tcp_flags", {"SYN": True}, {"SYN": True, "FIN": True}),
        ("event_type", {"type": 129}, {"type": 129, "match_sub_type": True, "sub_type": 1}),
        ("drop_reason_desc", "POLICY_DENIED", "TTL_EXCEEDED"),
        ("traffic_direction", "EGRESS", "INGRESS"),
        ("node_name", "node-*", "us/node-1"),
        ("node_name", "eu/", "node"),
        ("ip_version", "IPv4", "IPv6"),
    ],
)
def test_each_field_accepts_its_own_and_nothing_else(field: str, yes: Any, no: Any) -> None:
    assert field in FIELDS
    assert passes([{field: [yes]}])
    assert not passes([{field: [no]}])
    assert passes([{field: [no, yes]}])
    assert not passes([], [{field: [yes]}])


def test_an_unknown_direction_of_reply_counts_as_no_reply() -> None:
    assert not passes([{"reply": [True]}])
    assert passes([{"reply": [False]}])


def test_fields_of_one_filter_must_all_hold_and_filters_are_alternatives() -> None:
    assert not passes([{"verdict": ["DROPPED"], "source_identity": [1]}])
    assert passes([{"source_identity": [1]}, {"verdict": ["DROPPED"]}])


def test_the_blacklist_wins_over_the_whitelist() -> None:
    assert not passes([{"verdict": ["DROPPED"]}], [{"source_pod": ["shop/"]}])
