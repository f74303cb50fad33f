"""The processes that run SQL written by users: a clean parent that forks, and its children, one per principal.

A child holds only the rows it is sent: no environment, no files, no network, and limited memory. Safety depends on what is
loaded, not on how the SQL is parsed. Choosing a worker, ending it and selecting its rows belong to warehouse.sql.workers.

A message consists of a length (eight bytes) and the content. A child receives jobs in JSON, followed by one Arrow stream per table
for a `load` job; it answers in JSON, followed by an Arrow stream if the answer has rows. The answer to a `stream` job is followed by
one Arrow stream per batch, an empty message, and a second answer, which reports an error met on the way.
"""

from __future__ import annotations

import gc
import itertools
import json
import os
import signal
import socket
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa

from warehouse import engine, table_views
from warehouse.engine import Limits
from warehouse.errors import QueryError, QueryLimitError
from warehouse.schema import TABLES
from warehouse.sql import confinement, statements

MOST_RESULT_BYTES = 64 * 1024**2
HEADROOM_BYTES = 1024**3
"""Address space for thread stacks and arenas, on top of the engine's memory limit."""
LENGTH = struct.Struct("<Q")


def send(stream: IO[bytes], content: bytes) -> None:
    """Send one message."""
    stream.write(LENGTH.pack(len(content)))
    stream.write(content)
    stream.flush()


class Readable(Protocol):
    """What messages are read from; a read may return fewer bytes than were asked for."""

    def read(self, size: int, /) -> bytes | None:
        """Return up to `size` bytes; none at the end."""


def receive(stream: Readable, most: int = MOST_RESULT_BYTES) -> bytes:
    """Receive one message. Raises EOFError at the end of the stream, ValueError for a message of more than `most` bytes."""
    (length,) = LENGTH.unpack(_exactly(stream, LENGTH.size))
    if length > most:
        raise ValueError(f"a message of {length} bytes")
    return _exactly(stream, length)


def _exactly(stream: Readable, length: int) -> bytes:
    """Read `length` bytes. Raises EOFError if there are fewer."""
    parts: list[bytes] = []
    while length:
        part = stream.read(length)
        if not part:
            raise EOFError
        parts.append(part)
        length -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


# The parent of the workers -------------------------------------------------------------------------------------


def parent(control: socket.socket) -> None:
    """Fork a child for each socket received and kill the children named; when the control socket is closed, kill them all."""
    children: set[int] = set()
    gc.collect()
    gc.freeze()
    while True:
        order, sockets, _, _ = socket.recv_fds(control, 1 + LENGTH.size, 1)
        if not order:
            break
        while children and (done := os.waitpid(-1, os.WNOHANG)[0]):
            children.discard(done)
        if order[:1] == b"k":
            (process,) = LENGTH.unpack(order[1:])
            if process in children:  # not yet waited for, so the id has not been reused
                os.kill(process, signal.SIGKILL)
            continue
        process = os.fork()
        if process == 0:
            _begin(control, sockets[0])
        os.close(sockets[0])
        children.add(process)
        control.sendall(LENGTH.pack(process))
    for process in children:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


def _begin(control: socket.socket, descriptor: int) -> None:
    """Run a child from start to exit."""
    code = 1
    try:
        control.close()
        with socket.socket(fileno=descriptor) as link:
            _serve(link.makefile("rb"), link.makefile("wb"))
        code = 0
    except (EOFError, BrokenPipeError, ConnectionResetError):
        code = 0
    finally:
        os._exit(code)


# A worker ------------------------------------------------------------------------------------------------------


def _serve(source: IO[bytes], sink: IO[bytes]) -> None:
    first = json.loads(receive(source))
    limits = Limits(memory_bytes=first["memory_bytes"])
    readable = [Path(path) for path in first["readable"]]
    confinement.limit(limits.memory_bytes + HEADROOM_BYTES)
    is_shut = confinement.shut_in(readable)
    # Many workers run at the same time: a second thread would cost each of them a third more memory.
    connection = engine.connect(limits, confined=True, threads=2 if readable else 1)
    engine.lock(connection, readable)
    planner = None
    if readable:  # finding out which files a query needs takes a planner with other settings
        planner = engine.connect(limits, confined=True)
        table_views.keep_bounds(planner)
        engine.lock(planner, readable)
    send(sink, json.dumps({"is_shut": is_shut}).encode())
    while True:
        job = json.loads(receive(source))
        if job["do"] == "stream":
            _answer(connection, sink, _done(lambda: _stream(connection, job, sink))[0])  # noqa: B023
            continue
        work: dict[str, Callable[[], pa.Table | dict[str, Any]]] = {
            "load": lambda: _load(connection, source, job["tables"]),  # noqa: B023
            "views": lambda: _views([connection, planner] if planner else [connection], job),  # noqa: B023
            "window": lambda: _window(planner, job),  # noqa: B023
            "run": lambda: _run(connection, job),  # noqa: B023
        }
        reply, content = _done(work[job["do"]])
        _answer(connection, sink, reply)
        if content is not None:
            send(sink, content)


def _answer(connection: Any, sink: IO[bytes], reply: dict[str, Any]) -> None:
    if reply.keys() & {"limit", "refused"} and not engine.is_alive(connection):
        reply["is_dead"] = True
    send(sink, json.dumps(reply).encode())


def _done(work: Callable[[], pa.Table | dict[str, Any]]) -> tuple[dict[str, Any], bytes | None]:
    """Do a job; return the reply and, if there are rows, the rows as an Arrow stream."""
    try:
        found = work()
        if isinstance(found, dict):
            return found, None
        if found.nbytes > MOST_RESULT_BYTES // 2:
            raise QueryLimitError(f"the result is {found.nbytes // 1024**2} MiB, which is too large: ask for fewer rows or columns")
        return {"rows": found.num_rows}, _arrow_stream(found)
    except QueryLimitError as error:
        return {"limit": str(error)}, None
    except QueryError as error:
        return {"refused": str(error)}, None
    except (MemoryError, pa.ArrowException):
        return {"limit": "the query needs more memory than there is: ask for less time or fewer columns"}, None


def _arrow_stream(rows: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    with pa.ipc.new_stream(buffer, rows.schema) as writer:
        writer.write_table(rows)
    content: bytes = buffer.getvalue().to_pybytes()
    return content


def _load(connection: Any, source: IO[bytes], tables: list[str]) -> dict[str, Any]:
    for name in tables:
        engine.load(connection, name, pa.ipc.open_stream(source))
    return {}


def _views(connections: list[Any], job: dict[str, Any]) -> dict[str, Any]:
    for name, query in job["views"].items():
        for connection in connections:
            table_views.replace_view(connection, name, query)
    return {}


def _window(planner: Any, job: dict[str, Any]) -> dict[str, Any]:
    """Return the span of time that a query reads of a table."""
    statements.check_is_query(planner, job["sql"])
    asked = table_views.planned_window(planner, job["sql"], TABLES[job["table"]])
    return {name: bound and bound.isoformat() for name, bound in (("since", asked.since), ("until", asked.until))}


def _run(connection: Any, job: dict[str, Any]) -> pa.Table:
    limits = Limits(seconds=job["seconds"], rows=job["rows"], memory_bytes=job["memory_bytes"])
    statements.check_is_query(connection, job["sql"])
    with engine.reading(connection):
        rows, more = engine.run(connection, job["sql"], (), limits)
    return pa.concat_tables([rows, rows.slice(0, 1)]) if more else rows  # one extra row signals that there are more rows


def _stream(connection: Any, job: dict[str, Any], sink: IO[bytes]) -> dict[str, Any]:
    """Send the rows of a query while it runs, first an empty batch with the columns; return the last answer.

    An error met before any rows were sent is the first and only answer, without batches.
    """
    limits = Limits(seconds=job["seconds"], rows=job["rows"], memory_bytes=job["memory_bytes"])
    statements.check_is_query(connection, job["sql"])
    has_begun = False
    try:
        with engine.reading(connection), engine.streaming(connection, job["sql"], limits) as found:
            for batches in itertools.chain([[]], ([batch] for batch in found)):
                if not has_begun:
                    send(sink, json.dumps({}).encode())
                    has_begun = True
                batch = pa.Table.from_batches(batches, found.schema)  # empty_table() would import pandas, which a worker cannot
                rows = _rows_of_a_message(batch)
                for start in range(0, max(batch.num_rows, 1), rows):
                    send(sink, _arrow_stream(batch.slice(start, rows)))
    finally:
        if has_begun:
            send(sink, b"")
    return {}


def _rows_of_a_message(batch: pa.Table) -> int:
    """Return how many rows of a batch fit in a message, at least one."""
    return max(1, int(batch.num_rows * (MOST_RESULT_BYTES // 4) / max(batch.nbytes, 1)))


if __name__ == "__main__":
    parent(socket.socket(fileno=sys.stdin.fileno()))
