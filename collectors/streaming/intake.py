"""One cluster's intake: what its streams bring -> new rows of `flows` and `coverage`, ready to be stored."""

from __future__ import annotations

import base64
import json
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import structlog

from collectors.decoding import decode, secrets
from collectors.streaming import metrics, responses
from collectors.streaming.held import Held, LookUp
from collectors.streaming.ledger import Ledger
from collectors.streaming.messages import Messages
from collectors.streaming.publish import Resume
from collectors.streaming.spool import Batch
from collectors.streaming.stream import Ended, Item, Opened, Polled, Stream, now_us, stop_all
from warehouse import config, schema
from warehouse.errors import LakeError

RESUME_MARGIN_US = 5_000_000
"""A stream resumes this long before the last flow held: flows of one node may be out of order by a little."""
REJECTED_BYTES = 64 * 1024**2

_log = structlog.get_logger()


class Intake:
    """A cluster being collected. Not for use by several threads."""

    def __init__(
        self, cluster: config.Cluster, hubble: config.Hubble, resume: Resume, look_up: LookUp, *, rejected: Path, redact: config.Redact
    ) -> None:
        """`rejected`: file that messages which cannot be read are added to; `redact`: secrets not to be stored."""
        at = now_us()
        self.name = cluster.name
        self.sequence = resume.sequence
        self.streams: list[Stream] = []
        self._hubble = hubble
        self._held = Held(look_up, until_us=resume.until_us, floor_us=None if resume.is_empty else at)
        self._ledger = Ledger(cluster.name, until_us=resume.until_us, addresses=hubble.addresses, at=at)
        self._rejected = rejected
        self._redact = redact
        self._pending: list[pa.Table] = []
        self._unsent: Batch | None = None
        self.pending_rows = 0
        self.pending_bytes = 0

    def start(self, wake: threading.Event) -> None:
        """Connect to every address."""
        self.streams = [Stream(self.name, self._hubble, address, self._since_ns, wake) for address in self._hubble.addresses]
        for stream in self.streams:
            stream.start()

    def stop(self) -> None:
        """Break the streams; what they brought can still be received."""
        stop_all(self.streams)

    def _since_ns(self) -> int:
        """Where streams resume: the last flow held of the node that is furthest behind, else whatever the rings hold."""
        until = self._ledger.until_us.values()
        return max(0, min(until) - RESUME_MARGIN_US) * 1000 if until else 0

    def receive(self) -> None:
        """Work on what has come. Raises LakeError if the lake has to be asked and cannot; nothing is lost then."""
        for stream in self.streams:
            items = stream.take()
            done = 0
            try:
                for end, part in _parts(items):
                    self._receive(stream.address, part)
                    done = end
            except LakeError:
                stream.give_back(items[done:])
                raise
        for address, node in self._ledger.silent(now_us(), self._hubble.silent_after // timedelta(microseconds=1)).items():
            next(stream for stream in self.streams if stream.address == address).reopen(f"node {node} sees flows, but none arrive")
        metrics.inbox(self.name, sum(stream.waiting for stream in self.streams))

    def _receive(self, address: str, part: Item) -> None:
        match part:
            case Opened(at=at):
                metrics.streams_opened(self.name)
                self._ledger.opened(address, at)
            case Ended(at=at, reason=reason):
                self._ledger.ended(address, at, reason)
            case Polled(at=at, nodes=nodes):
                self._ledger.polled(address, nodes, at)
            case Messages():
                self._receive_messages(address, part)

    def _receive_messages(self, address: str, messages: Messages) -> None:
        parts = responses.split(messages)
        before = 0
        # Lost events and node states are taken at their place among the flows: each says something of what came before.
        for position, other in (*parts.others, (len(parts.flows), None)):
            if position > before:
                self._receive_flows(address, parts.flows[before:position])
            before = position
            if other is None:
                continue
            if other.HasField("lost_events"):
                metrics.flows_lost(self.name, other.lost_events.source, self._ledger.lost(other, now_us()))
            else:
                self._ledger.node_status(other, now_us())
        if parts.rejected:
            self._set_aside(parts.rejected)

    def _receive_flows(self, address: str, flows: pa.BinaryArray) -> None:
        recorded = datetime.now(UTC)
        decoded = decode.decode(flows, cluster=self.name, recorded=recorded, redact=self._redact)
        rows = decoded.rows
        fresh = self._held.new(rows)
        self._ledger.flows(address, rows, fresh, now_us())
        if decoded.rejected:
            self._set_aside(decoded.rejected)
        new = int(np.count_nonzero(fresh))
        if new < rows.num_rows:
            rows = rows.filter(pa.array(fresh))
        metrics.flows_received(self.name, new, len(fresh) - new)
        if new:
            self._pending.append(rows)
            self.pending_rows += new
            self.pending_bytes += rows.nbytes

    def _set_aside(self, rejected: tuple[decode.Rejected, ...]) -> None:
        """Keep what could not be read, without secrets, up to a bound, and count it in the ledger."""
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

    def held_back(self, since_us: int) -> None:
        """The streams were not read from then to now."""
        self._ledger.held_back(since_us, now_us())

    def batch(self, *, even_empty: bool = False) -> Batch | None:
        """What has to be stored now; the same again until `stored` is called. None if there is nothing."""
        if self._unsent is None:
            coverage = self._ledger.take(now_us())
            if not self._pending and not coverage and not even_empty:
                return None
            rows = pa.concat_tables(self._pending) if self._pending else schema.FLOWS.schema.empty_table()
            self._pending, self.pending_rows, self.pending_bytes = [], 0, 0
            self._unsent = Batch(
                cluster=self.name, sequence=self.sequence + 1, rows=rows, coverage=coverage, until_us=self._ledger.until_us
            )
        return self._unsent

    def stored(self) -> None:
        """The batch is in the lake or in the spool."""
        self.sequence += 1
        self._unsent = None
        metrics.nodes(self.name, self._ledger.until_us)

    @property
    def unsent_rows(self) -> int:
        """Rows of the batch that could not be stored yet."""
        return self._unsent.rows.num_rows if self._unsent else 0


def _parts(items: list[Item]) -> list[tuple[int, Item]]:
    """Runs of messages as one, and what stands between them; each with the number of items up to its end."""
    parts: list[tuple[int, Item]] = []
    run: list[Messages] = []
    for number, item in enumerate(items):
        if isinstance(item, Messages):
            run.append(item)
            continue
        if run:
            parts.append((number, Messages.joined(run)))
            run = []
        parts.append((number + 1, item))
    if run:
        parts.append((len(items), Messages.joined(run)))
    return parts
