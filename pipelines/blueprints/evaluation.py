"""Evaluates drift and controls of the fleet, stores the results in the lake, and reads them back for any time.

Evaluating an unchanged fleet writes no drift row, but one posture row for each cluster and control, to prove that it was
evaluated. The lake refuses a second evaluation for the same time, so nothing is counted twice.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.blueprints.controls import EXAMPLES, Result, evaluate
from pipelines.blueprints.drift import DEFEATED, STALE_AFTER, WHOLE_CLUSTER_DRIFTS, Drift, find_drift, judged_kinds
from pipelines.blueprints.effect import NEEDED as EFFECT_NEEDS
from pipelines.blueprints.effect import judge_effect
from pipelines.blueprints.model import BlueprintFile
from pipelines.blueprints.render import render
from pipelines.blueprints.state import POLICY_KINDS, ClusterState, Ended, build_state, read_coverage
from pipelines.objects.names import Key
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import posture, versions
from warehouse.schema import (
    CLUSTER_SETTINGS,
    COVERAGE,
    DRIFT,
    NAMESPACES,
    POLICY_VERSIONS,
    POSTURE,
    WORKLOADS,
)

APP_ID = "drift"
"""Evaluations commit under this name, with their time as version: of two at once, one is refused."""
BEGINNING = "drift-told-from"
"""App id in the log of `drift`: the first evaluation whose newly opened drift is announced to people."""
DANGLING_AFTER = timedelta(days=1)
"""A policy counts as dangling when it has selected no pod for this long."""
_TABLES = (NAMESPACES, POLICY_VERSIONS, WORKLOADS, CLUSTER_SETTINGS)
_COLUMNS = ["cluster", "kind", "namespace", "name", "valid_from", "changed_by", "manifest", "status"]
_MICROSECOND = timedelta(microseconds=1)
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The results for one cluster."""

    cluster: str
    drifts: tuple[Drift, ...]
    results: tuple[Result, ...]
    judged: frozenset[str]
    """Kinds that were observed recently enough; drift of other kinds stays as it was."""
    undecided: frozenset[Key] = frozenset()
    """Policies of which it is not known whether they defeat a blueprint; what was open about them stays as it was."""
    observed: datetime | None
    blueprints: tuple[str, ...] = ()
    """Name and version of each blueprint that applies to the cluster, e.g. `baseline 1.4.0`."""


def read_states(lake: Lake, clusters: Sequence[str], at: datetime) -> Iterator[ClusterState]:
    """Yield the clusters as configuration history knows them at a time, one by one. Raises LakeError."""
    coverage = read_coverage(lake, clusters, at)
    flows = _flows_until(lake, clusters, at)
    rows = versions.in_force(lake, at, versions.Selection(tables=_TABLES, clusters=clusters)).select(_COLUMNS)
    recent = versions.between(
        lake, at - DANGLING_AFTER, at, versions.Selection(tables=[WORKLOADS], clusters=clusters, kinds=["PodLabels"])
    ).select(_COLUMNS)
    for name in clusters:  # a state has tens of thousands of objects, so only one is in memory at a time
        now, before = (table.filter(pc.equal(table["cluster"], name)).to_pylist() for table in (rows, recent))
        state = build_state(name, now, at=at, coverage=coverage.get(name, {}), recent_rows=before)
        yield replace(state, flows_until=flows.get(name))


def _flows_until(lake: Lake, clusters: Sequence[str], at: datetime) -> dict[str, datetime]:
    """Return the time up to which each cluster's flows were recently received, from the collectors' ledger."""
    rows = lake.read(COVERAGE, ["cluster", "from", "to", "state"], clusters=clusters, since=at - STALE_AFTER, until=at + _MICROSECOND)
    until: dict[str, datetime] = {}
    for row in rows.filter(pc.equal(rows["state"], "connected")).to_pylist():
        until[row["cluster"]] = max(min(row["to"], at), until.get(row["cluster"], row["from"]))
    return until


def evaluate_fleet(
    lake: Lake,
    files: Sequence[BlueprintFile],
    clusters: Sequence[config.Cluster],
    *,
    at: datetime,
    stale_after: timedelta = STALE_AFTER,
    progress: Callable[[str], None] = lambda _cluster: None,
) -> list[Evaluation]:
    """Judge the clusters at a time. Raises LakeError, ConfigError if blueprints disagree."""
    out = []
    with _without_collector():
        states = read_states(lake, [cluster.name for cluster in clusters], at)
        for cluster, state in zip(clusters, states, strict=True):
            endings = partial(_endings, lake, cluster.name, at)
            out.append(evaluate_cluster(state, files, cluster, stale_after=stale_after, endings=endings))
            progress(cluster.name)
    return out


@contextmanager
def _without_collector() -> Iterator[None]:
    """Disable garbage collection: nothing here creates cycles, and searching so many objects for them would double the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def evaluate_cluster(
    state: ClusterState,
    files: Sequence[BlueprintFile],
    cluster: config.Cluster,
    *,
    stale_after: timedelta = STALE_AFTER,
    endings: Callable[[Sequence[Key]], Mapping[Key, Ended]] = lambda _keys: {},
) -> Evaluation:
    """Judge one cluster. `endings` returns how missing objects ended; it is called for those only."""
    wanted = render(files, cluster=cluster.name, labels=cluster.labels, namespaces=state.namespaces, now=state.at)
    absent = [key for key in wanted.objects if key not in state.policies]
    if absent:
        state = replace(state, ended=endings(absent))
    blueprints = {file.blueprint.name: file.blueprint.version for file in files}
    effect = judge_effect(wanted, state)
    drifts = find_drift(wanted, state, versions=blueprints, stale_after=stale_after, effect=effect)
    results = evaluate(state, wanted, drifts, stale_after=stale_after, effect=effect)
    return Evaluation(
        cluster=cluster.name,
        drifts=tuple(drifts),
        results=tuple(results),
        judged=judged_kinds(state, stale_after),
        undecided=frozenset(effect.undecided),
        observed=state.observed("Namespace", *(kind for kind in POLICY_KINDS if kind in state.coverage)),
        blueprints=tuple(
            sorted(
                f"{file.blueprint.name} {file.blueprint.version}"
                for file in files
                if file.blueprint.clusters.selects(cluster.name, cluster.labels)
            )
        ),
    )


def _endings(lake: Lake, cluster: str, at: datetime, keys: Sequence[Key]) -> dict[Key, Ended]:
    """Return when the last version of each of these objects ended, and by whom; objects that never existed are left out."""
    rows = versions.between(
        lake, _ALWAYS, at, versions.Selection(tables=[POLICY_VERSIONS], clusters=[cluster], names=sorted({key.name for key in keys}))
    )
    wanted = set(keys)
    out: dict[Key, Ended] = {}
    for row in rows.select(["kind", "namespace", "name", "valid_to", "ended_by"]).to_pylist():
        key = Key(row["kind"], row["namespace"], row["name"])
        if key in wanted and row["valid_to"] is not None and (key not in out or out[key].at < row["valid_to"]):
            out[key] = Ended(at=row["valid_to"], by=row["ended_by"])
    return out


def changes(evaluations: Sequence[Evaluation], before: Sequence[Mapping[str, Any]], *, now: datetime) -> list[dict[str, Any]]:
    """Return the rows to append: drift that is new or has changed, and drift that is resolved. `before` are the open rows.

    A drift that stays open keeps its `since`. Drift of what could not be judged this time stays as it was.
    """
    opened = {posture.drift_key(row): row for row in before}
    rows: list[dict[str, Any]] = []
    for evaluation in evaluations:
        found = {drift.id: drift for drift in evaluation.drifts}
        for key, drift in found.items():
            known = opened.get(key)
            row = _row(drift, now) | ({"since": min(known["since"], drift.since)} if known else {})
            if known is None or any(row[name] != known[name] for name in ("after", "before", "severity", "paths", "blueprint_version")):
                rows.append(row)
        for key, known in opened.items():
            if known["cluster"] == evaluation.cluster and key not in found and _is_judged(known, evaluation):
                rows.append(_closed(known, now))
    return rows


def _closed(row: Mapping[str, Any], now: datetime, *, why: str = "") -> dict[str, Any]:
    return {**row, "time": now, "date": now.date(), "state": "closed", "summary": row["summary"] + why}


def _is_judged(row: Mapping[str, Any], evaluation: Evaluation) -> bool:
    if row["drift"] in WHOLE_CLUSTER_DRIFTS:
        return True
    if row["drift"] == DEFEATED:
        return evaluation.judged.issuperset(EFFECT_NEEDS) and (row["kind"], row["namespace"], row["name"]) not in evaluation.undecided
    kind = {"cilium-config": "ConfigMap"}.get(row["kind"], row["kind"])
    return kind in evaluation.judged and "Namespace" in evaluation.judged


def _row(drift: Drift, now: datetime) -> dict[str, Any]:
    row = asdict(drift)
    return {**row, "paths": list(drift.paths), "flows": drift.flows, "time": now, "date": now.date(), "state": "open"}


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What an evaluation added to the table `drift`."""

    rows: int


def store(lake: Lake, evaluations: Sequence[Evaluation], *, now: datetime, configured: Collection[str] | None = None) -> Stored:
    """Store the results. `configured` names every cluster of the configuration: drift of all others is closed, since they are
    no longer evaluated; None leaves their drift unchanged.

    Raises CommitConflictError if an evaluation of this time or a later one is already stored, LakeError for any other failure.
    """
    clusters = [evaluation.cluster for evaluation in evaluations]
    before = posture.open_drift(lake, clusters=None if configured is not None else clusters).to_pylist()
    rows = changes(evaluations, before, now=now)
    if configured is not None:
        why = "; closed because the cluster is not in the configuration any more"
        rows += [_closed(row, now, why=why) for row in before if row["cluster"] not in configured]
    last, version = lake.transaction_version(DRIFT, APP_ID), {APP_ID: int(now.timestamp() * 1_000_000)}
    if lake.transaction_version(DRIFT, BEGINNING) is None:
        version[BEGINNING] = last or 0
    table = pa.Table.from_pylist(rows, schema=DRIFT.schema)
    lake.commit(DRIFT, lake.write_files(DRIFT, table) if rows else [], transactions=version, metadata={})
    results = pa.Table.from_pylist(
        [_result(evaluation, result, now) for evaluation in evaluations for result in evaluation.results], schema=POSTURE.schema
    )
    lake.commit(POSTURE, lake.write_files(POSTURE, results), transactions={APP_ID: version[APP_ID]}, metadata={})
    return Stored(rows=len(rows))


def _result(evaluation: Evaluation, result: Result, now: datetime) -> dict[str, Any]:
    return {
        "cluster": evaluation.cluster,
        "date": now.date(),
        "time": now,
        "control": result.control,
        "status": result.status,
        "checked": result.checked,
        "failed": result.failed,
        "failing": list(result.failing[:EXAMPLES]),
        "detail": result.detail,
        "observed": evaluation.observed,
        "blueprints": list(evaluation.blueprints),
    }
