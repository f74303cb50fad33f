"""The rule for edges, as SQL over flows: which side is the client, which port is the service's, how each end is named. Pure.

Rollups and edges computed from flows both use these expressions, so they produce the same edges for the same flows.
docs/counting.md explains the rule.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from warehouse.access import scoping
from warehouse.schema import FLOWS

EPHEMERAL_PORT = 32_768
"""Ports from this number up are assumed to be client ports, unless Hubble reports who opened the connection."""
SIDES = ("source", "destination")
IDENTITIES = {
    1: "host", 2: "world", 3: "unmanaged", 4: "health", 5: "init", 6: "remote-node", 7: "kube-apiserver", 8: "ingress",
    9: "world-ipv4", 10: "world-ipv6",
}  # fmt: skip
"""Cilium's reserved identities."""
_LOCAL_IDENTITIES, _REMOTE_NODES, _NO_IDENTITY = 1 << 24, 1 << 25, 1 << 26

TURNED = f"coalesce(is_reply, source_port < {EPHEMERAL_PORT} AND destination_port >= {EPHEMERAL_PORT}, false)"
"""Whether a flow goes from server to client: Hubble marks it as a reply or, if Hubble does not know, its ports suggest it."""
_UNKNOWN_CALLER = f"is_reply IS NULL AND source_port >= {EPHEMERAL_PORT} AND destination_port >= {EPHEMERAL_PORT}"
SERVER_PORT = f"CASE WHEN {TURNED} THEN source_port WHEN {_UNKNOWN_CALLER} THEN NULL ELSE destination_port END"
"""The port of the called service; null if both ports are client ports and it is unknown who opened the connection."""

GENERATED = "[bcdfghjklmnpqrstvwxz2456789]"
"""The alphabet of the suffixes that Kubernetes generates: no vowels, and no digits that look like letters."""
_POD_NAME = rf"^(.+?)(?:-(?:{GENERATED}{{6,10}}|\d{{8}}))?-{GENERATED}{{5}}$"
_NUMBERED_POD_NAME = r"^(.+)-\d{1,4}$"


def server_port(source_port: int | None, destination_port: int | None, is_reply: bool | None) -> int | None:
    """Return SERVER_PORT for one flow."""
    client_ports = [port is not None and port >= EPHEMERAL_PORT for port in (source_port, destination_port)]
    if is_reply is None and all(client_ports):
        return None
    is_turned = is_reply if is_reply is not None else source_port is not None and not client_ports[0] and client_ports[1]
    return source_port if is_turned else destination_port


def workload_in_name(pod: str) -> str:
    """Return the workload that a pod's name suggests, as the rule does where nothing else tells the workload: the name for most."""
    found = re.match(_POD_NAME, pod) or re.match(_NUMBERED_POD_NAME, pod)
    return found.group(1) if found else pod


def outside(side: str) -> str:
    """SQL for whether a side is not a pod in a namespace but, for example, the world, a host or a node."""
    return f"{side}_namespace IS NULL AND {side}_pod_name IS NULL"


def entity(side: str) -> str:
    """SQL for the entity of a side outside any namespace, from its identity; null inside, or if the identity is not reserved."""
    numbers = " ".join(f"WHEN {side}_identity = {number} THEN '{name}'" for number, name in IDENTITIES.items())
    return f"""CASE WHEN NOT ({outside(side)}) THEN NULL {numbers}
        WHEN {side}_identity >= {_LOCAL_IDENTITIES} AND {side}_identity < {_REMOTE_NODES} THEN 'world'
        WHEN {side}_identity >= {_REMOTE_NODES} AND {side}_identity < {_NO_IDENTITY} THEN 'remote-node' END"""


def dns_name(side: str) -> str:
    """SQL for the DNS name of a side outside any namespace, the alphabetically first of several; null inside, or if it has none."""
    return f"CASE WHEN {outside(side)} THEN list_min({side}_names) END"


def workload_of_name(pod: str) -> str:
    """SQL for the workload name derived from a pod's name; the pod's own name if none can be derived."""
    return f"""CASE WHEN regexp_matches({pod}, '{_POD_NAME}') THEN regexp_extract({pod}, '{_POD_NAME}', 1)
            WHEN regexp_matches({pod}, '{_NUMBERED_POD_NAME}') THEN regexp_extract({pod}, '{_NUMBERED_POD_NAME}', 1) ELSE {pod} END"""


def workload_of_pod(name: str) -> str:
    """Return `workload_of_name` for one pod's name."""
    found = re.search(_POD_NAME, name) or re.search(_NUMBERED_POD_NAME, name)
    return found[1] if found else name


def pods_seen(flows: str, *more: str) -> str:
    """Return the query for the distinct pods and workloads that flows of each hour name, with `more` columns of the flows.

    Columns: those of `pods_of`, several rows a pod.
    """
    return " UNION ALL ".join(
        f"""SELECT DISTINCT {"".join(f"{column}, " for column in more)}cluster, epoch_us("time") // 3600000000 AS hour,
            {_elsewhere(side)} AS pod_cluster, {side}_namespace AS namespace, {side}_pod_name AS pod,
            {side}_workload_kind AS kind, {side}_workload_name AS name
        FROM {flows} WHERE {side}_pod_name IS NOT NULL"""
        for side in SIDES
    )


def pods_of(seen: str) -> str:
    """Return the query for the pods of `pods_seen`, with each pod's workload in each hour as reported by the node that runs the pod.

    Columns: `cluster` that reported it, `hour` (whole hours since 1970), `pod_cluster` (null for the one that reported it),
    `namespace`, `pod`; `name` and `kind` of the workload, null where no flow says them.
    """
    key = "cluster, hour, pod_cluster, namespace, pod"
    return f"""SELECT {key}, min(name) AS name, arg_min(kind, name) AS kind
        FROM (SELECT {key}, kind, name FROM ({seen}) ORDER BY ALL) GROUP BY {key}"""


def _elsewhere(side: str) -> str:
    """The cluster of a side of a flow; null if it is the one that reported the flow."""
    return f"CASE WHEN NOT {scoping.is_local(FLOWS, side)} THEN {side}_cluster_name END"


def with_workloads(flows: str, pods: str) -> str:
    """Return the query for flows with workload names filled in: as reported, else from `pods`, else from the pod's name.

    An agent knows only the workloads of pods on its own node; `pods` is a relation with the columns of `pods_of`.
    """
    names = ", ".join(
        f"coalesce({side}_workload_name, {side}_pods.name, {workload_of_name(f'{side}_pod_name')}) AS {side}_workload_name"
        for side in SIDES
    )
    joins = " ".join(
        f"""LEFT JOIN {pods} AS {side}_pods ON {side}_pods.cluster = f.cluster AND {side}_pods.hour = epoch_us(f."time") // 3600000000
            AND {side}_pods.pod_cluster IS NOT DISTINCT FROM f.{side}_pod_cluster
            AND {side}_pods.namespace IS NOT DISTINCT FROM f.{side}_namespace AND {side}_pods.pod = f.{side}_pod_name"""
        for side in SIDES
    )
    elsewhere = ", ".join(f"{_elsewhere(side)} AS {side}_pod_cluster" for side in SIDES)
    without = ", ".join(f"{side}_pod_cluster" for side in SIDES)
    return f"SELECT f.* EXCLUDE ({without}) REPLACE ({names}) FROM (SELECT *, {elsewhere} FROM ({flows})) AS f {joins}"


NEEDED = frozenset({"is_reply", "source_port", "destination_port"})
"""The columns that `turned_round` reads."""


def turned_round(flows: str, columns: Collection[str]) -> str:
    """Return the query for flows with sides exchanged where needed so that the source is the client, plus the column `server_port`.

    `columns` are the columns of the relation `flows`.
    """
    ends = [name.removeprefix("source_") for name in sorted(columns) if name.startswith("source_")]
    both = [part for part in ends if f"destination_{part}" in columns]
    exchanged = ", ".join(
        f"CASE WHEN turned THEN {other}_{part} ELSE {side}_{part} END AS {side}_{part}"
        for part in both
        for side, other in (SIDES, SIDES[::-1])
    )
    return f"""SELECT * EXCLUDE (turned) REPLACE ({exchanged})
        FROM (SELECT *, {TURNED} AS turned, {SERVER_PORT} AS server_port FROM {flows})"""
