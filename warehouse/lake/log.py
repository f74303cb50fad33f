"""The entries of a table's Delta log: reads those after a known version, and deletes those that are no longer needed.

deltalake reads a table's whole log. Here a version that is already known is updated with the few entries after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import unquote

import pyarrow.fs as pafs

from warehouse.lake.files import StoredFile
from warehouse.schema import Table

LEAST_AGE = timedelta(minutes=10)
"""Entries younger than this are never deleted: a reader that knows an older version needs them to catch up."""
MOST_BYTES = 6 * 1024**2
"""The size of a table's entries and checkpoints above which those older than LEAST_AGE are deleted."""
CHECKPOINT_EVERY = 30
"""The number of versions after the newest checkpoint from which a new one is worth its cost when shrinking a log."""
REMOVAL = "hindcast.removal"
"""The key of a commit's metadata that says why it removed rows for good."""
_ENTRY = re.compile(r"(\d{20})\.json")
_CHECKPOINT = re.compile(r"(\d{20})\.checkpoint\.(.*\.)?parquet")
_STANDARD_KEYS = frozenset(
    {"operation", "operationParameters", "operationMetrics", "timestamp", "clientVersion", "readVersion", "isBlindAppend"}
)


@dataclass(frozen=True, kw_only=True)
class LogEntry:
    """The changes that one commit made to a table's files."""

    added: Sequence[StoredFile]
    removed: Sequence[tuple[str, Mapping[str, str] | None]]
    """The decoded path of each file, and the values of its partition if the log records them."""
    is_rearrangement: bool = False
    """True if the commit says that it changes no row, as one that merges files does."""
    transactions: Mapping[str, int] = field(default_factory=dict)
    """The version of each app id that the commit records."""


@dataclass(frozen=True, kw_only=True)
class Removals:
    """A commit that removed rows for good."""

    version: int
    time: datetime
    why: str
    """The reason that the commit gives: retention or erasure."""
    partitions: frozenset[tuple[str, date]]
    """The cluster and the day of each partition with removed rows; the cluster is empty in tables without clusters."""


class SchemaChangedError(Exception):
    """An entry changes more than the table's files, so the whole log has to be read."""


def entry_name(version: int) -> str:
    """Return the path of a version's entry below the table's folder."""
    return f"_delta_log/{version:020}.json"


def entries_after(table: Table, filesystem: pafs.FileSystem, version: int) -> Iterator[LogEntry]:
    """Yield the entries after a version, up to the newest.

    Raises SchemaChangedError for an entry that changes more than files; OSError and ValueError if one cannot be read.
    """
    while (content := _content(filesystem, version + 1)) is not None:
        version += 1
        yield _parsed(table, content)


def metadata(filesystem: pafs.FileSystem, version: int) -> dict[str, Any]:
    """Return the commit info in the entry of a version; empty if there is no such entry. Raises OSError, ValueError."""
    for line in reversed((_content(filesystem, version) or b"").splitlines()):
        if b'"commitInfo"' in line:
            found: dict[str, Any] = json.loads(line).get("commitInfo", {})
            return found
    return {}


def removals(filesystem: pafs.FileSystem, *, after: int) -> Iterator[Removals]:
    """Yield the commits after a version whose metadata say that they removed rows. Raises OSError, ValueError."""
    for version in versions(filesystem):
        content = _content(filesystem, version) if version > after else None
        if content is None or REMOVAL.encode() not in content:
            continue
        info = metadata(filesystem, version)
        removed = [json.loads(line)["remove"] for line in content.splitlines() if line.startswith(b'{"remove"')]
        places = [one.get("partitionValues") or {} for one in removed]
        yield Removals(
            version=version,
            time=datetime.fromtimestamp(info["timestamp"] / 1000, UTC),
            why=str(info.get(REMOVAL, "")),
            partitions=frozenset((place.get("cluster") or "", date.fromisoformat(place["date"])) for place in places if place.get("date")),
        )


def versions(filesystem: pafs.FileSystem) -> list[int]:
    """Return the versions that have an entry, ascending. Raises OSError."""
    return sorted(int(match[1]) for info in _listed(filesystem) if (match := _ENTRY.fullmatch(info.base_name)))


def size(filesystem: pafs.FileSystem) -> int:
    """Return the size of the log's files in bytes. Raises OSError."""
    return sum(info.size for info in _listed(filesystem) if _number(info) is not None)


def newest_checkpoint(filesystem: pafs.FileSystem) -> int:
    """Return the version of the newest checkpoint; 0 if there is none. Raises OSError."""
    return max((_number(info) or 0 for info in _listed(filesystem) if _CHECKPOINT.fullmatch(info.base_name)), default=0)


def delete_old(filesystem: pafs.FileSystem, *, now: datetime, most_bytes: int = MOST_BYTES) -> int:
    """Delete entries and checkpoints older than both LEAST_AGE and the newest checkpoint, if the log is larger than `most_bytes`.

    The oldest are deleted first, until the log is small enough. For each key in the commits' custom metadata, the newest entry
    with that key is retained. Returns the number of files deleted. Raises OSError, ValueError.
    """
    listed = [info for info in _listed(filesystem) if _number(info) is not None]
    left = sum(info.size for info in listed)
    newest = newest_checkpoint(filesystem)
    old = [info for info in listed if (_number(info) or 0) < newest and info.mtime is not None and info.mtime < now - LEAST_AGE]
    if left <= most_bytes or not old:
        return 0
    deletable = _deletable(filesystem, listed, {_number(info) for info in old})
    deleted = 0
    for info in sorted(old, key=lambda info: _number(info) or 0):
        if left <= most_bytes:
            break
        if info.base_name in deletable:
            filesystem.delete_file(f"_delta_log/{info.base_name}")
            left -= info.size
            deleted += 1
    return deleted


def _deletable(filesystem: pafs.FileSystem, listed: Sequence[pafs.FileInfo], old: Collection[int | None]) -> set[str]:
    """Return the names of old checkpoints, and of old entries whose custom metadata keys all occur in later entries too."""
    found = {info.base_name for info in listed if _CHECKPOINT.fullmatch(info.base_name)}
    seen: set[str] = set()
    for info in sorted((info for info in listed if _ENTRY.fullmatch(info.base_name)), key=lambda info: info.base_name, reverse=True):
        number = _number(info)
        keys = _custom_keys(metadata(filesystem, number or 0))
        if number in old and keys <= seen:
            found.add(info.base_name)
        seen |= keys
    return found


def _custom_keys(commit_info: Mapping[str, Any]) -> set[str]:
    return set(commit_info) - _STANDARD_KEYS


def _number(info: pafs.FileInfo) -> int | None:
    match = _ENTRY.fullmatch(info.base_name) or _CHECKPOINT.fullmatch(info.base_name)
    return int(match[1]) if match else None


def _listed(filesystem: pafs.FileSystem) -> list[pafs.FileInfo]:
    found: list[pafs.FileInfo] = filesystem.get_file_info(pafs.FileSelector("_delta_log"))
    return found


def _content(filesystem: pafs.FileSystem, version: int) -> bytes | None:
    """Return an entry's bytes; None if it does not exist."""
    try:
        with filesystem.open_input_stream(entry_name(version)) as entry:
            content: bytes = entry.read()
            return content
    except FileNotFoundError:
        return None


def _parsed(table: Table, content: bytes) -> LogEntry:
    added, removed, transactions = [], [], {}
    is_rearrangement = True
    for line in content.splitlines():
        action = json.loads(line)
        if "metaData" in action or "protocol" in action:
            raise SchemaChangedError
        if (add := action.get("add")) is not None:
            added.append(_stored(table, add))
            is_rearrangement &= add.get("dataChange") is False
        elif (remove := action.get("remove")) is not None:
            removed.append((unquote(remove["path"]), remove.get("partitionValues")))
            is_rearrangement &= remove.get("dataChange") is False
        elif (txn := action.get("txn")) is not None:
            transactions[txn["appId"]] = txn["version"]
    return LogEntry(added=added, removed=removed, is_rearrangement=is_rearrangement, transactions=transactions)


def _stored(table: Table, add: Mapping[str, Any]) -> StoredFile:
    statistics = json.loads(add.get("stats") or "{}")
    first, last = (_moment((statistics.get(bound) or {}).get(table.time_column)) for bound in ("minValues", "maxValues"))
    return StoredFile(
        path=unquote(add["path"]),
        partition={name: add["partitionValues"].get(name) for name in table.partition_by},
        size=add["size"],
        rows=statistics.get("numRecords") or 0,
        first=first,
        last=last,
    )


def _moment(text: str | None) -> datetime | None:
    """Return a time from a file's statistics; None if it cannot be parsed, so that it excludes no file."""
    try:
        moment = None if text is None else datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
