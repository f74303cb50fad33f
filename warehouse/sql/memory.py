"""Measures the memory of worker processes and chooses which of them to end if they use too much. Does not start or end any."""

from __future__ import annotations

import resource
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

MOST_BYTES = 3 * 1024**3
"""The memory that all workers of a process may use together, for rows and for queries."""
RESTING_SHARE = 4
"""A worker that still holds more than 1/RESTING_SHARE of a query's memory limit after the query is ended, to free that memory."""
_Worker = TypeVar("_Worker", bound=Hashable)


def of(process: int) -> int | None:
    """Return the memory of a process in bytes, without memory backed by files; None if the system does not report it (no /proc)."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return (int(resident) - int(shared)) * resource.getpagesize()


def giving_way(held: Mapping[_Worker, int], idle: Sequence[_Worker], most_bytes: int) -> list[_Worker]:
    """Return the workers to end so that all together hold at most `most_bytes`.

    Idle workers come first, least recently used first, which is the order of `idle`. If they are not enough, the busy worker that
    holds the most comes last; whether more have to end is decided once it has ended.
    """
    total, ends = sum(held.values()), list[_Worker]()
    for worker in idle:
        if total <= most_bytes:
            return ends
        ends.append(worker)
        total -= held[worker]
    busy = [worker for worker in held if worker not in idle]
    return [*ends, max(busy, key=lambda worker: held[worker])] if total > most_bytes and busy else ends
