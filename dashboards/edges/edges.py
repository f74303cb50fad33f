"""Edges of the answer to `edges_in_time` as people meet them: names, what they are for, the filter that finds their flows. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from warehouse.questions.answers import Answer
from warehouse.questions.conditions import Condition
from warehouse.questions.edges_in_time import BUCKETS

Counts = npt.NDArray[np.int64]
OUTSIDE = "outside"
"""Stands for the namespace of what has none."""
PLATFORM = (
    "kube-system",
    "monitoring",
    "logging",
    "observability",
    "cilium",
    "cilium-monitoring",
    "linkerd",
    "istio-system",
    "cert-manager",
)
"""Namespaces that every other talks to: drawn apart, and no news when a new one does."""
HOUSEKEEPING_PORTS = frozenset({53, 9090, 9093, 9100, 9153, 9962, 9963, 9964, 9965})
"""DNS, and metrics of Prometheus, its exporters and Cilium."""


@dataclass(frozen=True, order=True)
class End:
    """One end: a workload (or pod, namespace, cluster), or something outside."""

    namespace: str
    name: str
    """Empty where the level, or what may be seen, ends at the namespace."""

    def __str__(self) -> str:
        if self.namespace == OUTSIDE:
            return self.name
        return f"{self.namespace}/{self.name}" if self.name else self.namespace


Key = tuple[End, End, str]
"""What makes two edges of different windows the same: both ends, and the port or nothing."""


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Who talks to whom in a window, all ports and clusters together, or each port for itself."""

    source: End
    destination: End
    port: str
    """`8080/TCP`; empty where ports are taken together."""
    clusters: tuple[str, ...]
    flows: int
    denied: int
    audited: int
    reason: str | None
    first: datetime
    last: datetime
    first_denied: datetime | None
    buckets: tuple[int, ...]
    """Flows in equal parts of the window."""

    def __str__(self) -> str:
        return f"{self.source} → {self.destination}" + (f" :{self.port.split('/')[0]}" if self.port else "")

    @property
    def key(self) -> Key:
        """What makes two edges of different windows the same."""
        return self.source, self.destination, self.port

    @property
    def is_denied(self) -> bool:
        """Whether most of it was denied."""
        return self.denied * 2 > self.flows

    @property
    def is_housekeeping(self) -> bool:
        """Whether it is DNS, metrics or health, which every workload has."""
        number = self.port.split("/")[0]
        return (number.isdigit() and int(number) in HOUSEKEEPING_PORTS) or self.source.name in ("host", "health", "remote-node")


def edges_of(answer: Answer, *, since: datetime, until: datetime, by_port: bool = True) -> list[Edge]:
    """The edges of an answer, those of several clusters added up, most flows first; counts in BUCKETS parts of the window, or hours."""
    hours = -(-(until - since) // timedelta(hours=1))
    parts = BUCKETS if answer.source == "flows" else max(1, min(BUCKETS, hours))
    counts = _counts(answer.rows, since, until, parts)
    groups: dict[Key, list[tuple[Mapping[str, Any], Counts]]] = {}
    for place, row in enumerate(answer.rows.drop_columns(["bucket_starts", "bucket_flows"]).to_pylist()):
        groups.setdefault(key_of(row, by_port=by_port), []).append((row, counts[place]))
    return sorted((_edge(key, rows) for key, rows in groups.items()), key=lambda edge: (-edge.flows, str(edge)))


def key_of(row: Mapping[str, Any], *, by_port: bool = True) -> Key:
    """The key of the edge that a row of `edges_in_time` or `first_and_last_seen` is about."""
    source, destination = (End(row[f"{side}_namespace"] or OUTSIDE, row[f"{side}_name"] or "") for side in ("source", "destination"))
    return source, destination, f"{row['port']}/{row['protocol']}" if by_port and row["port"] is not None else ""


def _counts(rows: pa.Table, since: datetime, until: datetime, parts: int) -> Counts:
    """Each row's flows in equal parts of the window; what is before or after it counts in the first or the last."""
    lists = rows["bucket_starts"].combine_chunks()
    owners = np.repeat(np.arange(rows.num_rows), pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False))
    starts = lists.flatten().cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy()
    begin, end = (round(moment.timestamp() * 1_000_000) for moment in (since, until))
    places = np.clip((starts - begin) * parts // max(1, end - begin), 0, parts - 1)
    counts = np.zeros((rows.num_rows, parts), np.int64)
    np.add.at(counts, (owners, places), rows["bucket_flows"].combine_chunks().flatten().to_numpy())
    return counts


def _edge(key: Key, told: Sequence[tuple[Mapping[str, Any], Counts]]) -> Edge:
    rows = [row for row, _ in told]
    first_denials = [row["first_denied"] for row in rows if row["first_denied"]]
    return Edge(
        source=key[0],
        destination=key[1],
        port=key[2],
        clusters=tuple(sorted({row["cluster"] for row in rows})),
        flows=sum(row["flows"] for row in rows),
        denied=sum(row["denied"] for row in rows),
        audited=sum(row["audited"] for row in rows),
        reason=max(rows, key=lambda row: int(row["denied"]))["reason"],
        first=min(row["first"] for row in rows),
        last=max(row["last"] for row in rows),
        first_denied=min(first_denials) if first_denials else None,
        buckets=tuple(np.sum([counts for _, counts in told], axis=0).tolist()),
    )


def filter_of(edge: Edge, owns: Callable[[str], bool]) -> list[Condition]:
    """Conditions that find an edge's flows. `owns` says of which namespaces names below the namespace can be seen in every flow."""
    found = [*conditions_of(edge.source, "source", owns), *conditions_of(edge.destination, "destination", owns)]
    if edge.port and edge.port.split("/")[0].isdigit():
        found.append(Condition(field="port", operator="=", values=(edge.port.split("/")[0],), side="either"))
    return found


def filter_of_end(end: End, owns: Callable[[str], bool]) -> list[Condition]:
    """Conditions that find the flows of one end, either way."""
    return conditions_of(end, "either", owns)


def conditions_of(end: End, side: Any, owns: Callable[[str], bool]) -> list[Condition]:
    """Conditions that find the flows of which an end is on a side: source, destination or either."""
    if end.namespace == OUTSIDE:
        if "." in end.name:
            return [Condition(field="name", operator="=", values=(end.name,), side=side)]
        return [] if end.name in ("", "unknown") else [Condition(field="label", operator="=", values=(f"reserved:{end.name}",), side=side)]
    found = [Condition(field="ns", operator="=", values=(end.namespace,), side=side)]
    if end.name and owns(end.namespace):
        # By the pod's name: its workload is known on its own node alone.
        found.append(Condition(field="pod", operator="~", values=(f"^{end.name.replace('.', '[.]')}(-|$)",), side=side))
    return found


def touching(edges: Iterable[Edge], namespace: str) -> list[Edge]:
    """Those from or to a namespace."""
    return [edge for edge in edges if namespace in (edge.source.namespace, edge.destination.namespace)]
