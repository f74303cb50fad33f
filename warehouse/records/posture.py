"""Reads the recorded posture: open drift and the fleet's controls, now or at any past time.

Writing it belongs to pipelines; access control belongs to the query door.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import pyarrow as pa

from warehouse.lake.tables import Lake
from warehouse.records.newest import history, newest
from warehouse.schema import DRIFT, POSTURE, TIMESTAMP

DRIFT_KEY = ("cluster", "drift", "blueprint", "kind", "namespace", "name")
"""The columns that identify a drift while it is open."""
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
REQUIREMENTS = {
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
    "GK": "policies meet the templates of gatekeeper's library",
    "BP-OBJ": "objects stand as the blueprints want",
    "BP-EFFECT": "no other policy opens what a blueprint closes, or denies what it opens",
    "BP-INVALID": "the agents reject no policy",
    "BP-CILIUM": "Cilium's version and settings are as the blueprints want",
}
"""What each control requires of a cluster, by its id."""


def drift_key(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the key that identifies the drift of a row."""
    return tuple(row[name] for name in DRIFT_KEY)


def open_drift(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """Return the rows of drift that is open now, or was at a time, by cluster and object. Raises LakeError."""
    rows = newest(lake, DRIFT, DRIFT_KEY, at=at, clusters=clusters, state="open").to_pylist()
    order = ("cluster", "namespace", "kind", "name", "drift")
    return pa.Table.from_pylist(sorted(rows, key=lambda row: [str(row[name] or "") for name in order]), schema=DRIFT.schema)


def controls(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """Return the newest row of each cluster and control, now or as of a time. Raises LakeError."""
    return newest(lake, POSTURE, CONTROL_KEY, at=at, clusters=clusters).sort_by([("cluster", "ascending"), ("control", "ascending")])


def evaluations(lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None) -> pa.Table:
    """Return when each cluster was last evaluated and compared with each blueprint, now or as of a time, by cluster and blueprint.

    Columns: `cluster`; `blueprint` (its name, null for the cluster's last evaluation as such); `blueprint_version`;
    `evaluated`, the time of the evaluation; `observed`, when the cluster had last been observed completely by then, null for never.
    A cluster without a row was never evaluated, so nothing is known about its posture. Raises LakeError.
    """
    with history(lake, POSTURE, at=at, clusters=clusters) as ask:
        rows = ask(
            """WITH evaluations AS (  -- each evaluation has one row per control with the same values
                SELECT cluster, time, first(observed) AS observed, first(blueprints) AS blueprints FROM stored GROUP BY cluster, time
            ), named AS (
                SELECT cluster, time, observed, NULL AS named FROM evaluations
                UNION ALL
                SELECT cluster, time, observed, unnest(blueprints) FROM evaluations
            ), parted AS (
                SELECT cluster, time, observed, nullif(split_part(named, ' ', 1), '') AS blueprint,
                    nullif(substr(named, length(split_part(named, ' ', 1)) + 2), '') AS blueprint_version
                FROM named
            )
            SELECT * EXCLUDE (time), time AS evaluated FROM parted
            QUALIFY row_number() OVER (PARTITION BY cluster, blueprint ORDER BY time DESC) = 1
            ORDER BY cluster, coalesce(blueprint, '')""",
            (),
        )
    return rows.select(_EVALUATIONS.names).cast(_EVALUATIONS)
