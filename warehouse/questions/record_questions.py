"""Questions about everything recorded besides flows: coverage, configuration, drift, posture, the access log, the lake's size."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.access import access_log as log
from warehouse.access import visible
from warehouse.access.principals import Scope
from warehouse.engine import Window
from warehouse.errors import QueryError
from warehouse.questions.answers import Answer, LakeSummary, coverage_of
from warehouse.questions.question import ALL_TIME, Question, Request, Subject
from warehouse.records import findings, posture, versions
from warehouse.records.configuration_coverage import KindCoverage, coverage_at, coverage_at_each
from warehouse.schema import ACCESS_LOG, DRIFT, FINDINGS, FLOWS, POSTURE, TABLES, VERSION_TABLES, Table


@dataclass(frozen=True, kw_only=True)
class Ledger(Question[Answer]):
    """The coverage of every node in the clusters that the principal may know of; rows of `coverage`, newest first."""

    name: str = "ledger"
    window: Window
    """With both bounds."""

    @property
    def subject(self) -> Subject:
        """The window."""
        return Subject(window=self.window)

    def answer(self, request: Request) -> Answer:
        """Return the ledger rows that overlap the window."""
        rows = visible.ledger(request.sight).sort_by([("from", "descending")])
        return Answer(rows=rows, window=self.window, coverage=coverage_of(request.sight, rows))


@dataclass(frozen=True, kw_only=True)
class _Posture(Question[Answer]):
    at: datetime | None = None
    """The time that the question is about; None means now."""
    clusters: tuple[str, ...] = ()
    """All of them when empty."""

    @property
    def subject(self) -> Subject:
        """The time and the clusters."""
        return Subject(window=Window(since=self.at, until=self.at), clusters=self.clusters)

    def _seen(self, request: Request, table: Table, read: Callable[..., pa.Table]) -> Answer:
        rows = read(request.sight.lake, at=self.at, clusters=self.clusters or None)
        return Answer(rows=_owned(table, rows, request.sight.scope, self.at or datetime.now(UTC)), window=self.subject.window)


@dataclass(frozen=True, kw_only=True)
class Drift(_Posture):
    """Drift from blueprints that is open now, or was at a given time, in what the principal owned then; rows of `drift`."""

    name: str = "drift"

    def answer(self, request: Request) -> Answer:
        """Return the rows of open drift, by cluster and object."""
        return self._seen(request, DRIFT, posture.open_drift)


@dataclass(frozen=True, kw_only=True)
class DriftCounts(Question[dict[datetime, dict[str, int | None]]]):
    """How much drift from blueprints was open at each of several times, in what the principal owned then."""

    name: str = "drift_counts"
    moments: tuple[datetime, ...]

    @property
    def subject(self) -> Subject:
        """The times."""
        return Subject(window=Window(since=min(self.moments), until=max(self.moments)))

    def answer(self, request: Request) -> dict[datetime, dict[str, int | None]]:
        """Return the number for each time and cluster: None where no drift is recorded and the configuration was not known then."""
        lake, scope = request.sight.lake, request.sight.scope
        coverage = coverage_at_each(lake, self.moments)
        found: dict[datetime, dict[str, int | None]] = {}
        for at in self.moments:
            clusters = {kind.cluster: kind.is_known for kind in sorted(coverage[at], key=lambda kind: kind.is_known)}
            counts: dict[str, int | None] = {
                name: 0 if is_known else None for name, is_known in clusters.items() if scope.sees_cluster(name)
            }
            for cluster in _owned(DRIFT, posture.open_drift(lake, at=at), scope, at)["cluster"].to_pylist():
                counts[cluster] = (counts.get(cluster) or 0) + 1
            found[at] = counts
        return found


@dataclass(frozen=True, kw_only=True)
class Findings(_Posture):
    """Findings that are open now, or were at a given time, in what the principal owned then; rows of `findings`.

    Of closed ones, those in what the principal owned when they were closed.
    """

    name: str = "findings"
    states: tuple[str, ...] = (findings.OPEN,)
    """In which states: open, acknowledged, closed."""

    def answer(self, request: Request) -> Answer:
        """Return the newest row of each finding in these states, by cluster and key."""
        answer = self._seen(request, FINDINGS, findings.findings)
        return replace(answer, rows=answer.rows.filter(pc.is_in(answer.rows["state"], pa.array(self.states, pa.string()))))


@dataclass(frozen=True, kw_only=True)
class FindingHistory(Question[Answer]):
    """Every change of one finding, oldest first; rows of `findings`. Empty if the principal did not own it at the time of any."""

    name: str = "finding_history"
    cluster: str
    key: str

    @property
    def subject(self) -> Subject:
        """The cluster."""
        return Subject(clusters=(self.cluster,), text=self.key)

    def answer(self, request: Request) -> Answer:
        """Return the rows that the principal owned at their time."""
        scope = request.sight.scope
        rows = findings.history(request.sight.lake, self.cluster, self.key)
        shown = [_is_shown_at(row, scope) for row in rows.to_pylist()]
        rows = rows.filter(pa.array(shown, pa.bool_()))
        return Answer(rows=visible.without_labels(scope, FINDINGS, rows, _is_shown_at), window=ALL_TIME)


@dataclass(frozen=True, kw_only=True)
class Controls(_Posture):
    """The latest results of audit controls, now or at a given time, in clusters that the principal sees whole; rows of `posture`."""

    name: str = "controls"

    def answer(self, request: Request) -> Answer:
        """Return the latest row for each cluster and control."""
        return self._seen(request, POSTURE, posture.controls)


@dataclass(frozen=True, kw_only=True)
class Evaluations(_Posture):
    """When each cluster that the principal may know of was last evaluated and compared with each blueprint.

    Columns as in `posture.evaluations`. A cluster without a row had never been evaluated by then: never report it as clean.
    """

    name: str = "evaluations"

    def answer(self, request: Request) -> Answer:
        """Return the latest evaluation for each cluster and blueprint."""
        rows = posture.evaluations(request.sight.lake, at=self.at, clusters=self.clusters or None)
        shown = [request.sight.scope.sees_cluster(cluster) for cluster in rows["cluster"].to_pylist()]
        return Answer(rows=rows.filter(pa.array(shown, pa.bool_())), window=self.subject.window)


def _is_shown_at(row: Mapping[str, Any], to: Scope) -> bool:
    if row["namespace"] is None:
        return to.sees_whole(row["cluster"], row["time"])
    return to.owns(row["cluster"], row["namespace"], row["time"])


def _owned(table: Table, rows: pa.Table, scope: Scope, at: datetime) -> pa.Table:
    """Return the rows whose namespace is owned at a time and, without a namespace, those whose cluster is seen whole.

    Labels that the principal sees only as an auditor are removed.
    """

    def is_shown(row: Mapping[str, Any], to: Scope) -> bool:
        if row.get("state") == findings.CLOSED:  # it is over, and says nothing of what is owned at the time of the question
            return _is_shown_at(row, to)
        namespace = row.get("namespace")
        return to.sees_whole(row["cluster"], at) if namespace is None else to.owns(row["cluster"], namespace, at)

    seen = rows.filter(pa.array([is_shown(row, scope) for row in rows.to_pylist()], pa.bool_()))
    return visible.without_labels(scope, table, seen, is_shown)


@dataclass(frozen=True, kw_only=True)
class Configuration(Question[Answer]):
    """Versions of configuration objects that were in force during a window, for what the principal owned at the time.

    Cluster-scoped objects are shown only to principals who see the whole cluster. Columns are those of a version table.
    """

    name: str = "configuration"
    window: Window
    """With both bounds."""
    tables: tuple[Table, ...] = VERSION_TABLES
    clusters: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    """Names of objects. When empty, all of them are included; likewise for clusters, kinds and namespaces."""
    recorded: datetime | None = None
    """Include only what the lake had recorded by this time."""

    @property
    def subject(self) -> Subject:
        """The window, clusters and namespaces."""
        return Subject(window=self.window, clusters=self.clusters, namespaces=self.namespaces)

    def answer(self, request: Request) -> Answer:
        """Return the versions, by table and object. Raises QueryError for a window without both bounds."""
        since, until = self.window.since, self.window.until
        if since is None or until is None:
            raise QueryError("a question about configuration needs a window with a start and an end")
        rows = versions.between(
            request.sight.lake,
            since,
            until,
            versions.Selection(
                tables=self.tables,
                clusters=self.clusters or None,
                kinds=self.kinds or None,
                namespaces=self.namespaces or None,
                names=self.names or None,
                recorded=self.recorded,
            ),
        )
        described: list[dict[str, Any]] = rows.select(["cluster", "kind", "namespace", "name", "valid_from", "valid_to"]).to_pylist()
        shown = [versions.is_shown(row, request.sight.scope, since, until) for row in described]
        rows = rows.filter(pa.array(shown, pa.bool_()))
        is_shown = partial(_is_version_shown, since, until)
        rows = visible.without_labels(request.sight.scope, VERSION_TABLES[0], rows, is_shown)
        return Answer(rows=rows, window=self.window, source="configuration history")


@dataclass(frozen=True, kw_only=True)
class UnseenObjects(Question[int]):
    """How many configuration objects were in force in a cluster at a time that the principal may not see, without their names."""

    name: str = "unseen_objects"
    at: datetime
    cluster: str
    tables: tuple[Table, ...] = VERSION_TABLES

    @property
    def subject(self) -> Subject:
        """The time and the cluster."""
        return Subject(window=Window(since=self.at, until=self.at), clusters=(self.cluster,))

    def answer(self, request: Request) -> int:
        """Return their number; 0 for a cluster that the principal may not know of."""
        scope = request.sight.scope
        if not scope.sees_cluster(self.cluster):
            return 0
        until = self.at + timedelta(microseconds=1)
        rows = versions.between(request.sight.lake, self.at, until, versions.Selection(tables=self.tables, clusters=(self.cluster,)))
        listed = rows.select(["cluster", "kind", "namespace", "name", "valid_from", "valid_to"]).to_pylist()
        return sum(not versions.is_shown(row, scope, self.at, until) for row in listed)


def _is_version_shown(since: datetime, until: datetime, row: Mapping[str, Any], to: Scope) -> bool:
    return versions.is_shown(row, to, since, until)


@dataclass(frozen=True, kw_only=True)
class ConfigurationCoverage(Question[list[KindCoverage]]):
    """How much of each cluster's configuration was known at a time, by kind."""

    name: str = "configuration_coverage"
    at: datetime
    clusters: tuple[str, ...] = ()
    recorded: datetime | None = None
    """Include only what the lake had recorded by this time."""

    @property
    def subject(self) -> Subject:
        """The time and the clusters."""
        return Subject(window=Window(since=self.at, until=self.at), clusters=self.clusters)

    def answer(self, request: Request) -> list[KindCoverage]:
        """Return the coverage of each kind in the clusters that the principal may know of.

        The detail names files and objects of any namespace, so it is None for a principal who does not see the whole cluster.
        """
        scope = request.sight.scope
        found = coverage_at(request.sight.lake, self.at, clusters=self.clusters or None, recorded=self.recorded)
        shown = [kind for kind in found if scope.sees_cluster(kind.cluster)]
        return [kind if scope.sees_whole(kind.cluster, self.at) else replace(kind, detail=None) for kind in shown]


@dataclass(frozen=True, kw_only=True)
class AccessLog(Question[Answer]):
    """Who asked what, newest first.

    Principals who see everything get all entries; others get their own entries and those of people who looked at their namespaces.
    """

    name: str = "access_log"
    window: Window = ALL_TIME

    @property
    def subject(self) -> Subject:
        """The window."""
        return Subject(window=self.window)

    def answer(self, request: Request) -> Answer:
        """Return the entries of the window, at most `limits.rows`."""
        log.flush()
        rows = request.sight.lake.read(ACCESS_LOG, since=self.window.since, until=self.window.until)
        rows = log.visible(rows, request.sight.scope, request.sight.principal).sort_by([("time", "descending")])
        return Answer(rows=rows.slice(0, self.limits.rows), cut=rows.num_rows > self.limits.rows, window=self.window)


@dataclass(frozen=True, kw_only=True)
class SizeOfLake(Question[LakeSummary]):
    """Size and time span of all flows in clusters that the principal may know of, read from the table logs only."""

    name: str = "lake_summary"

    @property
    def subject(self) -> Subject:
        """All times and clusters."""
        return Subject()

    def answer(self, request: Request) -> LakeSummary:
        """Return the summary, without sizes for a principal who does not see everything."""
        lake, scope = request.sight.lake, request.sight.scope
        size = files = None
        if scope.everything:
            size, files = (sum(part) for part in zip(*(lake.size(table) for table in TABLES.values()), strict=True))
        stored = [file for file in lake.contents(FLOWS) if scope.sees_cluster(file.partition["cluster"])]
        return LakeSummary(
            bytes=size,
            files=files,
            oldest=min((file.first for file in stored if file.first), default=None),
            newest=max((file.last for file in stored if file.last), default=None),
        )
