"""File names of rollups record which flows each stored hour was made from, so the table log alone is enough to check it.

A rollup has one file per cluster and day, named `rollup-`, then a note for each of the 24 hours, then a random part. The note is
a digest of the names of the files of `flows` that can hold flows of that hour. Files never change, so a stored hour is valid
as long as its note matches the current files; late flows, compaction and erasure change the note.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime, timedelta

from warehouse.lake.files import StoredFile

HOUR = timedelta(hours=1)
SLACK = timedelta(milliseconds=1)
"""Some engines truncate the times in a file's statistics to milliseconds."""
PREFIX = "rollup-"
NONE, SEALED = "0000000", "1111111"
"""The notes of an hour that is not rolled up, and of one that stays valid whatever happens to its flows. No digest has these digits."""

ClusterHour = tuple[str, datetime]


def note(files: Iterable[StoredFile]) -> str:
    """Return the digest of a set of files: 7 characters, 35 bits."""
    return _digest(tuple(sorted(file.path for file in files)))


@functools.lru_cache(maxsize=10_000)  # a set that has changed is never looked up again
def _digest(paths: tuple[str, ...]) -> str:
    text = "\n".join(paths)
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[: len(NONE)].decode().lower()


def prefix(notes: Mapping[int, str]) -> str:
    """Return the file name prefix of a rollup with these notes, by hour of the day."""
    return PREFIX + "".join(notes.get(hour, NONE) for hour in range(24)) + "-"


def notes(file: StoredFile) -> dict[datetime, str]:
    """Return the hours that a rollup file covers, each with its note."""
    text = file.name.removeprefix(PREFIX)
    if text == file.name or len(text) <= 24 * len(NONE):
        return {}  # not written by Hindcast: it is unknown which hours its rows cover
    day = day_of(file)
    cut = {hour: text[hour * len(NONE) : (hour + 1) * len(NONE)] for hour in range(24)}
    return {day + hour * HOUR: written for hour, written in cut.items() if written != NONE}


def day_of(file: StoredFile) -> datetime:
    """Return the start of the day (UTC) of the partition that a file is in."""
    return datetime.fromisoformat(file.partition["date"]).replace(tzinfo=UTC)


def by_hour(files: Iterable[StoredFile]) -> dict[ClusterHour, list[StoredFile]]:
    """Return the files of `flows` that may hold flows of each hour of each cluster."""
    found: dict[ClusterHour, list[StoredFile]] = {}
    for file in files:
        for hour in _hours(file):
            found.setdefault((file.partition["cluster"], hour), []).append(file)
    return found


def _hours(file: StoredFile) -> Iterator[datetime]:
    day = day_of(file)
    first = day if file.first is None else max(day, file.first)
    last = day + 24 * HOUR - SLACK if file.last is None else min(day + 24 * HOUR - SLACK, file.last + SLACK)
    begin = first.replace(minute=0, second=0, microsecond=0)
    while begin <= last:
        yield begin
        begin += HOUR
