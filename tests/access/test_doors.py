"""Every door, every person: what is told is what the oracle says, flow by flow. A door that is not listed here fails a test."""

from __future__ import annotations

import csv
import datetime as dt
import importlib
import inspect
import io
import json
import pkgutil
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import typer.main
from typer.testing import CliRunner

import warehouse.questions
from hindcast.cli import app
from hindcast.lazy import Deferred
from warehouse.access import access_log
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.time_travel import AsOf
from warehouse.questions import conditions, count_questions, edge_questions, flow_questions, flow_spans, replay_questions
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.edge_questions import EdgeScope
from warehouse.questions.edges_in_time import denials, edges_in_time, first_and_last_seen
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.proposal_questions import ProposalEvents, ProposedEdges
from warehouse.questions.question import Question
from warehouse.questions.record_questions import (
    AccessLog,
    Configuration,
    ConfigurationCoverage,
    Controls,
    Drift,
    Evaluations,
    FindingHistory,
    Findings,
    Ledger,
    SizeOfLake,
    UnseenObjects,
)
from warehouse.questions.report_questions import ReportFiles, ReportsMade
from warehouse.questions.sql_question import OwnSql
from warehouse.records import versions
from warehouse.schema import DRIFT, FLOWS, POLICY_CHANGES, POSTURE, TABLES

ALL = Limits(rows=1_000_000)
START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
WHOLE = Window(since=START, until=START + 6 * DAY)
FIRST, REST = Window(since=START, until=START + 2 * DAY), FlowFilter(since=START + 2 * DAY, until=START + 6 * DAY)
NAMES = (
    "operator", "ada", "carl", "tim", "dora", "otto", "wanda", "sina", "nora", "olga", "anna", "rita", "payments", "intern", "red", "blue",
    "annex", "lost",
)  # fmt: skip
STRANGERS = ("eve", "vera", "liar", "empty")
LEVELS = ("full", "workload", "namespace", "hidden")


def tokens(what: Any) -> set[str]:
    """The values that the world's rows are made of; each says of which row and column it is."""
    return set(re.findall(r"\w+~\d+|uuid-\d+", str(what)))


class Seen:
    """What the oracle lets a person see."""

    def __init__(self, world: Any, who: str, level: str = "workload") -> None:
        self.flows = [shown for row in world.flows if (shown := world.oracle.shown(who, row, level))]
        self.findings = [
            row
            for row in world.findings
            if world.oracle.owns(who, row["cluster"], row["namespace"], row["time"])
            or (row["namespace"] is None and world.oracle.whole(who, row["cluster"], row["time"]))
        ]
        self.everything = world.flows
        self.every_finding = world.findings
        now = dt.datetime.now(dt.UTC)
        changes = world.lake.read(POLICY_CHANGES).to_pylist()
        drifts, controls = world.lake.read(DRIFT).to_pylist(), world.lake.read(POSTURE).to_pylist()

        def sees(row: dict[str, Any]) -> bool:
            named = row.get("namespace")
            return bool(world.oracle.owns(who, row["cluster"], named, now) if named else world.oracle.whole(who, row["cluster"], now))

        held = [row for row in versions.between(world.lake, START, START + 6 * DAY).to_pylist() if self._held(world, who, row)]
        self.versions = {version_key(row) for row in held}
        self.drift = {row["summary"] for row in drifts if sees(row)}
        self.controls = {row["control"] for row in controls if sees(row)}
        self.manifests = world.manifests(who, 0, 6)
        self.open_findings = {row["summary"] for row in world.findings if sees(row)}
        self.proposals = {row["run"] for row in changes if sees(row)}
        standing = [*filter(sees, changes), *filter(sees, drifts), *filter(sees, controls), *filter(sees, world.findings)]
        self.tokens = tokens([self.flows, self.findings, held, *standing]) | self.manifests
        self.clusters = {cluster for cluster in ("c1", "c2") if world.oracle.knows(who, cluster)}

    @staticmethod
    def _held(world: Any, who: str, row: dict[str, Any]) -> bool:
        """Whether a version's namespace (or whole cluster) was someone's at some third hour in which it was in force.

        All that changes in this world changes at quarters of days.
        """
        end = row["valid_to"] or dt.datetime.now(dt.UTC)
        moments = [row["valid_from"] + number * dt.timedelta(hours=3) for number in range(8 * 14)]
        named = row["name"] if row["kind"] == "Namespace" else row["namespace"]
        inside = [moment for moment in moments if moment < end]
        if named is None:
            return any(world.oracle.whole(who, row["cluster"], moment) for moment in inside)
        return any(world.oracle.owns(who, row["cluster"], named, moment) for moment in inside)

    def within(self, window: Window | FlowFilter) -> list[dict[str, Any]]:
        return [row for row in self.flows if window.since <= row["time"] < window.until]  # type: ignore[operator]


def keyed(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["uuid"]: row for row in rows}


# The questions --------------------------------------------------------------------------------------------------


def flows(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, flow_questions.newest(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    assert keyed(answer.rows.to_pylist()) == keyed(seen.flows)
    assert answer.rows.num_rows == len(seen.flows)
    return answer


def flows_in_order(door: Door, who: Principal, seen: Seen) -> Answer:
    window = FlowFilter(since=START, until=START + 6 * DAY)
    for by in ("source", "port"):
        answer = door.answer(who, flow_questions.ordered(window, flow_questions.Order(by, descending=False), limits=ALL))
        assert keyed(answer.rows.to_pylist()) == keyed(seen.flows)
        assert answer.rows.num_rows == len(seen.flows)
    return answer


def span_of_flows(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.flows_of(WHOLE, FLOWS.schema.names)).to_pylist()
    assert keyed(rows) == keyed(seen.flows)
    assert len(rows) == len(seen.flows)
    pod = next((row["destination_pod_name"] for row in seen.everything if row["destination_pod_name"]), "none")
    chosen = flow_spans.Selection(
        scans=(flow_spans.Scan(where="destination_pod_name = ?", values=(pod,)),), columns=frozenset({"destination_pod_name"})
    )
    found = door.answer(who, flow_spans.flows_of(WHOLE, ("uuid",), chosen))["uuid"].to_pylist()
    assert sorted(found) == sorted(row["uuid"] for row in seen.flows if row["destination_pod_name"] == pod)


def span_of_seconds(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.seconds_of(WHOLE)).to_pylist()
    assert sum(row["flows"] for row in rows) == len(seen.flows)


def span_of_times(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.newest_times(WHOLE, 100_000)).to_pylist()
    assert [row["at"] for row in rows] == sorted((round(row["time"].timestamp() * 1e6) for row in seen.flows), reverse=True)


def span_of_namespaces(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.namespaces_of(WHOLE)).to_pylist()
    ends = {(row["cluster"], row[f"{side}_namespace"]) for row in seen.flows for side in ("source", "destination")}
    assert {(row["cluster"], row["namespace"]) for row in rows} == {end for end in ends if end[1] is not None}


def timeline(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, count_questions.timeline(FlowFilter(since=START, until=START + 6 * DAY)))
    expected = Counter((row["time"].timestamp() // 10800 * 10800, row["verdict"]) for row in seen.flows)
    assert Counter({(row["start"].timestamp(), row["verdict"]): row["flows"] for row in answer.rows.to_pylist()}) == expected
    return answer


def values(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    for column in ("source_namespace", "destination_namespace", "destination_pod_name", "l7_http_url", "verdict", "source_ip"):
        answer = door.answer(who, count_questions.values(column, wanted, limits=ALL))
        expected = Counter(row[column] for row in seen.flows if row[column] is not None)
        assert Counter(dict(zip(answer.rows["value"].to_pylist(), answer.rows["flows"].to_pylist(), strict=True))) == expected
    return answer


def edges(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    by_name = door.answer(who, edge_questions.edges(wanted, scope=EdgeScope.NAMESPACE, limits=ALL))
    found: Counter[tuple[str, str | None, str | None]] = Counter()
    for row in by_name.rows.to_pylist():
        found[row["cluster"], row["source_namespace"], row["destination_namespace"]] += row["flows"]
    assert found == Counter((row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in seen.flows)
    answer = door.answer(who, edge_questions.edges(wanted, limits=ALL))
    assert sum(answer.rows["flows"].to_pylist()) == len(seen.flows)
    return answer


def distinct_edges(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    answer = door.answer(who, replay_questions.DistinctEdges(wanted=wanted))
    found: Counter[tuple[str, str | None, str | None]] = Counter()
    rows = answer.plain()
    for row in rows.to_pylist():
        found[row["cluster"], row["source_namespace"], row["destination_namespace"]] += row["flows"]
    assert found == Counter((row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in seen.flows)
    assert not tokens(answer.label_sets.to_pylist()) - seen.tokens
    begins = tuple((cluster, START + day * DAY) for cluster in ("c1", "c2") for day in (0, 3))
    in_spans = door.answer(who, replay_questions.DistinctEdges(wanted=wanted, begins=begins))
    assert {row["since"] for row in in_spans.rows.to_pylist()} <= {START, START + 3 * DAY}
    assert sum(in_spans.rows["flows"].to_pylist()) == len(seen.flows)
    return replace(answer, rows=rows)


def replayed_connections(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    answer = door.answer(who, replay_questions.connections(wanted))
    assert sum(answer.rows["flows"].to_pylist()) == len(seen.flows)
    cut = START + 3 * DAY + dt.timedelta(minutes=20)
    cut_there = door.answer(who, replay_questions.connections(wanted, cuts=(("c1", cut), ("c2", cut)))).rows.to_pylist()
    assert sum(row["flows"] for row in cut_there) == len(seen.flows)
    assert all(row["since"] == cut or row["since"].minute == 0 for row in cut_there)
    assert all(row["last_seen"] < cut for row in cut_there if row["since"] < cut)
    return answer


def new_edges(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, edge_questions.new_edges(REST, FIRST, scope=EdgeScope.NAMESPACE, limits=ALL))
    pairs = {(row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in answer.rows.to_pylist()}
    now, before = (
        {(row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in seen.within(window)} for window in (REST, FIRST)
    )
    assert pairs <= now
    assert {pair for pair in now - before if None not in pair} <= pairs
    return answer


def talkers(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, edge_questions.talkers(FlowFilter(since=START, until=START + 6 * DAY), scope=EdgeScope.NAMESPACE, limits=ALL))
    ends = {(row["cluster"], row[f"{side}_namespace"]) for row in seen.flows for side in ("source", "destination")}
    assert {(row["cluster"], row["namespace"]) for row in answer.rows.to_pylist()} == ends
    return answer


def drop_reasons(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, count_questions.drop_reasons(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    expected = Counter(row["cluster"] for row in seen.flows if row["verdict"] == "DROPPED")
    assert Counter({row["cluster"]: row["flows"] for row in answer.rows.to_pylist()}) == expected
    return answer


def names(door: Door, who: Principal, seen: Seen) -> Answer:
    return door.answer(who, edge_questions.names(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))


def sql(door: Door, who: Principal, seen: Seen) -> Answer:
    counted = door.answer(
        who, OwnSql(text="SELECT count(*) AS n, count(destination_pod_name) AS pods FROM flows", window=WHOLE)
    ).rows.to_pylist()
    assert counted == [{"n": len(seen.flows), "pods": sum(row["destination_pod_name"] is not None for row in seen.flows)}]
    found = door.answer(who, OwnSql(text="SELECT summary FROM findings", window=WHOLE, limits=ALL)).rows["summary"].to_pylist()
    assert sorted(found) == sorted(row["summary"] for row in seen.findings)
    clusters = door.answer(who, OwnSql(text="SELECT DISTINCT cluster FROM coverage", window=WHOLE)).rows["cluster"].to_pylist()
    assert set(clusters) == seen.clusters
    answer = door.answer(who, OwnSql(text="SELECT * FROM flows ORDER BY destination_pod_name, summary", window=WHOLE, limits=ALL))
    assert keyed(answer.rows.to_pylist()) == keyed(seen.flows)
    return answer


def ledger(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Ledger(window=WHOLE))
    assert set(answer.rows["cluster"].to_pylist()) == seen.clusters == {node.cluster for node in answer.coverage}
    return answer


def lake_summary(door: Door, who: Principal, seen: Seen) -> None:
    summary = door.answer(who, SizeOfLake())
    assert (summary.bytes is None) == (who.user not in ("operator", "ada"))
    assert (summary.newest is None) == (not seen.clusters)


def clusters(door: Door, who: Principal, seen: Seen) -> None:
    assert set(door.clusters(who)) == seen.clusters


ALL_CLUSTERS = (conditions.parse("cluster~."),)
"""A condition that every flow meets, and that only the flows themselves can answer."""


def pulse(door: Door, who: Principal, seen: Seen, met: tuple[conditions.Condition, ...] = ()) -> Answer:
    answer = door.answer(who, count_questions.pulse(FlowFilter(since=START, until=START + 6 * DAY, conditions=met)))
    found: Counter[str] = Counter()
    for row in answer.rows.to_pylist():
        found[row["verdict"]] += row["flows"]
    assert found == Counter(row["verdict"] for row in seen.flows)
    return answer


def pulse_of_flows(door: Door, who: Principal, seen: Seen) -> Answer:
    return pulse(door, who, seen, ALL_CLUSTERS)


def namespaces_of_flows(door: Door, who: Principal, seen: Seen) -> Answer:
    return namespaces(door, who, seen, ALL_CLUSTERS)


def namespaces(door: Door, who: Principal, seen: Seen, met: tuple[conditions.Condition, ...] = ()) -> Answer:
    answer = door.answer(who, count_questions.namespaces(FlowFilter(since=START, until=START + 6 * DAY, conditions=met)))
    found: Counter[tuple[str, str]] = Counter()
    for row in answer.rows.to_pylist():
        found[row["cluster"], row["namespace"]] += row["flows"]
    ends = ({(row["cluster"], row[f"{side}_namespace"]) for side in ("source", "destination")} for row in seen.flows)
    expected = Counter(end for pair in ends for end in pair if end[1] is not None)
    assert {key for key in found if key[1] is not None} == set(expected)
    return answer


def edges_over_time(door: Door, who: Principal, seen: Seen) -> Answer:
    return door.answer(who, edges_in_time(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))


def denied_edges(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, denials(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    assert sum(answer.rows["flows"].to_pylist()) == sum(row["verdict"] in ("DROPPED", "ERROR") for row in seen.flows)
    return answer


def reports_made(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, ReportsMade())
    assert answer.rows.num_rows == 0  # none was made in this world; test_reports.py makes some
    return answer


def report_files(door: Door, who: Principal, seen: Seen) -> None:
    assert door.answer(who, ReportFiles(id="none")) is None


def first_and_last(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, first_and_last_seen(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    assert answer.rows.num_rows == 0  # nothing is rolled up in this world
    return answer


def drift(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Drift())
    assert set(answer.rows["summary"].to_pylist()) == seen.drift
    return answer


def finding_history(door: Door, who: Principal, seen: Seen) -> Answer:
    mine = {(row["cluster"], row["key"]) for row in seen.findings}
    answers = []
    for row in seen.every_finding[::10]:
        answer = door.answer(who, FindingHistory(cluster=row["cluster"], key=row["key"]))
        assert answer.rows.num_rows == ((row["cluster"], row["key"]) in mine)
        answers.append(answer)
    return replace(answers[0], rows=pa.concat_tables([answer.rows for answer in answers]))


def open_findings(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Findings())
    assert set(answer.rows["summary"].to_pylist()) == seen.open_findings
    return answer


def proposals(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, ProposalEvents())
    assert set(answer.rows["run"].to_pylist()) == seen.proposals
    return answer


def proposed_edges(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, ProposedEdges(proposal="p", judgement=1, limits=ALL))
    named = [row for row in seen.everything if row["source_namespace"] and row["destination_namespace"]]
    ends = ("cluster", "source_namespace", "destination_namespace")
    shown = keyed(seen.flows)
    expected = Counter(tuple(shown[row["uuid"]][name] for name in ends) for row in named if row["uuid"] in shown)
    found: Counter[tuple[Any, ...]] = Counter()
    for row in answer.rows.to_pylist():
        found[tuple(row[name] for name in ends)] += row["flows"]
    assert found == expected
    return answer


def controls(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Controls())
    assert set(answer.rows["control"].to_pylist()) == seen.controls
    return answer


def evaluations(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Evaluations())
    assert set(answer.rows["cluster"].to_pylist()) <= seen.clusters
    return answer


def completions(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, flow_questions.completions(FlowFilter(since=START, until=START + 6 * DAY), each=100_000, limits=ALL))
    pods = {row["value"] for row in answer.rows.to_pylist() if "pod" in row["field"]}
    own = {row[f"{side}_pod_name"] for row in seen.flows for side in ("source", "destination")}
    assert {pod.rpartition("/")[2] for pod in pods} <= own
    return answer


def edges_of_pods(door: Door, who: Principal, seen: Seen) -> Answer:
    return door.answer(who, edges_in_time(FlowFilter(since=START, until=START + 6 * DAY), level="pod", limits=ALL))


def one_flow(door: Door, who: Principal, seen: Seen) -> Answer:
    whole = {"at": START, "until": START + 6 * DAY}
    absent = next((row for row in seen.everything if row["uuid"] not in keyed(seen.flows)), None)
    if absent is not None:
        assert not door.answer(who, flow_questions.one_flow(cluster=absent["cluster"], uuid=absent["uuid"], **whole)).rows.num_rows
    asked = seen.flows[0] if seen.flows else seen.everything[0]
    answer = door.answer(who, flow_questions.one_flow(cluster=asked["cluster"], uuid=asked["uuid"], **whole))
    assert answer.rows.to_pylist() == seen.flows[:1]
    return answer


def log_of_access(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, AccessLog(window=Window(), limits=ALL))
    if who.user not in ("operator", "ada"):
        for row in answer.rows.to_pylist():
            assert row["principal"] == who.user or (row["text"], row["rows"], row["groups"], row["detail"]) == (None, None, None, None)
    return answer


def configuration(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Configuration(window=WHOLE))
    assert {version_key(row) for row in answer.rows.to_pylist()} == seen.versions
    of_namespaces = door.answer(who, Configuration(window=WHOLE, tables=(TABLES["namespaces"],)))
    assert tokens(of_namespaces.rows["manifest"].to_pylist()) == seen.manifests
    return answer


def configuration_coverage(door: Door, who: Principal, seen: Seen) -> None:
    assert {kind.cluster for kind in door.answer(who, ConfigurationCoverage(at=START + DAY))} <= seen.clusters


def unseen_objects(door: Door, who: Principal, seen: Seen) -> None:
    at = START + DAY
    for cluster in ("c1", "c2"):
        question = Configuration(window=Window(since=at, until=at + dt.timedelta(microseconds=1)), clusters=(cluster,))
        hidden = door.answer(OPERATOR, question).rows.num_rows - door.answer(who, question).rows.num_rows
        assert door.answer(who, UnseenObjects(at=at, cluster=cluster)) == (hidden if cluster in seen.clusters else 0)


def version_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What names a version of configuration."""
    return tuple(row[name] for name in ("cluster", "kind", "namespace", "name", "valid_from"))


DOORS: dict[str, Callable[[Door, Principal, Seen], Answer | None]] = {
    "flow_questions.newest": flows,
    "flow_questions.ordered": flows_in_order,
    "flow_questions.one_flow": one_flow,
    "flow_spans.SpanQuestion": span_of_flows,
    "flow_spans.flows_of": span_of_flows,
    "flow_spans.seconds_of": span_of_seconds,
    "flow_spans.newest_times": span_of_times,
    "flow_spans.namespaces_of": span_of_namespaces,
    "flow_questions.completions": completions,
    "count_questions.timeline": timeline,
    "count_questions.pulse": pulse,
    "count_questions.namespaces": namespaces,
    "count_questions.drop_reasons": drop_reasons,
    "count_questions.values": values,
    "edge_questions.edges": edges,
    "edge_questions.new_edges": new_edges,
    "edge_questions.talkers": talkers,
    "edge_questions.names": names,
    "edges_in_time.edges_in_time": edges_over_time,
    "edges_in_time.first_and_last_seen": first_and_last,
    "proposal_questions.ProposalEvents": proposals,
    "proposal_questions.ProposedEdges": proposed_edges,
    "edges_in_time.denials": denied_edges,
    "record_questions.Ledger": ledger,
    "report_questions.ReportsMade": reports_made,
    "report_questions.ReportFiles": report_files,
    "record_questions.Drift": drift,
    "record_questions.Controls": controls,
    "record_questions.Findings": open_findings,
    "record_questions.FindingHistory": finding_history,
    "record_questions.Evaluations": evaluations,
    "record_questions.Configuration": configuration,
    "record_questions.ConfigurationCoverage": configuration_coverage,
    "record_questions.UnseenObjects": unseen_objects,
    "record_questions.AccessLog": log_of_access,
    "record_questions.SizeOfLake": lake_summary,
    "replay_questions.DistinctEdges": distinct_edges,
    "replay_questions.connections": replayed_connections,
    "sql_question.OwnSql": sql,
}
"""Every question there is, by the module and the name of what makes it."""
EVERY_DOOR = DOORS | {
    "clusters": clusters,
    "edges_in_time.edges_in_time of pods": edges_of_pods,
    "count_questions.pulse of flows": pulse_of_flows,
    "count_questions.namespaces of flows": namespaces_of_flows,
}
NOT_QUESTIONS = {
    "answer": "is how each of DOORS is asked",
    "clusters": "has a test in EVERY_DOOR",
    "scope": "says what one may see, and shows nothing of it",
    "grants": "for who administers ownership; commands that print it run on the lake's own files",
    "peer_detail": "a setting",
    "recorded": "names of our own tables that hold rows, and nothing of the rows",
    "as_of": "gives a moment, and shows nothing",
    "refusals": "notes what is refused, and shows nothing",
    "reading": "asks the questions of DOORS one after the other, each within a scope worked out anew",
    "lake": "the tables themselves, for versions and spans of time; commands and servers hold it anyway",
}
"""What the door has besides."""


@pytest.fixture(scope="module")
def door(world: Any) -> Door:
    found: Door = world.door()
    return found


@pytest.fixture(scope="module")
def seen(world: Any) -> Callable[..., Seen]:
    known: dict[tuple[str, str], Seen] = {}

    def of(who: str, level: str = "workload") -> Seen:
        if (who, level) not in known:
            known[who, level] = Seen(world, who, level)
        return known[who, level]

    return of


@pytest.fixture(scope="module")
def person(world: Any) -> Callable[[str], Principal]:
    def of(who: str) -> Principal:
        found: Principal = world.people[who]
        return found

    return of


def questions_made() -> set[str]:
    """Whatever in warehouse.questions makes a question that can be asked."""

    def makes(made: Any) -> bool:
        if inspect.isclass(made):
            return issubclass(made, Question) and not inspect.isabstract(made)
        return inspect.isfunction(made) and bool(re.search(r"Question\b", str(inspect.signature(made).return_annotation)))

    found = set()
    for module in pkgutil.iter_modules(warehouse.questions.__path__):
        loaded = importlib.import_module(f"warehouse.questions.{module.name}")
        for name, made in inspect.getmembers(loaded):
            if not name.startswith("_") and getattr(made, "__module__", None) == loaded.__name__ and makes(made):
                found.add(f"{module.name}.{name}")
    return found - {"flow_table.FlowQuestion", "rollup_table.RollupQuestion"}  # which the functions return


def test_every_question_is_listed() -> None:
    assert questions_made() == DOORS.keys(), "a question without a test: add it to DOORS"
    assert {name for name, _ in inspect.getmembers(Door) if not name.startswith("_")} == NOT_QUESTIONS.keys()


def test_nothing_else_answers_a_principal() -> None:
    """Whatever takes a principal and is not the door is known, and asks the door."""
    known = {
        "warehouse.access.principals.scope_of",
        "warehouse.access.access_log.noted",
        "warehouse.access.access_log.visible",
        "hindcast.query_options.known_at",  # names a moment
        "warehouse.records.saved_views.change",
        # Of a finding that the door has shown: who may decide about it.
        "warehouse.records.findings.accept",
        "pipelines.evidence.rules.expressions.evaluated",  # asks the door
        "warehouse.records.findings.reopen",
        "warehouse.records.saved_views.listed",
        "warehouse.records.saved_views.owner_of",
        "warehouse.records.saved_views.save",
        "warehouse.records.tokens.create",  # makes one for a user whom sign-in or the operator named
        "api.statuses.namespaces",
        "api.statuses.nodes",
        "api.statuses.server_status",
        "dashboards.access.identity.name",
        "dashboards.access.made_files.note",
        # Of a proposal that the door has shown: who may decide on it, and what it drops, which is asked of the door.
        "pipelines.proposals.rules.check_approver",
        "pipelines.proposals.rules.is_same",
        "pipelines.proposals.rules.name_of",
        "pipelines.proposals.watching.watch",
    }
    found = set()
    for package in ("warehouse", "pipelines", "dashboards", "hindcast", "api"):
        for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
            if module.name in ("dashboards.app", "hindcast.__main__", "warehouse.schema.tables_doc"):
                continue  # run as programs
            for name, function in inspect.getmembers(importlib.import_module(module.name), inspect.isfunction):
                if function.__module__ == module.name and not name.startswith("_"):
                    kinds = [str(parameter.annotation) for parameter in inspect.signature(function).parameters.values()]
                    if any(re.search(r"\bPrincipal\b", kind) for kind in kinds):
                        found.add(f"{module.name}.{name}")
    assert found == known


def test_the_world_is_worth_looking_at(world: Any, seen: Callable[[str], Seen]) -> None:
    """Everyone's view differs from everyone else's, the matrix has its hundreds of cases, and most of them are denials."""
    sights = {who: frozenset(keyed(seen(who).flows)) for who in NAMES}
    assert len(set(sights.values())) >= 14
    assert len(NAMES) * len(DOORS) + len(STRANGERS) * len(DOORS) >= 200
    redacted = [row for who in ("payments", "otto", "sina") for row in seen(who).flows if row["summary"] is None]
    assert len(redacted) > 200
    at_a_change = [row for row in world.flows if (row["time"] - START) / DAY in (1, 1.5, 2, 2.25, 2.5, 3, 4, 5)]
    assert len(at_a_change) > 200


@pytest.mark.parametrize("who", NAMES)
@pytest.mark.parametrize("question", EVERY_DOOR)
def test_what_a_door_tells_is_what_the_oracle_says(
    question: str, who: str, door: Door, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    answer = EVERY_DOOR[question](door, person(who), seen(who))
    if answer is not None and question != "record_questions.AccessLog":  # there one reads again what one has asked
        assert not tokens([answer.rows.to_pylist(), answer.coverage]) - seen(who).tokens


@pytest.mark.parametrize("who", STRANGERS)
@pytest.mark.parametrize("question", [name for name in EVERY_DOOR if name != "clusters"])
def test_who_owns_nothing_is_denied_at_every_door(
    question: str, who: str, door: Door, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    with pytest.raises(AccessDeniedError, match="owns no namespace"):
        EVERY_DOOR[question](door, person(who), seen(who))
    assert seen(who).flows == []


@pytest.fixture(scope="module")
def door_of(world: Any) -> Callable[[str], Door]:
    doors = {level: world.door(level) for level in LEVELS}
    return doors.__getitem__


@pytest.mark.parametrize("who", ["payments", "sina"])
@pytest.mark.parametrize("level", [level for level in LEVELS if level != "workload"])
@pytest.mark.parametrize("question", EVERY_DOOR)
def test_each_level_of_redaction_holds_at_every_door(
    question: str,
    level: str,
    who: str,
    door_of: Callable[[str], Door],
    seen: Callable[..., Seen],
    person: Callable[[str], Principal],
) -> None:
    answer = EVERY_DOOR[question](door_of(level), person(who), seen(who, level))
    if answer is not None and question != "record_questions.AccessLog":
        assert not tokens([answer.rows.to_pylist(), answer.coverage]) - seen(who, level).tokens


@pytest.mark.parametrize("level", [level for level in LEVELS if level != "workload"])
@pytest.mark.parametrize("who", ["otto", "dora"])
def test_each_level_of_redaction_holds_for_patterns_and_denials(
    level: str, who: str, door_of: Callable[[str], Door], seen: Callable[..., Seen], person: Callable[[str], Principal]
) -> None:
    for question in (flows, values, edges):
        question(door_of(level), person(who), seen(who, level))


def test_the_levels_differ(seen: Callable[..., Seen]) -> None:
    told = [sum(value is not None for row in seen("sina", level).flows for value in row.values()) for level in LEVELS]
    assert told == sorted(set(told), reverse=True)


@pytest.mark.parametrize("who", ["payments", "otto", "sina", "nora", "tim", "dora"])
def test_no_condition_finds_what_one_may_not_see(
    who: str, door: Door, world: Any, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    """Asking for the hidden value of a flow that is shown, and for one that is not shown at all, gives the same: nothing."""
    shown = keyed(seen(who).flows)
    to_pods = [row for row in world.flows if row["destination_pod_name"] is not None]
    sought = [row for row in to_pods if row["uuid"] not in shown or shown[row["uuid"]]["destination_pod_name"] is None]
    assert len(sought) > 20
    told = seen(who).tokens
    # A pod is asked for by the beginning of its name, which may be that of one that is shown.
    pods = [name for row in sought if not any(each.startswith(name := row["destination_pod_name"]) for each in told)]
    assert len(pods) > 10
    for condition in ({"pods": tuple(pods[::-1][:12])}, {"ips": tuple(row["destination_ip"] for row in sought)}):
        wanted = FlowFilter(since=world.everything.since, until=world.everything.until, **condition)
        assert door.answer(person(who), flow_questions.newest(wanted)).rows.num_rows == 0
        assert door.answer(person(who), count_questions.timeline(wanted)).rows.num_rows == 0
        assert door.answer(person("operator"), flow_questions.newest(wanted)).rows.num_rows


# Commands -------------------------------------------------------------------------------------------------------

SINCE_UNTIL = ["--since", START.isoformat(), "--until", (START + 6 * DAY).isoformat()]
COMMANDS = {
    "flows": ["flows", *SINCE_UNTIL, "-n", "100000"],
    "edges": ["edges", *SINCE_UNTIL, "-n", "100000"],
    "sql": ["sql", "SELECT * FROM flows", *SINCE_UNTIL, "--limit", "100000"],
    "status": ["status"],
    "access log": ["access", "log"],
    "blueprint drift": ["blueprint", "drift"],
    "blueprint matrix": ["blueprint", "matrix"],
    "findings list": ["findings", "list"],
    "policy proposals list": ["policy", "proposals", "list"],
    "policy simulate": ["policy", "simulate", "-", *SINCE_UNTIL],
    "policy audit": ["policy", "audit", "--no-record", *SINCE_UNTIL],
    "policy recommend": ["policy", "recommend", "NAMESPACE", "--cluster", "c1", *SINCE_UNTIL],
    "policy explain": [
        "policy",
        "explain",
        "--source",
        "NAMESPACE/web",
        "--destination",
        "NAMESPACE/api",
        "--port",
        "80",
        "--at",
        (START + DAY).isoformat(),
        "--cluster",
        "c1",
    ],
}
FINDS = ("blueprint drift", "policy audit", "policy explain")
"""Commands whose exit code says whether something was found."""
OWN_NAMESPACE = {"paula": "payments", "sina": "shop"}
"""A namespace of each user, for commands that ask about one."""
CANDIDATE = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: candidate, namespace: %s}
spec: {endpointSelector: {}, ingress: [{fromEntities: [all]}]}
"""
CONFIGURATION = {
    "config history": (["config", "history", "Namespace", "shop", "--cluster", "c1"], 0, 99),
    "config at": (["config", "at", (START + 3.5 * DAY).isoformat(), "--cluster", "c1"], 3.5, 3.5),
    "config diff": (["config", "diff", (START + DAY).isoformat(), (START + 3.5 * DAY).isoformat(), "--cluster", "c1", "--full"], 1, 3.5),
}
"""Commands that show versions of objects, those in force between two days."""
ACT = (
    "policy propose",
    *(f"findings {name}" for name in ("accept", "reopen", "history")),
    *(f"policy proposals {name}" for name in ("show", "judge", "approve", "reject", "apply", "roll-back", "hand-over", "watch")),
)
"""Commands that act on a proposal or a finding as somebody; tests/pipelines/proposals and tests/pipelines/evidence ask them as owners,
strangers and auditors."""
ANSWER_NOBODY = {
    "airflow": "runs a program on the lake's own files",
    "check": "looks at the configuration",
    "collect": "writes only",
    "import": "writes only",
    "dashboard": "runs the dashboard, whose pages ask the door",
    "demo": "runs everything on this machine",
    "simulate": "knows no lake",
    "maintain compact": "for who operates the lake",
    "maintain rollup": "for who operates the lake",
    "maintain retain": "for who operates the lake",
    "maintain erase": "for who operates the lake",
    "maintain vacuum": "for who operates the lake",
    "maintain checkpoint": "for who operates the lake",
    "maintain statistics": "for who operates the lake",
    "config snapshot": "writes only",
    "alerts check": "looks at files",
    "alerts run": "for who operates the lake",
    "alerts list": "for who operates the lake",
    "alerts test": "for who operates the lake; each rule sees what its subject may see",
    "config compact": "for who operates the lake",
    "blueprint validate": "looks at files",
    "policy test": "looks at files",
    "blueprint templates": "looks at files",
    "blueprint library": "looks at files",
    "blueprint schema": "looks at files",
    "blueprint compare": "looks at files",
    "blueprint plan": "for who operates the clusters",
    "blueprint publish": "for who operates the clusters",
    "blueprint revert": "for who operates the clusters",
    "access explain": "for who administers ownership; shows grants, no flow",
    "access who": "for who administers ownership; shows grants, no flow",
    "access test": "for who administers ownership; shows grants, no flow",
    **{
        f"report {name}": "for who operates the lake; what is made for a subject is tested in test_reports.py"
        for name in ("fleet", "owner", "segmentation", "access", "changes")
    },
    "report verify": "for who operates the lake",
}


def commands() -> Iterator[tuple[str, set[str]]]:
    """Every command with its options."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
        command = command.command() if isinstance(command, Deferred) else command
        for part, below in getattr(command, "commands", {}).items():
            yield from walk(below, f"{name} {part}".strip())
        if not hasattr(command, "commands"):
            yield name, {option for parameter in command.params for option in parameter.opts}

    yield from walk(typer.main.get_command(app), "")


def test_every_command_is_listed_and_those_that_answer_take_as() -> None:
    for name, options in commands():
        answers = name in COMMANDS or name in CONFIGURATION or name in ACT
        assert answers != (name in ANSWER_NOBODY), f"{name}: a command without a test: add it to COMMANDS"
        assert ("--as" in options) == answers, name


@pytest.mark.parametrize("who", ["nora", "olga", "red", "blue", "sina", "otto", "rita"])
@pytest.mark.parametrize("command", CONFIGURATION)
def test_versions_of_a_time_are_shown_to_who_owned_their_namespace_then(
    command: str, who: str, world: Any, person: Callable[[str], Principal]
) -> None:
    arguments, begin, end = CONFIGURATION[command]
    how = [] if command == "config at" else ["--output", "json"]
    _, _, printed = run(world, person(who), *arguments, *how)
    assert tokens(printed) <= world.manifests(who, begin, end)
    if command == "config at":
        on_c1 = {f"manifest~{number}" for number in range(5)}
        assert tokens(printed) == world.manifests(who, begin, end) & on_c1


def run(world: Any, who: Principal, *arguments: str) -> tuple[int, str, bytes]:
    asked = [] if who.is_operator else ["--as", who.user, *(part for group in sorted(who.groups) for part in ("--group", group))]
    own = OWN_NAMESPACE.get(who.user, "shop")
    done = CliRunner().invoke(
        app, [*(one.replace("NAMESPACE", own) for one in arguments), "--config", str(world.config_file), *asked], input=CANDIDATE % own
    )
    return done.exit_code, str(done.exception or ""), done.stdout_bytes


FORMATS = {
    "flows": ["compact", "table", "json", "jsonpb", "csv", "parquet"],
    "status": ["table", "json", "csv", "parquet"],
    "policy simulate": ["table", "json", "csv"],
    "policy audit": ["table", "json", "sarif"],
    "policy recommend": ["yaml", "json"],
    "policy explain": ["text", "json"],
}
CASES = [(command, how) for command in COMMANDS for how in FORMATS.get(command, ["table", "json", "csv", "parquet"])]


@pytest.mark.parametrize("who", ["payments", "sina"])
@pytest.mark.parametrize(("command", "how"), CASES)
def test_what_a_command_prints_is_what_the_oracle_says(
    command: str, how: str, who: str, world: Any, seen: Callable[[str], Seen], person: Callable[[str], Principal]
) -> None:
    code, error, printed = run(world, person(who), *COMMANDS[command], "--output", how)
    # Nobody has read this world's configuration, so an audit says so.
    assert error in ("", "1") or (command == "policy audit" and error.startswith("there is no configuration history that you may see"))
    assert code == (1 if command == "blueprint drift" and seen(who).drift else 0) or (command in FINDS[1:] and code in (1, 2))
    rows: Any = printed.decode(errors="replace")
    if how == "parquet":
        rows = pq.read_table(io.BytesIO(printed)).to_pylist()
    elif how == "json" and command not in ("policy recommend", "policy explain"):
        rows = [json.loads(line) for line in rows.split("\n") if line]  # SQL in it may hold other ends of lines
    elif how == "csv":
        rows = list(csv.DictReader(io.StringIO(rows)))
    if command == "access log":  # there one reads again what one has asked
        return
    foreign = tokens(rows) - seen(who).tokens
    # A table's cells are cut where they are long.
    assert not {token for token in foreign if how != "table" or not any(own.startswith(token) for own in seen(who).tokens)}
    if command in ("flows", "sql"):
        told = {token for token in tokens(rows) if token.startswith("uuid-")}
        if how in ("json", "jsonpb", "csv", "parquet"):
            assert told == set(keyed(seen(who).flows))
        elif how == "compact":
            assert len(rows.splitlines()) == len(seen(who).flows)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_denies_who_owns_nothing(command: str, world: Any, person: Callable[[str], Principal]) -> None:
    code, error, printed = run(world, person("eve"), *COMMANDS[command])
    assert code == 1
    assert "eve owns no namespace" in error
    assert not tokens(printed)


def test_a_file_that_is_exported_holds_no_more(
    world: Any, seen: Callable[[str], Seen], person: Callable[[str], Principal], tmp_path: Any
) -> None:
    for how in ("json", "csv", "parquet"):
        file = tmp_path / f"out.{how}"
        code, _, _ = run(world, person("nora"), *COMMANDS["sql"], "--output", how, "--file", str(file))
        assert code == 0
        content = pq.read_table(file).to_pylist() if how == "parquet" else file.read_text()
        assert {token for token in tokens(content) if token.startswith("uuid-")} == set(keyed(seen("nora").flows))
        assert not tokens(content) - seen("nora").tokens


def test_auditors_read_everything_but_no_labels_in_sql(world: Any) -> None:
    audrey = Principal(user="audrey")
    door = world.door()
    assert door.answer(audrey, flow_questions.newest(world.everything, limits=ALL)).rows.num_rows == len(world.flows)
    (row,) = door.answer(
        audrey, OwnSql(text="SELECT count(*) AS n, count(source_labels) AS labels, count(source_ip) AS ips FROM flows", window=WHOLE)
    ).rows.to_pylist()
    assert row == {"n": len(world.flows), "labels": 0, "ips": len(world.flows)}


# The access log -------------------------------------------------------------------------------------------------


def test_each_question_is_noted_denied_or_not(world: Any, person: Callable[[str], Principal]) -> None:
    door = Door(world.lake, world.ownership(), purpose="a test of notes")
    with pytest.raises(AccessDeniedError):
        door.answer(person("eve"), flow_questions.newest(FlowFilter(since=START, until=START + DAY, namespaces=("payments",))))
    door.answer(
        person("payments"), flow_questions.newest(FlowFilter(since=START, until=START + DAY, clusters=("c1",)), limits=Limits(rows=3))
    )
    door.answer(person("payments"), OwnSql(text="SELECT 1 AS one", window=WHOLE))
    with pytest.raises(Exception, match="nope"):
        door.answer(person("payments"), OwnSql(text="SELECT nope", window=WHOLE))
    access_log.flush()
    noted = [
        row
        for row in door.answer(person("operator"), AccessLog(window=Window(), limits=ALL)).rows.to_pylist()
        if row["purpose"] == "a test of notes"
    ]
    told = [(row["principal"], row["question"], row["outcome"], row["rows"]) for row in reversed(noted)]
    assert told[:4] == [
        ("eve", "flows", "denied", 0),
        ("paula", "flows", "answered", 3),
        ("paula", "sql", "answered", 1),
        ("paula", "sql", "refused", 0),
    ]
    by_question = {row["outcome"]: row for row in noted if row["question"] == "flows"}
    assert by_question["denied"]["namespaces"] == ["*/payments"]
    assert by_question["answered"]["namespaces"] == ["c1/payments", "c1/payroll"]
    assert json.loads(by_question["denied"]["text"]) == {"namespaces": ["payments"]}


REFUSED: dict[str, Callable[[Door, Principal, FlowFilter], Any]] = {
    "flows": lambda door, who, wanted: door.answer(who, flow_questions.newest(wanted, columns=["uuid", "no_such_column"])),
    "values": lambda door, who, wanted: door.answer(who, count_questions.values("source_namespac", wanted)),
    "edges": lambda door, who, wanted: door.answer(who, edge_questions.edges(replace(wanted, pods=("web",)))),
    "new_edges": lambda door, who, wanted: door.answer(who, edge_questions.new_edges(replace(wanted, ips=("10.0.0.1",)), WHOLE)),
    "talkers": lambda door, who, wanted: door.answer(who, edge_questions.talkers(replace(wanted, nodes=("n1",)))),
    "names": lambda door, who, wanted: door.answer(who, edge_questions.names(replace(wanted, as_of=AsOf(instant=START)))),
    "configuration": lambda door, who, wanted: door.answer(who, Configuration(window=Window(since=wanted.since))),
    "sql": lambda door, who, wanted: door.answer(who, OwnSql(text="INSERT INTO flows SELECT * FROM flows", window=WHOLE)),
    "filter": lambda door, who, wanted: _put_together(door, who),
}
"""A question that is refused of each kind that checks what it is asked for, before anything is read."""


def _put_together(door: Door, who: Principal) -> None:
    with door.refusals(who, "filter", "nonsense=1"):
        conditions.parse("nonsense=1")


@pytest.mark.parametrize("who", ["payments", "operator", "eve"])
def test_a_question_that_is_refused_is_noted_as_refused(world: Any, person: Callable[[str], Principal], who: str) -> None:
    purpose = f"refusals to {who}"
    door, wanted = Door(world.lake, world.ownership(), purpose=purpose), FlowFilter(since=START, until=START + DAY)
    for ask in REFUSED.values():
        with pytest.raises(AccessDeniedError if who == "eve" else QueryError):
            ask(door, person(who), wanted)
    rows = door.answer(person("ada"), AccessLog(window=Window(), limits=ALL)).rows.to_pylist()
    noted = {row["question"]: row for row in rows if row["purpose"] == purpose}
    assert noted.keys() >= REFUSED.keys()
    assert {row["outcome"] for row in noted.values()} == {"denied" if who == "eve" else "refused"}
    assert all(row["detail"] and not row["rows"] for row in noted.values())
    assert len([row for row in rows if row["purpose"] == purpose]) == len(REFUSED)


def test_an_owner_sees_who_looked_at_hers_and_no_more(world: Any, person: Callable[[str], Principal]) -> None:
    door = Door(world.lake, world.ownership(), purpose="who looked")
    window = FlowFilter(since=START + 3.5 * DAY, until=START + 4 * DAY)
    door.answer(person("ada"), flow_questions.newest(window))  # everything, and so shop of c1
    door.answer(person("otto"), flow_questions.newest(window))  # orders and or-test, nothing of hers
    door.answer(person("olga"), flow_questions.newest(FlowFilter(since=START, until=START + DAY)))  # shop of c1, when it was not hers
    door.answer(person("olga"), flow_questions.newest(window))
    door.answer(person("nora"), flow_questions.newest(window))
    rows = [
        row
        for row in door.answer(person("nora"), AccessLog(window=Window(), limits=ALL)).rows.to_pylist()
        if row["purpose"] == "who looked"
    ]
    found = [(row["principal"], row["since"]) for row in rows if row["question"] == "flows"]
    assert sorted(found, key=str) == sorted([("ada", window.since), ("olga", window.since), ("nora", window.since)], key=str)
    assert {tuple(row["namespaces"]) for row in rows} == {("c1/shop",)}
    assert all(row["text"] is None and row["rows"] is None for row in rows if row["principal"] != "nora")
