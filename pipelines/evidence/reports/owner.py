"""The owner report: who talked to her, whom she talked to, drops and why, what is new, vanished, unused, recommended and changed."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa

from pipelines.audits.finding import Kind
from pipelines.evidence.reports import changes, edges, fleet, words
from pipelines.evidence.reports.model import Bars, Figure, Report, Section, Series
from pipelines.evidence.reports.reading import Reader
from warehouse.questions.edges_in_time import denials
from warehouse.questions.record_questions import Findings

UNUSED = frozenset({Kind.UNUSED_POLICY, Kind.UNUSED_RULE, Kind.SHADOWED_RULE, Kind.REDUNDANT_RULE, Kind.DANGLING_SELECTOR})
"""Findings about rules that nothing needed."""


def report(reader: Reader) -> Report:
    """Return the report. Raises AccessDeniedError, QueryError, LakeError."""
    request, wanted = reader.request, reader.flows()
    found, cut = edges.edges(reader, wanted, reader.parts)
    scope = reader.scope
    inbound = [row for row in found if scope.owns(row["cluster"], row["destination_namespace"], request.until)]
    outbound = [row for row in found if scope.owns(row["cluster"], row["source_namespace"], request.until)]
    return Report(
        title=f"Report for {request.made_for}, {request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}",
        summary=(
            "It holds what this subject may see: flows of namespaces while she owned them, the other side as far as it is shown to her.",
        ),
        sections=[
            fleet.volume(reader, reader.parts),
            _talked("inbound", "Who talked to us", inbound, "source", cut=cut),
            _talked("outbound", "Whom we talked to", outbound, "destination", cut=cut),
            denied(reader),
            *edges.compared(reader, wanted, found, cut=cut),
            *of_audits(reader),
            *changes.sections(reader),
            fleet.drift(reader),
            fleet.observed(reader),
        ],
    )


def _talked(id_: str, title: str, rows: list[dict[str, Any]], side: str, *, cut: bool) -> Section:
    """Return the section about edges in one direction; the chart sums them by the other end."""
    sums: dict[str, list[int]] = {}
    for row in rows:
        numbers = sums.setdefault(edges.end(row, side), [0, 0])
        numbers[0] += row["flows"]
        numbers[1] += row["denied"]
    top = sorted(sums.items(), key=lambda item: (-item[1][0], item[0]))[: fleet.MOST_BARS]
    chart = Bars(
        title=f"{title}: flows by the other side",
        names=tuple(name for name, _ in top),
        series=(
            Series(name="Not denied", values=tuple(flows - denied for _, (flows, denied) in top), tone="forwarded"),
            Series(name="Denied", values=tuple(denied for _, (_, denied) in top), tone="dropped"),
        ),
    )
    return Section(
        id=id_,
        title=title,
        text=("Flows as reported: a connection that both its nodes report counts at both.",),
        chart=chart if top else None,
        rows=edges.table(rows),
        names=edges.NAMES,
        shown=20,
        cut=cut,
    )


def denied(reader: Reader) -> Section:
    """Return the section about denied edges, by drop reason."""
    if reader.parts is not None:
        everything = reader.parts.denials()
        found, cut = everything.slice(0, edges.MOST_EDGES.rows), everything.num_rows > edges.MOST_EDGES.rows
    else:
        answer = reader.ask(denials(reader.flows(verdicts=("DROPPED", "ERROR")), limits=edges.MOST_EDGES))
        found, cut = answer.rows, answer.cut
    rows = [
        {
            "cluster": row["cluster"],
            "source": edges.end(row, "source"),
            "destination": edges.end(row, "destination"),
            "port": edges.port(row),
            "reason": words.reason(row["reason"]),
            "flows": row["flows"],
            "first": row["first"],
            "last": row["last"],
        }
        for row in found.to_pylist()
    ]
    counts: Counter[str] = Counter()
    for row in rows:
        counts[row["reason"]] += row["flows"]
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: fleet.MOST_BARS]
    schema = pa.schema([(field.name, field.type) for field in edges.SCHEMA if field.name != "denied"])
    schema = schema.insert(4, pa.field("reason", pa.string()))
    return Section(
        id="drops",
        title="Drops, and why",
        text=("Flows that report a denial; a drop may be reported more than once.",),
        chart=fleet.bars("Denied flows by reason", listed, tone="dropped"),
        rows=pa.Table.from_pylist(rows, schema=schema),
        names={**{name: heading for name, heading in edges.NAMES.items() if name != "denied"}, "reason": "Reason"},
        cut=cut,
        shown=25,
        empty="No denied flow was recorded in this window.",
    )


def of_audits(reader: Reader) -> list[Section]:
    """Return the sections about rules that nothing needed, recommendations, and other open findings, as the daily audit left them."""
    answer = reader.ask(Findings(at=reader.request.until))
    columns = ["cluster", "namespace", "severity", "kind", "subject", "summary", "since", "detail"]
    rows = answer.rows.select(columns).to_pylist()
    rows.sort(key=lambda row: tuple(str(row[name] or "") for name in ("cluster", "namespace", "kind", "subject", "summary")))
    at = words.moment(reader.request.until)
    unused = [row for row in rows if row["kind"] in UNUSED]
    recommended = [row for row in rows if row["kind"] == Kind.RECOMMENDED_POLICY]
    others = [row for row in rows if row["kind"] not in UNUSED and row["kind"] != Kind.RECOMMENDED_POLICY]
    schema = answer.rows.select(columns[:-1]).schema
    names = {
        "severity": "Severity",
        "cluster": "Cluster",
        "namespace": "Namespace",
        "subject": "Object",
        "since": "Since",
        "summary": "What",
    }

    def told(id_: str, title: str, text: str, found: list[dict[str, Any]], empty: str) -> Section:
        listed = pa.Table.from_pylist([{name: row[name] for name in columns[:-1]} for row in found], schema=schema)
        return Section(id=id_, title=title, text=(text,), rows=listed, names=names, empty=empty)

    nothing = "None was open, or policies were never audited."
    policies = [
        {
            "cluster": row["cluster"],
            "namespace": row["namespace"],
            "since": row["since"],
            "policies": len(_policies(row["detail"])),
            "summary": row["summary"],
            "manifests": json.dumps(_policies(row["detail"]), sort_keys=True, ensure_ascii=False),
        }
        for row in recommended
    ]
    described = pa.schema(
        [
            ("cluster", pa.string()),
            ("namespace", pa.string()),
            ("since", schema.field("since").type),
            ("policies", pa.int64()),
            ("summary", pa.string()),
            ("manifests", pa.string()),
        ]
    )
    return [
        told("unused", "Rules that nothing needed", f"Open at {at}, as the daily audit of policies found them.", unused, nothing),
        Section(
            id="recommended",
            title="Recommendations",
            text=(f"Policies that recorded traffic would need, open at {at}; the manifests are in the data files.",),
            figures=(Figure(name="Namespaces", value=f"{len(policies):,}"),) if policies else (),
            rows=pa.Table.from_pylist(policies, schema=described),
            names={"cluster": "Cluster", "namespace": "Namespace", "policies": "Policies", "summary": "How to get them"},
            empty=nothing,
        ),
        told("findings", "Other findings", f"Open at {at}.", others, nothing),
    ]


def _policies(detail: str | None) -> list[Any]:
    found = json.loads(detail or "{}").get("policies")
    return found if isinstance(found, list) else []
