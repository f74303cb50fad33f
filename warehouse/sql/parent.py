"""The parent of the workers: a clean process that forks one child per worker; it is started on first use."""

from __future__ import annotations

import socket
import struct
import subprocess
import sys
import threading
from contextlib import suppress

from warehouse.errors import QueryLimitError
from warehouse.sql.process import LENGTH

START_SECONDS = 30.0
"""How long the parent may take to start, or to fork."""
_END_SECONDS = 2.0


class Parent:
    """Starts and ends the processes of workers. It may be shared by threads; every wait has a time limit."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def start(self) -> tuple[int, socket.socket]:
        """Start a process; return its id and the socket to talk to it. Raises QueryLimitError if it does not start in time."""
        ours, theirs = socket.socketpair()
        with theirs, self._lock:
            try:
                control = self._started()
                socket.send_fds(control, [b"f"], [theirs.fileno()])
                (process,) = LENGTH.unpack(control.recv(LENGTH.size, socket.MSG_WAITALL))
            except (OSError, struct.error) as error:
                ours.close()
                self._give_up()
                raise QueryLimitError("no process could be started for the query: try again") from error
        return process, ours

    def end(self, process: int) -> None:
        """Kill one of the processes."""
        with self._lock:
            if self._control is not None:
                with suppress(OSError):
                    self._control.sendall(b"k" + LENGTH.pack(process))

    def close(self) -> None:
        """End all workers' processes and the parent process."""
        with self._lock:
            if self._control is not None:
                self._control.close()
            if self._process is not None:
                with suppress(subprocess.TimeoutExpired):
                    self._process.wait(_END_SECONDS)
            self._give_up()

    def _started(self) -> socket.socket:
        if self._control is None or self._process is None or self._process.poll() is not None:
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, "-I", "-m", "warehouse.sql.process"],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env={"ARROW_DEFAULT_MEMORY_POOL": "system", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                    cwd="/",
                    start_new_session=True,
                )
            ours.settimeout(START_SECONDS)
            self._control = ours
        return self._control

    def _give_up(self) -> None:
        """Kill the parent process, and with it its children; callers waiting for a child are notified that it ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        if self._control is not None:
            self._control.close()
        self._process = self._control = None
