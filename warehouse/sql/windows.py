"""Selects the rows of a table that overlap a window, for SQL written by users. Pure.

A row with a single time (a flow) overlaps a window that contains this time. A row with a time span overlaps it with any part of the
span: an hour of a rollup, an interval of coverage, the time in which a version of an object was in force.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from warehouse.access import visible
from warehouse.engine import Window, literal
from warehouse.schema import CONFIG_COVERAGE, COVERAGE, Table

_OF_INTERVALS = (COVERAGE.name, CONFIG_COVERAGE.name)
"""Tables whose rows have a span given by the columns `from` and `to`."""


def beginnings(table: Table, window: Window) -> Window:
    """Return the window in which rows start that overlap the given window; it starts earlier if rows have a duration."""
    if table.name == CONFIG_COVERAGE.name:  # a watch may have any length
        return replace(window, since=None)
    if table.name == COVERAGE.name:
        return visible.with_margin(window)
    return replace(window, since=window.since and window.since - table.row_span)


def touching(table: Table, rows: str, window: Window) -> str:
    """Return the query for those rows of a query (or relation) that overlap a window."""
    parts = []
    if "valid_to" in table.schema.names:
        if window.since:
            parts.append(f"(valid_to IS NULL OR valid_to > {_time(window.since)})")
        if window.until:
            parts.append(f"valid_from < {_time(window.until)}")
    else:
        if window.since and table.name in _OF_INTERVALS:
            parts.append(f'("to" > {_time(window.since)} OR "from" >= {_time(window.since)})')
        elif window.since:
            sign = ">" if table.row_span > timedelta(0) else ">="
            parts.append(f'"{table.time_column}" {sign} {_time(window.since - table.row_span)}')
        if window.until:
            parts.append(f'"{table.time_column}" < {_time(window.until)}')
    return f"SELECT * FROM {rows} WHERE {' AND '.join(parts)}" if parts else f"SELECT * FROM {rows}"


def _time(moment: datetime) -> str:
    return f"{literal(moment.isoformat())}::TIMESTAMPTZ"
