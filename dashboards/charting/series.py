"""What a chart in time says in numbers: for each of its series min, mean, 95th percentile, max, last and total. Pure but for drawing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import streamlit as st

EPOCH = datetime(2000, 1, 3, tzinfo=UTC)
"""DuckDB's origin of weeks and shorter parts of time."""


def starts(since: datetime, until: datetime, width: timedelta) -> list[datetime]:
    """When the parts of a window start, as questions cut it: at round times, the first perhaps before the window does."""
    moment = EPOCH + (since - EPOCH) // width * width
    moments = []
    while moment < until:
        moments.append(moment)
        moment += width
    return moments


def numbers(rows: Sequence[Mapping[str, Any]], moments: Sequence[datetime], names: Mapping[str, str]) -> list[dict[str, Any]]:
    """A row for each of the kinds in `names` (with its name), of rows of `start`, `kind`, `flows`; a part without a row counts as 0."""
    by_kind: dict[str, dict[datetime, int]] = {kind: {} for kind in names}
    for row in rows:
        counts = by_kind[row["kind"]]
        counts[row["start"]] = counts.get(row["start"], 0) + row["flows"]
    return [_numbers(names[kind], [counts.get(moment, 0) for moment in moments]) for kind, counts in by_kind.items() if moments]


def _numbers(name: str, values: Sequence[int]) -> dict[str, Any]:
    ordered = sorted(values)
    return {
        "Series": name,
        "Min": ordered[0],
        "Mean": sum(values) / len(values),
        "95th": ordered[math.ceil(0.95 * len(ordered)) - 1],
        "Max": ordered[-1],
        "Last": values[-1],
        "Total": sum(values),
    }


def popover(found: Sequence[Mapping[str, Any]], unit: str, *, key: str) -> None:
    """A button that opens the table; `unit` says what a number is, e.g. flows per 30 min."""
    with st.popover("Numbers", icon=":material/functions:", key=key):
        shown = st.column_config.NumberColumn(format="localized")
        st.dataframe(
            found,
            hide_index=True,
            row_height=28,
            width=560,
            alt="The chart's series in numbers",
            column_config={
                **dict.fromkeys(("Min", "95th", "Max", "Last", "Total"), shown),
                "Mean": st.column_config.NumberColumn(format="%.1f"),
            },
        )
        st.caption(f"{unit}; the total is of the whole window, and the first and last part may be shorter than the others.")
