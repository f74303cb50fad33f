"""When the flows were seen that would have been denied, for the edges with most of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.charting import charts
from dashboards.frame import theme
from dashboards.visit import Visit
from dashboards.whatif.edge_rows import EdgeRow
from pipelines.replay.changed_edges import END_COLUMNS
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.replay_questions import DistinctEdges
from warehouse.records.coverage import Gaps

SHOWN = 4
"""Edges with a colour of their own; the rest are drawn as one."""
_DAYS_FROM = timedelta(days=3)
_REST = "others"


@dataclass(frozen=True, kw_only=True)
class Times:
    """Flows of edges in equal parts of the window."""

    width: timedelta
    rows: list[dict[str, Any]]
    """`start`, `kind` (the edge) and `flows`."""
    kinds: list[str]
    """Edges in the order of their flows."""
    uncertain: int
    """Flows among them of which it is uncertain whether they would have been denied: their hour has others that would have been."""


def of(visit: Visit, denied: Sequence[EdgeRow]) -> Times:
    """Return when the flows of edges were seen, an hour or a day apart. Raises as `Door.answer`."""
    width = timedelta(days=1) if visit.time.length > _DAYS_FROM else timedelta(hours=1)
    names = {_key(row): str(row) if place < SHOWN else _REST for place, row in enumerate(denied)}
    namespaces = {end[1] for row in denied for end in (row.source, row.destination)}
    wanted = FlowFilter(
        since=visit.time.since,
        until=visit.time.until,
        clusters=tuple(sorted({cluster for row in denied for cluster in row.clusters})),
        namespaces=tuple(sorted(name for name in namespaces if name)) if len(namespaces) <= SHOWN else (),
    )
    answer = visit.answer(DistinctEdges(wanted=wanted, with_labels=False))
    visit.answers.remove(answer)
    counts: dict[tuple[datetime, str], int] = {}
    for row in answer.plain().to_pylist():
        name = names.get(_key_of(row))
        if name is not None and row["verdict"] in ("FORWARDED", "REDIRECTED"):
            start = row["since"].replace(hour=0) if width > timedelta(hours=1) else row["since"]
            counts[start, name] = counts.get((start, name), 0) + row["flows"] - row["repeats"]
    kinds = list(dict.fromkeys(names.values()))
    rows = [{"start": start, "kind": name, "flows": flows} for (start, name), flows in sorted(counts.items())]
    uncertain = max(0, sum(counts.values()) - sum(row.flows for row in denied))
    return Times(width=width, rows=rows, kinds=kinds, uncertain=uncertain)


def _key(row: EdgeRow) -> tuple[Any, ...]:
    # Without the range of an address: a simulation may read the address itself, of which edges keep the range alone.
    return row.source[:-1], row.destination[:-1], row.port, row.protocol


def _key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    ends = (tuple(row[f"{side}_{name}"] for name in ("cluster_name", *END_COLUMNS[:-1])) for side in ("source", "destination"))
    return *ends, row["destination_port"], row["l4_protocol"]


def draw(visit: Visit, times: Times, gaps: Gaps) -> None:
    """Draw them as bars, stacked by edge."""
    shades = theme.palette()
    colours = [*(shades.verdicts[name] for name in ("DROPPED", "AUDIT", "REDIRECTED", "FORWARDED")), shades.other]
    of_kind = dict(zip(times.kinds, colours, strict=False))
    unit = "day" if times.width > timedelta(hours=1) else "hour"
    theme.legend(f"Would have been denied, by {unit}", list(of_kind.items()))
    chart = charts.bars(
        [row for row in times.rows if row["kind"] in of_kind],
        since=visit.time.since,
        until=visit.time.until,
        width=times.width,
        colours=of_kind,
        names={kind: kind for kind in of_kind},
        gaps=gaps,
        shades=shades,
        height=120,
    )
    if times.uncertain:
        st.caption(f"{theme.compact(times.uncertain)} of the flows that are drawn are uncertain: each {unit} of an edge is drawn whole.")
    charts.draw(chart, f"Flows that would have been denied, by {unit} and edge")
