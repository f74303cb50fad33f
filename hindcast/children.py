"""Child processes that never outlive this process: started, watched and stopped together."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

STOP_SECONDS = 12.0
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)


def _die_with_parent() -> None:
    """Have the kernel terminate this process when its parent is killed (Linux)."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A program and all processes it starts, in a separate session, with its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self.name = name
        self.log = log
        self._family: list[psutil.Process] = []
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(  # noqa: S603
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the program is still running."""
        return self._process.poll() is None

    def wait(self) -> int:
        """Wait until the program ends; return its exit code."""
        return self._process.wait()

    def last_lines(self, count: int = 15) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])

    def ask_to_stop(self) -> None:
        """Send SIGTERM to the program and all processes it started, in whatever session."""
        self._family = self._orphans()
        with contextlib.suppress(psutil.NoSuchProcess):
            itself = psutil.Process(self._process.pid)
            self._family += [itself, *itself.children(recursive=True)]
        for process in self._family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()

    def _orphans(self) -> list[psutil.Process]:
        """Return processes of the program's group if the program itself has ended, whose children they are no more."""
        if self.is_alive:
            return []
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(ProcessLookupError):
                if os.getpgid(process.pid) == self._process.pid:
                    found.append(process)
        return found

    def wait_stopped(self, deadline: float) -> None:
        """Wait until `deadline` (monotonic seconds), then kill processes that are still running."""
        _, left = psutil.wait_procs(self._family, timeout=max(0.0, deadline - time.monotonic()))
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._process.wait()


def stop_all(children: Sequence[Child]) -> None:
    """Stop all children, in reverse order of their start."""
    deadline = time.monotonic() + STOP_SECONDS
    for child in reversed(children):
        child.ask_to_stop()
    for child in children:
        child.wait_stopped(deadline)
