"""Work that may take long, in a thread beside the page: the page says that it runs, for how long, and offers to cancel it.

The work is started for one person's session and kept there; its thread knows nothing of Streamlit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import streamlit as st

AT_ONCE_SECONDS = 1.2
"""What is done by then is shown without a word of waiting."""
POLL_SECONDS = 0.25
SLOW_SECONDS = 8.0
_JOBS = "running"
T = TypeVar("T")


@dataclass(kw_only=True)
class Job(Generic[T]):
    """One piece of work."""

    key: Hashable
    began: float = field(default_factory=time.monotonic)
    cancelled: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    result: T | None = None
    error: Exception | None = None

    def run(self, work: Callable[[threading.Event], T]) -> None:
        """Do it, and keep what comes of it."""
        try:
            self.result = work(self.cancelled)
        except Exception as error:  # raised where the answer is asked for
            self.error = error
        self.done.set()

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self.began


def answer(name: str, key: Hashable, work: Callable[[threading.Event], T], *, advice: str) -> T | None:
    """The result of `work` for `key`; None, with a word of waiting drawn, while it runs. Raises what it raises.

    `advice` is given when it takes long.
    """
    job = begin(name, key, work)
    if not job.done.wait(AT_ONCE_SECONDS if job.seconds < AT_ONCE_SECONDS else 0):
        _waiting(job, advice)
        return None
    if job.error is not None:
        raise job.error
    return job.result


def begin(name: str, key: Hashable, work: Callable[[threading.Event], T]) -> Job[T]:
    """Begin `work` for `key` unless it was begun before. Of one name there is one at a time: another key cancels what runs."""
    jobs: dict[str, Job[Any]] = st.session_state.setdefault(_JOBS, {})
    job = jobs.get(name)
    if job is None or job.key != key:
        if job is not None:
            job.cancelled.set()
        job = jobs[name] = Job(key=key)
        threading.Thread(target=job.run, args=(work,), name=f"running {name}", daemon=True).start()
    return job


def leave(name: str) -> None:
    """Cancel what runs under a name, since nobody waits for it any more."""
    job: Job[Any] | None = st.session_state.get(_JOBS, {}).get(name)
    if job is not None and not job.done.is_set():
        job.cancelled.set()
        del st.session_state[_JOBS][name]


@st.fragment(run_every=POLL_SECONDS)
def _waiting(job: Job[Any], advice: str) -> None:
    if job.done.is_set():
        st.rerun()
    with st.container(border=True, horizontal=True, vertical_alignment="center", wrap=True):
        state = "Cancelling" if job.cancelled.is_set() else "Running"
        st.markdown(f":material/hourglass_top: {state} · **{job.seconds:.0f} s**", width="content")
        st.button(
            "Cancel", icon=":material/stop_circle:", key="cancel running", on_click=job.cancelled.set, disabled=job.cancelled.is_set()
        )
        if job.seconds > SLOW_SECONDS:
            st.caption(advice, width="content")
