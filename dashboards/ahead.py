"""Answers that are worked on before a page needs them, by the principal and the question.

A page begins its questions before it draws anything. The server begins a page's questions already when the browser asks for the
page's address (dashboards.arriving): until the page runs, the browser has to load Streamlit's front end, which takes longer than most
answers. Such an answer is given to one page, for the same principal and the very same question, or to none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from warehouse.access.principals import Principal
from warehouse.questions.door import Door
from warehouse.questions.question import Question

WAITS_SECONDS = 10.0
"""How long an answer waits for its page. With the time for which a session reuses answers it stays below a minute."""
MOST_WAITING = 24
"""How many answers wait at most; further requests get none, so that many of them do not delay the pages that are open."""
_POOL = ThreadPoolExecutor(2, thread_name_prefix="asked ahead")
"""The engine has two threads by default, so more would only wait for each other."""
_lock = threading.Lock()
_waiting: dict[Hashable, tuple[float, Future[Any]]] = {}


def begin(door: Door, who: Principal, question: Question[Any]) -> Future[Any]:
    """Begin to answer a question, and return its answer to be."""
    return _POOL.submit(door.answer, who, question)


def begin_for_page(door: Door, who: Principal, question: Question[Any]) -> None:
    """Begin to answer a question of a page that does not run yet; `taken` finds the answer."""
    key, now = _key(door, who, question), time.monotonic()
    with _lock:
        for old in [one for one, (began, _) in _waiting.items() if now - began > WAITS_SECONDS]:
            _waiting.pop(old)[1].cancel()
        if len(_waiting) < MOST_WAITING and key not in _waiting:
            _waiting[key] = now, begin(door, who, question)


def taken(door: Door, who: Principal, question: Question[Any]) -> Future[Any] | None:
    """Return the answer to be that waits for a page, which no other page gets; None if none does."""
    with _lock:
        began, found = _waiting.pop(_key(door, who, question), (0.0, None))
    return found if time.monotonic() - began <= WAITS_SECONDS else None


def finish() -> None:
    """Wait until all that was begun has been answered."""
    with _lock:
        begun = [found for _, found in _waiting.values()]
    wait(begun)


def forget() -> None:
    """Drop what waits for a page."""
    with _lock:
        for _, found in _waiting.values():
            found.cancel()
        _waiting.clear()


def _key(door: Door, who: Principal, question: Question[Any]) -> Hashable:
    return door.purpose, who, question.name, question
