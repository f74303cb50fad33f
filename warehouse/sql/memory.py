"""How much memory worker processes hold, and which of them gives way when together they hold too much. Starts and ends none."""

from __future__ import annotations

import resource
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

MOST_BYTES = 3 * 1024**3
"""What all workers of a process may hold together: people's rows and what their queries take."""
SHARE_KEPT = 4
"""A worker that holds more than this part of a query's memory limit when the query is over is ended, which gives it back."""
_Worker = TypeVar("_Worker", bound=Hashable)


def of(process: int) -> int | None:
    """Bytes of memory that a process does not share with files; None where the system does not say (no /proc)."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return None
    return (int(resident) - int(shared)) * resource.getpagesize()


def giving_way(held: Mapping[_Worker, int], idle: Sequence[_Worker], most_bytes: int) -> list[_Worker]:
    """Those that have to end so that all together hold at most `most_bytes`.

    Of the idle ones those that were not used for longest come first; `idle` is in that order. If they do not suffice, the
    greediest of the busy ones comes last, alone: how much is missing then is seen when it has ended.
    """
    total, ends = sum(held.values()), list[_Worker]()
    for worker in idle:
        if total <= most_bytes:
            return ends
        ends.append(worker)
        total -= held[worker]
    busy = [worker for worker in held if worker not in idle]
    return [*ends, max(busy, key=lambda worker: held[worker])] if total > most_bytes and busy else ends
