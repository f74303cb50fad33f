"""Hands the rows of a statement to Flight, and frees the statement's worker when its client leaves or does not read."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa

from warehouse.errors import QueryLimitError

_AHEAD = 2
"""Batches that wait for the client."""
_POLL_SECONDS = 0.2
"""How often a statement looks whether its client is still there."""
MOST_BYTES = 2 * 1024**2
"""Bytes of a batch, about: clients of Go and Java refuse messages of more than 4 MB, ADBC of more than 16 MB."""
_END = object()


def parts(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """Yield a batch in parts that are small enough for clients."""
    rows = max(1, batch.num_rows * MOST_BYTES // max(1, batch.nbytes))
    for begin in range(0, batch.num_rows, rows):
        yield batch.slice(begin, rows)


class Handover:
    """Reads in a thread of its own. While the client does not read, Flight asks for nothing, so nothing else could end the reading."""

    def __init__(self, is_gone: Callable[[], bool], stalled_seconds: float) -> None:
        self._is_gone = is_gone
        self._stalled_seconds = stalled_seconds
        self._ready: queue.Queue[Any] = queue.Queue(_AHEAD)
        self._over = threading.Event()
        self._error: BaseException | None = None
        self.cancelled = threading.Event()
        """Set when the reading is to end."""

    def end(self, seconds: float) -> None:
        """End the reading, and wait until it has ended, for a while."""
        self.cancelled.set()
        self._over.wait(seconds)

    def taken(self, items: Iterator[Any]) -> Iterator[Any]:
        """Yield the items as they are read. Raises what reading raises, and QueryLimitError if nothing was taken for too long."""
        threading.Thread(target=self._read, args=(items,), daemon=True).start()
        threading.Thread(target=self._watch, daemon=True).start()
        try:
            while (item := self._next()) is not _END:
                yield item
            if self._error is not None:
                raise self._error
        finally:
            self.cancelled.set()
            self._over.set()

    def _next(self) -> Any:
        while True:
            try:
                return self._ready.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if self._error is not None or self._over.is_set():
                    return _END

    def _read(self, items: Any) -> None:
        try:
            for item in items:
                self._put(item)
            self._put(_END)
        except BaseException as error:  # raised again where the items are taken
            self._error = error
        finally:
            try:
                items.close()
            finally:
                self._over.set()

    def _put(self, item: Any) -> None:
        """Wait until there is room. Raises QueryLimitError if there is none for too long."""
        deadline = time.monotonic() + self._stalled_seconds
        while True:
            try:
                return self._ready.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                if self.cancelled.is_set():
                    raise QueryLimitError("the statement was cancelled") from None
                if time.monotonic() > deadline:
                    raise QueryLimitError(f"cut off: nothing was read for {self._stalled_seconds:g} s") from None

    def _watch(self) -> None:
        """End the reading when the client has gone."""
        while not self._over.wait(_POLL_SECONDS):
            if self._is_gone():
                self.cancelled.set()
