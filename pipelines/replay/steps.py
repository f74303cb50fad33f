"""How far long work is, as whoever waits for it is told. Pure."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Told what is done now, how many steps are done, and how many there are as far as is known."""


def tell_nobody(_what: str, _done: int, _steps: int) -> None:
    """Ignore how far the work is."""


class Steps:
    """Counts the steps of some work."""

    def __init__(self, progress: Progress, count: int) -> None:
        self._progress, self._count, self._begun = progress, count, 0

    def more(self, count: int) -> None:
        """Add steps that were not known of before."""
        self._count += count

    def next(self, what: str) -> None:
        """Begin the next step, which ends the one before it."""
        self._progress(what, self._begun, self._count)
        self._begun += 1

    def end(self) -> None:
        """Say that everything is done."""
        self._progress("done", self._count, self._count)
