"""Stops commands that run until SIGTERM or SIGINT arrives.

Servers on asyncio have a way of their own (`add_signal_handler`); processes that are started are in hindcast.children.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable

POLL_SECONDS = 0.2


def stop_at_signals() -> threading.Event:
    """Return an event that SIGTERM and SIGINT set from now on. Must be called in the main thread, which waits by `wait_until`."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: stop.set())
    return stop


def wait_until(done: Callable[[], bool], seconds: float | None = None) -> None:
    """Wait until `done` returns true, for so many seconds at most.

    The kernel may give a signal to any thread, while its handler runs in the main thread once that does something. A main thread that
    blocks, as in `Thread.join` or `Event.wait` without a limit, then never learns of the signal. And a handler that sets an event which
    the main thread waits for blocks for ever if it comes while `Event.wait` has the event's lock. Sleeping has neither fault.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    while not done() and (deadline is None or time.monotonic() < deadline):
        time.sleep(POLL_SECONDS)
