"""The intake of one cluster: turns the steps of its streams into new rows of `flows` and `coverage` to be stored."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import structlog

from collectors.decoding import decode, secrets
from collectors.hubble_api.observer import observer_pb2
from collectors.sharing.units import Unit
from collectors.streaming import metrics
from collectors.streaming.arrivals import Flows, Notice, Step, Taken, Unreadable
from collectors.streaming.claims import Resume
from collectors.streaming.known_flows import KEYS_REMEMBERED, KnownFlows, LookUp
from collectors.streaming.ledger import LEDGER_COLUMNS, Ledger
from collectors.streaming.spool import Batch
from collectors.streaming.stream import INBOX_BYTES, Ended, Opened, Polled, Stream, now_us, stop_all
from warehouse import config, schema

RESUME_MARGIN_US = 5_000_000
"""A stream resumes this long before the last flow stored: flows of one node may be slightly out of order."""
REJECTED_BYTES = 64 * 1024**2
INBOXES_BYTES, ALL_KEYS_REMEMBERED = 192 * 1024**2, 6_000_000
"""What all streams of a process may keep in their inboxes, and all its units remember of flows: with many, each has less."""

_log = structlog.get_logger()


class Intake:
    """A unit that is being collected: a cluster, or a part of one. Not thread-safe."""

    def __init__(self, unit: Unit, resume: Resume, look_up: LookUp, *, rejected: Path, redact: config.Redact, of_units: int = 1) -> None:
        """`rejected`: the file to which messages that cannot be read are added; `redact`: the secrets to take out of them.

        `of_units`: how many units share the memory that this process has for messages and keys of flows.
        """
        at = now_us()
        hubble = unit.hubble
        self.unit = unit.name
        self.name = unit.cluster
        self.sequence = resume.sequence
        self.streams: list[Stream] = []
        self.stored_at = 0.0
        """When a batch was last stored, on the clock of `time.monotonic`."""
        self._hubble = hubble
        self._inbox_bytes = min(INBOX_BYTES, INBOXES_BYTES // (of_units * len(hubble.addresses)))
        self._known_flows = KnownFlows(
            look_up,
            until_us=resume.until_us,
            floor_us=None if resume.is_empty else at,
            remembered=min(KEYS_REMEMBERED, ALL_KEYS_REMEMBERED // of_units),
        )
        self._ledger = Ledger(unit.cluster, until_us=resume.until_us, unbooked=resume.unbooked, addresses=hubble.addresses, at=at)
        self._rejected = rejected
        self._redact = redact
        self._steps: deque[tuple[str, Step]] = deque()
        self._booked: list[dict[str, Any]] = []
        self._pending: list[pa.Table] = []
        self._unsent: Batch | None = None
        self.pending_rows = 0
        self.pending_bytes = 0

    def start(self, wake: threading.Event) -> None:
        """Connect to every address."""
        self.streams = [
            Stream(self.name, self._hubble, address, self._since_ns, wake, inbox_bytes=self._inbox_bytes)
            for address in self._hubble.addresses
        ]
        for stream in self.streams:
            stream.start()

    def stop(self) -> None:
        """Break the streams. Messages in their inboxes can still be taken."""
        stop_all(self.streams)

    def _since_ns(self) -> int:
        """Where streams resume: before the last flow known to be complete of the node furthest behind, else with the rings' start."""
        until = self._ledger.resume_us
        return max(0, until - RESUME_MARGIN_US) * 1000 if until is not None else 0

    # Receiving --------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """The number of messages in the inboxes."""
        return sum(stream.waiting for stream in self.streams)

    @property
    def waiting_bytes(self) -> int:
        """The size of the messages in the inboxes."""
        return sum(stream.waiting_bytes for stream in self.streams)

    @property
    def is_filling(self) -> bool:
        """Whether an inbox should be emptied soon."""
        return any(stream.is_filling for stream in self.streams)

    def take(self) -> list[tuple[str, Taken]]:
        """Return the contents of the inboxes, by address; nothing while earlier steps could not be processed yet.

        The inboxes then become full, the streams are no longer read, and Hubble counts what is lost.
        """
        return [] if self._steps else [(stream.address, Taken(cluster=self.name, items=stream.take())) for stream in self.streams]

    def add(self, address: str, steps: Iterable[Step]) -> None:
        """Add steps to be processed."""
        self._steps.extend((address, step) for step in steps)

    def work(self) -> None:
        """Process all steps. Raises LakeError if the lake must be read and cannot be; call it again to continue.

        A step that failed has changed nothing, and is the first one of the next call.
        """
        while self._steps:
            self._work_on(*self._steps[0])
            self._steps.popleft()
        for address, node in self._ledger.silent(now_us(), self._hubble.silent_after // timedelta(microseconds=1)).items():
            next(stream for stream in self.streams if stream.address == address).reopen(f"node {node} sees flows, but none arrive")
        metrics.inbox(self.unit, self.waiting)
        metrics.streams(self.unit, sum(stream.connected for stream in self.streams), standing_by=False)

    def _work_on(self, address: str, step: Step) -> None:
        match step:
            case Flows():
                self._add_flows(address, step)
            case Unreadable(messages=messages):
                self._set_aside(messages)
            case Notice(response=response, at=at) if response.HasField("lost_events"):
                self.book_loss(response, at)
            case Notice(response=response, at=at):
                self._ledger.node_status(response, at)
            case Opened(at=at):
                metrics.streams_opened(self.name)
                self._ledger.opened(address, at)
            case Ended(at=at, reason=reason):
                self._ledger.ended(address, at, reason)
            case Polled(at=at, nodes=nodes):
                self._ledger.polled(address, nodes, at)

    def _add_flows(self, address: str, flows: Flows) -> None:
        rows = flows.rows
        fresh = self._known_flows.new(rows)  # the only call here that may fail
        begin, needed = 0, rows.select(LEDGER_COLUMNS)
        for end, *arrival in flows.arrivals:
            self._ledger.flows(address, needed.slice(begin, end - begin), fresh[begin:end], (arrival[0], arrival[1]))
            begin = end
        new = int(np.count_nonzero(fresh))
        if new < rows.num_rows:
            rows = rows.filter(pa.array(fresh))
        metrics.flows_received(self.name, new, len(fresh) - new)
        if new:
            self._pending.append(rows)
            self.pending_rows += new
            self.pending_bytes += int(new * flows.row_bytes)

    def _set_aside(self, rejected: tuple[decode.Rejected, ...]) -> None:
        """Write unreadable messages to a file of limited size, without secrets, and book them in the ledger."""
        self._ledger.rejected(len(rejected), now_us())
        metrics.messages_rejected(self.name, len(rejected))
        _log.warning("messages set aside", cluster=self.name, count=len(rejected), reason=rejected[0].reason, file=str(self._rejected))
        try:
            self._rejected.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with self._rejected.open("a", encoding="utf-8") as file:
                for one in rejected:
                    if file.tell() > REJECTED_BYTES:
                        break
                    reason, message = secrets.out_of_text(one.reason, self._redact), secrets.out_of_message(one.message, self._redact)
                    line = {"time": datetime.now(UTC).isoformat(), "reason": reason, "message": base64.b64encode(message).decode()}
                    file.write(json.dumps(line) + "\n")
        except OSError as error:
            _log.warning("messages could not be set aside", cluster=self.name, file=str(self._rejected), reason=str(error))

    # Storing ----------------------------------------------------------------------------------------------

    def paused(self, since_us: int) -> None:
        """Book that the streams were paused since then."""
        self._ledger.paused(since_us, now_us())

    def book_loss(self, response: observer_pb2.GetFlowsResponse, at: int) -> None:
        """Book a lost event that arrived at this time, in microseconds since 1970."""
        metrics.flows_lost(self.name, response.lost_events.source, self._ledger.lost(response, at))

    def reported(self, nodes: Iterable[str | None]) -> None:
        """Note that these nodes have reported all losses of the flows received."""
        for node in nodes:
            self._ledger.reported(node)

    def book(self, row: dict[str, Any]) -> None:
        """Add a row of `coverage` to what has to be stored."""
        self._booked.append(row)

    def batch(self, *, even_empty: bool = False, last: bool = False) -> Batch | None:
        """The batch to be stored now, None if there is nothing to store. It stays the same until `stored` is called.

        `last` says that no batch comes after it.
        """
        if self._unsent is None:
            coverage = [*self._booked, *self._ledger.take(now_us(), everything=last)]
            self._booked.clear()
            for name in self._ledger.take_left():
                self._known_flows.forget(name)
                metrics.node_left(self.name, name)
            if not self._pending and not coverage and not even_empty and not last:
                return None
            rows = pa.concat_tables(self._pending) if self._pending else schema.FLOWS.schema.empty_table()
            self._pending, self.pending_rows, self.pending_bytes = [], 0, 0
            self._unsent = Batch(
                cluster=self.name,
                unit=self.unit,
                sequence=self.sequence + 1,
                rows=rows,
                coverage=coverage,
                until_us=self._ledger.until_us,
                unbooked=self._ledger.unbooked,
                released=last,
            )
        return self._unsent

    def stored(self) -> None:
        """Note that the batch is in the lake or in the spool."""
        self.sequence += 1
        self.stored_at = time.monotonic()
        self._unsent = None
        metrics.nodes(self.name, self._ledger.until_us)

    @property
    def unsent_rows(self) -> int:
        """The number of rows in the batch that has not been stored yet."""
        return self._unsent.rows.num_rows if self._unsent else 0
