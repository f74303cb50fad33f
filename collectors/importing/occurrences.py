"""Counts how often each flow without uuid occurred in a file, in bounded memory.

A flow is represented by 16 bytes: its time and a hash of its content. The newest million are in memory, the others in sorted
temporary files, of which only those that span the requested times are searched.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

import numpy as np
import numpy.typing as npt

IN_MEMORY = 1_000_000
_Keys = npt.NDArray[np.bytes_]


class Occurrences:
    """The flows of one file so far. Use it as a context manager: its temporary files are deleted at the end."""

    def __init__(self, in_memory: int = IN_MEMORY) -> None:
        self._in_memory = in_memory
        self._recent: list[_Keys] = []
        self._spilled: list[_Keys] = []
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Occurrences:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._recent, self._spilled = [], []
        if self._folder is not None:
            self._folder.cleanup()

    def count(self, times_us: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
        """Return the occurrence number of each flow, counted from 1, and remember the flows."""
        keys = _keys(times_us, hashes)
        order = np.argsort(keys, kind="stable")
        ordered = keys[order]
        within = np.arange(len(keys)) - np.searchsorted(ordered, ordered, "left") + 1
        before = np.zeros(len(keys), np.int64)
        for run in (*self._recent, *self._spilled):
            if len(keys) and run[0] <= ordered[-1] and run[-1] >= ordered[0]:
                before += np.searchsorted(run, ordered, "right") - np.searchsorted(run, ordered, "left")
        counts = np.empty(len(keys), np.int64)
        counts[order] = within + before
        if len(keys):
            self._recent.append(ordered)
        if sum(map(len, self._recent)) > self._in_memory:
            self._spill()
        return counts

    def _spill(self) -> None:
        run = np.sort(np.concatenate(self._recent), kind="stable")
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="hindcast-import-")
        file = Path(self._folder.name) / f"{len(self._spilled)}.keys"
        run.tofile(file)
        self._spilled.append(np.memmap(file, dtype="S16", mode="r"))
        self._recent = []


def _keys(times_us: npt.NDArray[np.int64], hashes: npt.NDArray[np.uint64]) -> _Keys:
    """Return 16 bytes per flow that sort by time."""
    parts = np.empty((len(times_us), 2), ">u8")
    parts[:, 0] = times_us.astype(np.uint64) ^ np.uint64(1 << 63)
    parts[:, 1] = hashes
    keys: _Keys = parts.view("S16").reshape(-1)
    return keys
