"""When the rows of a table last changed, by partition and span of time, as far as a process that follows the log has seen it.

What is computed from the rows of a span stays right for as long as the span's number stays the same. Merging files does not change
it. The log itself is read by warehouse.lake.log.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta

from warehouse.lake.files import StoredFile

SPAN = timedelta(minutes=10)
"""Changes are told apart by spans of this length."""
Key = tuple[str | None, ...]
"""The values of the partition columns, in the table's order."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SLACK = timedelta(milliseconds=1)  # some engines truncate the times in a file's statistics to milliseconds
_MOST_SPANS = 200
"""A file that may have rows in more spans than a day has changes its whole partition."""
_NUMBERS = itertools.count(1)  # next() is atomic in CPython, and no two snapshots of a process share a number
_WHOLE = -1


class LastChanges:
    """The number of the last change of each span. Immutable."""

    def __init__(self, spans: Mapping[Key, Mapping[int, int]] | None = None, *, at_first: int | None = None) -> None:
        """Without arguments, whatever happened before counts as one change."""
        self._spans = spans or {}
        self._at_first = next(_NUMBERS) if at_first is None else at_first

    def number(self, key: Key, since: datetime, until: datetime) -> int:
        """Return a number that differs from all earlier ones if rows of [since, until) in a partition may have changed since."""
        known = self._spans.get(key)
        if known is None:
            return self._at_first
        spans = range((since - _EPOCH) // SPAN, (until - timedelta.resolution - _EPOCH) // SPAN + 1)
        return max(self._at_first, known.get(_WHOLE, 0), *(known.get(span, 0) for span in spans))

    def after(self, changed: Mapping[Key, Iterable[StoredFile]]) -> LastChanges:
        """Return the numbers after a change of rows in these files of each partition."""
        if not changed:
            return self
        spans = dict(self._spans)
        for key, files in changed.items():
            number = next(_NUMBERS)
            spans[key] = {**spans.get(key, {}), **dict.fromkeys((span for file in files for span in _spans_of(file)), number)}
        return LastChanges(spans, at_first=self._at_first)


def _spans_of(file: StoredFile) -> Iterable[int]:
    """Return the numbers of the spans that a file may have rows of."""
    if file.first is None or file.last is None:
        return [_WHOLE]
    spans = range((file.first - _EPOCH - _SLACK) // SPAN, (file.last - _EPOCH + _SLACK) // SPAN + 1)
    return spans if len(spans) <= _MOST_SPANS else [_WHOLE]
