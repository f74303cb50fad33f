"""Defines, in one place, what each column of each table reveals, and about which side of a flow.

A test fails if a column of the schema is missing here. A missing column is treated as if it revealed everything.
Rules are applied by warehouse.access.redaction (for owners), warehouse.access.labels (for auditors) and warehouse.access.scoping.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from warehouse.schema import TABLES, Column, Table


class Reveals(StrEnum):
    """What a column may reveal about its subject."""

    NOTHING = "nothing that identifies anyone"
    NAMESPACE = "the namespace"
    WORKLOAD = "the workload, service, security identity or cluster"
    POD = "the pod, or the machine below it"
    ADDRESS = "an address or a DNS name"
    L7 = "the content of requests and responses"
    TEXT = "free text, which may name anyone, and holds no labels"
    LABELS = "labels, or something derived from them"
    POLICIES = "policies, with their labels"
    PATHS = "paths into objects, and sentences with such paths, which may name labels"
    OBJECT = "an object as JSON, with its labels"
    ASKED = "queries written by users, and errors that quote them"
    ANYTHING = "text or bytes that may hold anything, labels too"


Side = Literal["row", "source", "destination", "both"]
"""What a column is about: the row as a whole, one side of a flow, or both sides."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """The rule of one column."""

    side: Side
    reveals: Reveals


UNKNOWN = Rule(side="both", reveals=Reveals.ANYTHING)
"""The rule for a column that has none."""
WITH_LABELS = frozenset({Reveals.LABELS, Reveals.POLICIES, Reveals.PATHS, Reveals.OBJECT, Reveals.ASKED, Reveals.ANYTHING})
"""Columns that auditors do not read, or only in part."""
_NAMES_PEER = frozenset(Reveals) - {Reveals.NOTHING, Reveals.NAMESPACE, Reveals.WORKLOAD}
HIDDEN_FROM = {"full": frozenset(), "workload": _NAMES_PEER, "namespace": _NAMES_PEER | {Reveals.WORKLOAD},
    "hidden": _NAMES_PEER | {Reveals.WORKLOAD, Reveals.NAMESPACE}}  # fmt: skip
"""What is hidden about a side that belongs to someone else, by level of detail."""
SUMMED = {"flows": "sum", "repeats": "sum", "replies": "sum", "first_seen": "min", "last_seen": "max"}
"""How rollup rows that differ only in hidden columns are merged."""

_R = Reveals
_COUNTS = "flows repeats replies first_seen last_seen"
_VERSIONS = {
    _R.NOTHING: "cluster valid_from valid_to kind namespace name uid recorded ended_recorded api_version valid_from_source valid_to_source "
    "ended_how changed_by ended_by source",
    _R.LABELS: "hash",
    _R.OBJECT: "manifest status",
}
_WRITTEN: dict[str, dict[Reveals, str]] = {
    "flows": {
        _R.NOTHING: "cluster date time time_ns uuid flow_type flow_count recorded_lag_ms clock_skew node_name verdict drop_reason "
        "drop_reason_desc traffic_direction is_reply reply event_type event_sub_type l4_protocol l7_type ip_version ip_encrypted tcp_flags "
        "icmp_type icmp_code trace_observation_point trace_reason policy_match_type auth_type ip_trace_option_type tunnel_protocol "
        "tunnel_ip_version tunnel_destination_port sock_xlate_point debug_capture_point emitter_name emitter_version "
        "aggregate_ingress_flow_count aggregate_egress_flow_count aggregate_unknown_flow_count *_port",
        _R.NAMESPACE: "*_namespace",
        _R.WORKLOAD: "*_workload_name *_workload_kind *_service_name *_service_namespace *_identity *_cluster_name",
        _R.POD: "*_pod_name *_endpoint_id *_mac interface_name interface_index socket_cookie cgroup_id trace_id ip_trace_id proxy_port "
        # The tunnel's network identifier is the sender's identity; its source port is a hash of both addresses and ports.
        "file_name file_line tunnel_vni tunnel_source_port",
        _R.ADDRESS: "*_ip *_names source_xlated tunnel_source_ip tunnel_destination_ip",
        _R.L7: "l7_latency_ns l7_http_code l7_http_method l7_http_url l7_http_protocol l7_http_headers l7_dns_query l7_dns_ips l7_dns_ttl "
        "l7_dns_cnames l7_dns_observation_source l7_dns_rcode l7_dns_qtypes l7_dns_rrtypes l7_kafka_error_code l7_kafka_api_version "
        "l7_kafka_api_key l7_kafka_correlation_id l7_kafka_topic",
        _R.TEXT: "summary policy_log",
        _R.LABELS: "*_labels node_labels",
        _R.POLICIES: "egress_allowed_by ingress_allowed_by egress_denied_by ingress_denied_by",
        _R.ANYTHING: "rest",
    },
    "coverage": {_R.NOTHING: "cluster date from to node_name state source flows_received flows_lost detail recorded"},
    "edges_1h": {
        _R.NOTHING: f"cluster date hour destination_port l4_protocol verdict drop_reason_desc traffic_direction {_COUNTS}",
        _R.NAMESPACE: "*_namespace",
        _R.WORKLOAD: "*_cluster_name *_workload_kind *_workload_name *_entity",
        _R.ADDRESS: "*_dns_name *_cidr",
        _R.LABELS: "*_labels_id",
    },
    "timeline_1m": {
        _R.NOTHING: "cluster date minute verdict drop_reason_desc flows repeats",
        _R.NAMESPACE: "*_namespace",
        _R.WORKLOAD: "*_cluster_name",
    },
    "label_sets": {_R.NOTHING: "cluster date hour namespace", _R.LABELS: "id labels"},
    "dns_names": {
        _R.NOTHING: "cluster date hour learned_from flows first_seen last_seen",
        _R.NAMESPACE: "*_namespace",
        _R.WORKLOAD: "*_cluster_name",
        _R.ADDRESS: "ip name",
    },
    **dict.fromkeys(("policies", "namespaces", "workloads", "services", "role_bindings", "cluster_settings"), _VERSIONS),
    "config_coverage": {_R.NOTHING: "cluster from to state kinds source objects versions_written detail recorded"},
    "findings": {
        _R.NOTHING: "cluster date time kind severity namespace subject source state since by expires",
        _R.TEXT: "reason",
        _R.PATHS: "summary",
        _R.LABELS: "key",  # with a digest of a rule and of its labels
        _R.OBJECT: "detail",
    },
    "drift": {
        _R.NOTHING: "cluster date time drift state blueprint blueprint_version control kind namespace name severity since changed_by flows",
        _R.OBJECT: "before after",
        _R.PATHS: "paths summary",
    },
    "posture": {
        _R.NOTHING: "cluster date time control status checked failed observed blueprints",
        _R.TEXT: "detail",
        # Sets of pods are identified by their labels.
        _R.ANYTHING: "failing",
    },
    "policy_changes": {
        _R.NOTHING: "cluster date time run cause actor blueprint blueprint_version action kind namespace name result proposal event",
        _R.OBJECT: "before after record",
        _R.ANYTHING: "detail",
    },
    "proposed_edges": {
        _R.NOTHING: "cluster date time destination_port l4_protocol change verdict_before verdict_after flows first_seen last_seen "
        "proposal judgement",
        _R.NAMESPACE: "*_namespace",
        _R.WORKLOAD: "*_cluster_name *_workload_name *_entity",
        _R.ADDRESS: "*_dns_name *_cidr",
        _R.ANYTHING: "reason",
    },
    "access_log": {
        _R.NOTHING: "date time principal groups purpose question namespaces since until outcome rows seconds",
        _R.ASKED: "text detail",
    },
    "tokens": {
        _R.NOTHING: "kind id time name user groups expires revoked changed_by",
        _R.ANYTHING: "salt hash",
    },
    "saved_views": {
        _R.NOTHING: "kind id time page owner shared_with deleted",
        # Filters and queries may contain labels, and so may their names.
        _R.ANYTHING: "name state",
    },
    "alerts": {
        _R.NOTHING: "date time rule state since fired absent value made_for owners_from",
        # What a rule's query returned, which may be labels, and the filters of a page.
        _R.ANYTHING: "alert labels annotations detail link",
    },
    "deliveries": {
        _R.NOTHING: "date time message target kind made_for source bytes outcome tries seconds",
        # Alerts quote what a rule's query returned, which may be labels.
        _R.ANYTHING: "title files detail tells",
    },
    "reports": {
        _R.NOTHING: "date time id event report title made_by made_for groups since until known formats manifest_hash",
        # A report may hold labels, and so may its manifest and what verifying it says.
        _R.ANYTHING: "manifest files detail",
    },
}
_OF_SIDE: dict[str, Side] = {"source": "source", "destination": "destination", "egress": "source", "ingress": "destination"}
"""The side of a column by the prefix of its name: an egress policy decides on the traffic of the source."""
_ANYWHERE = frozenset(_WRITTEN["flows"][_R.NOTHING].split()) | set(_COUNTS.split()) | {"hour", "minute"}


def rule_of(table: Table, name: str) -> Rule:
    """Return the rule of a column; UNKNOWN if it has none. The table may have another name, as long as its columns are the same."""
    rules = _rules_by_columns().get(table.columns)
    return rules.get(name, UNKNOWN) if rules is not None else _of_unknown_table(name)


def rules() -> dict[str, dict[str, Rule]]:
    """Return the rule of each column of each table."""
    return {
        table: {column: _rule(table, column, reveals) for reveals, written in kinds.items() for column in _expanded(written)}
        for table, kinds in _WRITTEN.items()
    }


def _rule(table: str, column: str, reveals: Reveals) -> Rule:
    """Derive the side from the column's name. In tables with two sides, a revealing column that names neither is about both."""
    two_sided = "*_namespace" in _WRITTEN[table].get(_R.NAMESPACE, "")
    side = _OF_SIDE.get(column.partition("_")[0], "row" if reveals is _R.NOTHING else "both") if two_sided else "row"
    return Rule(side=side, reveals=reveals)


@functools.cache
def _rules_by_columns() -> dict[tuple[Column, ...], dict[str, Rule]]:
    found = rules()
    return {table.columns: found[name] for name, table in TABLES.items() if name in found}


def _of_unknown_table(name: str) -> Rule:
    if name.endswith("_namespace") and (side := _OF_SIDE.get(name.partition("_")[0])):
        return Rule(side=side, reveals=_R.NAMESPACE)
    return Rule(side="row", reveals=_R.NOTHING) if name in _ANYWHERE else UNKNOWN


def _expanded(written: str) -> Iterator[str]:
    for name in written.split():
        yield from (f"{side}{name[1:]}" for side in ("source", "destination")) if name.startswith("*") else (name,)
