"""Arrow Flight SQL over the door: SQL for notebooks and BI clients, each within what its user may see.

A statement runs where every user's SQL runs (warehouse.sql): in a process that holds the user's own rows. A statement's text travels in
its ticket, and a prepared statement is its text and values too, so the server remembers nothing between calls.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, ParamSpec, TypeVar

import pyarrow as pa
import pyarrow.flight as fl
import structlog

from api import flight_messages as messages
from api import flight_metadata as metadata
from api import parameters
from api.flight_identity import IDENTITY, Identify, NoHandshake, RefusedError, asking_of, principal_of, translated
from api.flight_rows import Handover, parts
from api.identity import Fixed, SignedIn
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Limits
from warehouse.errors import ConfigError, HindcastError, QueryLimitError
from warehouse.questions.door import Door
from warehouse.questions.sql_question import SqlStream

P = ParamSpec("P")
T = TypeVar("T")
LONGEST_STATEMENT = 200_000
_CREATE, _CLOSE = "CreatePreparedStatement", "ClosePreparedStatement"


def _guarded(method: Callable[P, T]) -> Callable[P, T]:
    """Return a method whose unexpected failures are logged, and reach the client without their details."""

    @functools.wraps(method)
    def guarded(*arguments: P.args, **named: P.kwargs) -> T:
        try:
            return method(*arguments, **named)
        except (fl.FlightError, NotImplementedError):
            raise
        except Exception as error:
            structlog.get_logger().exception("a call of Flight SQL failed", method=method.__name__)
            failure = fl.FlightInternalError(f"the server failed ({type(error).__name__}); its log has the reason")
        raise failure

    return guarded


class FlightSql(fl.FlightServerBase):  # type: ignore[misc]
    """The server; it listens as soon as it is made. Raises ConfigError if the address or certificate cannot be used."""

    def __init__(
        self, door: Door, identities: Fixed | SignedIn, limits: config.ServeLimits, listen: str, tls: config.ServeTls | None
    ) -> None:
        self._door = door
        self._identities = identities
        self._limits = limits
        self._running: set[Handover] = set()
        more: dict[str, Any] = {}
        if tls is not None:
            try:
                more = {"tls_certificates": [(tls.cert.read_bytes(), tls.key.read_bytes())]}
                if tls.client_ca is not None:
                    more |= {"verify_client": True, "root_certificates": tls.client_ca.read_bytes()}
            except OSError as error:
                raise ConfigError(f"serve.tls: {error.filename}: cannot be read: {error.strerror}") from error
        try:
            super().__init__(
                f"grpc{'+tls' if tls else ''}://{listen}",
                auth_handler=NoHandshake(),
                middleware={IDENTITY: Identify(identities)},
                **more,
            )
        except (pa.ArrowException, OSError) as error:
            raise ConfigError(f"serve.flight_listen: {listen!r} cannot be listened on: {error}") from error

    def stop(self, seconds: float) -> bool:
        """End running statements and the server; return whether it ended in time: a client that reads nothing keeps it."""
        for handed in list(self._running):
            handed.end(seconds)
        ending = threading.Thread(target=self.shutdown, daemon=True)
        ending.start()
        ending.join(seconds)
        return not ending.is_alive()

    # Statements -----------------------------------------------------------------------------------------------

    @_guarded
    def get_flight_info(self, context: Any, descriptor: Any) -> fl.FlightInfo:
        """Return where the rows of a command are to be had: here, with a ticket."""
        self._principal(context)
        name, command = _unpacked(descriptor.command)
        schema = None
        if name in metadata.COMMANDS:
            schema = self._metadata(context, name, command).schema
            ticket = descriptor.command
        else:
            text = self._text(name, command)
            ticket = messages.packed(messages.made("TicketStatementQuery", statement_handle=text.encode()))
        return fl.FlightInfo(schema, descriptor, [fl.FlightEndpoint(ticket, [])], -1, -1)

    @_guarded
    def get_schema(self, context: Any, descriptor: Any) -> fl.SchemaResult:
        """Return the columns of a command's rows."""
        name, command = _unpacked(descriptor.command)
        if name in metadata.COMMANDS:
            return fl.SchemaResult(self._metadata(context, name, command).schema)
        return fl.SchemaResult(self._schema(context, self._text(name, command)))

    @_guarded
    def do_get(self, context: Any, ticket: Any) -> fl.FlightDataStream:
        """Return the rows of a ticket, while the statement runs."""
        self._principal(context)
        name, command = _unpacked(ticket.ticket)
        if name in metadata.COMMANDS:
            return fl.RecordBatchStream(self._metadata(context, name, command))
        if name != "TicketStatementQuery":
            raise RefusedError(f"{name} is not a ticket")
        rows = self._rows(context, command.statement_handle.decode("utf-8", "replace"))
        schema = next(rows)
        assert isinstance(schema, pa.Schema)  # noqa: S101 - what comes first
        return fl.GeneratorStream(schema, rows)

    @_guarded
    def do_put(self, context: Any, descriptor: Any, reader: Any, writer: Any) -> None:
        """Take the values of a prepared statement; the client goes on with the handle that it gets back."""
        self._principal(context)
        name, command = _unpacked(descriptor.command)
        if name != "CommandPreparedStatementQuery":
            raise NotImplementedError("nothing can be written here")
        given = reader.read_all()
        if given.num_rows != 1:
            raise RefusedError(f"a statement takes one row of values, but {given.num_rows} were given")
        row = given.slice(0, 1)
        try:
            text = parameters.filled(_prepared(command)["text"], [column[0].as_py() for column in row.columns])
        except ValueError as error:
            raise RefusedError(str(error)) from error
        handle = json.dumps({"text": _prepared(command)["text"], "filled": text}).encode()
        writer.write(messages.made("DoPutPreparedStatementResult", prepared_statement_handle=handle).SerializeToString())

    def list_actions(self, _context: Any) -> list[tuple[str, str]]:
        """Return what can be done."""
        return [(_CREATE, "Prepare a statement"), (_CLOSE, "Forget a prepared statement")]

    @_guarded
    def do_action(self, context: Any, action: Any) -> Iterator[bytes]:
        """Prepare or forget a statement."""
        self._principal(context)
        if action.type == _CLOSE:
            return iter(())
        if action.type != _CREATE:
            raise NotImplementedError(f"{action.type} is not supported: there are no transactions, and closing a stream cancels it")
        _, request = _unpacked(action.body.to_pybytes())
        count = _count(request.query)
        schema = self._schema(context, parameters.filled(request.query, [None] * count))
        expected = pa.schema([pa.field(f"parameter_{place + 1}", pa.string()) for place in range(count)])
        result = messages.made(
            "ActionCreatePreparedStatementResult",
            prepared_statement_handle=json.dumps({"text": request.query}).encode(),
            dataset_schema=schema.serialize().to_pybytes(),
            parameter_schema=expected.serialize().to_pybytes(),
        )
        return iter([messages.packed(result)])

    def _text(self, name: str, command: Any) -> str:
        if name == "CommandStatementQuery":
            text = str(command.query)
        elif name == "CommandPreparedStatementQuery":
            prepared = _prepared(command)
            text = prepared.get("filled", prepared["text"])
        else:
            raise NotImplementedError(f"{name} is not supported")
        if len(text) > LONGEST_STATEMENT:
            raise RefusedError(f"the statement has {len(text):,} characters; at most {LONGEST_STATEMENT:,} are allowed")
        return text

    def _schema(self, context: Any, text: str) -> pa.Schema:
        """Return the columns of a statement, without its rows where that can be asked."""
        for asked in (f"SELECT * FROM ({text.strip().rstrip(';')}\n) LIMIT 0", text):
            rows = self._rows(context, asked)
            try:
                return next(rows)
            except RefusedError:
                if asked is text:
                    raise
            finally:
                rows.close()  # type: ignore[attr-defined]
        raise AssertionError

    def _rows(self, context: Any, text: str) -> Iterator[Any]:
        """Yield the schema of a statement's rows, and the rows in batches. Raises errors of Flight."""
        asking, handed = asking_of(context), Handover(context.is_cancelled, self._limits.stalled_after.total_seconds())
        limits = Limits(seconds=self._limits.seconds, rows=self._limits.rows)
        question = SqlStream(text=text.strip().rstrip(";"), window=asking.window, limits=limits, cancelled=handed.cancelled)
        principal = self._principal(context)

        def read() -> Iterator[Any]:
            with self._door.reading(principal, "sql", question.subject) as reading, reading.answer(question) as running:
                yield running.rows.schema
                for batch in running.rows:
                    reading.rows += batch.num_rows
                    if reading.rows > limits.rows:
                        raise QueryLimitError(f"cut after {limits.rows:,} rows, the most of one statement: ask for fewer")
                    yield from parts(batch)

        self._running.add(handed)
        try:
            yield from handed.taken(read())
        except HindcastError as error:
            raise translated(error) from error
        finally:
            self._running.discard(handed)

    def _metadata(self, context: Any, name: str, command: Any) -> pa.Table:
        try:
            return metadata.answer(name, command, self._door.scope(self._principal(context)))
        except HindcastError as error:
            raise translated(error) from error

    def _principal(self, context: Any) -> Principal:
        return principal_of(context, self._identities)


def _unpacked(encoded: bytes) -> tuple[str, Any]:
    try:
        return messages.unpacked(encoded)
    except ValueError as error:
        raise RefusedError(str(error)) from error


def _prepared(command: Any) -> dict[str, str]:
    """Return what a handle holds: `text`, and `filled` once the values are given."""
    try:
        found = json.loads(command.prepared_statement_handle)
        return {name: str(found[name]) for name in ("text", "filled") if name in found or name == "text"}
    except (ValueError, KeyError, TypeError) as error:
        raise RefusedError("the prepared statement's handle is not one of this server") from error


def _count(text: str) -> int:
    count = parameters.count(text)
    if count > 1_000:
        raise RefusedError(f"the statement takes {count:,} values; at most 1,000 are allowed")
    return count
