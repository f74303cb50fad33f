"""The rollups: tables aggregated from `flows` by hour, for questions that would otherwise read every flow. No I/O.

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
        f"{side}_cluster_name", _S, f"Cluster of the {role} if it differs from the cluster that saw the flow (cluster mesh); null otherwise"
    )


def _end(side: str, role: str) -> list[Column]:
    return [
        _cluster(side, role),
        column(f"{side}_namespace", _S, f"Kubernetes namespace of the {role}; null outside the cluster"),
        column(
            f"{side}_workload_kind",
            _S,
            f"Kind of the {role}'s workload; null if its name is inferred from the pod's name, and if it is not a workload",
        ),
        column(
            f"{side}_workload_name",
            _S,
            f"Workload of the {role}, as reported by Hubble on the pod's node, else inferred from the pod's name",
        ),
        column(
            f"{side}_entity", _S, f"What the {role} is if it is not a pod: world, host, remote-node, kube-apiserver, health, ingress, ..."
        ),
        column(
            f"{side}_dns_name", _S, f"DNS name of a {role} that is not a pod, as resolved by the agent; the alphabetically first of several"
        ),
        column(f"{side}_cidr", _S, f"Range that contains the address of a {role} that is not a pod and has no DNS name"),
        column(f"{side}_labels_id", _S, f"The {role}'s labels, as `id` in label_sets; null without labels"),
    ]


EDGES_1H = Table(
    name="edges_1h",
    doc=(
        "Who talked to whom, per hour. The source is the side that opened the connection: the sides of replies are exchanged. "
        "The sum of `flows` equals that of `flow_count` in `flows`."
    ),
    columns=(
        *partition_columns("hour"),
        column("hour", TIMESTAMP, "Start of the hour"),
        *_end("source", "client"),
        *_end("destination", "server"),
        column(
            "destination_port",
            pa.int32(),
            "Port of the server; null without ports, if Hubble does not tell which port it is, and for the remaining ports of a scan",
        ),
        column("l4_protocol", _S, "TCP, UDP, ICMPv4, ICMPv6 or SCTP; null for others"),
        column("verdict", _S, "As in flows"),
        column("drop_reason_desc", _S, "As in flows"),
        column("traffic_direction", _S, "Where it was seen: EGRESS at the client's end, INGRESS at the server's; null if unknown"),
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
    doc="Flows per minute, by the columns that histograms filter by. Source and destination are the flow's, as in `flows`.",
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
        "The labels that edges_1h refers to by id, one row for each hour in which they were seen: join by cluster, hour and id. "
        "For anything that is not a pod, labels with an address (cidr:) are left out."
    ),
    columns=(
        *partition_columns("hour"),
        column("hour", TIMESTAMP, "Start of the hour"),
        column("id", _S, "Id of the set: the same labels have the same id in every cluster and hour"),
        column("namespace", _S, "Kubernetes namespace of the endpoints with these labels; null outside the cluster that saw them"),
        column("labels", STRINGS, "The labels with their source prefix, sorted"),
    ),
    partition_by=("cluster", "date"),
    time_column="hour",
    row_span=timedelta(hours=1),
)

DNS_NAMES = Table(
    name="dns_names",
    doc="Which DNS names resolved to which addresses, per hour, learned from flows; used to name outside peers later.",
    columns=(
        *partition_columns("hour"),
        column("hour", TIMESTAMP, "Start of the hour"),
        _cluster("source", "source"),
        column("source_namespace", _S, "Namespace of the client that looked up the name, or talked to the address"),
        _cluster("destination", "destination"),
        column(
            "destination_namespace", _S, "Namespace of the resolver (dns), or of the owner of the address (names); null outside the cluster"
        ),
        column("ip", _S, "The address"),
        column("name", _S, "The DNS name, without its final dot"),
        column("learned_from", _S, "dns: a response that Hubble saw; names: names that an agent added to a flow"),
        column("first_seen", TIMESTAMP, "Time of the first flow with this name and address"),
        column("last_seen", TIMESTAMP, "Time of the last flow with this name and address"),
        column("flows", _L, "Flows with this name and address", unit="flows"),
    ),
    partition_by=("cluster", "date"),
    time_column="hour",
    row_span=timedelta(hours=1),
)

ROLLUPS = (EDGES_1H, TIMELINE_1M, LABEL_SETS, DNS_NAMES)
"""All of them; each has a file a cluster and day."""
