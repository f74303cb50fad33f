"""The rollups: tables made of `flows`, hour by hour, that answer what would otherwise read every flow. It does no I/O.

What is counted, and how often, is written in docs/counting.md.
"""

from __future__ import annotations

from datetime import timedelta

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Column, Table, column, partition_columns

_S, _L = pa.string(), pa.int64()


def _counts() -> tuple[Column, Column]:
    return (
        column("flows", _L, "Flows that Hubble reported: the sum of their `flow_count`", unit="flows"),
        column("repeats", _L, "How many of them report a drop that another flow reports too", unit="flows"),
    )


def _cluster(side: str, role: str) -> Column:
    return column(
        f"{side}_cluster_name", _S, f"Cluster of the {role} where it is another than the one that saw it (cluster mesh); null else"
    )


def _end(side: str, role: str) -> list[Column]:
    return [
        _cluster(side, role),
        column(f"{side}_namespace", _S, f"Kubernetes namespace of the {role}; null outside the cluster"),
        column(
            f"{side}_workload_kind",
            _S,
            f"Kind of the {role}'s workload; null where its name is inferred from the pod's, and for what is no workload",
        ),
        column(
            f"{side}_workload_name", _S, f"Workload of the {role}, as Hubble tells where the pod runs, else inferred from the pod's name"
        ),
        column(f"{side}_entity", _S, f"What the {role} is if no pod: world, host, remote-node, kube-apiserver, health, ingress, ..."),
        column(f"{side}_dns_name", _S, f"DNS name of a {role} that is no pod, as the agent had seen it resolve: the least of several"),
        column(f"{side}_cidr", _S, f"Range that holds the address of a {role} that is no pod and has no DNS name"),
        column(f"{side}_labels_id", _S, f"The {role}'s labels, as `id` in label_sets; null without labels"),
    ]


EDGES_1H = Table(
    name="edges_1h",
    doc=(
        "Who talked to whom, an hour. The source is who opened the connection: replies are turned round. "
        "The sum of `flows` is that of `flow_count` in `flows`."
    ),
    columns=(
        *partition_columns("hour"),
        column("hour", TIMESTAMP, "Start of the hour"),
        *_end("source", "client"),
        *_end("destination", "server"),
        column(
            "destination_port",
            pa.int32(),
            "Port of the server; null without ports, where Hubble leaves open which is it, and for the rest of a scan",
        ),
        column("l4_protocol", _S, "TCP, UDP, ICMPv4, ICMPv6 or SCTP; null for others"),
        column("verdict", _S, "As in flows"),
        column("drop_reason_desc", _S, "As in flows"),
        column("traffic_direction", _S, "Who saw it: EGRESS at the client's end, INGRESS at the server's; null if unknown"),
        *_counts(),
        column("replies", _L, "How many of the flows were replies", unit="flows"),
        column("first_seen", TIMESTAMP, "Time of the first of the flows"),
        column("last_seen", TIMESTAMP, "Time of the last of the flows"),
    ),
    partition_by=("cluster", "date"),
    time_column="hour",
    row_span=timedelta(hours=1),
)

TIMELINE_1M = Table(
    name="timeline_1m",
    doc="Flows a minute, by what a histogram filters. Source and destination are the flow's, as in `flows`.",
    columns=(
        *partition_columns("minute"),
        column("minute", TIMESTAMP, "Start of the minute"),
        _cluster("source", "source"),
        column("source_namespace", _S, "As in flows"),
        _cluster("destination", "destination"),
        column("destination_namespace", _S, "As in flows"),
        column("verdict", _S, "As in flows"),
        column("drop_reason_desc", _S, "As in flows"),
        *_counts(),
    ),
    partition_by=("cluster", "date"),
    time_column="minute",
    row_span=timedelta(minutes=1),
)

LABEL_SETS = Table(
    name="label_sets",
    doc=(
        "The labels that edges_1h names by id, a row for each hour in which they were seen: join by cluster, hour and id. "
        "Of what is no pod, labels that hold an address (cidr:) are left out."
    ),
    columns=(
        *partition_columns("hour"),
        column("hour", TIMESTAMP, "Start of the hour"),
        column("id", _S, "Names the set: the same labels have the same id in every cluster and hour"),
        column("namespace", _S, "Kubernetes namespace of who carries them; null outside the cluster"),
        column("labels", STRINGS, "The labels with their source prefix, sorted"),
    ),
    partition_by=("cluster", "date"),
    time_column="hour",
    row_span=timedelta(hours=1),
)

DNS_NAMES = Table(
    name="dns_names",
    doc="Which DNS names led to which addresses, an hour, learned from flows: what names an outside peer later.",
    columns=(
        *partition_columns("hour"),
        column("hour", TIMESTAMP, "Start of the hour"),
        _cluster("source", "source"),
        column("source_namespace", _S, "Namespace of who looked the name up, or talked to the address"),
        _cluster("destination", "destination"),
        column("destination_namespace", _S, "Namespace of who answered (dns), or of who has the address (names); null outside the cluster"),
        column("ip", _S, "The address"),
        column("name", _S, "The DNS name, without its final dot"),
        column("learned_from", _S, "dns: an answer that Hubble saw; names: the names that an agent put on a flow"),
        column("first_seen", TIMESTAMP, "Time of the first flow that says so"),
        column("last_seen", TIMESTAMP, "Time of the last flow that says so"),
        column("flows", _L, "Flows that say so", unit="flows"),
    ),
    partition_by=("cluster", "date"),
    time_column="hour",
    row_span=timedelta(hours=1),
)

ROLLUPS = (EDGES_1H, TIMELINE_1M, LABEL_SETS, DNS_NAMES)
"""All of them; each has a file a cluster and day."""
