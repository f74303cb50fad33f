"""Up to which flow the history of a node is known to be complete.

A ring that overwrote flows before a stream had read them reports the number a second later, and only on that stream. So of the
flows that came last nobody knows whether others are missing between them. If the stream breaks, the next one can prove that none
are: a ring has no holes, so all is well if it begins no later than with the last flow that was known to be complete. Rows of the
ledger do not belong here.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

REPORT_US = 3_000_000
"""A loss is reported within this time of the first flow after it: a ring gathers losses for a second, and relay sorts."""
GATHER_US = 1_000_000
"""For so long a ring gathers losses before it reports them."""
PAUSE_US = 1_000_000
"""Of a longer time in which a stream brought nothing only this much counts: a paused process received nothing meanwhile."""


@dataclass(slots=True)
class ReadingTime:
    """How long the stream of one address has been read, without pauses. Microseconds."""

    total: int = 0
    _at: int = 0

    def advance(self, since: int, at: int) -> None:
        """Flows arrived from `since` to `at`, by our clock."""
        if self._at:
            self.total += min(max(since - self._at, 0), PAUSE_US)
        self.total += max(at - since, 0)
        self._at = at


class _Slice(NamedTuple):
    """Flows of a node that arrived together."""

    read: int
    """The reading time of their stream when the last of them arrived."""
    before: int
    """The time of the node's last flow before them."""


@dataclass(slots=True)
class Completeness:
    """One node's. Times of flows are microseconds since 1970, by the node's clock."""

    until: int | None = None
    """What earlier streams gave is known to be complete up to here; None if there is nothing yet."""
    begin: int | None = None
    """The time of the first flow that the present stream brought."""
    last: int | None = None
    """The time of the last flow that it brought."""
    continues: bool = False
    """Whether the present stream was found to continue what came before, or the time in between was booked as a gap."""
    _slices: deque[_Slice] = field(default_factory=lambda: deque(maxlen=256))

    @property
    def known(self) -> int | None:
        """The last flow before which no loss can have gone unreported; None if there is no flow yet."""
        before = self.before_slices(REPORT_US) if self.continues else None
        return before if self.until is None else max(self.until, before or self.until)

    def before_slices(self, reach_us: int) -> int | None:
        """The last flow that came earlier than `reach_us` of reading time before the node's newest flows; None if none came."""
        slices = list(self._slices)  # `known` is asked by threads of streams as well
        found = None
        for one in reversed(slices):
            if one.read < slices[-1].read - reach_us:
                break
            found = one.before
        return found

    def add(self, first: int, last: int, read: int) -> None:
        """Flows arrived, the first and the last of these times, when their stream had been read for so long."""
        if self.begin is None:
            self.begin = first
        if self.until is None:  # the node's first flow of all
            self.until, self.continues = first, True
        self._slices.append(_Slice(read, self.until if self.last is None else self.last))
        self.last = last if self.last is None else max(last, self.last)

    def begin_stream(self) -> None:
        """Another stream begins: what the one before it brought last may lack flows whose loss was not reported."""
        self.until = self.known
        self.begin = self.last = None
        self.continues = False
        self._slices.clear()

    def complete(self, until: int) -> None:
        """Note that all losses up to this flow have been reported."""
        self.until = until
        self._slices.clear()
