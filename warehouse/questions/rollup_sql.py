"""The SQL of rollups: turns a relation of flows into the rows of edges_1h, timeline_1m, label_sets and dns_names.

The same SQL writes the stored rollups and computes the hours that are not stored, so both give the same rows. Choosing the
flows, and who may see the result, do not belong here. docs/counting.md explains the counting rules.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from warehouse import config
from warehouse.access import redaction, scoping
from warehouse.lake.tables import Lake
from warehouse.lake.time_travel import AsOf
from warehouse.questions import edge_rule, recorded_workloads
from warehouse.schema import FLOWS

DROP, POLICY_VERDICT = 1, 5
"""The two Cilium event types that both report the same policy drop."""

ENDS = ("cluster_name", "namespace", "workload_kind", "workload_name", "entity", "dns_name", "cidr", "labels_id")
_HOUR_US, _MINUTE_US = 3_600_000_000, 60_000_000
PACKET = (
    "cluster", "node_name", "source_namespace", "destination_namespace", "source_ip", "destination_ip", "source_port", "destination_port",
    "l4_protocol", "drop_reason_desc", "time",
)  # fmt: skip
_NEEDED = (
    "cluster", "time", "verdict", "drop_reason_desc", "traffic_direction", "is_reply", "l4_protocol", "source_port", "destination_port",
    *(
        f"{side}_{part}"
        for side in ("source", "destination")
        for part in ("cluster_name", "namespace", "workload_kind", "workload_name", "pod_name", "ip", "identity", "names")
    ),
)  # fmt: skip
_PART_KEY = (
    "cluster", "hour", "turned", "server_port", "l4_protocol", "verdict", "drop_reason_desc", "traffic_direction",
    *(
        f"{side}_{part}"
        for side in ("source", "destination")
        for part in ("cluster_name", "namespace", "workload_kind", "workload_name", "pod_name", "entity", "dns_name", "ip")
    ),
)  # fmt: skip
_LABELS = ("source_labels", "destination_labels")


def counted(flows: str, columns: Sequence[str], *, empty: Sequence[str] = ()) -> str:
    """Return a query for the given columns of the flows, with `flows`, and `repeats`: how many of them another flow reports as well.

    Within a minute, the number of drops of the same kind (same node, ends, ports and reason) is the greater of the two events'
    counts: the k-th drop event repeats the k-th policy verdict. Repeats are returned as separate rows with `flows` 0, so that only
    drops are read twice. Columns in `empty` are null in those rows, because lists are expensive to read.
    """
    names = ", ".join(columns)
    some = ", ".join(f"NULL AS {name}" if name in empty else name for name in columns)
    carried = ", ".join(name for name in dict.fromkeys([*columns, *PACKET]) if name not in empty)
    packet = f"""{", ".join(name for name in PACKET if name != "time")}, epoch_us("time") // {_MINUTE_US}"""
    return f"""SELECT {names}, coalesce(flow_count, 0) AS flows, 0::BIGINT AS repeats FROM {_located(flows)}
        UNION ALL
        SELECT {some}, 0, greatest(0, least(flow_count, verdicts - (drops - flow_count)))::BIGINT AS repeats FROM (
            SELECT {carried}, event_type, flow_count,
                sum(flow_count) FILTER (event_type = {POLICY_VERDICT}) OVER (PARTITION BY {packet}) AS verdicts,
                sum(flow_count) FILTER (event_type = {DROP}) OVER (
                    PARTITION BY {packet} ORDER BY "time", uuid ROWS UNBOUNDED PRECEDING
                ) AS drops
            FROM {_located(flows)} WHERE verdict = 'DROPPED' AND event_type IN ({DROP}, {POLICY_VERDICT})
        ) WHERE event_type = {DROP} AND verdicts - (drops - flow_count) > 0"""


def _located(flows: str) -> str:
    """Return the flows with the cluster of a side set only if it differs from the cluster that saw the flow."""
    names = ", ".join(
        f"CASE WHEN {scoping.is_local(FLOWS, side)} THEN NULL ELSE {side}_cluster_name END AS {side}_cluster_name" for side in scoping.SIDES
    )
    return f"(SELECT * REPLACE ({names}) FROM {flows})"


def timeline(flows: str) -> str:
    """Return the query for the rows of timeline_1m."""
    sides = ("source_cluster_name", "source_namespace", "destination_cluster_name", "destination_namespace")
    key = ("cluster", "time", *sides, "verdict", "drop_reason_desc")
    return f"""SELECT cluster, make_timestamptz(minute * {_MINUTE_US}) AS minute, * EXCLUDE (cluster, minute) FROM (
            SELECT cluster, epoch_us("time") // {_MINUTE_US} AS minute, {", ".join(key[2:])},
                sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats
            FROM ({counted(flows, key)}) GROUP BY ALL
        )"""


def _is_named_or_outside(side: str) -> str:
    """SQL for whether a side has a namespace or is outside: answers about a pod without a namespace have no owner, so are not stored."""
    pods = f"{side}_identity >= {redaction.FIRST_POD_IDENTITY} AND {side}_identity < {redaction.FIRST_CIDR_IDENTITY}"
    inside = (
        f"{side}_pod_name IS NOT NULL OR {side}_workload_name IS NOT NULL OR {side}_service_name IS NOT NULL OR coalesce({pods}, false)"
    )
    return f"({side}_namespace IS NOT NULL OR NOT ({inside}))"


def dns_names(flows: str) -> str:
    """Return the query for the rows of dns_names."""
    learned = [
        # A DNS response goes from the resolver to the client.
        f"""SELECT cluster, "time", flow_count, destination_cluster_name AS source_cluster_name, destination_namespace AS source_namespace,
            source_cluster_name AS destination_cluster_name, source_namespace AS destination_namespace,
            unnest(l7_dns_ips) AS ip, l7_dns_query AS name, 'dns' AS learned_from
        FROM {_located(flows)} WHERE l7_dns_ips IS NOT NULL AND l7_dns_query IS NOT NULL
            AND {" AND ".join(map(_is_named_or_outside, scoping.SIDES))}"""
    ]
    for side, other in (("source", "destination"), ("destination", "source")):
        learned.append(
            f"""SELECT cluster, "time", flow_count, {other}_cluster_name, {other}_namespace, {side}_cluster_name, {side}_namespace,
                {side}_ip, unnest({side}_names), 'names'
            FROM {_located(flows)} WHERE {side}_names IS NOT NULL AND {side}_ip IS NOT NULL AND {_is_named_or_outside(side)}"""
        )
    return f"""SELECT cluster, make_timestamptz(epoch_us("time") // {_HOUR_US} * {_HOUR_US}) AS hour,
            source_cluster_name, source_namespace, destination_cluster_name, destination_namespace, ip,
            rtrim(name, '.') AS name, learned_from, min("time") AS first_seen, max("time") AS last_seen,
            coalesce(sum(flow_count), 0)::BIGINT AS flows
        FROM ({" UNION ALL ".join(learned)}) WHERE ip IS NOT NULL AND name IS NOT NULL GROUP BY ALL"""


def edges(
    connection: Any, parts: str, pods_seen: str, settings: config.Rollups, *, lake: Lake | None = None, as_of: AsOf | None = None
) -> str:
    """Make tables of the edges of `parts`, the query that `edge_parts` returns, and return the query for the rows of edges_1h.

    `pods_seen`, of edge_rule, is the query for the pods in all flows of the same hours, whatever the asker may see: the node that
    runs a pod reports its workload, which names the pod at the far end of other flows too. Workloads that no flow names are
    looked up in the configuration history of `lake`, as it was known `as_of` if given; without a lake they are not. Raises LakeError.
    """
    connection.execute(f"CREATE OR REPLACE TEMP TABLE edge_parts AS {parts}")
    recorded_workloads.learn(connection, pods_seen, "edge_pods", lake, as_of=as_of)
    addresses = "SELECT source_ip AS ip FROM edge_parts WHERE source_ip IS NOT NULL UNION SELECT destination_ip FROM edge_parts"
    found = [address for address in connection.sql(addresses).to_arrow_table()["ip"].to_pylist() if address is not None]
    ranges = {"ip": found, "cidr": [range_of(address, settings) for address in found]}
    connection.register("edge_ranges", pa.table(ranges, pa.schema({"ip": pa.string(), "cidr": pa.string()})))
    ends = [f"{side}_{part}" for side in ("source", "destination") for part in ENDS]
    whole = [name for name in ends if not name.endswith(("_kind", "_labels_id"))]
    between = f"cluster, hour, l4_protocol, {', '.join(whole)}"
    turned = ", ".join(
        f"CASE WHEN turned THEN {other}_{part} ELSE {side}_{part} END AS {side}_{part}"
        for side, other in (("source", "destination"), ("destination", "source"))
        for part in ENDS
    )
    counts = "sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats, sum(replies)::BIGINT AS replies"
    seen = "min(first_seen) AS first_seen, max(last_seen) AS last_seen"
    key = f"cluster, hour, {', '.join(ends)}, destination_port, l4_protocol, verdict, drop_reason_desc, traffic_direction"
    # A port scan touches thousands of ports: the busiest ports between two ends are kept, the others become one row without a port.
    return f"""WITH named AS ({_named()}), met AS (
            SELECT cluster, hour, {turned}, destination_port, l4_protocol, verdict, drop_reason_desc, traffic_direction,
                flows, repeats, replies, first_seen, last_seen
            FROM named
        ), busy AS (
            SELECT *, sum(flows) OVER (PARTITION BY {between}, destination_port) AS port_flows FROM met
        ), ranked AS (
            SELECT *, dense_rank() OVER (PARTITION BY {between} ORDER BY port_flows DESC, destination_port) AS port_rank FROM busy
        ), folded AS (
            SELECT * REPLACE (CASE WHEN port_rank <= {settings.ports_per_edge} THEN destination_port END AS destination_port) FROM ranked
        )
        SELECT {key}, {counts}, {seen} FROM folded GROUP BY ALL"""


def label_sets() -> str:
    """Return the query for the rows of label_sets, for the flows last passed to `edges` with labels.

    The namespace of an end in another cluster is left out: whoever owns a namespace of that name here does not own it there.
    Empty sets are left out after grouping: Sail 0.7 fails when it filters by a lambda's result while it reads files.
    """
    sides = " UNION ALL ".join(
        f"""SELECT cluster, hour, CASE WHEN {side}_cluster_name IS NULL THEN {side}_namespace END AS namespace, {_labels(side)} AS labels
        FROM edge_parts"""
        for side in ("source", "destination")
    )
    return f"""SELECT cluster, make_timestamptz(hour * {_HOUR_US}) AS hour, {_labels_id("labels")} AS id, namespace, labels
        FROM ({sides}) GROUP BY ALL HAVING max(array_length(labels)) > 0"""


def edge_parts(flows: str, *, labels: bool, part: str | None = None) -> str:
    """Return the query that aggregates flows before names are worked out: by pod if there is no workload, by address if no name.

    Without `labels` the label sets are null. `part` is one more column of the flows to aggregate by, for a query without labels:
    rows of parts of an hour may be passed to `edges` together.
    """
    more = f", {part}" if part else ""
    ends = ", ".join(_end(side) for side in ("source", "destination"))
    listed = ", ".join(f"hash({name}) AS {name}_hash, any_value({name}) AS {name}" for name in _LABELS)
    sums = f"""SELECT cluster, epoch_us("time") // {_HOUR_US} AS hour{more}, {edge_rule.TURNED} AS turned, {ends},
            {edge_rule.SERVER_PORT} AS server_port,
            l4_protocol, verdict, drop_reason_desc, traffic_direction,
            {listed if labels else ", ".join(f"NULL::VARCHAR[] AS {name}" for name in _LABELS)},
            sum(flows)::BIGINT AS flows, sum(repeats)::BIGINT AS repeats, coalesce(sum(flows) FILTER (is_reply), 0)::BIGINT AS replies,
            min("time") AS first_seen, max("time") AS last_seen
        FROM ({counted(flows, _NEEDED + _LABELS if labels else _NEEDED, empty=_LABELS)}) GROUP BY ALL"""
    if not labels:
        return sums
    # Repeats were counted without labels, so they are added to the row that is the same apart from labels.
    alike = ", ".join(_PART_KEY)
    return f"""SELECT * EXCLUDE (place, all_repeats) REPLACE (CASE WHEN place = 1 THEN all_repeats ELSE 0 END AS repeats) FROM (
            SELECT *, row_number() OVER (PARTITION BY {alike} ORDER BY flows DESC, source_labels, destination_labels) AS place,
                sum(repeats) OVER (PARTITION BY {alike})::BIGINT AS all_repeats
            FROM ({sums})
        ) WHERE flows > 0 OR place = 1"""


def _end(side: str) -> str:
    """SQL columns that identify a side."""
    outside, entity = edge_rule.outside(side), edge_rule.entity(side)
    unnamed = f"{outside} AND list_min({side}_names) IS NULL AND coalesce(starts_with({entity}, 'world'), true)"
    return f"""{side}_cluster_name, {side}_namespace, {side}_workload_kind, {side}_workload_name,
            CASE WHEN {side}_workload_name IS NULL THEN {side}_pod_name END AS {side}_pod_name,
            {entity} AS {side}_entity,
            {edge_rule.dns_name(side)} AS {side}_dns_name,
            CASE WHEN {unnamed} THEN {side}_ip END AS {side}_ip"""


def _named() -> str:
    """Return the query for the aggregated flows with the names of both ends."""
    columns, joins = [], []
    for side in ("source", "destination"):
        pod, pods, ranges = f"edge_parts.{side}_pod_name", f"{side}_pods", f"{side}_ranges"
        columns.append(
            f"""edge_parts.{side}_cluster_name, edge_parts.{side}_namespace,
            coalesce({side}_workload_kind, {pods}.kind) AS {side}_workload_kind,
            coalesce({side}_workload_name, {pods}.name, {edge_rule.workload_of_name(pod)}) AS {side}_workload_name, {side}_entity,
            rtrim({side}_dns_name, '.') AS {side}_dns_name, {ranges}.cidr AS {side}_cidr,
            {_labels_id(_labels(side))} AS {side}_labels_id"""
        )
        joins.append(
            f"""LEFT JOIN edge_pods AS {pods} ON {pods}.cluster = edge_parts.cluster AND {pods}.hour = edge_parts.hour
                AND {pods}.pod_cluster IS NOT DISTINCT FROM edge_parts.{side}_cluster_name
                AND {pods}.namespace IS NOT DISTINCT FROM edge_parts.{side}_namespace AND {pods}.pod = {pod}
            LEFT JOIN edge_ranges AS {ranges} ON {ranges}.ip = edge_parts.{side}_ip"""
        )
    return f"""SELECT edge_parts.cluster, make_timestamptz(edge_parts.hour * {_HOUR_US}) AS hour, turned, {", ".join(columns)},
            server_port AS destination_port, l4_protocol, verdict, drop_reason_desc, traffic_direction,
            flows, repeats, replies, first_seen, last_seen
        FROM edge_parts {" ".join(joins)}"""


def _labels(side: str) -> str:
    """SQL for the label set of a side: sorted, and without addresses if it is not a pod."""
    labels = f"edge_parts.{side}_labels"
    return f"""list_sort(CASE WHEN edge_parts.{side}_namespace IS NULL
        THEN list_filter({labels}, lambda label: NOT starts_with(label, 'cidr:')) ELSE {labels} END)"""


def _labels_id(labels: str) -> str:
    return f"CASE WHEN array_length({labels}) > 0 THEN left(md5(array_to_string({labels}, chr(10))), 16) END"


def range_of(address: str, settings: config.Rollups) -> str | None:
    """Return the address range that represents an outside address; None if the text is not an address."""
    return _range_of(address, settings.world_prefix_ipv4, settings.world_prefix_ipv6)


@functools.lru_cache(maxsize=50_000)
def _range_of(address: str, bits_ipv4: int, bits_ipv6: int) -> str | None:
    try:
        bits = bits_ipv4 if ipaddress.ip_address(address).version == 4 else bits_ipv6
        return str(ipaddress.ip_network(f"{address.split('%')[0]}/{bits}", strict=False))
    except ValueError:
        return None
