"""Who talked to whom, as the owner and segmentation reports tell it: edges of the answer to `edges_in_time`, and two windows compared."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from pipelines.evidence.reports import words
from pipelines.evidence.reports.model import Section
from pipelines.evidence.reports.parts import KEY, Parts
from pipelines.evidence.reports.reading import LIMITS, Reader
from warehouse.engine import Limits, Window
from warehouse.questions.answers import Answer
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import Ledger

MOST_EDGES = Limits(seconds=LIMITS.seconds, rows=20_000)
_TIME = pa.timestamp("us", "UTC")
SCHEMA = pa.schema(
    [
        ("cluster", pa.string()),
        ("source", pa.string()),
        ("destination", pa.string()),
        ("port", pa.string()),
        ("flows", pa.int64()),
        ("denied", pa.int64()),
        ("first", _TIME),
        ("last", _TIME),
    ]
)
NAMES = {
    "cluster": "Cluster",
    "source": "From",
    "destination": "To",
    "port": "Port",
    "flows": "Flows",
    "denied": "Denied",
    "first": "First (UTC)",
    "last": "Last (UTC)",
}
SEEN_WELL = 0.9
"""Below this share of observed time, that an edge was not seen says little."""


def edges(reader: Reader, wanted: FlowFilter, parts: Parts | None = None) -> tuple[list[dict[str, Any]], bool]:
    """Return the edges between workloads, most flows first, and whether there were more than the limit.

    From `parts` if they were read already; `wanted` is then the report's window, or the one before.
    """
    if parts is not None:
        found = parts.edges(before=wanted.until <= reader.request.since)
        return found.slice(0, MOST_EDGES.rows).to_pylist(), found.num_rows > MOST_EDGES.rows
    answer = reader.ask(edges_in_time(wanted, limits=MOST_EDGES, of_moments=True))
    columns = [*KEY, "flows", "denied", "first", "last"]  # the others may be told differently after compaction
    return answer.rows.select(columns).to_pylist(), answer.cut


def end(row: Mapping[str, Any], side: str) -> str:
    """Return one end in words: namespace/workload, or what it is outside."""
    namespace, name = row[f"{side}_namespace"], row[f"{side}_name"]
    return "/".join(part for part in (namespace, name) if part) or "unknown"


def port(row: Mapping[str, Any]) -> str:
    """Return the port of a row in words: `443/TCP`, `ICMPv4`, or nothing."""
    return "/".join(str(part) for part in (row["port"], row["protocol"]) if part is not None)


def table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Return edges as rows of SCHEMA."""
    told = [
        {
            **{name: row[name] for name in ("cluster", "flows", "denied", "first", "last")},
            "source": end(row, "source"),
            "destination": end(row, "destination"),
            "port": port(row),
        }
        for row in rows
    ]
    return pa.Table.from_pylist(told, schema=SCHEMA)


def section(id_: str, title: str, rows: list[dict[str, Any]], *, text: str, cut: bool, empty: str) -> Section:
    """Return a section with edges."""
    return Section(id=id_, title=title, text=(text,), rows=table(rows), names=NAMES, cut=cut, empty=empty, shown=25)


def compared(reader: Reader, wanted: FlowFilter, now: list[dict[str, Any]], *, cut: bool) -> list[Section]:
    """Return the sections about edges that are new and that vanished, against the window of the same length before."""
    before_filter = reader.before(wanted)
    before, before_cut = edges(reader, before_filter, reader.parts)
    olds, news = ({tuple(row[name] for name in KEY): row for row in rows} for rows in (before, now))
    appeared = [row for key, row in news.items() if key not in olds]
    vanished = [row for key, row in olds.items() if key not in news]
    earlier: Answer = reader.ask(
        Ledger(window=Window(since=before_filter.since, until=before_filter.until, as_of=reader.as_of), name="ledger_before")
    )
    ends = f"{before_filter.since:%Y-%m-%d %H:%M} to {before_filter.until:%Y-%m-%d %H:%M} UTC"
    span = f"the {words.span(wanted.until - wanted.since)} before ({ends})"
    limited = " Only the edges with the most flows were compared." if cut or before_cut else ""
    return [
        section(
            "new-edges",
            "New edges",
            sorted(appeared, key=lambda row: (row["first"], _order(row))),
            text=f"Seen in this window and not in {span}.{_doubt(earlier.shares, 'before')}{limited}",
            cut=cut,
            empty="Every edge of this window was seen before." if now else "No edge was seen in this window.",
        ),
        section(
            "vanished-edges",
            "Vanished edges",
            sorted(vanished, key=lambda row: (-row["flows"], _order(row))),
            text=f"Seen in {span} and not in this window.{_doubt(reader.ledger.shares, 'in this window')}{limited}",
            cut=before_cut,
            empty="Every edge that was seen before was seen in this window." if before else "No edge was seen before.",
        ),
    ]


def _order(row: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(str(row[name] or "") for name in KEY)


def _doubt(shares: Mapping[str, float], when: str) -> str:
    """Return what to know of clusters that were not observed well, since there an edge may only not have been seen."""
    if not shares:
        return f" Nothing was observed {when}, so this says nothing."
    poor = [f"{cluster} {words.share(part)}" for cluster, part in sorted(shares.items()) if part < SEEN_WELL]
    return f" Observed only in part {when}, where an edge may just not have been seen: {', '.join(poor)}." if poor else ""


def of_namespaces(wanted: FlowFilter, names: Iterable[str]) -> FlowFilter:
    """Return the filter for flows from or to these namespaces."""
    return replace(wanted, namespaces=tuple(names))
