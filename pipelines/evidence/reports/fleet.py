"""The fleet report: coverage, volume, drops, posture, drift and findings of everything its subject may see."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipelines.evidence.reports import words
from pipelines.evidence.reports.model import Bars, Columns, Figure, Report, Section, Series
from pipelines.evidence.reports.parts import Parts
from pipelines.evidence.reports.reading import LIMITS, Reader
from warehouse.questions import count_questions
from warehouse.questions.flow_filter import bucket_width
from warehouse.questions.record_questions import Controls, Drift, Evaluations, Findings
from warehouse.records import coverage
from warehouse.records.posture import REQUIREMENTS
from warehouse.wording import counted

VERDICTS = {"FORWARDED": "Forwarded", "REDIRECTED": "Redirected", "AUDIT": "Audited", "DROPPED": "Dropped", "ERROR": "Error"}
"""Verdicts in the order of charts, with their names for people."""
MOST_BARS = 12


def report(reader: Reader) -> Report:
    """Return the report. Raises AccessDeniedError, QueryError, LakeError."""
    request = reader.request
    sections = [observed(reader), volume(reader), drops(reader), namespaces(reader), posture(reader), drift(reader), findings(reader)]
    return Report(title=f"Fleet report, {request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}", sections=sections)


def observed(reader: Reader) -> Section:
    """Return the section about coverage: what was observed, what was not, and what is known lost."""
    answer, request = reader.ledger, reader.request
    gaps = coverage.gaps(answer.rows, request.since, request.until, now=request.known)
    rows = []
    for node in answer.coverage:
        missing = [gap for gap in gaps if (gap.cluster, gap.node_name) == (node.cluster, node.node_name)]
        longest = max(missing, key=lambda gap: (gap.until - gap.since, gap.since), default=None)
        rows.append(
            {
                "cluster": node.cluster,
                "node": node.node_name,
                "observed": words.share(node.covered),
                "observed_share": node.covered,
                "gaps": len(missing),
                "longest_gap": words.span(longest.until - longest.since) if longest else "",
                "longest_gap_from": longest.since if longest else None,
                "cause": longest.cause if longest else "",
                "flows_received": node.flows_received,
                "flows_lost": node.flows_lost,
            }
        )
    rows.sort(key=lambda row: (row["observed_share"], row["cluster"], row["node"]))
    shares = dict(sorted(answer.shares.items()))
    figures = [
        Figure(name="Clusters", value=f"{len(shares):,}"),
        Figure(name="Nodes", value=f"{len(rows):,}"),
        Figure(name="Least observed cluster", value=words.share(min(shares.values())) if shares else "none", note=_least(shares)),
        Figure(name="Flows known lost", value=f"{answer.flows_lost:,}", tone="attention" if answer.flows_lost else "good"),
    ]
    undated = answer.coverage.flows_lost_undated
    text = ["What was not observed may have happened: an absence in this report counts only for observed time."]
    if undated:
        text.append(f"{counted(undated, 'flow')} more were lost at an unknown time, perhaps in this window.")
    chart = Bars(
        title="Share of the window that was observed, by cluster",
        names=tuple(shares),
        series=(Series(name="Observed", values=tuple(100 * part for part in shares.values()), tone="observed"),),
        unit="%",
        most=100,
    )
    schema = pa.schema(
        [
            ("cluster", pa.string()),
            ("node", pa.string()),
            ("observed", pa.string()),
            ("observed_share", pa.float64()),
            ("gaps", pa.int64()),
            ("longest_gap", pa.string()),
            ("longest_gap_from", pa.timestamp("us", "UTC")),
            ("cause", pa.string()),
            ("flows_received", pa.int64()),
            ("flows_lost", pa.int64()),
        ]
    )
    return Section(
        id="coverage",
        title="Coverage",
        text=tuple(text),
        figures=tuple(figures),
        chart=chart if shares else None,
        rows=pa.Table.from_pylist(rows, schema=schema),
        names={
            "cluster": "Cluster",
            "node": "Node",
            "observed": "Observed",
            "gaps": "Gaps",
            "longest_gap": "Longest gap",
            "cause": "Its cause",
            "flows_received": "Flows received",
            "flows_lost": "Flows lost",
        },
        empty="No node was expected to be observed in this window: nothing is known about it.",
    )


def _least(shares: dict[str, float]) -> str:
    return min(shares, key=lambda name: (shares[name], name)) if shares else "no cluster was observed"


def volume(reader: Reader, parts: Parts | None = None) -> Section:
    """Return the section about the number of flows over time, by verdict; from `parts` if they were read already."""
    wanted = reader.flows()
    rows, cut = (parts.timeline, False) if parts is not None else _timeline(reader)
    chart = over_time(rows.to_pylist(), wanted.since, wanted.until, bucket_width(wanted), "Flows by verdict")
    counts: Counter[str] = Counter()
    for row in rows.to_pylist():
        counts[row["verdict"]] += row["flows"]
    total = sum(counts.values())
    denied = counts["DROPPED"] + counts["ERROR"]
    return Section(
        id="volume",
        title="Volume",
        text=(f"One column stands for {words.span(bucket_width(wanted))}. Times are UTC.",),
        figures=(
            Figure(name="Flows", value=f"{total:,}"),
            Figure(name="Denied", value=f"{denied:,}", note=words.share(denied / total) + " of all" if total else ""),
        ),
        chart=chart if total else None,
        rows=rows,
        names={"start": "From (UTC)", "verdict": "Verdict", "flows": "Flows", "repeats": "Repeated reports"},
        shown=8,
        cut=cut,
        empty="No flow was recorded in this window.",
    )


def _timeline(reader: Reader) -> tuple[pa.Table, bool]:
    answer = reader.ask(count_questions.timeline(reader.flows(), limits=LIMITS, of_moments=True))
    return answer.rows, answer.cut


def over_time(rows: list[dict[str, Any]], since: datetime, until: datetime, width: timedelta, title: str) -> Columns:
    """Return the chart of rows with `start`, `verdict` and `flows`, with every part of the window."""
    found = {(row["start"], row["verdict"]): row["flows"] for row in rows}
    first = min([row["start"] for row in rows], default=since)
    starts = []
    while first < until:
        starts.append(first)
        first += width
    present = {row["verdict"] for row in rows}
    series = tuple(
        Series(name=name, values=tuple(found.get((start, verdict), 0) for start in starts), tone=verdict.lower())
        for verdict, name in VERDICTS.items()
        if verdict in present
    )
    return Columns(title=title, starts=tuple(starts), series=series)


def drops(reader: Reader) -> Section:
    """Return the section about drops by cluster and reason."""
    answer = reader.ask(count_questions.drop_reasons(reader.flows(), limits=LIMITS, of_moments=True))
    rows = answer.rows.to_pylist()
    by_reason: Counter[str] = Counter()
    for row in rows:
        by_reason[words.reason(row["drop_reason_desc"])] += row["drops"]
    listed = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))[:MOST_BARS]
    return Section(
        id="drops",
        title="Drops and their reasons",
        text=("Each drop counts once, however many flows reported it.",),
        chart=bars("Drops by reason", listed, unit="drops", tone="dropped"),
        rows=answer.rows,
        names={"cluster": "Cluster", "drop_reason_desc": "Reason", "drops": "Drops", "flows": "Flows that report them"},
        cut=answer.cut,
        empty="No drop was recorded in this window.",
    )


def bars(title: str, listed: list[tuple[str, int]], *, unit: str = "flows", tone: str = "forwarded") -> Bars | None:
    """Return a chart of named numbers; None without any."""
    if not listed:
        return None
    names, values = zip(*listed, strict=True)
    return Bars(title=title, names=names, series=(Series(name=unit.capitalize(), values=values, tone=tone),), unit=unit)


def namespaces(reader: Reader) -> Section:
    """Return the section about the namespaces with the most flows."""
    answer = reader.ask(count_questions.namespaces(reader.flows(), buckets=1, limits=LIMITS, of_moments=True))
    summed: dict[tuple[str, str], list[int]] = {}
    for row in answer.rows.to_pylist():
        numbers = summed.setdefault((row["cluster"], row["namespace"]), [0, 0])
        numbers[0] += row["flows"]
        numbers[1] += row["denied"]
    ordered = sorted(summed.items(), key=lambda item: (-item[1][0], item[0]))
    rows = [{"cluster": cluster, "namespace": name, "flows": flows, "denied": denied} for (cluster, name), (flows, denied) in ordered]
    schema = pa.schema([("cluster", pa.string()), ("namespace", pa.string()), ("flows", pa.int64()), ("denied", pa.int64())])
    top = ordered[:MOST_BARS]
    chart = Bars(
        title="Namespaces with the most flows",
        names=tuple(f"{cluster}/{name}" for (cluster, name), _ in top),
        series=(
            Series(name="Not denied", values=tuple(flows - denied for _, (flows, denied) in top), tone="forwarded"),
            Series(name="Denied", values=tuple(denied for _, (_, denied) in top), tone="dropped"),
        ),
    )
    return Section(
        id="namespaces",
        title="Namespaces",
        text=("A flow counts for the namespaces of both of its ends, and once where they are the same.",),
        chart=chart if top else None,
        rows=pa.Table.from_pylist(rows, schema=schema),
        names={"cluster": "Cluster", "namespace": "Namespace", "flows": "Flows", "denied": "Denied"},
        shown=25,
        cut=answer.cut,
    )


def posture(reader: Reader) -> Section:
    """Return the section about the audit controls at the end of the window, and clusters that were never evaluated."""
    at = reader.request.until
    answer, evaluated = reader.ask(Controls(at=at)), reader.ask(Evaluations(at=at))
    order = {"fail": 0, "unknown": 1, "not_evaluated": 2, "pass": 3}
    rows = sorted(answer.rows.to_pylist(), key=lambda row: (order.get(row["status"], 4), row["control"], row["cluster"]))
    counts = Counter(row["status"] for row in rows)
    known = {row["cluster"] for row in evaluated.rows.to_pylist()}
    never = sorted({node.cluster for node in reader.ledger.coverage} - known)
    text = [f"As of {words.moment(at)}."]
    if never:
        text.append(f"Never evaluated, so nothing is known about their posture: {', '.join(never)}.")
    shown = [
        {
            "control": row["control"],
            "requires": REQUIREMENTS.get(row["control"], ""),
            "cluster": row["cluster"],
            "status": row["status"],
            "failed": row["failed"],
            "checked": row["checked"],
            "failing": ", ".join(row["failing"] or ()),
            "detail": row["detail"],
            "evaluated": row["time"],
        }
        for row in rows
    ]
    names = ("control", "requires", "cluster", "status", "failed", "checked", "failing", "detail", "evaluated")
    types = {"failed": pa.int64(), "checked": pa.int64(), "evaluated": pa.timestamp("us", "UTC")}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    return Section(
        id="posture",
        title="Posture",
        text=tuple(text),
        figures=tuple(
            Figure(name=name, value=f"{counts[status]:,}", tone=tone if counts[status] else "plain")  # type: ignore[arg-type]
            for status, name, tone in (
                ("fail", "Controls that fail", "bad"),
                ("unknown", "Unknown", "attention"),
                ("not_evaluated", "Not evaluated", "attention"),
                ("pass", "Controls that pass", "good"),
            )
        )
        if rows
        else (),
        rows=pa.Table.from_pylist(shown, schema=schema),
        names={
            "control": "Control",
            "requires": "Requires that",
            "cluster": "Cluster",
            "status": "Status",
            "failed": "Failed",
            "checked": "Checked",
            "failing": "What fails",
        },
        empty="No control was evaluated by then, or none of a cluster that is seen whole.",
    )


def drift(reader: Reader) -> Section:
    """Return the section about drift from blueprints that was open at the end of the window."""
    request = reader.request
    answer = reader.ask(Drift(at=request.until))
    rows = answer.rows.select(["cluster", "namespace", "kind", "name", "drift", "severity", "since", "changed_by", "summary"])
    opened = sum(since is not None and since >= request.since for since in rows["since"].to_pylist())
    return Section(
        id="drift",
        title="Drift from blueprints",
        text=(f"Open at {words.moment(request.until)}.",),
        figures=(
            Figure(name="Open", value=f"{rows.num_rows:,}", tone="attention" if rows.num_rows else "good"),
            Figure(name="Of these since the window began", value=f"{opened:,}"),
        ),
        rows=rows,
        names={"severity": "Severity", "cluster": "Cluster", "namespace": "Namespace", "since": "Since", "summary": "What differs"},
        empty="No drift was open. Clusters that were never evaluated are named under Posture.",
    )


def findings(reader: Reader) -> Section:
    """Return the section about findings that were open at the end of the window."""
    answer = reader.ask(Findings(at=reader.request.until))
    severities = {name: place for place, name in enumerate(("critical", "high", "medium", "low", "info"))}
    columns = ["cluster", "namespace", "severity", "kind", "subject", "summary", "since"]
    rows = sorted(
        answer.rows.select(columns).to_pylist(),
        key=lambda row: (
            severities.get(row["severity"], len(severities)),
            row["cluster"],
            row["namespace"] or "",
            row["subject"] or "",
            row["summary"] or "",
        ),
    )
    counts = Counter(row["severity"] for row in rows)
    chart = bars("Open findings by severity", [(name, counts[name]) for name in severities if counts[name]], unit="findings", tone="audit")
    return Section(
        id="findings",
        title="Findings",
        text=(f"Open at {words.moment(reader.request.until)}.",),
        chart=chart,
        rows=pa.Table.from_pylist(rows, schema=answer.rows.select(columns).schema),
        names={
            "severity": "Severity",
            "cluster": "Cluster",
            "namespace": "Namespace",
            "since": "Since",
            "summary": "What was found",
        },
        empty="No finding was open, or policies were never audited.",
    )
