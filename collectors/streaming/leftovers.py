"""Stores what an earlier run left in the spool, except for what got into the lake after all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
import structlog

from collectors.streaming.claims import Resume
from collectors.streaming.known_flows import KnownFlows
from collectors.streaming.publish import Publisher
from collectors.streaming.spool import Batch, Spool, UnreadableError
from collectors.streaming.stream import now_us
from warehouse import schema
from warehouse.lake.tables import Lake

_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Leftovers:
    """The batches in a spool that are to be stored in a lake."""

    lake: Lake
    publisher: Publisher
    spool: Spool

    def store(self, unit: str, cluster: str, resume: Resume) -> Resume:
        """Store the batches of a unit that has been claimed; return where its collection goes on now. Raises LakeError."""
        until, unbooked = dict(resume.until_us), resume.unbooked
        sequence = resume.sequence
        for path in self.spool.paths(unit):
            sequence += 1
            try:
                batch = self.spool.read(path)
            except UnreadableError as error:
                row = self.spool.set_aside(path, unit=unit, reason=str(error))
                no_flows = schema.FLOWS.schema.empty_table()
                lost = Batch(
                    cluster=cluster, unit=unit, sequence=sequence, rows=no_flows, coverage=[row], until_us=until, unbooked=unbooked
                )
                self.publisher.publish([lost])
                continue
            spooled = KnownFlows(lambda c, s, u: self._stored(cluster, c, s, u), until_us=resume.until_us, floor_us=now_us())
            fresh = spooled.new(batch.rows)
            flows = int(fresh.sum())
            for node, time_us in batch.until_us.items():
                until[node] = max(time_us, until.get(node, time_us))
            is_ours = flows > 0 or not batch.rows.num_rows  # else another collector stored the same flows, and booked them
            unbooked = batch.unbooked if is_ours else unbooked
            coverage = self._new_coverage(batch) if is_ours else []
            rows = batch.rows.filter(pa.array(fresh))
            self.publisher.publish([replace(batch, sequence=sequence, rows=rows, coverage=coverage, until_us=until, unbooked=unbooked)])
            self.spool.remove(path)
            _log.info("a batch of an earlier run was stored", unit=unit, flows=flows)
        return Resume(sequence=sequence, until_us=until, unbooked=unbooked, is_empty=resume.is_empty and sequence == resume.sequence)

    def _new_coverage(self, batch: Batch) -> list[dict[str, Any]]:
        """The coverage rows of a batch that are not in the lake: an earlier run may have ended between storing a batch and deleting it."""
        if not batch.coverage:
            return batch.coverage
        first, last = min(row["from"] for row in batch.coverage), max(row["from"] for row in batch.coverage)
        stored = self.lake.read(schema.COVERAGE, None, [batch.cluster], first, last + timedelta(microseconds=1))
        known = {tuple(row.values()) for row in stored.to_pylist()}
        return [row for row in batch.coverage if tuple(row[name] for name in stored.column_names) not in known]

    def _stored(self, cluster: str, columns: Sequence[str] | None, since: datetime, until: datetime) -> pa.Table:
        return self.lake.read(schema.FLOWS, columns, [cluster], since, until)
