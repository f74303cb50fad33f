"""Confines a process through the operating system: files, sockets, memory, core dumps. Complete on Linux, partial elsewhere.

This is a second line of defence behind the engine's own settings: whatever a query makes the engine do, it cannot open anything.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ALL_OF_FILES = (1 << 16) - 1
_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_NETWORK, _SCOPED = 0b11, 0b11
_PATH_BENEATH = 1
_NO_NEW_PRIVILEGES, _DEATH_SIGNAL, _DUMPABLE = 38, 1, 4
_ENGINE_ASKS = ("/proc/self/cgroup", "/proc/meminfo", "/proc/stat", "/sys/fs/cgroup", "/sys/devices/system/cpu/online")
"""DuckDB crashes if it cannot read the number of processors and the amount of memory."""


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def is_possible() -> bool:
    """Whether the system can deny a process access to files."""
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).syscall(_CREATE_RULESET, None, 0, 1) >= 1)


def limit(memory_bytes: int) -> None:
    """Forbid this process to write files, dump core, or use more than `memory_bytes` of memory beyond what it uses now."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    room = _address_space() + memory_bytes
    resource.setrlimit(resource.RLIMIT_AS, (room, room))


def shut_in(readable: Sequence[Path] = ()) -> bool:
    """Deny this process and its threads the network and all files, except for reading files below `readable`.

    Returns True if the system enforces this (Landlock, Linux 5.13 and later). Must be called before threads are started.
    """
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_DUMPABLE, 0, 0, 0, 0)
    libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    version = libc.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return False
    files = _ALL_OF_FILES if version >= 5 else (1 << 15) - 1 if version >= 3 else (1 << 13) - 1
    rules = _Ruleset(files, _NETWORK if version >= 4 else 0, _SCOPED if version >= 6 else 0)
    size = ctypes.sizeof(rules) if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    for path in (*map(Path, _ENGINE_ASKS), *readable):
        if path.exists():
            _allow(libc, ruleset, path)
    done = libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return bool(done)


def _allow(libc: ctypes.CDLL, ruleset: int, path: Path) -> None:
    opened = os.open(path, os.O_PATH)
    try:
        allowed = _READ_FILE | (_READ_FOLDER if path.is_dir() else 0)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(_PathBeneath(allowed, opened)), 0)
    finally:
        os.close(opened)


def _address_space() -> int:
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except OSError:
        return 1024**3
