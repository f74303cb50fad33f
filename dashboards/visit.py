"""One visit to a page: who looks, at which window, and the answers to what the page asked.

Answers stay in the session, never in a cache that sessions share, under the principal's name: nobody is shown another's rows.
An answer that is no longer there is asked for again, and what the principal may see is decided again with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboards import ahead
from dashboards.frame.time_control import TimeRange
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.question import Question

MOST_ANSWERS = 24
ANSWER_SECONDS = 45.0
"""How long a session reuses answers. Less than a minute, so that the removal of a grant takes effect within a minute."""
_ANSWERS, _RECORDED, _NOW = "answers", "recorded tables", "now of the answers"
T = TypeVar("T")


@dataclass(kw_only=True)
class Visit:
    """One run of a page for a person."""

    settings: config.Config
    lake: Lake
    door: Door
    who: Principal
    time: TimeRange
    """The window of the head's time control."""
    page: str
    answers: list[Answer] = field(default_factory=list)
    """Those this run was given, for the summary line."""
    last: list[Callable[[], None]] = field(default_factory=list)
    """What is drawn after the page itself, in its own place: what a person needs only when she reaches for it."""
    _ahead: dict[Hashable, Future[Any]] = field(default_factory=dict)

    def ask_ahead(self, *questions: Question[Any]) -> None:
        """Begin to answer questions that the page will ask, beside what it does until then. An error is raised where the page asks."""
        if self.door.scope(self.who).is_empty:
            return  # one refusal in the access log says it all
        for question in questions:
            key = _key(question.name, self.who, (question,))
            if _remembered(key) is None and key not in self._ahead:
                begun = ahead.taken(self.door, self.who, question)
                self._ahead[key] = ahead.begin(self.door, self.who, question) if begun is None else begun

    def end(self) -> None:
        """Drop what was asked ahead and is not needed any more."""
        for asked in self._ahead.values():
            asked.cancel()
        self._ahead.clear()

    def answer(self, question: Question[T]) -> T:
        """Return the door's answer to a question, or the one it gave this session less than ANSWER_SECONDS ago. Raises as `Door.answer`."""
        return self.ask(question.name, lambda: self.door.answer(self.who, question), question)

    def ask(self, name: str, question: Callable[[], T], *given: Hashable) -> T:
        """Return what `question` returns, or returned in this session less than ANSWER_SECONDS ago.

        Its name and `given` have to say all that it depends on, except for the principal.
        """
        key = _key(name, self.who, given)
        kept = _remembered(key)
        if kept is None:
            ahead = self._ahead.pop(key, None)
            # What has not been begun yet is answered here, rather than waited for.
            kept = _remember(key, question() if ahead is None or ahead.cancel() else ahead.result())
        found: T = kept[1]
        if isinstance(found, Answer):
            self.answers.append(found)
        return found

    def settings_of(self, cluster: str) -> config.Kubernetes | None:
        """The access with which proposals for a cluster are applied; None if it has no API server, or is not in the configuration."""
        return next((one.proposing for one in self.settings.clusters if one.name == cluster), None)

    def recorded(self) -> frozenset[str]:
        """Names of the tables that hold anything."""
        return recorded(self.door)


def _key(name: str, who: Principal, given: Hashable) -> Hashable:
    return name, who, given


def _remembered(key: Hashable) -> tuple[float, Any] | None:
    """What this session was answered less than ANSWER_SECONDS ago, and when; None for nothing."""
    kept: tuple[float, Any] | None = st.session_state.get(_ANSWERS, {}).get(key)
    return kept if kept is not None and time.monotonic() - kept[0] <= ANSWER_SECONDS else None


def _remember(key: Hashable, answer: Any) -> tuple[float, Any]:
    kept: dict[Hashable, tuple[float, Any]] = st.session_state.setdefault(_ANSWERS, {})
    kept.pop(key, None)
    kept[key] = (time.monotonic(), answer)
    while len(kept) > MOST_ANSWERS:
        del kept[next(iter(kept))]
    return time.monotonic(), answer


def recorded(door: Door) -> frozenset[str]:
    """Names of the tables that hold anything; looked up anew each minute. It says nothing of anyone's rows."""
    kept: tuple[float, frozenset[str]] | None = st.session_state.get(_RECORDED)
    if kept is None or time.monotonic() - kept[0] > ANSWER_SECONDS:
        kept = (time.monotonic(), door.recorded())
        st.session_state[_RECORDED] = kept
    return kept[1]


def forget() -> None:
    """Ask everything anew."""
    st.session_state.pop(_ANSWERS, None)
    st.session_state.pop(_NOW, None)


def past(window: TimeRange, share: float = 1.0) -> tuple[datetime, datetime]:
    """The window of the same length (or a part of it) right before one."""
    return window.since - window.length * share, window.since


def not_future(moment: datetime) -> datetime:
    """The moment, or now if it is yet to come.

    Now stays the same for ANSWER_SECONDS, so that questions about the same time are the same question, and answered once.
    """
    if get_script_run_ctx(suppress_warning=True) is None:
        return min(moment, datetime.now(UTC))
    kept: tuple[float, datetime] | None = st.session_state.get(_NOW)
    if kept is None or time.monotonic() - kept[0] > ANSWER_SECONDS:
        kept = (time.monotonic(), datetime.now(UTC))
        st.session_state[_NOW] = kept
    return min(moment, kept[1])


HOUR = timedelta(hours=1)
