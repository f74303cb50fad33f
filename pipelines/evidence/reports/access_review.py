"""The access review: who owns what and why, and who asked which questions about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from pipelines.evidence.reports.fleet import MOST_BARS, bars
from pipelines.evidence.reports.model import Figure, Report, Section
from pipelines.evidence.reports.reading import LIMITS, Reader
from warehouse.access.principals import Grant
from warehouse.engine import Limits, Window
from warehouse.questions.record_questions import AccessLog

MOST_ENTRIES = Limits(seconds=LIMITS.seconds, rows=500_000)
_TIME = pa.timestamp("us", "UTC")


def report(reader: Reader) -> Report:
    """Return the report. Raises AccessDeniedError, QueryError, LakeError."""
    request = reader.request
    window = Window(since=request.since, until=request.until)
    answer = reader.ask(AccessLog(window=window, limits=MOST_ENTRIES))
    entries = answer.rows.to_pylist()
    grants = reader.grants
    return Report(
        title=f"Access review, {request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}",
        sections=[_grants(reader, grants), _subjects(grants, entries), _looks(entries, cut=answer.cut), _refused(entries, cut=answer.cut)],
    )


def _grants(reader: Reader, grants: Iterable[Grant]) -> Section:
    request = reader.request
    rows = [
        {
            "subject": grant.subject,
            "effect": "may not see" if grant.is_denial else grant.role,
            "cluster": grant.cluster,
            "namespace": grant.namespace or "*",
            "since": grant.since,
            "until": grant.until if grant.until and grant.until < request.until else None,
            "reason": grant.reason,
        }
        for grant in grants
        if (grant.until is None or grant.until > request.since) and (grant.since is None or grant.since < request.until)
    ]
    rows.sort(key=lambda row: tuple(str(row[name] or "") for name in row))
    types = {"since": _TIME, "until": _TIME}
    names = ("subject", "effect", "cluster", "namespace", "since", "until", "reason")
    everyone = reader.scope.everything
    return Section(
        id="grants",
        title="Who may see what, and why",
        text=("Grants and denials in force at some time of the window." + ("" if everyone else " Only those of the subject are shown."),),
        figures=(
            Figure(name="Grants", value=f"{sum(row['effect'] != 'may not see' for row in rows):,}"),
            Figure(name="Subjects", value=f"{len({row['subject'] for row in rows}):,}"),
            Figure(name="That see whole clusters", value=f"{len({row['subject'] for row in rows if row['effect'] in _WHOLE}):,}"),
        ),
        rows=pa.Table.from_pylist(rows, schema=pa.schema([(name, types.get(name, pa.string())) for name in names])),
        names={
            "subject": "Subject",
            "effect": "Role",
            "cluster": "Cluster",
            "namespace": "Namespace",
            "since": "Since",
            "until": "Until",
            "reason": "Why",
        },
        empty="No grant was in force.",
        shown=100,
    )


_WHOLE = ("platform-admin", "cluster-admin", "auditor")


def _subjects(grants: Iterable[Grant], entries: Iterable[Mapping[str, Any]]) -> Section:
    """Return the section about how often each subject with a grant asked something: who never does may not need it."""
    asked: Counter[str] = Counter()
    last: dict[str, Any] = {}
    for row in entries:
        for name in {row["principal"], *(f"group:{group}" for group in row["groups"] or ())}:
            asked[name] += 1
            last[name] = max(last.get(name, row["time"]), row["time"])
    rows = [
        {"subject": name, "questions": asked[name], "last": last.get(name)}
        for name in sorted({grant.subject for grant in grants if not grant.is_denial}, key=lambda name: (asked[name], name))
    ]
    return Section(
        id="use",
        title="How the grants were used",
        text=("Questions in the window by each subject with a grant; a group's are those of its members. None: perhaps it is not needed.",),
        rows=pa.Table.from_pylist(rows, schema=pa.schema([("subject", pa.string()), ("questions", pa.int64()), ("last", _TIME)])),
        names={"subject": "Subject", "questions": "Questions", "last": "Last (UTC)"},
        shown=100,
    )


def _looks(entries: list[dict[str, Any]], *, cut: bool) -> Section:
    counts: Counter[tuple[str, str, str, str]] = Counter()
    last: dict[tuple[str, str, str, str], Any] = {}
    people: Counter[str] = Counter()
    for row in entries:
        if row["outcome"] == "answered":
            key = (row["principal"], row["purpose"] or "", row["question"] or "", ", ".join(row["namespaces"] or ()))
            counts[key] += 1
            people[row["principal"]] += 1
            last[key] = max(last.get(key, row["time"]), row["time"])
    rows = [
        {"principal": who, "purpose": purpose, "question": question, "could_see": seen, "questions": number, "last": last[key]}
        for key, number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        for who, purpose, question, seen in (key,)
    ]
    types = {"questions": pa.int64(), "last": _TIME}
    names = ("principal", "purpose", "question", "could_see", "questions", "last")
    listed = sorted(people.items(), key=lambda item: (-item[1], item[0]))[:MOST_BARS]
    return Section(
        id="looks",
        title="Who looked at what",
        text=("Questions that were answered, from the access log; the operator is whoever runs commands on the lake's own files.",),
        chart=bars("Questions by who asked", listed, unit="questions", tone="redirected"),
        rows=pa.Table.from_pylist(rows, schema=pa.schema([(name, types.get(name, pa.string())) for name in names])),
        names={
            "principal": "Who",
            "purpose": "Where",
            "question": "Question",
            "could_see": "Could see",
            "questions": "Times",
            "last": "Last (UTC)",
        },
        cut=cut,
        empty="No question was asked in this window.",
    )


def _refused(entries: list[dict[str, Any]], *, cut: bool) -> Section:
    counts: Counter[tuple[str, str, str]] = Counter()
    for row in entries:
        if row["outcome"] == "denied":
            counts[row["principal"], row["purpose"] or "", row["question"] or ""] += 1
    rows = [
        {"principal": who, "purpose": purpose, "question": question, "times": number}
        for (who, purpose, question), number in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
    schema = pa.schema([("principal", pa.string()), ("purpose", pa.string()), ("question", pa.string()), ("times", pa.int64())])
    return Section(
        id="denied",
        title="Who was denied",
        text=("Questions by users who may see nothing.",),
        rows=pa.Table.from_pylist(rows, schema=schema),
        names={"principal": "Who", "purpose": "Where", "question": "Question", "times": "Times"},
        cut=cut,
        empty="Nobody was denied an answer in this window.",
    )
