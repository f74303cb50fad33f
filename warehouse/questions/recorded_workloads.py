"""Which workload each pod belonged to in each hour: by what the flows of that hour say, else by configuration history.

An agent of Cilium knows the workloads of its own node's pods only, and early in an hour no flow may name a pod's workload yet. The
cluster's recorded workloads then do: a pod belongs to one of them if its name is one that Kubernetes gives to pods of that
workload. Guessing from the pod's name alone does not belong here; that is the fallback of warehouse.questions.edge_rule.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from warehouse import table_views
from warehouse.lake.tables import Lake
from warehouse.lake.time_travel import AsOf
from warehouse.questions import edge_rule
from warehouse.questions.time_buckets import HOUR
from warehouse.records import versions
from warehouse.schema import WORKLOADS

LEARNED_WITHIN = timedelta(minutes=5)
"""How long after the end of an hour the lake may still learn of a workload for it to name pods of that hour.

Rollups of the hour are made later than that, so that they and the flows give the same names whatever is recorded afterwards.
"""
_CHARACTER = edge_rule.GENERATED
_NAMES_OF_PODS = {
    rf"^(.+)-{_CHARACTER}{{1,10}}-{_CHARACTER}{{5}}$": ("Deployment",),
    rf"^(.+)-{_CHARACTER}{{5}}$": ("DaemonSet", "ReplicaSet", "Job"),
    rf"^(.+)-\d{{8,10}}-{_CHARACTER}{{5}}$": ("CronJob",),
    rf"^(.+)-(?:0|[1-9]\d*)-{_CHARACTER}{{5}}$": ("Job",),  # of an indexed Job
    r"^(.+)-(?:0|[1-9]\d*)$": ("StatefulSet",),
    r"^(.+)$": ("Pod",),
}
"""The names that Kubernetes gives to the pods of workloads: the workload's name is the first group. A Pod here has no owner."""
_POD_WITHOUT_OWNER = r"^pod\.(.+)\.[0-9a-f]{8}$"
"""The name of PodLabels that stand for a pod without owner."""


def learn(connection: Any, seen: str, pods: str, lake: Lake | None, *, as_of: AsOf | None = None) -> None:
    """Make a temporary table `pods` of the pods in the query `seen` (of `edge_rule.pods_seen`), with the workload of each in each hour.

    Columns: those of `edge_rule.pods_of`; `name` and `kind` are null if they are unknown. Without a lake only the flows are
    used; with `as_of` only workloads that the lake knew of then. Raises LakeError.
    """
    in_flows = f"{pods}_in_flows"
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {in_flows} AS {edge_rule.pods_of(seen)}")
    found = None if lake is None else _recorded(connection, in_flows, lake, as_of)
    if found is None:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE {pods} AS SELECT * FROM {in_flows}")
        return
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE {pods} AS
            SELECT seen.cluster, seen.hour, seen.pod_cluster, seen.namespace, seen.pod, coalesce(seen.name, found.name) AS name,
                CASE WHEN seen.name IS NULL AND found.name IS NOT NULL THEN found.kind ELSE seen.kind END AS kind
            FROM {in_flows} AS seen LEFT JOIN ({found}) AS found
                ON seen.name IS NULL AND coalesce(seen.pod_cluster, seen.cluster) = found.of_cluster
                AND seen.hour = found.hour AND seen.namespace = found.namespace AND seen.pod = found.pod"""
    )


def _recorded(connection: Any, in_flows: str, lake: Lake, as_of: AsOf | None) -> str | None:
    """Return the query for the recorded workloads of the pods in the table `in_flows` that have no name; None if there are none."""
    ((clusters, first, last),) = connection.execute(
        f"""SELECT list(DISTINCT coalesce(pod_cluster, cluster)) AS clusters, min(hour) AS first, max(hour) AS last
            FROM {in_flows} WHERE {_UNNAMED}"""
    ).fetchall()
    if not clusters:
        return None
    files = versions.files_between(lake, WORKLOADS, since=_start(first), until=_start(last) + HOUR, clusters=clusters)
    if not files:
        return None
    return _found(in_flows, table_views.query_of(connection, lake, WORKLOADS, files, f"{in_flows}_recorded", as_of=as_of))


_UNNAMED = "name IS NULL AND namespace IS NOT NULL"


def _start(hour: int) -> datetime:
    """The beginning of an hour that is counted from 1970."""
    return datetime.fromtimestamp(hour * 3600, UTC)


def _found(pods: str, recorded: str) -> str:
    """The query for the recorded workload of each pod that has exactly one: the one with the longest name of those that it may be of."""
    candidates = " UNION ALL ".join(
        f"""SELECT *, regexp_extract(pod, '{pattern}', 1) AS name, unnest([{", ".join(f"'{kind}'" for kind in kinds)}]) AS kind
        FROM unnamed WHERE regexp_matches(pod, '{pattern}')"""
        for pattern, kinds in _NAMES_OF_PODS.items()
    )
    kinds = ", ".join(f"'{kind}'" for owners in _NAMES_OF_PODS.values() for kind in owners)
    begin, end, known = (f"to_timestamp(candidates.hour * 3600 + {seconds})" for seconds in (0, 3600, 3600 + LEARNED_WITHIN.seconds))
    return f"""WITH unnamed AS MATERIALIZED (
            SELECT DISTINCT coalesce(pod_cluster, cluster) AS of_cluster, hour, namespace, pod FROM {pods} WHERE {_UNNAMED}
        ),
        candidates AS ({candidates}),
        workloads AS (
            SELECT * FROM (
                SELECT cluster, namespace, valid_from, valid_to, recorded, ended_recorded,
                    CASE WHEN kind = 'PodLabels' THEN 'Pod' ELSE kind END AS kind,
                    CASE WHEN kind = 'PodLabels' THEN regexp_extract(name, '{_POD_WITHOUT_OWNER}', 1) ELSE name END AS name
                FROM ({recorded})
            ) WHERE kind IN ({kinds})
        )
        SELECT of_cluster, hour, namespace, pod, min(name) AS name, min(kind) AS kind FROM (
            SELECT DISTINCT candidates.* FROM candidates JOIN workloads
                ON workloads.cluster = of_cluster AND workloads.namespace = candidates.namespace
                AND workloads.kind = candidates.kind AND workloads.name = candidates.name
            WHERE valid_from < {end} AND coalesce(recorded <= {known}, true)
                AND (valid_to IS NULL OR valid_to > {begin} OR coalesce(ended_recorded > {known}, false))
            QUALIFY length(candidates.name) = max(length(candidates.name)) OVER (
                PARTITION BY of_cluster, candidates.hour, candidates.namespace, pod
            )
        ) GROUP BY of_cluster, hour, namespace, pod HAVING count(*) = 1"""
