"""Imports files of Hubble's flows into `flows` and `coverage`: `hindcast import`.

Each file is read as a stream, some megabytes at a time. Flows that are not in the lake yet are added, unreadable text is set
aside with its place and reason, and the ledger records what the file proves. A second run adds nothing. Printing does not belong here.
"""

from __future__ import annotations

import collections
import functools
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import json_format, timestamp_pb2
from tenacity import retry, retry_if_exception_type, stop_after_attempt

from collectors.decoding import decode, secrets
from collectors.decoding.keys import CONTENT, flow_keys
from collectors.hubble_api.flow import flow_pb2
from collectors.importing.chunks import Chunk, read_chunks
from collectors.importing.documents import BadText
from collectors.importing.evidence import Evidence, Loss, flag_unreasonable
from collectors.importing.occurrences import Occurrences
from collectors.importing.sources import READ_ERRORS, open_text
from warehouse import config, schema
from warehouse.errors import CommitConflictError
from warehouse.lake.tables import Lake

MOST_PROBLEMS = 1000
"""The most problems that an outcome lists; `on_problem` receives all of them."""
_ATTEMPTS = 10
_MOST_NAMES = 100


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A line that was not stored: its place, the reason, and its text without secrets."""

    place: str
    """file:line, counted from 1."""
    reason: str
    text: str


@dataclass(kw_only=True)
class Outcome:
    """The result for one file."""

    source: str
    lines: int = 0
    added: int = 0
    known: int = 0
    """Flows that were already in the lake."""
    other: int = 0
    """Node states, agent and debug events, which are not flows and are not stored."""
    flagged: int = 0
    """Flows added with an implausible time; they have `clock_skew`."""
    problem_count: int = 0
    problems: list[Problem] = field(default_factory=list)
    """The first of the problems."""
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)
    """Unknown fields, values and extensions, with the number of flows that had them; those flows are stored."""
    failure: str | None = None
    """Why the rest of the file was not read; None if it was read to its end."""


@dataclass(kw_only=True)
class Target:
    """Where flows are stored, and how."""

    lake: Lake
    cluster: str
    recorded: datetime
    redact: config.Redact = field(default_factory=config.Redact)
    on_lines: Callable[[int], None] = lambda lines: None
    """Called with the number of lines read since the last call."""
    on_problem: Callable[[Problem], None] = lambda problem: None
    """Called with each problem."""


def import_file(target: Target, path: Path | str) -> Outcome:
    """Add the flows of one file.

    A flow is already stored if the lake has its uuid or, for a flow without uuid, at least as many rows of the same content and
    time as the file has had so far: two equal lines of one file are two flows. Raises ImportFailedError if nothing of the file can
    be read, LakeError if the lake cannot be written. If only the beginning can be read, it is stored and `failure` says so.
    """
    return _Import(target, path).run()


class _Import:
    """The import of one file in progress."""

    def __init__(self, target: Target, path: Path | str) -> None:
        self._target = target
        self._path = path
        self._outcome = Outcome(source=str(path))
        self._evidence = Evidence(recorded=target.recorded)
        self._digest = hashlib.sha256()

    def run(self) -> Outcome:
        redact_json = functools.partial(secrets.out_of_json, settings=self._target.redact)
        with open_text(self._path) as stream, Occurrences() as self._occurrences, ThreadPoolExecutor(1) as reader:
            try:
                for chunk in _ahead(reader, read_chunks(stream, redact_json)):
                    self._take(chunk)
            except _ReadError as error:
                self._outcome.failure = f"{self._path}:{self._outcome.lines + 1}: reading failed: {error}. The lines before are stored"
        self._store_coverage()
        return self._outcome

    def _take(self, chunk: Chunk) -> None:
        for block in chunk.blocks:
            self._digest.update(block)
        for bad in chunk.bad:
            self._set_aside(bad)
        for name, count in chunk.unknown.items():
            if name in self._outcome.unknown or len(self._outcome.unknown) < _MOST_NAMES:
                self._outcome.unknown[name] += count
        self._outcome.other += chunk.other
        rows = self._decode(chunk)
        if rows.num_rows:
            self._store(rows)
        losses = [_loss(*event) for event in chunk.losses]
        self._evidence.add_losses(losses)
        self._outcome.lines += chunk.line_count
        self._target.on_lines(chunk.line_count)

    def _set_aside(self, bad: BadText) -> None:
        text = bad.content.decode("utf-8", errors="replace").strip("\r\n\x00")
        reason, text = (secrets.out_of_text(one, self._target.redact) for one in (bad.reason, text))
        problem = Problem(place=f"{self._path}:{bad.line}", reason=reason, text=text)
        self._outcome.problem_count += 1
        if len(self._outcome.problems) < MOST_PROBLEMS:
            self._outcome.problems.append(problem)
        self._target.on_problem(problem)

    def _decode(self, chunk: Chunk) -> pa.Table:
        """Return rows of `flows`."""
        target = self._target
        decoded = decode.decode(chunk.messages, cluster=target.cluster, recorded=target.recorded, live=False, redact=target.redact)
        for rejected in decoded.rejected:
            self._set_aside(BadText(int(chunk.lines[rejected.position]), "flow: cannot be decoded", b""))
        return flag_unreasonable(decoded.rows)

    def _store(self, rows: pa.Table) -> None:
        keys = flow_keys(rows)
        wanted = self._commit_new(rows, keys, self._counts(rows, keys))
        new = rows.filter(pa.array(wanted))
        self._evidence.add_flows(rows, wanted)
        self._outcome.added += new.num_rows
        self._outcome.known += rows.num_rows - new.num_rows
        self._outcome.flagged += pc.sum(new.column("clock_skew")).as_py() or 0

    @retry(retry=retry_if_exception_type(CommitConflictError), stop=stop_after_attempt(_ATTEMPTS), reraise=True)
    def _commit_new(self, rows: pa.Table, keys: pa.Array, counts: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Commit the rows that the lake does not hold yet; return which they are.

        If another import into this cluster commits first, it may have stored the same flows: the lake is asked again.
        """
        target, app_id = self._target, f"import:{self._target.cluster}"
        version = target.lake.transaction_version(schema.FLOWS, app_id) or 0
        wanted: npt.NDArray[np.bool_] = counts > self._stored_counts(rows, keys)
        if wanted.any():
            files = target.lake.write_files(schema.FLOWS, rows.filter(pa.array(wanted)))
            transactions, metadata = {app_id: version + 1}, {"import": self._outcome.source}
            target.lake.commit(schema.FLOWS, files, transactions=transactions, metadata=metadata)
        return wanted

    def _counts(self, rows: pa.Table, keys: pa.Array) -> npt.NDArray[np.int64]:
        """Return, for each flow without uuid, its occurrence number in the file; for one with a uuid 1, or 0 if repeated."""
        with_uuid = rows.column("uuid").is_valid().to_numpy()
        codes = keys.dictionary_encode().indices.to_numpy()
        counts = np.zeros(len(keys), np.int64)
        counts[np.unique(codes, return_index=True)[1]] = 1
        without = np.flatnonzero(~with_uuid)
        if without.size:
            times = rows.column("time").cast(pa.int64()).to_numpy()[without]
            contents = keys.take(pa.array(without)).to_pylist()
            hashes = np.array([int(key[len(CONTENT) : len(CONTENT) + 16], 16) for key in contents], np.uint64)
            counts[without] = self._occurrences.count(times, hashes)
        return counts

    def _stored_counts(self, rows: pa.Table, keys: pa.Array) -> npt.NDArray[np.int64]:
        """Return how many rows of each key the lake has. Only matching rows are read into memory."""
        span = pc.min_max(rows.column("time")).as_py()
        until = span["max"] + timedelta(microseconds=1)
        counts: collections.Counter[str] = collections.Counter()
        uuids = rows.column("uuid").drop_null().combine_chunks()
        times = rows.filter(rows.column("uuid").is_null()).column("time").unique()
        lookups: list[tuple[list[str] | None, pc.Expression]] = []
        if len(uuids):
            lookups.append((["uuid"], pc.field("uuid").isin(uuids)))
        if len(times):
            lookups.append((None, pc.field("uuid").is_null() & pc.field("time").isin(times)))
        for columns, matching in lookups:
            stored = self._target.lake.read(schema.FLOWS, columns, [self._target.cluster], span["min"], until, matching=matching)
            counts.update(flow_keys(stored).to_pylist())
        return np.array([counts[key] for key in keys.to_pylist()], np.int64) if counts else np.zeros(len(keys), np.int64)

    def _store_coverage(self) -> None:
        """Add to the ledger what the file proves and it does not contain yet; once for each content."""
        target, source = self._target, self._outcome.source
        for loss in self._evidence.unplaced():
            reason = f"lost_events: {loss.event.num_events_lost} flows were lost at an unknown time"
            self._set_aside(BadText(loss.line, reason, json_format.MessageToJson(loss.event, indent=None).encode()))
        span = self._evidence.span()
        app_id = f"import:{target.cluster}:{self._digest.hexdigest()}"
        if span is None or target.lake.transaction_version(schema.COVERAGE, app_id) is not None:
            return
        booked = target.lake.read(schema.COVERAGE, None, [target.cluster], span[0] - timedelta(days=1), span[1])
        ledger_rows = self._evidence.ledger_rows(target.cluster, source, booked)
        if ledger_rows:
            files = target.lake.write_files(schema.COVERAGE, pa.Table.from_pylist(ledger_rows, schema=schema.COVERAGE.schema))
            target.lake.commit(schema.COVERAGE, files, transactions={app_id: 1}, metadata={"import": source})


class _ReadError(Exception):
    """The stream cannot be read any further."""


def _ahead(reader: Executor, chunks: Iterator[Chunk]) -> Iterator[Chunk]:
    """Yield each chunk, reading the next one while this one is stored. Raises _ReadError."""

    def following() -> Chunk | None:
        try:
            return next(chunks, None)
        except READ_ERRORS as error:
            raise _ReadError(str(error)) from error

    waiting = reader.submit(following)
    while (chunk := waiting.result()) is not None:
        waiting = reader.submit(following)
        yield chunk


def _loss(line: int, content: dict[str, Any], node_name: str, time: str | None) -> Loss:
    event = json_format.ParseDict(content, flow_pb2.LostEvent())
    moment = timestamp_pb2.Timestamp()
    if time is not None:
        moment.FromJsonString(time)
    return Loss(line=line, event=event, node_name=node_name or None, time_us=None if time is None else moment.ToMicroseconds())
