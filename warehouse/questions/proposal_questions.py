"""Questions about changes of policies: the events of proposals, the edges of their simulations, and the events of blueprints' changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse import engine
from warehouse.access import visible
from warehouse.access.labels import HIDDEN
from warehouse.access.principals import Scope
from warehouse.questions.answers import Answer
from warehouse.questions.question import ALL_TIME, Question, Request, Subject
from warehouse.schema import POLICY_CHANGES, PROPOSED_EDGES

CHANGE = "change"
"""The `cause` of rows that say what happened to a change of a blueprint."""
BEGUN = "begun"
"""The `event` with which a change begins; its record names the clusters."""
_QUOTING = ("schema", "admission")
"""Checks whose texts quote what they refuse."""


@dataclass(frozen=True, kw_only=True)
class ProposalEvents(Question[Answer]):
    """Events of proposals for namespaces that the principal owns, and of whole clusters that she sees; rows of `policy_changes`.

    She must own the namespace now, and have owned it when the event took place and when the proposal was made: a namespace that is made
    anew, or given to somebody else, does not bring the proposals of those who owned the name before.
    """

    name: str = "proposals"
    proposal: str | None = None
    """One proposal; all of them if None."""

    @property
    def subject(self) -> Subject:
        """The proposal."""
        return Subject(text=self.proposal)

    def answer(self, request: Request) -> Answer:
        """Return the events, in no order."""
        now, scope = datetime.now(UTC), request.sight.scope
        wanted = pc.field("proposal").is_valid() if self.proposal is None else pc.field("proposal") == self.proposal
        rows = request.sight.lake.read(POLICY_CHANGES, matching=wanted)
        listed = rows.select(["cluster", "namespace", "proposal", "time"]).to_pylist()
        made: dict[str, datetime] = {}
        for row in listed:
            made[row["proposal"]] = min(row["time"], made.get(row["proposal"], row["time"]))

        def is_shown(row: Mapping[str, Any], to: Scope) -> bool:
            cluster, namespace, times = row["cluster"], row["namespace"], (made[row["proposal"]], row["time"], now)
            return all(to.sees_whole(cluster, at) if namespace is None else to.owns(cluster, namespace, at) for at in times)

        seen = rows.filter(pa.array([is_shown(row, scope) for row in listed], pa.bool_()))
        seen = visible.without_labels(scope, POLICY_CHANGES, seen, is_shown)
        if not scope.reads_every_label:
            seen = _hidden(seen, lambda row: is_shown(row, scope.without_audits), _hide_quotes)
        return Answer(rows=seen, window=ALL_TIME, source=POLICY_CHANGES.name)


def _hidden(rows: pa.Table, is_own: Callable[[Mapping[str, Any]], bool], hide: Callable[[dict[str, Any]], None]) -> pa.Table:
    """Return events after `hide` has taken labels out of what is recorded about each, except for rows that an auditor owns."""
    listed = rows.to_pylist()
    for row in listed:
        record = json.loads(row["record"]) if row["record"] and not is_own(row) else None
        if isinstance(record, dict) and isinstance(about := record.get("about"), dict):
            hide(about)
            row["record"] = json.dumps(record, sort_keys=True)
    return pa.Table.from_pylist(listed, schema=rows.schema)


def _hide_quotes(about: dict[str, Any]) -> None:
    """Hide the texts of checks that may quote labels."""
    about["checks"] = [one | {"text": HIDDEN} if one.get("check") in _QUOTING else one for one in about.get("checks", ())]


def _hide_texts(about: dict[str, Any]) -> None:
    """Hide the texts of a blueprint's file."""
    if isinstance(file := about.get("file"), dict):
        file |= {"text": HIDDEN, "before": HIDDEN if file.get("before") else ""}


@dataclass(frozen=True, kw_only=True)
class ProposedEdges(Question[Answer]):
    """The edges that the simulation of a proposal says change, as far as the principal owned an end; rows of `proposed_edges`."""

    name: str = "proposed_edges"
    proposal: str
    judgement: int
    """Number of the event that the simulation belongs to."""

    @property
    def subject(self) -> Subject:
        """The proposal."""
        return Subject(text=self.proposal)

    def answer(self, request: Request) -> Answer:
        """Return the edges: denied ones first, those with most flows first."""
        sight = request.sight.within(ALL_TIME)
        with engine.connect_warm() as connection:
            shown = visible.relations(connection, sight, PROPOSED_EDGES)
            query = (
                f"FROM visible_{PROPOSED_EDGES.name} WHERE proposal = ? AND judgement = ? "
                "ORDER BY list_position(['newly_denied', 'newly_allowed', 'uncertain'], change), flows DESC, source_namespace, "
                "source_workload_name, destination_namespace, destination_workload_name, destination_port"
            )
            rows, cut = engine.ask(connection, shown.relations, query, (self.proposal, self.judgement), self.limits)
        return Answer(rows=rows, cut=cut, window=ALL_TIME, files=shown.files, source=PROPOSED_EDGES.name)


@dataclass(frozen=True, kw_only=True)
class BlueprintChanges(Question[Answer]):
    """Changes of blueprints for many clusters: their events, and of one also what was done to each object; rows of `policy_changes`.

    A change is shown to those who see all its clusters whole, now and when it began. An auditor sees it without the text of its file, which
    holds labels.
    """

    name: str = "blueprint_changes"
    run: str | None = None
    """One change, with what was done to each object; the events of all of them if None."""

    @property
    def subject(self) -> Subject:
        """The change."""
        return Subject(text=self.run)

    def answer(self, request: Request) -> Answer:
        """Return the rows, in no order."""
        now, scope = datetime.now(UTC), request.sight.scope
        wanted = pc.field("cause") == CHANGE if self.run is None else pc.field("run") == self.run
        rows = request.sight.lake.read(POLICY_CHANGES, matching=wanted)
        listed = rows.select(["run", "time", "cause", "event", "record"]).to_pylist()
        begun = {
            row["run"]: (row["time"], json.loads(row["record"])["about"]["clusters"])
            for row in listed
            if row["cause"] == CHANGE and row["event"] == BEGUN
        }

        def is_shown(row: Mapping[str, Any], to: Scope) -> bool:
            began, clusters = begun.get(row["run"], (now, ()))
            return bool(clusters) and all(to.sees_whole(name, at) for name in clusters for at in (began, now))

        seen = rows.filter(pa.array([is_shown(row, scope) for row in listed], pa.bool_()))
        seen = visible.without_labels(scope, POLICY_CHANGES, seen, is_shown)
        if not scope.reads_every_label:
            seen = _hidden(seen, lambda row: is_shown(row, scope.without_audits), _hide_texts)
        return Answer(rows=seen, window=ALL_TIME, source=POLICY_CHANGES.name)
