"""The Python client: SQL over Arrow Flight SQL, as the user that a token belongs to, into pandas, polars or Arrow.

    import hindcast

    with hindcast.connect("grpc+tls://hindcast.example:4246", token=token) as lake:
        lake.sql("SELECT verdict, count(*) AS flows FROM flows GROUP BY ALL").to_pandas()

It needs the extra `client`. What a user may see is decided by the server (`hindcast serve --flight-listen`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import pyarrow as pa

from warehouse.errors import ConfigError, HindcastError, QueryError

DEFAULT_PORT = 4246
_INSTALL = "the Python client needs the client extra, which is not installed: pip install 'hindcast-flows[client]'"


class ConnectionFailedError(HindcastError):
    """The server cannot be reached, or does not accept the token."""


class Result:
    """The rows of one statement, which are read from the server once, whole or batch by batch."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor
        self._reader: pa.RecordBatchReader = cursor.fetch_record_batch()

    @property
    def schema(self) -> pa.Schema:
        """The names and types of the columns."""
        return self._reader.schema

    def to_arrow(self) -> pa.Table:
        """Return all rows that are left as an Arrow table. Raises QueryError if the server ended the statement."""
        return pa.Table.from_batches(list(self), self._reader.schema)

    def to_pandas(self) -> Any:
        """Return all rows that are left as a pandas data frame; times have the zone UTC."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """Return all rows that are left as a polars data frame, if polars is installed."""
        import polars  # type: ignore[import-not-found,unused-ignore]

        return polars.from_arrow(self.to_arrow())

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        """Yield the rows that are left as batches, so that a result of any size needs little memory. Raises QueryError."""
        try:
            yield from self._reader
        except (OSError, pa.ArrowException) as error:
            raise QueryError(_message(error)) from error
        finally:
            self._cursor.close()


class Connection:
    """A connection to a server, as one user. It is a context manager, and closes with it."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def sql(self, text: str, values: Sequence[Any] = ()) -> Result:
        """Run one read-only statement in DuckDB's SQL, with values for its `?`. Raises QueryError for one that is refused.

        docs/tables.md lists the tables. An owner's statement sees the rows of the last 24 hours.
        """
        cursor = self._connection.cursor()
        try:
            cursor.execute(text, tuple(values) or None)
            return Result(cursor)
        except _driver_errors() as error:
            cursor.close()
            raise QueryError(_message(error)) from error

    def close(self) -> None:
        """Close the connection; statements that still run are cancelled."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def connect(
    url: str, *, token: str | None = None, user: str = "", ca: str | Path | None = None, since: str = "", until: str = ""
) -> Connection:
    """Connect to `hindcast serve` over Arrow Flight SQL.

    Args:
        url: `grpc+tls://HOST[:PORT]`; `grpc://` on this machine only, since a token must not cross a network in the clear.
        token: a personal token (`hindcast token create`, or the Access page); without one the server must run with --plaintext.
        user: the user, where the server should check that the token is that user's.
        ca: a file with the authority that signed the server's certificate, unless the system trusts it.
        since: the start of the window of an owner's rows: an age such as `30d`, or a time; without it the last 24 hours.
        until: the end of that window; without it now.

    Raises:
        ConfigError: the address or the file of the authority is wrong, or the extra `client` is not installed.
        ConnectionFailedError: the server cannot be reached, or does not accept the token.
    """
    try:
        import adbc_driver_flightsql.dbapi as flight_sql
        import adbc_driver_manager
        from adbc_driver_flightsql import DatabaseOptions
    except ModuleNotFoundError as error:
        raise ConfigError(_INSTALL) from error
    options: dict[str, str] = {}
    if token and user:
        options |= {"username": user, "password": token}
    elif token:
        options[DatabaseOptions.AUTHORIZATION_HEADER.value] = f"Bearer {token}"
    if ca is not None:
        try:
            options[DatabaseOptions.TLS_ROOT_CERTS.value] = Path(ca).read_text(encoding="ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"ca {ca}: cannot be read: {error}") from error
    for name, given in (("since", since), ("until", until)):
        if given:
            options[f"{DatabaseOptions.RPC_CALL_HEADER_PREFIX.value}hindcast-{name}"] = given
    address = _address(url)
    try:
        opened = Connection(flight_sql.connect(address, db_kwargs=options, autocommit=True))
        opened.sql("SELECT 1").to_arrow()
    except (OSError, pa.ArrowException, adbc_driver_manager.Error, QueryError) as error:
        raise ConnectionFailedError(f"{address}: {_message(error)}") from error
    return opened


def _address(url: str) -> str:
    """Return the address with its port. Raises ConfigError."""
    parts = urlsplit(url)
    if parts.scheme not in ("grpc", "grpc+tls") or not parts.hostname or parts.path.strip("/") or parts.query or "@" in parts.netloc:
        raise ConfigError(
            f"{_without_secret(url)!r} is not an address of Flight SQL: write grpc+tls://HOST:PORT, with the token apart from it"
        )
    if parts.scheme == "grpc" and not _is_loopback(parts.hostname):
        raise ConfigError(
            f"grpc://{parts.hostname} is another machine: write grpc+tls://, so that neither token nor rows cross the network in the clear"
        )
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{parts.port or DEFAULT_PORT}"


def _without_secret(url: str) -> str:
    head, at, tail = url.rpartition("@")
    return f"...@{tail}" if at and head else url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _driver_errors() -> tuple[type[Exception], ...]:
    import adbc_driver_manager

    return (adbc_driver_manager.Error, OSError, pa.ArrowException)


def _message(error: BaseException) -> str:
    """Return the server's words of a driver's error, without the driver's additions."""
    text = re.sub(r"^[A-Z_]+: (\[Flight ?SQL\] )?", "", str(error))
    text = re.sub(
        r"( \((Unknown|Internal|Unavailable|Unauthenticated|Unauthorized|DeadlineExceeded|InvalidArgument|PermissionDenied); .*)$", "", text
    )
    return re.sub(r"\. Detail: \w+$", "", text)
