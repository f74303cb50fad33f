"""Decides which columns an owner sees if the other side of a row belongs to someone else (see warehouse.access.rules). Pure.

A side belongs to someone else unless it is owned or really outside the cluster. A side without a namespace is outside unless
something in the row shows that it is a workload of the cluster, or names a namespace: see `is_inside`. The levels, each hiding more
than the one before, are: full; workload (hides pod, address, labels, L7 and policies of the peer); namespace (also hides workload,
service and identity); hidden (also hides the namespace).
"""

from __future__ import annotations

from warehouse.access import rules
from warehouse.access.rules import Reveals
from warehouse.schema import Table

LEVELS = tuple(rules.HIDDEN_FROM)
POLICIES = {"source": ("egress_allowed_by", "egress_denied_by"), "destination": ("ingress_allowed_by", "ingress_denied_by")}
"""The columns with the policies that decided on the traffic of a side."""
FIRST_POD_IDENTITY, FIRST_CIDR_IDENTITY = 100, 1 << 24
"""Security identities in this range belong to pods; lower ones are reserved, higher ones belong to address ranges and nodes."""

_IN_CLUSTER = r"(?i)[a-z0-9_*-]\.(svc|pod)([^a-z0-9_-]|$)|(^|[^a-z0-9_])cluster\.local([^a-z0-9_]|$)"
"""Matches a DNS name of a Service or pod anywhere in a text."""
_OUTSIDE_LABELS = r"(^|\n)(reserved|cidr|cidrgroup|fqdn|node):"
_NAMESPACE_LABELS = r"io\.(kubernetes\.pod|cilium\.k8s)\."
_HOSTS = r"(?i)(?:https?://(?:[^/@\s]*@)?|\b(?:Query|Proxy|Agent) )([a-z0-9_.*-]+)"
"""Matches the hosts in a text: those in URLs, and names in DNS queries."""
_PUBLIC_HOST = r"(?i)^[0-9.]+$|\.(com|net|org|edu|gov|mil|int|info|biz|arpa)\.?$|\.[a-z0-9-]+\.[a-z]{2}\.?$"
"""Matches a host with a dot that is not `service.namespace`: an address, or a name in a public domain."""


def hidden_columns(table: Table, peer: str, level: str) -> frozenset[str]:
    """Return the columns hidden from a principal who does not own the side `peer` (source or destination) but owns the other one."""
    if level not in LEVELS:
        raise ValueError(f"peer_detail {level!r} is not one of {', '.join(LEVELS)}")
    found = {name: rules.rule_of(table, name) for name in table.schema.names}
    hidden = {name for name, rule in found.items() if rule.side in (peer, "both") and rule.reveals in rules.HIDDEN_FROM[level]}
    return frozenset(hidden) - {*table.partition_by, table.time_column}


def always_hidden(table: Table, level: str) -> frozenset[str]:
    """Return the columns hidden unless both sides are owned: they may be about either side, or stand for the labels of a side."""
    if level == "full":
        return frozenset()
    found = {name: rules.rule_of(table, name) for name in table.schema.names}
    anything = {name for name, rule in found.items() if rule.side == "both" and rule.reveals is Reveals.ANYTHING}
    return frozenset(anything | ({"source_labels_id", "destination_labels_id"} & set(found)))


def is_inside(table: Table, side: str, own_names: str = "", is_own_service: str = "false") -> str:
    """SQL for whether a side without a namespace is nevertheless inside the cluster; never null.

    The evidence is a workload, pod or Service; a pod identity; labels other than those of outside peers; policies of a namespace; a DNS
    name of a Service or pod anywhere in the row; and, in L7 records and texts, a host like `service.namespace`. `own_names` is a
    regular expression for DNS names that the owner owns, which are no evidence; `is_own_service` is SQL for whether the Service is owned.
    """
    columns = set(table.schema.names)

    def has(name: str, condition: str) -> list[str]:
        return [condition.format(name=f"{side}_{name}")] if f"{side}_{name}" in columns else []

    evidence = [f"{side}_{name} IS NOT NULL" for name in ("pod_name", "workload_name") if f"{side}_{name}" in columns]
    services = [f"{side}_{name} IS NOT NULL" for name in ("service_name", "service_namespace") if f"{side}_{name}" in columns]
    if services:
        evidence.append(f"(({' OR '.join(services)}) AND NOT {is_own_service})")
    evidence += has("identity", f"({{name}} >= {FIRST_POD_IDENTITY} AND {{name}} < {FIRST_CIDR_IDENTITY})")
    labels = "array_to_string({name}, chr(10))"
    evidence += has(
        "labels",
        f"(array_length({{name}}) > 0 AND (regexp_matches({labels}, '{_NAMESPACE_LABELS}') "
        f"OR NOT regexp_matches({labels}, '{_OUTSIDE_LABELS}')))",
    )
    evidence += has("labels", _names_cluster(labels, own_names))
    evidence += has("names", _names_cluster(labels, own_names))
    evidence += has("dns_name", _names_cluster("{name}", own_names))
    if f"{side}_entity" in columns:  # a rollup has neither identity nor labels: a side without any name may be a pod
        evidence.append(f"({side}_entity IS NULL AND {side}_dns_name IS NULL)")
    evidence += [f"array_length(list_filter({name}, lambda p: p.namespace <> '')) > 0" for name in POLICIES[side] if name in columns]
    if "learned_from" in columns:
        evidence.append(_names_cluster("name", own_names))
    if "l7_type" in columns:
        text = _texts()
        some = "l7_type IS NOT NULL OR summary IS NOT NULL OR policy_log IS NOT NULL"
        evidence.append(f"CASE WHEN {some} THEN {_names_cluster(text, own_names)} OR {_has_short_host(text, own_names)} END")
    return f"coalesce({' OR '.join(evidence) or 'false'}, false)"


def _texts() -> str:
    """SQL for all columns of a flow that concern both sides and may name one of them, concatenated."""
    parts = [
        "'Query ' || l7_dns_query",
        "array_to_string(list_transform(l7_dns_cnames, lambda n: 'Query ' || n), ' ')",
        "l7_http_url",
        "array_to_string(list_transform(l7_http_headers, lambda h: CASE WHEN lower(h.key) IN ('host', ':authority', 'x-forwarded-host') "
        "THEN 'http://' || h.value ELSE h.value END), ' ')",
        "l7_kafka_topic",
        "summary",
        "array_to_string(policy_log, ' ')",
    ]
    return f"concat_ws(' ', {', '.join(parts)})"


def _names_cluster(text: str, own_names: str) -> str:
    return f"regexp_matches({_without(text, own_names)}, '{_IN_CLUSTER}')"


def _has_short_host(text: str, own_names: str) -> str:
    is_short = f"contains(rtrim(h, '.'), '.') AND NOT regexp_matches(h, '{_PUBLIC_HOST}')"
    return f"array_length(list_filter(regexp_extract_all({_without(text, own_names)}, '{_HOSTS}', 1), lambda h: {is_short})) > 0"


def _without(text: str, own_names: str) -> str:
    return f"regexp_replace({text}, '{own_names}', '', 'g')" if own_names else text
