"""A principal's own SQL, in a process that holds nothing but the principal's rows.

The boundary is what is loaded, not what is parsed: the child has no environment, no open files, no way out, and limits
of the operating system. The parent ends it when its time is over.
"""

from __future__ import annotations

import json
import resource
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import IO

import pyarrow as pa

from warehouse import engine
from warehouse.engine import Limits
from warehouse.errors import QueryError, QueryLimitError

_REFUSED = 3
_LIMIT = 4
ADDRESS_SPACE_BYTES = 2 * 1024**3
"""Room for Python, its libraries and their arenas, above the engine's own limit."""


def run(sql: str, tables: Mapping[str, pa.Table], limits: Limits) -> tuple[pa.Table, bool]:
    """The rows of `sql` over `tables`, at most `limits.rows`, and whether there were more. Raises QueryError, QueryLimitError."""
    job = {"sql": sql, "seconds": limits.seconds, "rows": limits.rows, "memory_bytes": limits.memory_bytes, "tables": list(tables)}
    parts = [json.dumps(job).encode()]
    for table in tables.values():
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        parts.append(sink.getvalue().to_pybytes())
    sent = b"".join(struct.pack("<Q", len(part)) + part for part in parts)
    command = [sys.executable, "-I", "-m", "warehouse.sql_process"]
    try:
        done = subprocess.run(  # noqa: S603
            command, input=sent, capture_output=True, env={}, cwd="/", timeout=limits.seconds + 10, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise QueryLimitError(f"the query was stopped after {limits.seconds:g} s: ask for less time, or for fewer rows") from error
    if done.returncode == _REFUSED:
        raise QueryError(done.stdout.decode())
    if done.returncode == _LIMIT:
        raise QueryLimitError(done.stdout.decode())
    if done.returncode:
        raise QueryLimitError("the query ran into the limits of its process: ask for less time or fewer columns")
    rows = pa.ipc.open_stream(done.stdout).read_all()
    return rows.slice(0, limits.rows), rows.num_rows > limits.rows


def _child(source: IO[bytes], sink: IO[bytes]) -> int:
    """Read the job and the rows, shut the doors, answer. Gives the exit code."""
    job = json.loads(_part(source))
    limits = Limits(seconds=job["seconds"], rows=job["rows"], memory_bytes=job["memory_bytes"])
    tables = {name: pa.ipc.open_stream(_part(source)).read_all() for name in job["tables"]}
    held = sum(table.nbytes for table in tables.values())
    room = limits.memory_bytes + 2 * held + ADDRESS_SPACE_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    connection = engine.connect(limits)
    try:
        engine.create_locked(connection, tables)
        del tables
        engine.check_is_query(connection, job["sql"])
        rows, more = engine.run(connection, job["sql"], (), limits)
    except QueryLimitError as error:
        sink.write(str(error).encode())
        return _LIMIT
    except QueryError as error:
        sink.write(str(error).encode())
        return _REFUSED
    if more:  # one row beyond the limit tells the parent
        rows = pa.concat_tables([rows, rows.slice(0, 1)])
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows)
    return 0


def _part(source: IO[bytes]) -> bytes:
    (length,) = struct.unpack("<Q", source.read(8))
    return source.read(length)


if __name__ == "__main__":
    sys.exit(_child(sys.stdin.buffer, sys.stdout.buffer))
