"""Reads the record of posture: the drift that is open and the fleet's controls, now or at any past time.

Writing it is pipelines' work; who may see which rows is the query door's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from warehouse.lake.tables import Lake
from warehouse.schema import DRIFT, POSTURE, TIMESTAMP, Table

DRIFT_KEY = ("cluster", "drift", "blueprint", "kind", "namespace", "name")
"""What names a drift as long as it is open."""
_EVALUATIONS = pa.schema(
    [
        ("cluster", pa.string()),
        ("blueprint", pa.string()),
        ("blueprint_version", pa.string()),
        ("evaluated", TIMESTAMP),
        ("observed", TIMESTAMP),
    ]
)
CONTROL_KEY = ("cluster", "control")
ASKS = {
    "C-0206": "each namespace has a policy of its own, or is closed by a cluster-wide one",
    "C-0260": "each set of pods is selected by a valid policy",
    "C-0030": "each set of pods is isolated in both directions",
    "C-0299": "no policy selects nothing, now and lately",
    "C-0205": "Cilium is ready on every node and enforces policies",
    "C-0041": "where pods use the host's network, a cluster-wide policy is about nodes",
    "NSA-NP": "both directions are closed by default in each namespace, policies are enforced, nodes are restricted",
    "KYV-DD": "each namespace has an object that denies by default, whatever its name",
    "KYV-DNS": "pods whose egress is closed may reach the cluster's DNS over UDP and TCP",
    "KYV-EMPTY": "no NetworkPolicy selects all pods, but for a default deny",
    "KYV-REQ": "each Deployment has a NetworkPolicy",
    "GK": "nothing",
    "BP-OBJ": "objects stand as the blueprints want",
    "BP-EFFECT": "no other policy opens what a blueprint closes",
    "BP-INVALID": "the agents reject no policy",
    "BP-CILIUM": "Cilium's version and settings are as the blueprints want",
}
"""What each control asks of a cluster, by its id."""


def drift_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What names the drift of a row."""
    return tuple(row[name] for name in DRIFT_KEY)


def open_drift(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """Rows of the drift that is open, or was at a time, by cluster and object. Raises LakeError."""
    rows = [row for row in _newest(lake, DRIFT, DRIFT_KEY, at, clusters) if row["state"] == "open"]
    order = ("cluster", "namespace", "kind", "name", "drift")
    return pa.Table.from_pylist(sorted(rows, key=lambda row: [str(row[name] or "") for name in order]), schema=DRIFT.schema)


def controls(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """The newest row of each cluster and control, of now or of a time. Raises LakeError."""
    rows = sorted(_newest(lake, POSTURE, CONTROL_KEY, at, clusters), key=lambda row: (row["cluster"], row["control"]))
    return pa.Table.from_pylist(rows, schema=POSTURE.schema)


def evaluations(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """When each cluster was last evaluated, and held against each blueprint, now or at a time, by cluster and blueprint.

    Columns: `cluster`; `blueprint` (its name, null for the cluster's last evaluation as such); `blueprint_version`;
    `evaluated`, the time of the evaluation; `observed`, when the cluster had last been seen whole then, null for never.
    A cluster without a row was never evaluated: nothing may be said of how it stands. Raises LakeError.
    """
    until = None if at is None else at + timedelta(microseconds=1)
    names = ("cluster", "time", "observed", "blueprints")
    newest: dict[tuple[str, str | None], dict[str, Any]] = {}
    for row in _one_an_evaluation(lake.read(POSTURE, names, clusters=clusters, until=until)):
        for named in (None, *(row["blueprints"] or ())):
            name, _, version = (named or "").partition(" ")
            key = (row["cluster"], name or None)
            if key not in newest or newest[key]["evaluated"] < row["time"]:
                newest[key] = {
                    "cluster": row["cluster"],
                    "blueprint": name or None,
                    "blueprint_version": version or None,
                    "evaluated": row["time"],
                    "observed": row["observed"],
                }
    ordered = sorted(newest.values(), key=lambda row: (row["cluster"], row["blueprint"] or ""))
    return pa.Table.from_pylist(ordered, schema=_EVALUATIONS)


def _one_an_evaluation(rows: pa.Table) -> Iterable[dict[str, Any]]:
    """One of the rows, one a control, that each evaluation of a cluster has."""
    places: dict[tuple[str, datetime], int] = {}
    for place, key in enumerate(zip(rows["cluster"].to_pylist(), rows["time"].to_pylist(), strict=True)):
        places.setdefault(key, place)
    chosen: list[dict[str, Any]] = rows.take(pa.array(places.values(), pa.int64())).to_pylist()
    return chosen


def _newest(
    lake: Lake, table: Table, key: Sequence[str], at: datetime | None, clusters: Iterable[str] | None
) -> Iterable[Mapping[str, Any]]:
    until = None if at is None else at + timedelta(microseconds=1)
    newest: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in lake.read(table, clusters=clusters, until=until).to_pylist():
        name = tuple(row[column] for column in key)
        if name not in newest or newest[name]["time"] <= row["time"]:
            newest[name] = row
    return newest.values()
