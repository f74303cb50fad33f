"""Audits of the policies in force at the end of a window, of one principal's view: see `pipelines.audits` for what is judged.

Storing what is found belongs to `pipelines.evidence.findings`.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.audits.finding import Audited, Finding, Kind, Policies
from pipelines.audits.needless import needless_rules
from pipelines.audits.selecting import Existing, dangling_selectors, unisolated_workloads
from pipelines.audits.usage import Looked, Uses, unused
from pipelines.audits.wide import wide_rules
from pipelines.audits.workloads import Workload, read_workloads
from pipelines.replay.in_force import History, InForce, Period
from pipelines.replay.usage_of_rules import UsesOf, stands_since, uses_of_rules
from warehouse.engine import Window
from warehouse.errors import ConfigError
from warehouse.questions.record_questions import Configuration, ConfigurationCoverage, Drift, Evaluations
from warehouse.schema import NAMESPACES, WORKLOADS

STALE_AFTER = timedelta(days=1)
"""Policies that were last read longer ago than this, at the end of the window, are not audited."""
_RULES = (Kind.SHADOWED_RULE, Kind.REDUNDANT_RULE, Kind.ALLOW_ALL, Kind.EVERY_ADDRESS, Kind.WORLD_WITHOUT_NAMES)
_PODS = (Kind.DANGLING_SELECTOR, Kind.UNISOLATED_WORKLOAD)
_USES = (Kind.UNUSED_POLICY, Kind.UNUSED_RULE)
LOOK_BACK = timedelta(days=90)
"""How long before the window is looked at for what recurs rarely."""
_DEFEATED = "defeated"
_MICROSECOND = timedelta(microseconds=1)


class NothingToAuditError(ConfigError):
    """No configuration history is known."""


@dataclass(frozen=True, kw_only=True)
class AuditOf:
    """What is audited, and over which window."""

    window: Window
    """With both bounds."""
    clusters: tuple[str, ...] = ()
    """All that the principal may know of when empty."""
    kinds: frozenset[Kind] = frozenset(Kind) - {Kind.RECOMMENDED_POLICY}


@dataclass(frozen=True, kw_only=True)
class Report:
    """The results of the audits."""

    results: tuple[Audited, ...]
    """One for each cluster and audit."""
    notes: tuple[str, ...] = ()
    """What is not known or not visible, each in a sentence for the user."""

    @property
    def findings(self) -> list[Finding]:
        """All findings, by cluster, kind and object."""
        found = [finding for result in self.results for finding in result.findings]
        return sorted(found, key=lambda one: (one.cluster, one.kind.value, one.namespace or "", one.subject, one.place))

    @property
    def recordable(self) -> list[Audited]:
        """The results to record. Defeated blueprints are drift already, and are recorded as such."""
        return [result for result in self.results if result.kind is not Kind.BLUEPRINT_DEFEATED]


def audit(history: History, wanted: AuditOf) -> Report:
    """Audit the policies of each cluster.

    Raises:
        ConfigError: the window has no bounds.
        NothingToAuditError: no cluster has configuration history.
        AccessDeniedError, QueryError, LakeError: as for every question.
    """
    in_force = history.periods(wanted.window, clusters=wanted.clusters)
    if not in_force.periods:
        raise NothingToAuditError(
            "there is no configuration history that you may see, so there is nothing to audit: see hindcast config snapshot"
        )
    results: list[Audited] = []
    uses = uses_of_rules(history, wanted.window, in_force) if wanted.kinds & {*_USES, Kind.DANGLING_SELECTOR} else {}
    for cluster in sorted(in_force.periods):
        results += _Cluster(history, wanted, in_force, cluster, uses.get(cluster)).run()
    if wanted.kinds & set(_USES):
        results += _unused(history, wanted, in_force, uses)
    if Kind.BLUEPRINT_DEFEATED in wanted.kinds:
        results += _defeated(history, wanted, sorted(in_force.periods))
    return Report(results=tuple(one for one in results if one.kind in wanted.kinds), notes=in_force.notes)


class _Cluster:
    """The audits of one cluster."""

    def __init__(self, history: History, wanted: AuditOf, in_force: InForce, cluster: str, uses: UsesOf | None) -> None:
        self._history, self._wanted, self._cluster, self._uses = history, wanted, cluster, uses
        self._period, self._problem = last_known(in_force, cluster, _bound(wanted.window.until))

    def run(self) -> list[Audited]:
        """Return the results of the audits that need no traffic."""
        period = self._period
        if period is None:
            return self._not_evaluated(_RULES + _PODS, self._problem)
        manifests = Policies(period.documents)
        results: list[Audited] = []
        if self._wanted.kinds & set(_RULES):
            results += [
                *needless_rules(self._cluster, period.policies, manifests),
                *wide_rules(self._cluster, period.policies, manifests),
            ]
        if self._wanted.kinds & set(_PODS):
            results += self._of_pods(period)
        return results

    def _not_evaluated(self, kinds: Iterable[Kind], why: str) -> list[Audited]:
        return [Audited(cluster=self._cluster, kind=kind, not_evaluated=why) for kind in kinds if kind in self._wanted.kinds]

    def _of_pods(self, period: Period) -> list[Audited]:
        at = period.until - _MICROSECOND
        unseen = self._unseen(at, ("PodLabels", "Namespace"))
        if unseen:
            return self._not_evaluated(_PODS, f"not seen lately: {', '.join(unseen)}")
        question = Configuration(
            window=self._wanted.window, tables=(WORKLOADS, NAMESPACES), clusters=(self._cluster,), kinds=("PodLabels", "Namespace")
        )
        rows = self._history.answer(question).rows.to_pylist()
        namespaces = {
            row["name"]: json.loads(row["manifest"])["metadata"].get("labels") or {} for row in rows if row["kind"] == "Namespace"
        }
        everything = self._workloads(period, namespaces, rows)
        sees_whole = self._history.door.scope(self._history.principal).sees_whole(self._cluster, at)
        seen = self._uses.label_sets if self._uses is not None else frozenset()
        existing = Existing(labels={one.labels for one in everything} | seen, namespaces=None if sees_whole else list(namespaces))
        results = [dangling_selectors(self._cluster, period.policies, period.documents, existing)]
        if sees_whole:
            now = self._workloads(period, namespaces, [row for row in rows if _stands(row, at)])
            results.append(unisolated_workloads(self._cluster, period.policies, now))
        else:
            results += self._not_evaluated([Kind.UNISOLATED_WORKLOAD], "cluster-wide policies are not yours to see")
        return results

    @staticmethod
    def _workloads(period: Period, namespaces: Mapping[str, Mapping[str, str]], rows: Iterable[Mapping[str, Any]]) -> list[Workload]:
        manifests = [json.loads(row["manifest"]) for row in rows if row["kind"] == "PodLabels"]
        return read_workloads(manifests, namespaces, period.settings)

    def _unseen(self, at: datetime, kinds: Collection[str]) -> list[str]:
        """The kinds that were not fully read lately."""
        question = ConfigurationCoverage(at=at, clusters=(self._cluster,))
        known = {one.kind: one for one in self._history.answer(question)}
        lately = {kind for kind, one in known.items() if one.before is not None and at - one.before <= STALE_AFTER}
        return [kind for kind in kinds if kind not in lately]


def last_known(in_force: InForce, cluster: str, until: datetime) -> tuple[Period | None, str]:
    """Return the last period in which it is known which policies were in force, or None and why there is none that counts."""
    covered = [period for period in in_force.periods[cluster] if not period.not_covered]
    if not covered:
        return None, "configuration history does not cover the window"
    if until - covered[-1].until > STALE_AFTER:
        return None, f"policies were last read at {covered[-1].until:%Y-%m-%d %H:%M} UTC"
    return covered[-1], ""


def _unused(history: History, wanted: AuditOf, in_force: InForce, uses: Mapping[str, UsesOf]) -> list[Audited]:
    """The audits of unused policies and rules."""
    since, until = _bound(wanted.window.since), _bound(wanted.window.until)
    earlier = Window(since=since - LOOK_BACK, until=since)
    before_that = history.periods(earlier, clusters=tuple(in_force.periods))
    before = uses_of_rules(history, earlier, before_that)
    results: list[Audited] = []
    for cluster, periods in sorted(in_force.periods.items()):
        period, problem = last_known(in_force, cluster, until)
        used = uses.get(cluster)
        if period is not None and (used is None or not used.observed):
            problem = "no traffic was observed in the window"
        if problem or period is None or used is None:
            results += [Audited(cluster=cluster, kind=kind, not_evaluated=problem) for kind in _USES]
            continue
        known = [one for one in (*before_that.periods.get(cluster, ()), *periods) if one.since <= period.since]
        stands, known_since = stands_since(known)
        looked = Looked(since=since, until=until, observed=used.observed, stands_since=stands, known_since=known_since)
        earlier_uses = before[cluster].uses if cluster in before else Uses()
        results += unused(cluster, period.policies, Policies(period.documents), used.uses, earlier_uses, looked)
    return results


def _defeated(history: History, wanted: AuditOf, clusters: Sequence[str]) -> list[Audited]:
    """The policies that defeat a blueprint, as the last evaluation of drift recorded them."""
    at = wanted.window.until
    evaluated = set(history.answer(Evaluations(at=at, clusters=wanted.clusters)).rows["cluster"].to_pylist())
    rows = history.answer(Drift(at=at, clusters=wanted.clusters)).rows.to_pylist()
    found: dict[str, list[Finding]] = {cluster: [] for cluster in clusters}
    for row in rows:
        if row["drift"] == _DEFEATED and row["cluster"] in found:
            found[row["cluster"]].append(
                Finding(
                    kind=Kind.BLUEPRINT_DEFEATED,
                    severity=row["severity"],
                    cluster=row["cluster"],
                    namespace=row["namespace"],
                    subject=f"{row['kind']}/{row['name']}",
                    place=row["blueprint"] or "",
                    summary=row["summary"] or "its summary is not yours to see",
                    path=", ".join(row["paths"] or ()),
                    detail={"blueprint": row["blueprint"], "since": row["since"], "changed_by": row["changed_by"]},
                )
            )
    why = "drift was not evaluated by then: see hindcast blueprint drift"
    return [
        Audited(
            cluster=cluster,
            kind=Kind.BLUEPRINT_DEFEATED,
            findings=tuple(found[cluster]),
            checked=len(found[cluster]),
            not_evaluated="" if cluster in evaluated else why,
        )
        for cluster in clusters
    ]


def _stands(row: Mapping[str, Any], at: datetime) -> bool:
    return bool(row["valid_from"] <= at and (row["valid_to"] is None or row["valid_to"] > at))


def _bound(moment: datetime | None) -> datetime:
    if moment is None:
        raise ConfigError("policies are audited over a window with a start and an end")
    return moment
