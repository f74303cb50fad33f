"""How a window is divided into the parts of a timeline. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta

BUCKETS = 60
"""Parts of a timeline, unless another number is asked for."""
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
_WIDTHS = tuple(
    timedelta(seconds=seconds)
    for seconds in (
        1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800,
    )
)  # fmt: skip
"""The widths that a part may have. Each part begins at a round time, so that minutes add up to it."""


def width_of(since: datetime, until: datetime, buckets: int = BUCKETS) -> timedelta:
    """The smallest round width, at least a second, with which at most `buckets` parts (and one more) cover the window."""
    least = (until - since) / max(1, buckets)
    return next((width for width in _WIDTHS if width >= least), _WIDTHS[-1] * -(-least // _WIDTHS[-1]))
