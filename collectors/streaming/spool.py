"""Batches that the lake could not take, on disk, in order, until it can."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from warehouse import schema

_KEY = b"hindcast.batch"
_TIMES = ("from", "to", "recorded")


@dataclass(kw_only=True)
class Batch:
    """What one flush stores of one cluster."""

    cluster: str
    sequence: int
    """Rises by one a batch; the lake takes each number once."""
    rows: pa.Table
    """Columns of `flows`."""
    coverage: list[dict[str, Any]] = field(default_factory=list)
    """Rows of `coverage`."""
    until_us: dict[str | None, int] = field(default_factory=dict)
    """Time of each node's last flow, microseconds since 1970."""

    def note(self) -> dict[str, Any]:
        """All but the flows, as JSON takes it."""
        rows = [{name: value.isoformat() if hasattr(value, "isoformat") else value for name, value in row.items()} for row in self.coverage]
        until = {name or "": time for name, time in self.until_us.items()}
        return {"cluster": self.cluster, "sequence": self.sequence, "coverage": rows, "until_us": until}


def read_note(note: dict[str, Any]) -> tuple[list[dict[str, Any]], dict[str | None, int]]:
    """The coverage rows and the nodes' last times of a note."""
    rows = [
        row | {name: datetime.fromisoformat(row[name]) for name in _TIMES} | {"date": datetime.fromisoformat(row["from"]).date()}
        for row in note["coverage"]
    ]
    return rows, {name or None: time for name, time in note["until_us"].items()}


class Spool:
    """A folder of batches, one file each. A batch is there whole or not at all."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self._folder.glob("*/*.parquet"))

    @property
    def is_full(self) -> bool:
        """Whether the bound is reached."""
        return self.size >= self._max_bytes

    def paths(self, cluster: str) -> list[Path]:
        """The cluster's batches, oldest first."""
        return sorted((self._folder / cluster).glob("*.parquet"))

    def put(self, batch: Batch) -> None:
        """Keep a batch. Raises OSError if the disk does not take it."""
        folder = self._folder / batch.cluster
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / f"{batch.sequence:020d}.parquet"
        unfinished = path.with_suffix(".unfinished")
        noted = batch.rows.replace_schema_metadata({_KEY: json.dumps(batch.note()).encode()})
        try:
            pq.write_table(noted, unfinished, compression="zstd")
            unfinished.rename(path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise

    def read(self, path: Path) -> Batch:
        """The batch of a file. Raises OSError, pyarrow.ArrowException if it cannot be read."""
        stored = pq.read_table(path)
        note = json.loads(stored.schema.metadata[_KEY])
        rows = stored.replace_schema_metadata(None).cast(schema.FLOWS.schema)
        coverage, until = read_note(note)
        return Batch(cluster=note["cluster"], sequence=note["sequence"], rows=rows, coverage=coverage, until_us=until)

    def look_up(self, cluster: str, columns: Sequence[str] | None, since: datetime, until: datetime) -> Iterator[pa.Table]:
        """Rows that wait here with since <= time < until."""
        time, type_ = pc.field("time"), schema.TIMESTAMP
        within = (time >= pa.scalar(since, type_)) & (time < pa.scalar(until, type_))
        for path in self.paths(cluster):
            rows = pq.read_table(path, columns=None if columns is None else list(columns), filters=within)
            yield rows.replace_schema_metadata(None)
