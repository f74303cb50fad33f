"""Divides a window into the time buckets of a timeline. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

BUCKETS = 60
"""The default number of buckets in a timeline."""
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
_WIDTHS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
    )
)  # fmt: skip
"""The allowed bucket widths. Each bucket starts at a round time, so it consists of whole minutes."""


def width_of(since: datetime, until: datetime, buckets: int = BUCKETS) -> timedelta:
    """Return the smallest round width, at least a second, with which at most `buckets` buckets (plus one) cover the window."""
    least = (until - since) / max(1, buckets)
    return next((width for width in _WIDTHS if width >= least), _WIDTHS[-1] * -(-least // _WIDTHS[-1]))
