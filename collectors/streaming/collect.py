"""The collector: streams of a fleet's clusters -> the lake, for as long as it runs.

One thread reads each stream; this one decodes, de-duplicates, keeps the ledger and stores a batch every few seconds.
While the lake is away batches go to the spool; when that is full the streams are paused, and Hubble counts what is lost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Set
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

from collectors.sharing.assignment import assign
from collectors.sharing.members import Board, Members
from collectors.sharing.units import Unit, fleet_of, units_of
from collectors.streaming import metrics
from collectors.streaming.arrivals import Taken, steps_of
from collectors.streaming.claims import Claims, Resume
from collectors.streaming.intake import Intake
from collectors.streaming.last_losses import book_last_losses
from collectors.streaming.leftovers import Leftovers
from collectors.streaming.publish import Publisher, TakenOverError
from collectors.streaming.spool import Batch, Spool, UnreadableError
from collectors.streaming.stream import now_us, stop_all
from warehouse import config, schema
from warehouse.errors import ConfigError, LakeError
from warehouse.lake.notices import Notices
from warehouse.lake.tables import Lake

TICK_SECONDS, LEAST_TICK_SECONDS = 0.5, 0.1
"""The longest and the shortest pause before the loop looks again what is due. A stream whose inbox is half full ends the pause."""
WORK_SECONDS = 10.0
"""What waits in the inboxes is worked on at least this often."""
MUCH_MESSAGES = 20_000
"""As soon as so many messages wait in all inboxes they are worked on.

With many quiet clusters most of the work is for each cluster, however few messages it has, so a lower number costs more.
"""
SHARE_SECONDS = 2.0
"""How often it is looked at which clusters are this collector's, and those not begun are tried again."""
FLUSH_BYTES = 32 * 1024**2
"""A batch is stored early when its rows take this much memory."""
DECODE_BYTES = 32 * 1024**2
"""Messages of several clusters are decoded together up to this size."""
STUCK_SECONDS = 120.0
SIGNS = "_collectors"
"""The folder beside the tables with collectors' signs of life, if they are not Lease objects."""

_log = structlog.get_logger()


class Collector:
    """Collects the clusters of a configuration that name a Hubble address, or its share of them if it is one of several collectors."""

    def __init__(self, settings: config.Config, board: Board | None = None) -> None:
        """`board` is where collectors give signs of life; by default the lake. Connects to nothing yet.

        Raises ConfigError if no cluster has a Hubble address.
        """
        self._settings = settings
        self._units = units_of(settings.clusters)
        if not self._units:
            raise ConfigError("no cluster to collect: give clusters[].hubble.address (hubble-relay) or clusters[].hubble.nodes")
        self._spool_folder = spool_folder(settings)
        self._spool = Spool(self._spool_folder, settings.collect.spool_max_bytes)
        self._members = Members(
            board or Notices(settings.lake, SIGNS),
            fleet=fleet_of(settings.lake.url, self._units),
            lease_seconds=settings.collect.leases.duration.total_seconds(),
            is_healthy=lambda: self.healthy() is None,
        )
        self._mine: frozenset[str] = frozenset(self._units)
        """The units that are this collector's to collect."""
        self._intakes: dict[str, Intake] = {}
        self._leaving: set[str] = set()
        """Units of `_intakes` that are handed over: their streams have ended."""
        self._waiting: dict[str, str] = dict.fromkeys(self._units, "not started yet")
        self._wake = threading.Event()
        self._lake: Lake | None = None
        self._publisher: Publisher | None = None
        self._claims: Claims | None = None
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
        """Return every problem with the lake, the streams and the clusters that are this collector's; None if there is none."""
        streams = [stream for intake in list(self._intakes.values()) for stream in intake.streams]
        problems = [self._lake_problem, self._members.problem]
        problems += [f"{name}: {reason}" for name, reason in list(self._waiting.items()) if name in self._mine]
        problems += [f"{stream.address}: {stream.problem}" for stream in streams if stream.problem]
        if not self._mine:
            problems.append("other collectors collect every cluster; standing by")
        return "; ".join(filter(None, problems)) or None

    def run(self, stop: threading.Event) -> None:
        """Collect until `stop` is set, then store the flows received and release the clusters.

        Raises ConfigError if another collector uses the same spool.
        """
        self._spool.lock()
        next_flush = next_share = next_work = 0.0
        flush_every = self._settings.collect.flush_every.total_seconds()
        try:
            while not stop.is_set():
                self._last_tick = time.monotonic()
                if self._last_tick >= next_share or self._members.changed.is_set():
                    self._share()
                    next_share = time.monotonic() + SHARE_SECONDS
                flush_is_due = self._last_tick >= next_flush
                has_much = self._has_much()
                # Working on a handful of flows costs almost as much as on hundreds: they wait until they are stored anyway.
                if flush_is_due or has_much or self._last_tick >= next_work:
                    self._receive()
                    next_work = time.monotonic() + WORK_SECONDS
                if flush_is_due or (self._is_large() and self._lake_problem is None):
                    is_stored = self._flush()
                    next_flush = time.monotonic() + flush_every if is_stored else 0.0
                if not has_much:
                    self._wake.wait(min(TICK_SECONDS, max(LEAST_TICK_SECONDS, min(next_flush, next_work) - time.monotonic())))
                self._wake.clear()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._receive()
        book_last_losses(self._intakes.values())
        stop_all([stream for intake in self._intakes.values() for stream in intake.streams])
        self._leaving = set(self._intakes)
        for _ in range(len(self._intakes) + 1):  # once more for each cluster that turns out to be another's
            if self._flush():
                break
        self._members.stop()
        self._spool.unlock()

    # Sharing ----------------------------------------------------------------------------------------------

    def _share(self) -> None:
        """Begin with the units that are this collector's and are not collected, and hand over those that are not."""
        self._members.changed.clear()
        if not self._open() or not self._members.is_known:
            return
        living = self._members.sharing()
        mine = frozenset(unit for unit, member in assign(self._units, living).items() if member == self._members.name)
        if mine != self._mine:
            _log.info("clusters are shared out", collectors=len(living), mine=len(mine), of=len(self._units))
        self._mine = mine
        metrics.shares(len(living), len(self._intakes))
        if leaving := self._intakes.keys() - mine - self._leaving:
            self._hand_over(leaving)
        for name in self._waiting.keys() - mine:
            self._waiting[name] = "another collector's"
            metrics.streams(name, 0, standing_by=True)
        try:
            self._begin_waiting()
        except LakeError as error:
            self._lake_failed(error)

    def _open(self) -> bool:
        """Open the lake, unless it is open; return whether it is."""
        if self._lake is None:
            try:
                self._lake = Lake.open(self._settings.lake)
            except LakeError as error:
                self._lake_failed(error)
                return False
            self._publisher = Publisher(self._lake, instance=self._members.instance)
            self._claims = Claims(self._lake, self._publisher, self._members.holder)
            self._lake_problem = None
            self._members.start()
        return True

    def _hand_over(self, leaving: Set[str]) -> None:
        """End the streams of these units and store what they brought, so that the collectors whose they are now begin."""
        stop_all([stream for name in leaving for stream in self._intakes[name].streams])
        self._receive()
        self._leaving |= leaving
        _log.info("handing clusters over to other collectors", clusters=len(leaving))
        self._flush()

    def _begin_waiting(self) -> None:
        """Try to begin with the units that are not collected, and store what the spool has of units that are others'. Raises LakeError."""
        spooled = self._spool.units() & self._waiting.keys()
        wanted = {name: self._units[name].cluster for name in self._waiting if name in self._mine or name in spooled}
        if not wanted or self._claims is None or self._lake is None or self._publisher is None:
            return
        leftovers = Leftovers(lake=self._lake, publisher=self._publisher, spool=self._spool)
        for name, answer in self._claims.claim(wanted, by_force=spooled - self._mine).items():
            if isinstance(answer, str):
                reason = f"{answer} collects it; standing by"
                if self._waiting[name] != reason:
                    _log.warning("standing by: another collector stores this cluster's flows", cluster=name, other=answer)
                self._waiting[name] = reason
                metrics.streams(name, 0, standing_by=True)
                continue
            try:
                resume = leftovers.store(name, wanted[name], answer)
                if name in self._mine:
                    self._begin(self._units[name], resume)
                else:
                    self._claims.release(name, wanted[name], resume)
            except TakenOverError as error:
                self._waiting[name] = str(error)

    def _begin(self, unit: Unit, resume: Resume) -> None:
        self._intakes[unit.name] = Intake(
            unit,
            resume,
            self._look_up(unit),
            rejected=self._spool_folder / "rejected" / f"{unit.name}.jsonl",
            redact=self._settings.collect.redact,
            of_units=len(self._units),
        )
        del self._waiting[unit.name]
        self._intakes[unit.name].start(self._wake)
        _log.info("collecting", cluster=unit.name, addresses=list(unit.hubble.addresses), batches_before=resume.sequence)

    def _look_up(self, unit: Unit) -> Any:
        """A function that reads the cluster's flows from the lake and the unit's from the spool."""

        def read(columns: list[str] | None, since: datetime, until: datetime) -> pa.Table:
            if self._lake is None:
                raise LakeError("the lake is not open")
            stored = self._lake.read(schema.FLOWS, columns, [unit.cluster], since, until)
            return pa.concat_tables([stored, *self._spool.look_up(unit.name, columns, since, until)], promote_options="permissive")

        return read

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

    def _flush(self) -> bool:
        """Store pending batches in the lake, else in the spool, else leave them pending.

        Returns False if another collector took over a cluster.
        """
        if self._publisher is None:
            return True
        began = time.monotonic()
        batches = self._batches()
        failed = False
        try:
            self._drain_spool(self._publisher)
            if batches:
                self._publisher.publish(batches)
            for batch in batches:
                self._stored(batch)
            if self._lake_problem and batches:
                _log.info("the lake takes batches again")
                self._lake_problem = None
        except TakenOverError as error:
            self._yield_to_others(error)
            return False
        except LakeError as error:
            failed = True
            self._lake_failed(error)
            self._spool_all(batches)
        pa.default_memory_pool().release_unused()
        metrics.flushed(time.monotonic() - began, failed=failed, spool_bytes=self._spool.size)
        return True

    def _batches(self) -> list[Batch]:
        """The batches to be stored now: all of units that are handed over, and a limited number of others."""
        most = self._settings.collect.flush_clusters
        batches: list[Batch] = []
        for intake in sorted(self._intakes.values(), key=lambda intake: (intake.unit not in self._leaving, intake.stored_at)):
            if len(batches) >= most and intake.unit not in self._leaving:
                break
            if (batch := intake.batch(last=intake.unit in self._leaving)) is not None:
                batches.append(batch)
        return batches

    def _stored(self, batch: Batch) -> None:
        self._intakes[batch.unit].stored()
        metrics.stored(batch.cluster, batch.rows.num_rows)
        self.flows_stored += batch.rows.num_rows
        if batch.released:
            del self._intakes[batch.unit]
            self._leaving.discard(batch.unit)
            self._waiting[batch.unit] = "handed over"

    def _drain_spool(self, publisher: Publisher) -> None:
        """Store the batches that wait in the spool, in order."""
        for name in sorted(self._spool.units() & self._intakes.keys()):
            intake = self._intakes[name]
            for path in self._spool.paths(name):
                try:
                    batch = self._spool.read(path)
                except UnreadableError as error:
                    intake.book(self._spool.set_aside(path, unit=name, reason=str(error)))
                    continue
                publisher.publish([batch])
                self._spool.remove(path)
                self.flows_stored += batch.rows.num_rows
                metrics.stored(batch.cluster, batch.rows.num_rows)

    def _spool_all(self, batches: list[Batch]) -> None:
        try:
            for batch in batches:
                if self._spool.is_full:
                    return
                self._spool.put(batch)
                self._intakes[batch.unit].stored()
        except OSError as error:
            _log.error("the spool cannot be written", folder=str(self._spool_folder), reason=str(error))

    def _yield_to_others(self, error: TakenOverError) -> None:
        """Give up units that another collector stores. Pending flows are dropped, since the other collector reads them as well."""
        _log.warning("another collector took over: standing by", reason=str(error))
        lost = [self._intakes.pop(name) for name in error.units if name in self._intakes]
        stop_all([stream for intake in lost for stream in intake.streams])
        self._leaving -= set(error.units)
        self._waiting |= dict.fromkeys((intake.unit for intake in lost), str(error))

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
