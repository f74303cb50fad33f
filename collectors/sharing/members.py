"""Which collectors are alive: each writes a sign of life now and then, and reads those of the others.

Signs of life decide who collects what, and how soon a dead collector's clusters are taken over. They decide nothing about what may be
stored: that is the lake's to refuse (collectors/streaming/claims.py). Clocks need not agree: time is counted from when a sign was seen
to change, and only while this collector looks.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from warehouse.errors import HindcastError

ALONE = 6
"""While there is no other collector a sign of life lasts this many times longer: nobody waits for it, and in a bucket each one costs."""
FORGOTTEN_LEASES = 60
"""A sign of life that has not changed for so many leases is deleted: its collector ended without doing so."""

_log = structlog.get_logger()


class Board(Protocol):
    """Where signs of life are: one text for each collector. Methods raise HindcastError."""

    def write(self, name: str, text: str) -> None: ...

    def read(self) -> dict[str, str]: ...

    def remove(self, name: str) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Sign:
    """What a collector says of itself."""

    instance: str
    """Unlike that of any other process."""
    place: str
    """The host, and the namespace of process ids in it."""
    pid: int
    fleet: str
    """As fleet_of."""
    seconds: float
    """After so long without another beat it is dead."""
    beat: int


@dataclass(frozen=True, slots=True)
class _Seen:
    """The newest sign of another collector."""

    sign: Sign
    quiet_seconds: float = 0.0
    """For how long it has not changed while we were looking."""


class Members:
    """This collector among the others. `beat` is called by one thread; everything else may be called from any."""

    def __init__(
        self, board: Board, *, fleet: str, lease_seconds: float, is_healthy: Callable[[], bool], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`is_healthy` says whether this collector makes progress: one that does not gives no sign. Asks nothing of the board yet."""
        self.instance = uuid.uuid4().hex
        self.place = place()
        self.name = f"{socket.gethostname().lower()}-{os.getpid()}"
        self._board = board
        self._fleet = fleet
        self._lease_seconds = lease_seconds
        self._is_healthy = is_healthy
        self._clock = clock
        self._others: dict[str, _Seen] = {}  # replaced as a whole, since other threads read it
        self._beat = 0
        self._looked_at: float | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)
        self.changed = threading.Event()
        """Set when another collector came or went."""
        self.is_known = False
        """Whether the others' signs have been read."""
        self.problem: str | None = None
        """Why signs of life can be neither given nor read; None if they can."""

    def start(self) -> None:
        """Give signs of life from now on."""
        self._thread.start()

    def stop(self) -> None:
        """Give no more, and take the last one away, so that the others need not wait."""
        self._stop.set()
        if self._thread.ident is None:
            return
        self._thread.join(5)
        try:
            self._board.remove(self.name)
        except HindcastError as error:
            _log.warning("the sign of life cannot be taken away; others wait until it is too old", reason=str(error))

    def holder(self, instance: str) -> str | None:
        """Return the name of another collector if it is alive."""
        return next((name for name, seen in self._others.items() if seen.sign.instance == instance and self._is_alive(seen)), None)

    def sharing(self) -> list[str]:
        """Return the names of the living collectors of the same units, with this one."""
        others = [name for name, seen in self._others.items() if seen.sign.fleet == self._fleet and self._is_alive(seen)]
        return sorted([self.name, *others])

    def beat(self) -> None:
        """Read the others' signs of life and give one, unless this collector is stuck. Raises HindcastError."""
        now = self._clock()
        passed, self._looked_at = (0.0 if self._looked_at is None else now - self._looked_at), now
        before = self.sharing() if self.is_known else None
        # A process that was paused has not looked either: it must not take the others for dead.
        self._look(self._board.read(), min(passed, self._lease_seconds / 2))
        self.is_known = True
        if self._is_healthy():
            self._beat += 1
            self._board.write(self.name, json.dumps(asdict(self._sign())))
        if self.sharing() != before:
            self.changed.set()

    @property
    def pause_seconds(self) -> float:
        """The time until the next beat."""
        return self._seconds / 3

    @property
    def _seconds(self) -> float:
        is_alone = self.is_known and not any(self._is_alive(seen) for seen in self._others.values())
        return self._lease_seconds * (ALONE if is_alone else 1)

    def _sign(self) -> Sign:
        return Sign(instance=self.instance, place=self.place, pid=os.getpid(), fleet=self._fleet, seconds=self._seconds, beat=self._beat)

    def _look(self, texts: dict[str, str], passed: float) -> None:
        """`passed`: for how long signs that are the same as before have not changed, since the last look."""
        signs = {name: sign for name, text in texts.items() if (sign := _read(text)) is not None}
        own = signs.pop(self.name, None)
        if own is not None and own.instance != self.instance and self._beat:
            _log.error("another collector has this one's name, so this one takes another", name=self.name)
            self.name = f"{self.name}-{self.instance[:6]}"
        others: dict[str, _Seen] = {}
        for name, sign in signs.items():
            seen = self._others.get(name)
            others[name] = _Seen(sign, seen.quiet_seconds + passed) if seen is not None and seen.sign == sign else _Seen(sign)
        self._others = others
        for name, seen in others.items():
            if seen.quiet_seconds > FORGOTTEN_LEASES * seen.sign.seconds:
                self._board.remove(name)

    def _is_alive(self, seen: _Seen) -> bool:
        is_gone = seen.sign.place == self.place and (seen.sign.pid == os.getpid() or not Path(f"/proc/{seen.sign.pid}").exists())
        return not is_gone and seen.quiet_seconds <= seen.sign.seconds

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.beat()
                if self.problem is not None:
                    _log.info("signs of life are given and read again")
                self.problem = None
            except HindcastError as error:
                if self.problem != str(error):
                    _log.error("signs of life can be neither given nor read: each collector keeps its clusters", reason=str(error))
                self.problem = str(error)
            self._stop.wait(self.pause_seconds)


def place() -> str:
    """Return the host, and the namespace of process ids, since ids say nothing beyond it."""
    try:
        return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _read(text: str) -> Sign | None:
    """Return the sign that a text holds; None if it holds none, for example because a later version wrote it."""
    try:
        fields: dict[str, Any] = json.loads(text)
        return Sign(**{name: fields[name] for name in Sign.__dataclass_fields__})
    except (ValueError, KeyError, TypeError):
        return None
