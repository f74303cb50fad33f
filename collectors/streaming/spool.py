"""Stores batches that the lake could not take on disk, in order, until it can."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import structlog

from collectors.streaming.coverage_rows import coverage_row
from collectors.streaming.nodes import Unbooked
from warehouse import schema
from warehouse.errors import ConfigError, LakeError

_KEY = b"hindcast.batch"
_UNREADABLE_FOLDER = "unreadable"
_TIMES = ("from", "to", "recorded")
_UNREADABLE = (OSError, pa.ArrowException, ValueError, KeyError, TypeError, AttributeError)
"""The exceptions raised for a file that is truncated, empty, or not a batch."""

_log = structlog.get_logger()


@dataclass(kw_only=True)
class Batch:
    """What one flush stores of one unit: of a cluster, or of a part of one."""

    cluster: str
    unit: str = ""
    """The unit's name; the cluster's by default."""
    sequence: int
    """Rises by one a batch; the lake takes each number once."""
    rows: pa.Table
    """Columns of `flows`."""
    coverage: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `coverage`."""
    until_us: dict[str | None, int] = field(default_factory=dict)
    """Time of each node's last flow, microseconds since 1970."""
    unbooked: dict[str | None, Unbooked] = field(default_factory=dict)
    """As Ledger.unbooked."""
    released: bool = False
    """Whether it is the last one that this collector stores of the unit."""

    def __post_init__(self) -> None:
        self.unit = self.unit or self.cluster

    def note(self) -> dict[str, Any]:
        """Everything except the flows, as JSON can hold it."""
        rows = [{name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()} for row in self.coverage]
        until = {name or "": time for name, time in self.until_us.items()}
        unbooked = {name or "": list(one) for name, one in self.unbooked.items()}
        names = {"cluster": self.cluster, "unit": self.unit, "sequence": self.sequence}
        return {**names, "coverage": rows, "until_us": until, "unbooked": unbooked}


def read_note(note: dict[str, Any], rows: pa.Table | None = None) -> Batch:
    """The batch that a note describes, with the rows given. Raises KeyError, TypeError, ValueError for anything else."""
    until_us = {name or None: time for name, time in note["until_us"].items()}
    coverage = [
        row | {name: datetime.fromisoformat(row[name]) for name in _TIMES} | {"date": datetime.fromisoformat(row["from"]).date()}
        for row in note["coverage"]
    ]
    return Batch(
        cluster=note["cluster"],
        unit=note.get("unit", ""),
        sequence=note["sequence"],
        rows=schema.FLOWS.schema.empty_table() if rows is None else rows,
        coverage=coverage,
        until_us=until_us,
        unbooked={name or None: _unbooked(one, until_us[name or None]) for name, one in note.get("unbooked", {}).items()},
    )


def _unbooked(noted: Sequence[int], until: int) -> Unbooked:
    """Notes of earlier versions do not say up to where the history was known to be complete."""
    booked, received, *complete = noted
    return Unbooked(booked, received, complete[0] if complete else until)


class UnreadableError(LakeError):
    """A file of the spool cannot be read."""


class Spool:
    """A folder of batches, one file each. After a crash or a power cut a batch is there whole or not at all."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._ignored: set[Path] = set()
        self._lock: IO[bytes] | None = None

    def lock(self) -> None:
        """Keep the folder for this process until `unlock` or its end: two would store each other's batches.

        Raises ConfigError if another collector uses it. A disk that takes no file is no error yet: it may never be needed.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = (self._folder / "lock").open("wb")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"collect.spool: another collector uses {self._folder}; give each collector of one machine a folder of its own"
            ) from error
        except OSError as error:
            _log.warning("the spool cannot be written", folder=str(self._folder), reason=str(error))

    def unlock(self) -> None:
        """Let another collector use the folder."""
        if self._lock is not None:
            self._lock.close()

    @property
    def size(self) -> int:
        """Bytes on disk, without files that were set aside."""
        return sum(path.stat().st_size for path in self._folder.glob("*/*.parquet"))

    @property
    def is_full(self) -> bool:
        """Whether the bound is reached."""
        return self.size >= self._max_bytes

    def units(self) -> set[str]:
        """The units of which there are batches."""
        return {
            path.parent.name
            for path in self._folder.glob("*/*.parquet")
            if path not in self._ignored and path.parent.name != _UNREADABLE_FOLDER
        }

    def paths(self, unit: str) -> list[Path]:
        """The files of the unit's batches, oldest first."""
        return sorted(path for path in (self._folder / unit).glob("*.parquet") if path not in self._ignored)

    def put(self, batch: Batch) -> None:
        """Write a batch to disk. Raises OSError if the disk does not take it."""
        folder = self._folder / batch.unit
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{batch.sequence:020d}.parquet"
        unfinished = path.with_suffix(".unfinished")
        noted = batch.rows.replace_schema_metadata({_KEY: json.dumps(batch.note()).encode()})
        try:
            with unfinished.open("wb") as file:
                pq.write_table(noted, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            unfinished.rename(path)
            _sync_folder(folder)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def read(self, path: Path) -> Batch:
        """The batch of a file. Raises UnreadableError if it cannot be read."""
        try:
            stored = pq.read_table(path)
            note = json.loads(stored.schema.metadata[_KEY])
            rows = stored.replace_schema_metadata(None).cast(schema.FLOWS.schema)
            return read_note(note, rows)
        except _UNREADABLE as error:
            raise UnreadableError(f"{path}: the spooled batch cannot be read: {error or type(error).__name__}") from error

    def remove(self, path: Path) -> None:
        """Delete a batch that is stored. If the disk refuses, it is ignored from then on, and found to be stored by the next run."""
        try:
            path.unlink()
        except OSError as error:
            self._ignored.add(path)
            _log.error("a stored batch cannot be deleted from the spool", file=str(path), reason=str(error))

    def set_aside(self, path: Path, *, unit: str, reason: str) -> dict[str, Any]:
        """Move a file that cannot be read to the folder `unreadable`; returns the row of `coverage` that says so.

        The row is about the time since the batch before it was written. Which flows were in the file is not known.
        """
        until = _written(path) or datetime.now(UTC)
        earlier = [at for other in self.paths(unit) if other < path and (at := _written(other))]
        since = min(max(earlier, default=until - timedelta(seconds=1)), until - timedelta(seconds=1))
        target = self._folder / _UNREADABLE_FOLDER / f"{unit}-{path.name}"
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.rename(target)
        except OSError as error:
            self._ignored.add(path)
            target = path
            _log.error("an unreadable batch cannot be moved out of the spool", file=str(path), reason=str(error))
        _log.error("a batch of the spool cannot be read and was set aside", unit=unit, file=str(target), reason=reason)
        detail = f"a batch that waited for the lake could not be read: {target.name}"
        cluster = unit.partition("#")[0]
        return coverage_row(cluster, (since, until), None, "gap", "spool_unreadable", None, None, detail, datetime.now(UTC))

    def look_up(self, unit: str, columns: Sequence[str] | None, since: datetime, until: datetime) -> Iterator[pa.Table]:
        """The spooled rows with since <= time < until. Files that cannot be read are passed over."""
        time, type_ = pc.field("time"), schema.TIMESTAMP
        within = (time >= pa.scalar(since, type_)) & (time < pa.scalar(until, type_))
        for path in self.paths(unit):
            try:
                rows = pq.read_table(path, columns=None if columns is None else list(columns), filters=within)
            except _UNREADABLE:
                continue  # it is set aside when its turn to be stored comes
            yield rows.replace_schema_metadata(None)


def _written(path: Path) -> datetime | None:
    try:
        return datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except OSError:
        return None


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder last over a power cut."""
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
