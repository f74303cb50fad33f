"""Stores batches in the lake, each exactly once, with one collector at a time for each cluster.

A commit to `flows` notes the batch's number, its coverage rows and the times of the nodes' last flows; the commit to
`coverage` follows. A collector that starts after a crash in between finds the rows in the note. The lake refuses a number
that was used before, so two collectors of one cluster can never store a flow twice; the later one stands by. A collector
that has nothing to store still commits an empty batch three times per lease, so that the one standing by does not take over.
"""

from __future__ import annotations

import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from collectors.streaming.nodes import Unbooked
from collectors.streaming.spool import Batch, read_note
from warehouse import schema
from warehouse.errors import CommitConflictError, LakeError
from warehouse.lake.tables import Lake


def app_id(cluster: str) -> str:
    """The name under which batches of a cluster are numbered, and their notes kept."""
    return f"collect:{cluster}"


class TakenOverError(CommitConflictError):
    """Another collector stores flows of these clusters."""

    def __init__(self, clusters: list[str]) -> None:
        super().__init__(f"another collector stores the flows of {', '.join(clusters)}")
        self.clusters = clusters


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Where a cluster's collection goes on."""

    sequence: int
    is_empty: bool
    """Whether the lake holds no flow of the cluster."""
    until_us: dict[str | None, int] = field(default_factory=dict)
    """As Ledger.until_us."""
    unbooked: dict[str | None, Unbooked] = field(default_factory=dict)
    """As Ledger.unbooked."""


class Publisher:
    """Stores the batches of one collector process. Not thread-safe."""

    def __init__(self, lake: Lake, *, lease_seconds: float, clock: Callable[[], float] = time.time) -> None:
        """`lease_seconds`: how long after its last commit a collector is taken to be alive; `clock` gives seconds since 1970."""
        self._lake = lake
        self._lease_seconds = lease_seconds
        self._clock = clock
        self._instance = uuid.uuid4().hex
        self._unfinished: dict[str, tuple[int, list[dict[str, Any]]]] = {}
        self._published: dict[str, float] = {}
        self._others: dict[str, tuple[float, float | None]] = {}
        """For each cluster that another collects: the time in its last note, and when we saw that note first."""

    def begin(self, cluster: str) -> Resume | str:
        """Where to go on, or who else collects this cluster. Finishes what an earlier collector left undone. Raises LakeError."""
        name = app_id(cluster)
        try:
            sequence = self._lake.transaction_version(schema.FLOWS, name) or 0
            written = self._lake.last_metadata(schema.FLOWS, name)
            is_empty = not self._lake.files(schema.FLOWS, clusters=[cluster])
        except LakeError:
            if cluster in self._others:  # it cannot have committed either: its time begins anew
                self._others[cluster] = (self._others[cluster][0], None)
            raise
        if written is None:
            return Resume(sequence=sequence, is_empty=is_empty)
        note = json.loads(written)
        other = self._other(cluster, note)
        if other:
            return other
        batch = read_note(note)
        self._unfinished[cluster] = (batch.sequence, batch.coverage)
        self._finish()
        return Resume(sequence=max(sequence, batch.sequence), until_us=batch.until_us, unbooked=batch.unbooked, is_empty=is_empty)

    def is_due(self, cluster: str) -> bool:
        """Whether a batch should be stored even if it is empty, so that this collector is seen to be alive."""
        return self._clock() - self._published.get(cluster, 0.0) >= self._lease_seconds / 3

    def publish(self, batches: list[Batch], *, released: bool = False) -> None:
        """Store batches of different clusters, all or none; `released` says that this collector stops.

        Raises TakenOverError if another collector used a batch's number, LakeError if the lake cannot be written:
        try again with the same batches.
        """
        self._finish()
        rows = pa.concat_tables([batch.rows for batch in batches])
        owner = {"instance": self._instance, "host": socket.gethostname(), "pid": os.getpid(), "at": self._clock(), "released": released}
        try:
            files = self._lake.write_files(schema.FLOWS, rows)
            self._lake.commit(
                schema.FLOWS,
                files,
                transactions={app_id(batch.cluster): batch.sequence for batch in batches},
                metadata={app_id(batch.cluster): json.dumps(batch.note() | owner) for batch in batches},
            )
        except CommitConflictError as conflict:
            lost = [batch.cluster for batch in batches if not self._is_stored(batch)]
            if lost:
                raise TakenOverError(lost) from conflict
        self._published.update(dict.fromkeys((batch.cluster for batch in batches), self._clock()))
        self._unfinished.update({batch.cluster: (batch.sequence, batch.coverage) for batch in batches})
        self._finish()

    def _is_stored(self, batch: Batch) -> bool:
        """Whether this very batch was stored after all, by an attempt that seemed to fail."""
        note = json.loads(self._lake.last_metadata(schema.FLOWS, app_id(batch.cluster)) or "{}")
        return (note.get("instance"), note.get("sequence")) == (self._instance, batch.sequence)

    def _finish(self) -> None:
        """Commit coverage rows whose flows are stored."""
        due: dict[str, int] = {}
        rows: list[dict[str, Any]] = []
        for cluster, (sequence, coverage) in self._unfinished.items():
            if coverage and (self._lake.transaction_version(schema.COVERAGE, app_id(cluster)) or 0) < sequence:
                due[app_id(cluster)] = sequence
                rows += coverage
        if rows:
            files = self._lake.write_files(schema.COVERAGE, pa.Table.from_pylist(rows, schema=schema.COVERAGE.schema))
            try:
                self._lake.commit(schema.COVERAGE, files, transactions=due, metadata={})
            except CommitConflictError:
                if len(due) > 1:  # only some of them were committed by another: look again which
                    self._finish()
        self._unfinished.clear()

    def _other(self, cluster: str, note: dict[str, Any]) -> str | None:
        """Who else collects the cluster, if it seems alive."""
        if note["released"] or note["instance"] == self._instance:
            return None
        if note["host"] == socket.gethostname() and (note["pid"] == os.getpid() or not Path(f"/proc/{note['pid']}").exists()):
            return None
        now, seen = self._clock(), self._others.get(cluster)
        is_alive = now - note["at"] <= self._lease_seconds
        if seen is not None:  # while standing by, count how long its note has not changed, so that clocks need not agree
            first = now if seen[0] != note["at"] or seen[1] is None else seen[1]
            is_alive = now - first <= self._lease_seconds
            self._others[cluster] = (note["at"], first)
        elif is_alive:
            self._others[cluster] = (note["at"], now)
        if not is_alive:
            self._others.pop(cluster, None)
            return None
        return f"process {note['pid']} on {note['host']}"
