"""The overview's cards: a number each, how it stands against the day before, its course in the window, and a link to what it counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.charting import sparks
from dashboards.edges.edges import Edge
from dashboards.frame import navigation, summary, theme, url_state
from dashboards.frame.theme import Palette
from dashboards.history.changes import Change
from warehouse.questions.answers import Answer
from warehouse.records.coverage import Gaps
from warehouse.wording import counted

DROPPED = ("DROPPED", "ERROR")
ENOUGH = 0.9
"""The share of a window that has to be observed for its numbers to be held against another window's."""


@dataclass(frozen=True, kw_only=True)
class Numbers:
    """What the cards are drawn from."""

    pulse: Answer
    """Flows in parts of the window by verdict."""
    starts: Sequence[datetime]
    """When the parts of the window start."""
    width: timedelta
    """How long each part is."""
    before: Mapping[str, int]
    """Flows by verdict of the window before, empty where there were none."""
    before_word: str
    """What that window is called: the day before, the window before."""
    before_observed: float
    """The share of that window that was observed, 0 to 1."""
    fresh: Sequence[Edge] | None
    """Edges that the day before did not have; None where that day was not observed."""
    day_observed: float
    """The share of that day that was observed, 0 to 1."""
    changed: Sequence[Change] | None
    """Changes of configuration in the window; None where no history is recorded."""
    drift: Sequence[Mapping[str, Any]] | None
    """Drift that was open at the window's end; None where no blueprint is compared."""
    gaps: Gaps
    sees_all: bool
    """Whether the principal sees everything, so that what is not seen is not there."""


def draw(numbers: Numbers) -> None:
    """Draw the cards; audit verdicts only where there is room for them."""
    shades = theme.palette()
    number = 5 + (numbers.changed is not None or numbers.drift is not None)
    cards = st.container(key="cards").grid(number, gap="small", border=True, min_column_width=160)
    for card in (_flows, _dropped, _new_edges, _changes, _drift, _audit, _coverage):
        if card is _changes and numbers.changed is None:
            continue
        if card is _drift and numbers.drift is None:
            continue
        if card is _audit and numbers.changed is not None and numbers.drift is not None:
            continue
        with cards.cell():
            card(numbers, shades)


def _metric(title: str, page: str, query: Any, value: str, note: str, help_text: str, *, colour: str = "off", arrow: str = "off") -> None:
    """A card's title, which leads to what it counts, its number and a note."""
    navigation.link(page, title, query=query, icon="north_east", help_text=help_text)
    st.metric(title, value, note, delta_color=colour, delta_arrow=arrow, label_visibility="collapsed")  # type: ignore[arg-type]


def _flows(numbers: Numbers, shades: Palette) -> None:
    counts = _counts(numbers, None)
    total, then = sum(counts), sum(numbers.before.values())
    if not numbers.before_observed:
        note = f"{numbers.before_word} was not observed"
    elif numbers.before_observed < ENOUGH:
        note = f"{theme.percent(numbers.before_observed)} of {numbers.before_word} observed"
    else:
        note = f"{(total - then) / then * 100:+.0f} % vs {numbers.before_word}" if then else f"none {numbers.before_word}"
    _metric("Flows", "flows", url_state.link(), theme.compact(total), note, counted(total, "flow"))
    sparks.draw(counts, shades.verdicts["FORWARDED"], "Flows in the window")


def _dropped(numbers: Numbers, shades: Palette) -> None:
    dropped, total = _counts(numbers, DROPPED), sum(_counts(numbers, None))
    drops, was = sum(dropped), numbers.before
    share, share_then = _share(drops, total), _share(sum(was.get(verdict, 0) for verdict in DROPPED), sum(was.values()))
    note = f"{theme.percent(share)} of flows" + (f", was {theme.percent(share_then)}" if was else "")
    worse = bool(was) and numbers.before_observed >= ENOUGH and share > share_then * 1.5 and drops > 10
    query = url_state.link(verdict=DROPPED)
    look = {"colour": "inverse", "arrow": "up"} if worse else {}
    _metric("Dropped", "flows", query, theme.compact(drops), note, counted(drops, "flow"), **look)
    sparks.draw(dropped, shades.verdicts["DROPPED"], "Drops in the window", kind="bars")


def _new_edges(numbers: Numbers, shades: Palette) -> None:
    fresh, hint = numbers.fresh, "Workloads that talk and did not on the day before"
    query = url_state.link(kind="new", against="day")
    if fresh is None:
        _metric("New edges", "compare", query, "unknown", "the day before was not observed", hint)
        return
    denied = sum(edge.is_denied for edge in fresh)
    of_day = "" if numbers.day_observed >= ENOUGH else f", {theme.percent(numbers.day_observed)} of it observed"
    note = f"since the day before{of_day}{f', {denied} denied' if denied else ''}"
    _metric("New edges", "compare", query, f"{len(fresh):,}", note, hint)
    sparks.draw(_arrivals(fresh), shades.verdicts["AUDIT"], "New edges in the window, added up", kind="steps")


def _changes(numbers: Numbers, shades: Palette) -> None:
    changed = numbers.changed or ()
    where = sorted({change.version["namespace"] or "whole cluster" for change in changed})
    note = ", ".join(where[:2]) + (f" and {len(where) - 2} more" if len(where) > 2 else "") or _none(numbers, "none in the window")
    _metric("Policy changes", "policies", url_state.link(show="changed"), f"{len(changed):,}", note, "And of Cilium's settings")
    moments = [sum(change.at <= start for change in changed) for start in numbers.starts]
    sparks.draw(moments, shades.verdicts["AUDIT"], "Changes of the configuration, added up", kind="steps")


def _none(numbers: Numbers, words: str) -> str:
    return words if numbers.sees_all else "none that you may see"


def _drift(numbers: Numbers, shades: Palette) -> None:
    drift = numbers.drift or ()
    severe = sum(row["severity"] in ("critical", "high") for row in drift)
    note = f"{severe} critical or high" if drift else _none(numbers, "none is open")
    _metric("Drift", "posture", url_state.link(), f"{len(drift):,}", note, "From blueprints", colour="inverse" if severe else "off")
    opened = [sum(row["since"] <= start for row in drift) for start in numbers.starts]
    sparks.draw(opened, shades.verdicts["DROPPED"], "Drift that is open, since when", kind="steps")


def _audit(numbers: Numbers, shades: Palette) -> None:
    audited = _counts(numbers, ("AUDIT",))
    query, total = url_state.link(verdict="AUDIT"), sum(audited)
    _metric("Audit verdicts", "flows", query, theme.compact(total), "would be denied if enforced", counted(total, "flow"))
    sparks.draw(audited, shades.verdicts["AUDIT"], "Audit verdicts in the window", kind="bars")


def _coverage(numbers: Numbers, shades: Palette) -> None:
    gaps = numbers.gaps
    nodes = len({(gap.cluster, gap.node_name) for gap in gaps})
    note = f"{counted(len(gaps), 'gap')} on {counted(nodes, 'node')}" if gaps else "no gap"
    _metric(
        "Coverage",
        "coverage",
        url_state.link(),
        theme.percent(summary.observed(numbers.pulse)),
        note,
        "Share of node-time that was observed",
    )
    sparks.draw(_observed(gaps, numbers.starts, numbers.width), shades.other, "Coverage in the window", kind="steps")


def _counts(numbers: Numbers, verdicts: tuple[str, ...] | None) -> list[int]:
    """Flows with these verdicts (all for None) in each part of the window."""
    counts: dict[datetime, int] = {}
    for row in numbers.pulse.rows.to_pylist():
        if verdicts is None or row["verdict"] in verdicts:
            counts[row["start"]] = counts.get(row["start"], 0) + row["flows"]
    return [counts.get(start, 0) for start in numbers.starts]


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _arrivals(fresh: Sequence[Edge]) -> list[int]:
    """How many of the new edges had been seen by the end of each part of the window."""
    firsts = [next((place for place, flows in enumerate(edge.buckets) if flows), 0) for edge in fresh]
    return [sum(first <= place for first in firsts) for place in range(len(fresh[0].buckets) if fresh else 2)]


def _observed(gaps: Gaps, starts: Sequence[datetime], width: timedelta) -> list[float]:
    """The share of node-time that was observed in each part of the window; where nothing is known yet, that of the part before."""
    seen = [interval for intervals in gaps.observed.values() for interval in intervals]
    missing = [(gap.since, gap.until) for gap in gaps]
    values: list[float] = []
    for start in starts:
        observed, missed = (_within(intervals, start, start + width) for intervals in (seen, missing))
        values.append(observed / (observed + missed) if observed + missed else values[-1] if values else 0.0)
    return values


def _within(intervals: Sequence[tuple[datetime, datetime]], since: datetime, until: datetime) -> float:
    """Seconds of the intervals that lie in a window."""
    return sum((min(end, until) - max(begin, since)).total_seconds() for begin, end in intervals if begin < until and end > since)
