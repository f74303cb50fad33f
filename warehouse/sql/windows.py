"""The rows of a table that a window gives to people's own SQL: those that touch it. Pure.

A row of one moment (a flow) touches a window that the moment lies in. A row of a span of time touches it with any part of the span:
an hour of a rollup, an interval of coverage, a version of an object while it was in force.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from warehouse.access import visible
from warehouse.engine import Window, literal
from warehouse.schema import CONFIG_COVERAGE, COVERAGE, Table

_OF_INTERVALS = (COVERAGE.name, CONFIG_COVERAGE.name)
"""Tables whose rows last `from` a time `to` another."""


def beginnings(table: Table, window: Window) -> Window:
    """The window in which the rows begin that touch a window: an earlier one where rows last."""
    if table.name == CONFIG_COVERAGE.name:  # a watch may have lasted for any time
        return replace(window, since=None)
    if table.name == COVERAGE.name:
        return visible.with_margin(window)
    return replace(window, since=window.since and window.since - table.row_span)


def touching(table: Table, rows: str, window: Window) -> str:
    """The query for those rows of a query (or relation) that touch a window."""
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
