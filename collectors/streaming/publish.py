"""Stores batches in the lake, each exactly once, with one collector at a time for each unit (a cluster, or a part of one).

A commit to `flows` notes for each unit the batch's number, its coverage rows and the times of the nodes' last flows; the commit to
`coverage` follows. A collector that starts after a crash in between finds the rows in the note. The lake refuses a number
that was used before, so two collectors of one unit can never store a flow twice: whoever comes second has lost the unit.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable, Collection
from typing import Any

import pyarrow as pa

from collectors.streaming.spool import Batch
from warehouse import schema
from warehouse.errors import CommitConflictError, LakeError
from warehouse.lake.tables import Lake

_PREFIX = "collect:"


def app_id(unit: str) -> str:
    """The name under which batches of a unit are numbered, and their notes kept."""
    return _PREFIX + unit


class TakenOverError(CommitConflictError):
    """Another collector stores flows of these units."""

    def __init__(self, units: list[str]) -> None:
        super().__init__(f"another collector stores the flows of {', '.join(units[:5])}" + (", ..." if len(units) > 5 else ""))
        self.units = units


class Publisher:
    """Stores the batches of one collector process. Not thread-safe."""

    def __init__(self, lake: Lake, *, instance: str | None = None, clock: Callable[[], float] = time.time) -> None:
        """`instance` is unlike that of any other process; `clock` gives seconds since 1970."""
        self._lake = lake
        self._clock = clock
        self.instance = instance or uuid.uuid4().hex
        self._unfinished: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._notes: dict[str, str] = {}
        self._noted_version = -1

    def publish(self, batches: list[Batch]) -> None:
        """Store batches of different units, all or none.

        Raises TakenOverError if another collector used a batch's number, LakeError if the lake cannot be written:
        try again with the same batches.
        """
        self.finish()
        rows = pa.concat_tables([batch.rows for batch in batches])
        try:
            files = self._lake.write_files(schema.FLOWS, rows)
            self._lake.commit(
                schema.FLOWS,
                files,
                transactions={app_id(batch.unit): batch.sequence for batch in batches},
                metadata={app_id(batch.unit): json.dumps(batch.note() | self._owner(batch)) for batch in batches},
            )
        except CommitConflictError as conflict:
            if lost := self._lost(batches):
                raise TakenOverError(lost) from conflict
        self._unfinished.update({batch.unit: (batch.sequence, batch.coverage) for batch in batches})
        self.finish()

    def notes(self) -> dict[str, dict[str, Any]]:
        """Return the newest note of each unit that was ever stored. Raises LakeError."""
        self._noted_version, newer = self._lake.metadata_after(schema.FLOWS, self._noted_version, prefix=_PREFIX)
        self._notes |= newer
        return {name.removeprefix(_PREFIX): json.loads(text) for name, text in self._notes.items()}

    def finish(self, earlier: Collection[Batch] = ()) -> None:
        """Commit coverage rows whose flows are stored: of this collector, and of the last batches of `earlier` ones. Raises LakeError."""
        self._unfinished.update({batch.unit: (batch.sequence, batch.coverage) for batch in earlier})
        unfinished = {app_id(unit): one for unit, one in self._unfinished.items() if one[1]}
        stored = self._lake.transaction_versions(schema.COVERAGE, unfinished) if unfinished else {}
        due = {name: sequence for name, (sequence, _) in unfinished.items() if (stored[name] or 0) < sequence}
        if due:
            rows = [row for name in due for row in unfinished[name][1]]
            files = self._lake.write_files(schema.COVERAGE, pa.Table.from_pylist(rows, schema=schema.COVERAGE.schema))
            try:
                self._lake.commit(schema.COVERAGE, files, transactions=due, metadata={})
            except CommitConflictError:
                if len(due) > 1:  # only some of them were committed by another: look again which
                    self.finish()
        self._unfinished.clear()

    def _owner(self, batch: Batch) -> dict[str, Any]:
        """What a note says of who stored the batch. Collectors of earlier versions read the host, the pid and the time."""
        return {
            "instance": self.instance,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "at": self._clock(),
            "released": batch.released,
            "leased": True,
        }

    def _lost(self, batches: list[Batch]) -> list[str]:
        """The units whose batch's number was used by another; none if these very batches are stored, by an attempt that seemed to fail.

        Raises LakeError if neither is so.
        """
        used, notes = self._lake.transaction_versions(schema.FLOWS, [app_id(batch.unit) for batch in batches]), self.notes()
        taken = [batch for batch in batches if (used[app_id(batch.unit)] or 0) >= batch.sequence]
        lost = [batch.unit for batch in taken if not self._is_of(notes.get(batch.unit), batch)]
        if not lost and len(taken) < len(batches):
            raise LakeError("a batch was refused although its number is free; it is tried again")
        return lost

    def _is_of(self, note: dict[str, Any] | None, batch: Batch) -> bool:
        return note is not None and (note["instance"], note["sequence"]) == (self.instance, batch.sequence)
