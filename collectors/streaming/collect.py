"""The collector: streams of a fleet's clusters -> the lake, for as long as it runs.

One thread reads each stream; this one decodes, de-duplicates, keeps the ledger and stores a batch every few seconds.
While the lake is away batches go to the spool; when that is full the streams are paused, and Hubble counts what is lost.
"""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

from collectors.streaming import metrics
from collectors.streaming.arrivals import Taken, steps_of
from collectors.streaming.intake import Intake
from collectors.streaming.known_flows import KnownFlows
from collectors.streaming.last_losses import book_last_losses
from collectors.streaming.publish import Publisher, Resume, TakenOverError
from collectors.streaming.spool import Batch, Spool, UnreadableError
from collectors.streaming.stream import now_us
from warehouse import config, schema
from warehouse.errors import ConfigError, LakeError
from warehouse.lake.tables import Lake

TICK_SECONDS = 0.2
WORK_SECONDS = 10.0
"""What waits in the inboxes is worked on at least this often."""
MUCH_MESSAGES = 5_000
"""As soon as so many messages wait they are worked on."""
RETRY_SECONDS = 5.0
FLUSH_BYTES = 32 * 1024**2
"""A batch is stored early when its rows take this much memory."""
DECODE_BYTES = 32 * 1024**2
"""Messages of several clusters are decoded together up to this size."""
STUCK_SECONDS = 120.0
LEASE_SECONDS = 60.0
_NO_FLOWS = schema.FLOWS.schema.empty_table()

_log = structlog.get_logger()


class Collector:
    """Collects the clusters of a configuration that name a Hubble address."""

    def __init__(self, settings: config.Config) -> None:
        """Raises ConfigError if no cluster has a Hubble address. Connects to nothing yet."""
        self._settings = settings
        self._clusters = {cluster.name: cluster for cluster in settings.clusters if cluster.hubble}
        if not self._clusters:
            raise ConfigError("no cluster to collect: give clusters[].hubble.address (hubble-relay) or clusters[].hubble.nodes")
        self._spool_folder = spool_folder(settings)
        self._spool = Spool(self._spool_folder, settings.collect.spool_max_bytes)
        self._intakes: dict[str, Intake] = {}
        self._waiting: dict[str, str] = dict.fromkeys(self._clusters, "not started yet")
        self._wake = threading.Event()
        self._lake: Lake | None = None
        self._publisher: Publisher | None = None
        self._lake_problem: str | None = "the lake was not opened yet"
        self._paused_since_us: int | None = None
        self._last_tick = time.monotonic()
        self.flows_stored = 0
        self.ticks = 0
        """How often the inboxes were looked at."""

    def healthy(self) -> str | None:
        """Return why the collector makes no progress; None if it does."""
        idle = time.monotonic() - self._last_tick
        return f"no progress for {idle:.0f} s" if idle > STUCK_SECONDS else None

    def ready(self) -> str | None:
        """Return every problem with the lake, the streams, and clusters that another collector stores; None if there is none."""
        streams = [stream for intake in list(self._intakes.values()) for stream in intake.streams]
        problems = [f"{name}: {reason}" for name, reason in list(self._waiting.items())]
        problems += [f"{stream.address}: {stream.problem}" for stream in streams if stream.problem]
        return "; ".join(([self._lake_problem] if self._lake_problem else []) + problems) or None

    def run(self, stop: threading.Event) -> None:
        """Collect until `stop` is set, then store the flows received and release the clusters."""
        next_flush = next_begin = next_work = 0.0
        flush_every = self._settings.collect.flush_every.total_seconds()
        try:
            while not stop.is_set():
                self._last_tick = time.monotonic()
                if self._last_tick >= next_begin and self._waiting:
                    self._begin_waiting()
                    next_begin = time.monotonic() + RETRY_SECONDS
                flush_is_due = self._last_tick >= next_flush
                has_much = self._has_much()
                # Working on a handful of flows costs almost as much as on hundreds: they wait until they are stored anyway.
                if flush_is_due or has_much or self._last_tick >= next_work:
                    self._receive()
                    next_work = time.monotonic() + WORK_SECONDS
                if flush_is_due or (self._is_large() and self._lake_problem is None):
                    self._flush()
                    next_flush = time.monotonic() + flush_every
                if not has_much:
                    self._wake.wait(TICK_SECONDS)
                self._wake.clear()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._receive()
        book_last_losses(self._intakes.values())
        for intake in self._intakes.values():
            intake.stop()
        for _ in range(len(self._intakes) + 1):  # once more for each cluster that turns out to be another's
            if self._flush(released=True):
                break

    # Beginning --------------------------------------------------------------------------------------------

    def _begin_waiting(self) -> None:
        """Try to begin with the clusters that are not collected."""
        try:
            if self._lake is None or self._publisher is None:
                self._lake = Lake.open(self._settings.lake)
                lease = max(LEASE_SECONDS, 6 * self._settings.collect.flush_every.total_seconds())
                self._publisher = Publisher(self._lake, lease_seconds=lease)
                self._lake_problem = None
        except LakeError as error:
            self._lake_failed(error)
            return
        for name in list(self._waiting):
            try:
                self._begin(name, self._lake, self._publisher)
            except TakenOverError as error:
                self._waiting[name] = str(error)
            except LakeError as error:
                self._lake_failed(error)

    def _begin(self, name: str, lake: Lake, publisher: Publisher) -> None:
        resume = publisher.begin(name)
        if isinstance(resume, str):
            reason = f"{resume} collects it; standing by"
            if self._waiting[name] != reason:
                _log.warning("standing by: another collector stores this cluster's flows", cluster=name, other=resume)
            self._waiting[name] = reason
            metrics.streams(name, 0, standing_by=True)
            return
        resume = self._publish_spooled(name, resume, publisher)
        cluster = self._clusters[name]
        if cluster.hubble is None:
            raise ConfigError(f"cluster {name} has no Hubble address")
        look_up = self._look_up(name)
        intake = Intake(
            cluster,
            cluster.hubble,
            resume,
            look_up,
            rejected=self._spool_folder / "rejected" / f"{name}.jsonl",
            redact=self._settings.collect.redact,
        )
        self._intakes[name] = intake
        del self._waiting[name]
        intake.start(self._wake)
        _log.info("collecting", cluster=name, addresses=list(cluster.hubble.addresses), batches_before=resume.sequence)

    def _look_up(self, name: str) -> Any:
        """A function that reads the cluster's flows from the lake and the spool."""

        def read(columns: list[str] | None, since: datetime, until: datetime) -> pa.Table:
            if self._lake is None:
                raise LakeError("the lake is not open")
            stored = self._lake.read(schema.FLOWS, columns, [name], since, until)
            return pa.concat_tables([stored, *self._spool.look_up(name, columns, since, until)], promote_options="permissive")

        return read

    def _publish_spooled(self, name: str, resume: Resume, publisher: Publisher) -> Resume:
        """Store what an earlier run left in the spool, except for what got into the lake after all."""
        until, unbooked = dict(resume.until_us), resume.unbooked
        sequence = resume.sequence
        for path in self._spool.paths(name):
            sequence += 1
            try:
                batch = self._spool.read(path)
            except UnreadableError as error:
                row = self._spool.set_aside(path, cluster=name, reason=str(error))
                lost = Batch(cluster=name, sequence=sequence, rows=_NO_FLOWS, coverage=[row], until_us=until, unbooked=unbooked)
                publisher.publish([lost])
                continue
            spooled = KnownFlows(lambda c, s, u: self._stored(name, c, s, u), until_us=resume.until_us, floor_us=now_us())
            fresh = spooled.new(batch.rows)
            flows = int(fresh.sum())
            for node, time_us in batch.until_us.items():
                until[node] = max(time_us, until.get(node, time_us))
            is_ours = flows > 0 or not batch.rows.num_rows  # else another collector stored the same flows, and booked them
            unbooked = batch.unbooked if is_ours else unbooked
            coverage = self._new_coverage(batch) if is_ours else []
            rows = batch.rows.filter(pa.array(fresh))
            publisher.publish([replace(batch, sequence=sequence, rows=rows, coverage=coverage, until_us=until, unbooked=unbooked)])
            self._spool.remove(path)
            _log.info("a batch of an earlier run was stored", cluster=name, flows=flows)
        return Resume(sequence=sequence, until_us=until, unbooked=unbooked, is_empty=resume.is_empty and sequence == resume.sequence)

    def _new_coverage(self, batch: Batch) -> list[dict[str, Any]]:
        """The coverage rows of a batch that are not in the lake: an earlier run may have ended between storing a batch and deleting it."""
        if self._lake is None or not batch.coverage:
            return batch.coverage
        first, last = min(row["from"] for row in batch.coverage), max(row["from"] for row in batch.coverage)
        stored = self._lake.read(schema.COVERAGE, None, [batch.cluster], first, last + timedelta(microseconds=1))
        known = {tuple(row.values()) for row in stored.to_pylist()}
        return [row for row in batch.coverage if tuple(row[name] for name in stored.column_names) not in known]

    def _stored(self, name: str, columns: Any, since: datetime, until: datetime) -> pa.Table:
        if self._lake is None:
            raise LakeError("the lake is not open")
        return self._lake.read(schema.FLOWS, columns, [name], since, until)

    # Receiving --------------------------------------------------------------------------------------------

    def _has_much(self) -> bool:
        """Whether so much waits in the inboxes that it should be worked on at once."""
        intakes = self._intakes.values()
        return sum(intake.waiting for intake in intakes) >= MUCH_MESSAGES or any(intake.is_filling for intake in intakes)

    def _receive(self) -> None:
        """Work on what the streams brought."""
        self.ticks += 1
        if self._must_pause():
            return
        taken: list[tuple[Intake, str, Taken]] = []
        size = 0
        for intake in self._intakes.values():
            size += intake.waiting_bytes
            taken += [(intake, address, one) for address, one in intake.take()]
            if size > DECODE_BYTES:
                self._add_steps(taken)
                taken, size = [], 0
        self._add_steps(taken)
        for intake in self._intakes.values():
            try:
                intake.work()
            except LakeError as error:
                self._lake_failed(error)

    def _add_steps(self, taken: list[tuple[Intake, str, Taken]]) -> None:
        """Decode what was taken from several streams and hand it to their intakes."""
        steps = steps_of([one for _, _, one in taken], self._settings.collect.redact)
        for (intake, address, _), mine in zip(taken, steps, strict=True):
            intake.add(address, mine)

    def _must_pause(self) -> bool:
        """Whether the streams must be paused, because the flows received can be stored neither in the lake nor in the spool."""
        must = any(intake.unsent_rows for intake in self._intakes.values()) and self._is_large()
        if must and self._paused_since_us is None:
            self._paused_since_us = now_us()
            _log.error("streams are paused: the lake cannot be written and the spool is full", reason=self._lake_problem)
        elif not must and self._paused_since_us is not None:
            for intake in self._intakes.values():
                intake.paused(self._paused_since_us)
            self._paused_since_us = None
        return must

    def _is_large(self) -> bool:
        rows = sum(intake.pending_rows for intake in self._intakes.values())
        return rows >= self._settings.collect.flush_rows or sum(intake.pending_bytes for intake in self._intakes.values()) >= FLUSH_BYTES

    # Storing ----------------------------------------------------------------------------------------------

    def _flush(self, *, released: bool = False) -> bool:
        """Store pending batches in the lake, else in the spool, else leave them pending.

        Returns False if another collector took over a cluster.
        """
        if self._publisher is None:
            return True
        began = time.monotonic()
        batches = [
            batch
            for name, intake in self._intakes.items()
            if (batch := intake.batch(even_empty=self._publisher.is_due(name), last=released))
        ]
        failed = False
        try:
            self._drain_spool(self._publisher)
            if batches:
                self._publisher.publish(batches, released=released)
            for batch in batches:
                self._intakes[batch.cluster].stored()
                metrics.stored(batch.cluster, batch.rows.num_rows)
                self.flows_stored += batch.rows.num_rows
            if self._lake_problem and batches:
                _log.info("the lake takes batches again")
                self._lake_problem = None
        except TakenOverError as error:
            for name in error.clusters:
                self._yield_to_other(name, error)
            return False
        except LakeError as error:
            failed = True
            self._lake_failed(error)
            self._spool_all(batches)
        pa.default_memory_pool().release_unused()
        metrics.flushed(time.monotonic() - began, failed=failed, spool_bytes=self._spool.size)
        return True

    def _drain_spool(self, publisher: Publisher) -> None:
        """Store the batches that wait in the spool, in order."""
        for name, intake in self._intakes.items():
            for path in self._spool.paths(name):
                try:
                    batch = self._spool.read(path)
                except UnreadableError as error:
                    intake.book(self._spool.set_aside(path, cluster=name, reason=str(error)))
                    continue
                publisher.publish([batch])
                self._spool.remove(path)
                self.flows_stored += batch.rows.num_rows
                metrics.stored(name, batch.rows.num_rows)

    def _spool_all(self, batches: list[Batch]) -> None:
        try:
            for batch in batches:
                if self._spool.is_full:
                    return
                self._spool.put(batch)
                self._intakes[batch.cluster].stored()
        except OSError as error:
            _log.error("the spool cannot be written", folder=str(self._spool_folder), reason=str(error))

    def _yield_to_other(self, name: str, error: TakenOverError) -> None:
        """Stand by for a cluster that another collector stores. Pending flows are dropped, since the other collector reads them as well."""
        _log.warning("another collector took over: standing by", cluster=name, reason=str(error))
        intake = self._intakes.pop(name)
        intake.stop()
        self._waiting[name] = str(error)

    def _lake_failed(self, error: LakeError) -> None:
        if self._lake_problem != str(error):
            _log.error("the lake cannot be used; trying again", reason=str(error))
        self._lake_problem = str(error)


def spool_folder(settings: config.Config) -> Path:
    """Where batches wait while the lake is away: as configured, else beside a local lake, else below the working directory."""
    if settings.collect.spool:
        return settings.collect.spool
    if settings.lake.is_local:
        lake = Path(settings.lake.url)
        return lake.with_name(lake.name + ".spool")
    return Path("hindcast.spool").absolute()
