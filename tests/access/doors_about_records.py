"""How each question about what is recorded besides flows is asked, and what its answer has to be by what a person may see."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pyarrow as pa
from seen_by_people import ALL, DAY, START, WHOLE, Seen, keyed, tokens, version_key

from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.questions.alert_questions import AlertStates, Deliveries
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.proposal_questions import BlueprintChanges, ProposalEvents, ProposedEdges
from warehouse.questions.record_questions import (
    AccessLog,
    Configuration,
    ConfigurationCoverage,
    Controls,
    Drift,
    DriftCounts,
    Evaluations,
    FindingHistory,
    Findings,
    Ledger,
    SizeOfLake,
    UnseenObjects,
)
from warehouse.questions.report_questions import ReportFiles, ReportsMade
from warehouse.schema import TABLES


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


def reports_made(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, ReportsMade())
    assert answer.rows.num_rows == 0  # none was made in this world; test_reports.py makes some
    return answer


def report_files(door: Door, who: Principal, seen: Seen) -> None:
    assert door.answer(who, ReportFiles(id="none")) is None


def alerts(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, AlertStates())
    assert answer.rows.num_rows == 0  # there are none in this world; test_alerts.py makes some
    return answer


def deliveries(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Deliveries())
    assert answer.rows.num_rows == 0
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


def drift_counts(door: Door, who: Principal, seen: Seen) -> None:
    now = dt.datetime.now(dt.UTC)
    counts = door.answer(who, DriftCounts(moments=(START, now)))
    assert not any(counts[START].values())
    assert sum(number or 0 for number in counts[now].values()) == len(seen.drift)
    assert set(counts[now]) <= seen.clusters


def open_findings(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, Findings())
    assert set(answer.rows["summary"].to_pylist()) == seen.open_findings
    return answer


def proposals(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, ProposalEvents())
    assert set(answer.rows["run"].to_pylist()) == seen.proposals
    return answer


def blueprint_changes(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, BlueprintChanges())
    assert set(answer.rows["run"].to_pylist()) == seen.changes
    for run in ("change~0", "change~2", "run~0"):
        assert set(door.answer(who, BlueprintChanges(run=run)).rows["run"].to_pylist()) == {run} & seen.changes
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


DOORS_ABOUT_RECORDS: dict[str, Callable[[Door, Principal, Seen], Answer | None]] = {
    "alert_questions.AlertStates": alerts,
    "alert_questions.Deliveries": deliveries,
    "proposal_questions.ProposalEvents": proposals,
    "proposal_questions.ProposedEdges": proposed_edges,
    "proposal_questions.BlueprintChanges": blueprint_changes,
    "record_questions.Ledger": ledger,
    "report_questions.ReportsMade": reports_made,
    "report_questions.ReportFiles": report_files,
    "record_questions.Drift": drift,
    "record_questions.DriftCounts": drift_counts,
    "record_questions.Controls": controls,
    "record_questions.Findings": open_findings,
    "record_questions.FindingHistory": finding_history,
    "record_questions.Evaluations": evaluations,
    "record_questions.Configuration": configuration,
    "record_questions.ConfigurationCoverage": configuration_coverage,
    "record_questions.UnseenObjects": unseen_objects,
    "record_questions.AccessLog": log_of_access,
    "record_questions.SizeOfLake": lake_summary,
}
