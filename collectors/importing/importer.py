"""Exporter files of Cilium agents -> `flows` and `coverage`: `hindcast import`.

Reads JSON lines (plain, .gz, folders, standard input), adds what the lake does not hold yet, and sets malformed
lines aside with their place and reason. Running it twice adds nothing. Printing is the command's work.
"""

from __future__ import annotations

import collections
import gzip
import hashlib
import itertools
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import IO, Any, cast

import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf import json_format

from collectors.decoding import decode, secrets
from collectors.decoding.keys import CONTENT, flow_keys
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.importing import json_lines
from collectors.streaming.coverage_rows import coverage_row
from warehouse import config, schema
from warehouse.errors import CommitConflictError, ImportFailedError
from warehouse.lake.tables import Lake

CHUNK_LINES = 20_000
FEW_LINES = 200
"""So few lines are read one by one when one of them is odd."""
STANDARD_INPUT = "-"
_ATTEMPTS = 10
_LOST = ("from", "to", "node_name", "state", "source", "flows_lost")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A line that is not stored whole: where it is, what it says (but for secrets) and why."""

    place: str
    """file:line, counted from 1."""
    reason: str
    text: str
    stored: bool
    """True if the line was stored without the fields this version does not know."""


@dataclass(kw_only=True)
class Outcome:
    """What became of the lines of one file."""

    source: str
    lines: int = 0
    added: int = 0
    known: int = 0
    """Flows the lake held already."""
    other: int = 0
    """Node states, agent and debug events: not flows, not stored."""
    problems: list[Problem] = field(default_factory=list)


@dataclass
class _Ledger:
    """What a file says about coverage: counts and spans of the flows it added, and its lost events."""

    nodes: set[str | None] = field(default_factory=set)
    flows: collections.Counter[str | None] = field(default_factory=collections.Counter)
    span: dict[str | None, tuple[datetime, datetime]] = field(default_factory=dict)
    lost: list[tuple[str | None, datetime, flow_pb2.LostEvent]] = field(default_factory=list)


def find_files(paths: Sequence[Path | str]) -> list[Path | str]:
    """The files to import, rotated sets in the order they were written: names with a time sort before the live file.

    Raises ImportFailedError for a path that is not there and for a folder without exporter files.
    """
    found: list[Path | str] = []
    for path in paths:
        if path == STANDARD_INPUT:
            found.append(STANDARD_INPUT)
            continue
        path = Path(path)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.is_file() and (p.suffix in (".log", ".json", ".jsonl", ".gz")))
            if not inside:
                raise ImportFailedError(f"{path}: no .log, .json, .jsonl or .gz file in this folder")
            found.extend(inside)
        elif path.is_file():
            found.append(path)
        else:
            raise ImportFailedError(f"{path}: there is no such file or folder")
    return found


def import_file(
    lake: Lake,
    path: Path | str,
    *,
    cluster: str,
    recorded: datetime,
    progress: Callable[[int], None] | None = None,
    redact: config.Redact | None = None,
) -> Outcome:
    """Add the flows of one file to `cluster`, without the secrets that `redact` names.

    `progress` is told how many lines were read since it was told last. A flow is known if the lake holds its uuid, or,
    where it has none, as many rows of the same content and time as the file has had so far: two equal lines of one file
    are two flows. Raises ImportFailedError if the file cannot be read on (what was stored stays and is known next time),
    LakeError if the lake cannot be written.
    """
    redact = redact or config.Redact()
    outcome = Outcome(source=str(path))
    ledger, seen, added = _Ledger(), collections.Counter[str](), collections.Counter[str]()
    digest = hashlib.sha256()
    with _open(path) as stream, ThreadPoolExecutor(1) as reader:
        for chunk, encoded in _ahead(reader, _chunks(stream, path)):
            digest.update(chunk.text)
            odd = [
                message
                for number, line in encoded.odd
                if (message := _parse(line, f"{path}:{number}", outcome, ledger, redact)) is not None
            ]
            messages = pa.concat_arrays([*encoded.parts, pa.array(odd, pa.binary())])
            _store(lake, messages, cluster, recorded, redact, outcome, ledger, seen, added)
            outcome.lines += len(chunk.lines)
            if progress:
                progress(len(chunk.lines))
    _store_coverage(lake, ledger, cluster=cluster, recorded=recorded, file_id=digest.hexdigest(), source=str(path))
    return outcome


@contextmanager
def _open(path: Path | str) -> Iterator[IO[bytes]]:
    if path == STANDARD_INPUT:
        yield sys.stdin.buffer
        return
    with ExitStack() as stack:
        try:
            plain = stack.enter_context(Path(path).open("rb"))
        except OSError as error:
            raise ImportFailedError(f"{path}: cannot be read: {error.strerror}") from error
        yield cast(IO[bytes], gzip.GzipFile(fileobj=plain)) if Path(path).suffix == ".gz" else plain


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some lines of a file, with the number of the first, counted from 1."""

    first: int
    lines: list[bytes]

    @property
    def text(self) -> bytes:
        return b"".join(self.lines)


@dataclass(frozen=True, slots=True)
class _Encoded:
    """The flows of a chunk's usual lines, and the other lines with their numbers."""

    parts: list[pa.BinaryArray]
    odd: list[tuple[int, bytes]]


def _chunks(stream: IO[bytes], path: Path | str) -> Iterator[_Chunk]:
    """The lines, some at a time; what was read before an error is given first."""
    first = 1
    lines: list[bytes] = []
    failure: Exception | None = None
    while failure is None:
        try:
            lines = []
            lines.extend(itertools.islice(stream, CHUNK_LINES))
        except (OSError, EOFError) as error:
            failure = error
        if not lines:
            break
        yield _Chunk(first, lines)
        first += len(lines)
    if failure:
        raise ImportFailedError(f"{path}:{first}: cannot be read on: {failure}. The lines before are stored") from failure


def _ahead(reader: Executor, chunks: Iterator[_Chunk]) -> Iterator[tuple[_Chunk, _Encoded]]:
    """Each chunk with its flows; the next one is encoded while this one is stored."""
    waiting: tuple[_Chunk, Future[_Encoded]] | None = None
    failure: ImportFailedError | None = None
    while True:
        try:
            chunk = next(chunks, None)
        except ImportFailedError as error:
            chunk, failure = None, error
        following = None if chunk is None else (chunk, reader.submit(_encode, chunk))
        if waiting:
            yield waiting[0], waiting[1].result()
        waiting = following
        if waiting is None:
            break
    if failure:
        raise failure


def _encode(chunk: _Chunk) -> _Encoded:
    """The usual lines all at once; where that fails, some line among them is odd and is looked for by halves."""
    odd: list[tuple[int, bytes]] = []
    usual: list[tuple[int, bytes]] = []
    for numbered in enumerate(chunk.lines, start=chunk.first):
        (usual if json_lines.is_usual(numbered[1]) else odd).append(numbered)
    parts: list[pa.BinaryArray] = []
    waiting = [usual] if usual else []
    while waiting:
        some = waiting.pop()
        encoded = json_lines.encode([line for _, line in some])
        if encoded is not None:
            parts.append(encoded)
        elif len(some) > FEW_LINES:
            waiting += [some[len(some) // 2 :], some[: len(some) // 2]]
        else:
            odd += some
    return _Encoded(parts, sorted(odd))


def _parse(line: bytes, place: str, outcome: Outcome, ledger: _Ledger, redact: config.Redact) -> bytes | None:
    """The encoded flow of a line; None for lines without one."""
    if not line.strip():
        return None
    text = line.decode("utf-8", errors="replace").rstrip("\r\n")

    def set_aside(reason: str, *, stored: bool = False) -> None:
        said = [secrets.out_of_text(one, redact) for one in (reason, text)]
        outcome.problems.append(Problem(place=place, reason=said[0], text=said[1], stored=stored))

    try:
        value = json.loads(line)
    except ValueError as error:
        set_aside(f"not JSON: {error}")
        return None
    event = observer_pb2.ExportEvent()
    try:
        json_format.ParseDict(value, event)
    except (json_format.ParseError, TypeError, AttributeError) as error:
        reason = str(error).splitlines()[0]
        event = observer_pb2.ExportEvent()
        try:
            json_format.ParseDict(value, event, ignore_unknown_fields=True)
        except (json_format.ParseError, TypeError, AttributeError):
            set_aside(reason)
            return None
        if event.WhichOneof("response_types") is not None:
            set_aside(f"stored without what this version does not know: {reason}", stored=True)
    kind = event.WhichOneof("response_types")
    if kind == "flow":
        encoded: bytes = event.flow.SerializeToString()
        return encoded
    if kind is None:
        set_aside("holds none of flow, lost_events, node_status, agent_event, debug_event")
    elif kind == "lost_events":
        ledger.lost.append((event.node_name or None, _moment(event.time), event.lost_events))
    else:
        outcome.other += 1
    return None


def _moment(timestamp: Any) -> datetime:
    moment: datetime = pa.scalar(timestamp.seconds * 1_000_000 + timestamp.nanos // 1000, pa.int64()).cast(schema.TIMESTAMP).as_py()
    return moment


def _store(
    lake: Lake,
    messages: pa.BinaryArray,
    cluster: str,
    recorded: datetime,
    redact: config.Redact,
    outcome: Outcome,
    ledger: _Ledger,
    seen: collections.Counter[str],
    added: collections.Counter[str],
) -> None:
    rows = decode.decode(messages, cluster=cluster, recorded=recorded, live=False, redact=redact).rows
    if not rows.num_rows:
        return
    ledger.nodes.update(rows.column("node_name").to_pylist())
    keys = flow_keys(rows).to_pylist()
    nth = []
    for key in keys:
        seen[key] += 1
        nth.append(seen[key])
    span = pc.min_max(rows.column("time")).as_py()
    for attempt in range(_ATTEMPTS):
        version = lake.transaction_version(schema.FLOWS, f"import:{cluster}") or 0
        held = lake.read(
            schema.FLOWS, None if rows["uuid"].null_count else ["uuid"], [cluster], span["min"], span["max"] + timedelta(microseconds=1)
        )
        if not rows["uuid"].null_count:  # what has none cannot be one of these
            held = held.filter(held["uuid"].is_valid())
        stored = collections.Counter(flow_keys(held).to_pylist())
        wanted = [
            row
            for row, (key, n) in enumerate(zip(keys, nth, strict=True))
            if (n > stored[key] - added[key] if key.startswith(CONTENT) else n == 1 and not stored[key])
        ]
        if wanted:
            files = lake.write_files(schema.FLOWS, rows.take(wanted))
            try:
                lake.commit(schema.FLOWS, files, transactions={f"import:{cluster}": version + 1}, metadata={"import": outcome.source})
            except CommitConflictError:
                if attempt == _ATTEMPTS - 1:
                    raise
                continue  # another import of this cluster came first: what it stored may be ours too
            _note_span(rows.take(wanted), ledger)
        added.update(keys[row] for row in wanted)
        outcome.added += len(wanted)
        outcome.known += len(keys) - len(wanted)
        return


def _note_span(rows: pa.Table, ledger: _Ledger) -> None:
    groups = rows.select(["node_name", "time", "flow_count"]).group_by("node_name")
    for group in groups.aggregate([("time", "min"), ("time", "max"), ("flow_count", "sum")]).to_pylist():
        node = group["node_name"]
        first, last = ledger.span.get(node, (group["time_min"], group["time_max"]))
        ledger.span[node] = min(first, group["time_min"]), max(last, group["time_max"])
        ledger.flows[node] += group["flow_count_sum"]


def _store_coverage(lake: Lake, ledger: _Ledger, *, cluster: str, recorded: datetime, file_id: str, source: str) -> None:
    """One row a node for what the file added, one for each lost event the ledger does not hold; once for each content."""
    app_id = f"import:{cluster}:{file_id}"
    end = timedelta(microseconds=1)
    booked = (
        {tuple(row[name] for name in _LOST) for row in lake.read(schema.COVERAGE, _LOST, [cluster]).to_pylist()} if ledger.lost else set()
    )
    ledger_rows = [
        coverage_row(cluster, (first, last + end), node, "connected", "import", ledger.flows[node], 0, source, recorded)
        for node, (first, last) in ledger.span.items()
    ]
    for node, time, event in ledger.lost:
        first = _moment(event.first) if event.HasField("first") else time
        last = _moment(event.last) if event.HasField("last") else time
        name = flow_pb2.LostEventSource.Name(event.source) if event.source in flow_pb2.LostEventSource.values() else str(event.source)
        interval = (min(first, last), max(first, last) + end)
        full_name = _with_cluster(node, ledger.nodes)
        row = coverage_row(cluster, interval, full_name, "lost", name, None, event.num_events_lost, source, recorded)
        if tuple(row[key] for key in _LOST) not in booked:
            ledger_rows.append(row)
    if not ledger_rows or lake.transaction_version(schema.COVERAGE, app_id) is not None:
        return
    files = lake.write_files(schema.COVERAGE, pa.Table.from_pylist(ledger_rows, schema=schema.COVERAGE.schema))
    lake.commit(schema.COVERAGE, files, transactions={app_id: 1}, metadata={"import": source})


def _with_cluster(node: str | None, nodes: set[str | None]) -> str | None:
    """Lost events name a node without the cluster that flows put before it."""
    matches = [name for name in nodes if name and node and name.endswith(f"/{node}")]
    return matches[0] if len(matches) == 1 else node
