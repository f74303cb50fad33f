"""Flight SQL: a real ADBC client as different users; what belongs to others is never in an answer."""

import datetime as dt
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import adbc_driver_flightsql.dbapi as adbc
import adbc_driver_manager
import pyarrow as pa
import pyarrow.flight as fl
import pytest
from adbc_driver_flightsql import DatabaseOptions

from api import flight, flight_messages, identity, parameters
from api.flight import FlightSql
from api.flight_rows import Handover
from tests.modules import load
from warehouse import config
from warehouse.access import access_log
from warehouse.access.principals import OPERATOR, Principal
from warehouse.errors import QueryLimitError
from warehouse.records import tokens
from warehouse.schema import ACCESS_LOG

world: Any = load(Path(__file__).with_name("conftest.py"))


class Serving:
    """Servers over one lake: one that answers as the operator, and one that asks for tokens."""

    def __init__(self, stored: Any) -> None:
        self.stored = stored
        self.open = FlightSql(stored.door(), identity.Fixed(OPERATOR), config.ServeLimits(rows=2_000_000), "127.0.0.1:0", None)
        self.identities = identity.SignedIn(config.Serve(), stored.lake)
        self.signed = FlightSql(stored.door(), self.identities, config.ServeLimits(rows=100_000), "127.0.0.1:0", None)

    def token(self, user: str, *groups: str) -> str:
        who = Principal(user=user, groups=frozenset(groups))
        return tokens.create(self.stored.lake, who, name="adbc", lifetime=dt.timedelta(days=1), changed_by="test")[1]

    def connect(self, user: str | None = None, *groups: str, password: str | None = None, more: Any = None) -> Any:
        """A connection of the operator, or of a user with a new token as the password."""
        server = self.signed if user else self.open
        options = dict(more or {})
        if user:
            options |= {"username": user, "password": password or self.token(user, *groups)}
        return adbc.connect(f"grpc://127.0.0.1:{server.port}", db_kwargs=options)


@pytest.fixture(scope="module")
def serving(stored: Any) -> Iterator[Serving]:
    made = Serving(stored)
    yield made
    made.open.shutdown()
    made.signed.shutdown()


def rows(connection: Any, sql: str, values: Any = None) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        found: list[tuple[Any, ...]] = cursor.fetchall()
        return found


def test_no_token_and_a_wrong_one_are_refused(serving: Serving) -> None:
    with pytest.raises(fl.FlightUnauthenticatedError, match="no credentials"):
        fl.connect(f"grpc://127.0.0.1:{serving.signed.port}").do_get(fl.Ticket(b"x"))
    with serving.connect("ada", password="hct_0000000000000000_" + "a" * 43) as connection:
        for sql in ("SELECT 1", "SELECT count(*) FROM flows"):
            with pytest.raises(adbc_driver_manager.Error, match=r"(?i)wrong, expired or revoked"):
                rows(connection, sql)
        with pytest.raises(adbc_driver_manager.Error, match=r"(?i)wrong, expired or revoked"):
            connection.adbc_get_objects().read_all()


def test_failed_attempts_slow_the_address_they_come_from(serving: Serving) -> None:
    with serving.connect("ada", password="wrong") as connection, pytest.raises(adbc_driver_manager.Error):
        rows(connection, "SELECT 1")
    assert serving.identities._throttle.delay("127.0.0.1") > 0
    assert serving.identities._throttle.delay("127.0.0.2") == 0


def test_a_statement_that_nobody_reads_ends_and_says_so() -> None:
    closed = threading.Event()

    def batches() -> Iterator[int]:
        try:
            yield from range(1_000)
        finally:
            closed.set()

    taken = Handover(lambda: False, 0.1).taken(batches())
    assert next(taken) == 0
    assert closed.wait(60)
    with pytest.raises(QueryLimitError, match=r"cut off: nothing was read for 0\.1 s"):
        list(taken)


def test_a_statement_whose_client_is_gone_ends() -> None:
    gone, closed = threading.Event(), threading.Event()

    def batches() -> Iterator[int]:
        try:
            yield from range(1_000)
        finally:
            closed.set()

    taken = Handover(gone.is_set, 600).taken(batches())
    assert next(taken) == 0
    gone.set()
    assert closed.wait(60)


def test_what_goes_wrong_while_rows_are_read_reaches_the_client() -> None:
    def batches() -> Iterator[int]:
        yield 1
        raise QueryLimitError("too much")

    taken = Handover(lambda: False, 600).taken(batches())
    assert next(taken) == 1
    with pytest.raises(QueryLimitError, match="too much"):
        next(taken)


def test_someone_who_owns_nothing_is_denied(serving: Serving) -> None:
    with serving.connect("eve") as connection, pytest.raises(adbc_driver_manager.Error, match="owns no namespace"):
        rows(connection, "SELECT count(*) FROM flows")


@pytest.mark.parametrize(
    "sql", ["DROP TABLE flows", "INSERT INTO flows SELECT * FROM flows", "SELECT 1; SELECT 2", "SELEC 1", "", "COPY flows TO '/tmp/x'"]
)
def test_what_is_not_a_query_is_refused(serving: Serving, sql: str) -> None:
    with serving.connect() as connection, pytest.raises(adbc_driver_manager.Error):
        rows(connection, sql)


def test_garbage_is_refused_and_harms_no_one(serving: Serving) -> None:
    client = fl.connect(f"grpc://127.0.0.1:{serving.open.port}")
    for garbage in (b"", b"\xff" * 40, b"not a command"):
        with pytest.raises((pa.ArrowException, fl.FlightError)):
            client.do_get(fl.Ticket(garbage)).read_all()
        with pytest.raises((pa.ArrowException, fl.FlightError)):
            client.get_flight_info(fl.FlightDescriptor.for_command(garbage))
    with serving.connect() as connection:
        assert rows(connection, "SELECT 42") == [(42,)]


@pytest.mark.parametrize("sql", ["SELECT nope", "SELECT error('no')", "DROP TABLE flows"])
def test_an_error_does_not_show_the_inside_of_the_server(serving: Serving, sql: str) -> None:
    for user in (None, "ada"):
        with serving.connect(user) as connection, pytest.raises(adbc_driver_manager.Error) as refused:
            rows(connection, sql)
        assert not re.search(r"Traceback|\.py|File ", str(refused.value))


def test_a_failure_of_the_server_is_logged_and_not_shown(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(**_named: Any) -> None:
        raise ZeroDivisionError("a secret")

    monkeypatch.setattr(flight, "SqlStream", fails)
    with (
        serving.connect() as connection,
        pytest.raises(adbc_driver_manager.Error, match=r"ZeroDivisionError.*its log has the reason") as refused,
    ):
        rows(connection, "SELECT 1")
    assert "a secret" not in str(refused.value)


def test_the_operator_reads_every_flow(serving: Serving, stored: Any) -> None:
    with serving.connect() as connection:
        assert rows(connection, "SELECT count(*) FROM flows") == [(len(stored.flows),)]
        with connection.cursor() as cursor:
            cursor.execute("SELECT uuid, time FROM flows ORDER BY time")
            table = cursor.fetch_arrow_table()
        assert sorted(table["uuid"].to_pylist()) == sorted(flow.uuid for flow in stored.flows)


def test_more_rows_than_a_batch_are_streamed(serving: Serving) -> None:
    with serving.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT i FROM range(300000) t(i)")
        assert cursor.fetch_arrow_table().num_rows == 300_000


def test_wide_rows_come_in_messages_that_clients_accept(serving: Serving) -> None:
    with serving.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT repeat('x', 2000) || i AS wide FROM range(20000) t(i)")
        assert cursor.fetch_arrow_table()["wide"].to_pylist() == [f"{'x' * 2000}{number}" for number in range(20_000)]


def test_more_rows_than_a_statement_gets_are_cut_with_an_error(serving: Serving) -> None:
    with serving.connect("ada") as connection, pytest.raises(adbc_driver_manager.Error, match="cut after 100,000 rows"):
        rows(connection, "SELECT i FROM range(200000) t(i)")


def test_values_are_bound(serving: Serving) -> None:
    with serving.connect() as connection:
        assert rows(connection, "SELECT ?, upper(?), '?' -- ?", (7, "o'clock")) == [(7, "O'CLOCK", "?")]
        assert rows(connection, "SELECT count(*) > 0 FROM flows WHERE verdict = ?", ("FORWARDED",)) == [(True,)]


@pytest.mark.parametrize(
    ("text", "values", "filled"),
    [
        ("SELECT ?", [None], "SELECT NULL"),
        ("SELECT $2, $1", [1, True], "SELECT true, (1)"),
        ("SELECT '?', \"?\", /* ? */ ? -- ?", ["x"], "SELECT '?', \"?\", /* ? */ 'x' -- ?"),
        ("SELECT $a$ ? $a$, ?", [b"\x00"], "SELECT $a$ ? $a$, '\\x00'::BLOB"),
        ("SELECT ?", [[1, "a"]], "SELECT [(1), 'a']"),
        ("SELECT ?", [dt.datetime(2026, 3, 2, tzinfo=dt.UTC)], "SELECT '2026-03-02T00:00:00+00:00'::TIMESTAMPTZ"),
    ],
)
def test_values_are_written_as_literals(text: str, values: list[Any], filled: str) -> None:
    assert parameters.filled(text, values) == filled


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ValueError, match="takes 2 values, but 1 were given"):
        parameters.filled("SELECT ?, ?", [1])


def test_tables_and_the_meaning_of_their_columns_are_listed(serving: Serving) -> None:
    with serving.connect() as connection:
        listed = connection.adbc_get_objects(depth="all", table_name_filter="flows").read_all().to_pylist()
        (table,) = [table for schema in listed[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]]
        assert (listed[0]["catalog_name"], table["table_name"], table["table_type"]) == ("hindcast", "flows", "TABLE")
        assert {column["column_name"] for column in table["table_columns"]} >= {"uuid", "time", "source_namespace"}
        remarks = connection.adbc_get_table_schema("flows").field("uuid").metadata[b"ARROW:FLIGHT:SQL:REMARKS"]
        assert remarks.startswith(b"Hubble's id of the flow")
        assert connection.adbc_get_info()["vendor_name"] == "hindcast"
        assert connection.adbc_get_table_types() == ["TABLE"]
    with serving.connect("ada") as connection:
        listed = connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        names = {table["table_name"] for schema in listed[0]["catalog_db_schemas"] for table in schema["db_schema_tables"]}
        assert "flows" in names
        assert "tokens" not in names


def test_a_user_reads_their_own_rows_of_the_time_that_the_headers_say(serving: Serving, stored: Any) -> None:
    mine = sorted(flow.uuid for flow in stored.flows if "cart" in (flow.source.namespace, flow.destination.namespace))
    since = {"adbc.flight.sql.rpc.call_header.hindcast-since": "2026-01-01"}
    with serving.connect("ada") as connection:
        assert rows(connection, "SELECT count(*) FROM flows") == [(0,)]  # the last 24 hours
    with serving.connect("ada", more=since) as connection:
        assert sorted(uuid for (uuid,) in rows(connection, "SELECT uuid FROM flows")) == mine
    access_log.flush()
    asked = [row for row in stored.lake.read(ACCESS_LOG).to_pylist() if row["principal"] == "ada" and row["question"] == "sql"]
    assert asked[-1]["text"] == "SELECT uuid FROM flows"
    with pytest.raises(adbc_driver_manager.Error, match="hindcast-since"):
        serving.connect("ada", more={"adbc.flight.sql.rpc.call_header.hindcast-since": "yesterday"}).cursor().execute("SELECT 1")


def test_a_statement_whose_client_leaves_is_cancelled(serving: Serving) -> None:
    with serving.connect("ada") as connection:
        cursor = connection.cursor()
        failed = threading.Event()

        def ask() -> None:
            try:
                cursor.execute("SELECT count(*) FROM range(100000000000) a(i), range(1000) b(j) WHERE hash(i * j) = 5")
                cursor.fetchall()
            except adbc_driver_manager.Error:
                failed.set()

        asking = threading.Thread(target=ask)
        asking.start()
        world.until(lambda: serving.signed is not None and asking.is_alive())
        while not failed.wait(0.2):
            cursor.adbc_cancel()
        asking.join()
        cursor.close()
        assert rows(connection, "SELECT 1") == [(1,)]


def test_a_client_that_reads_nothing_does_not_keep_the_server_from_stopping(stored: Any) -> None:
    server = FlightSql(stored.door(), identity.Fixed(OPERATOR), config.ServeLimits(), "127.0.0.1:0", None)
    client = fl.connect(f"grpc://127.0.0.1:{server.port}")
    endless = b"SELECT repeat('x', 1000) FROM range(1000000000000)"
    ticket = flight_messages.packed(flight_messages.made("TicketStatementQuery", statement_handle=endless))
    reader = client.do_get(fl.Ticket(ticket))
    assert reader.read_chunk().data.num_rows
    running = list(server._running)
    server.stop(5)
    assert running
    assert all(one._over.is_set() for one in running)
    reader.cancel()
    client.close()
    server.shutdown()


def test_a_bearer_token_is_enough(serving: Serving) -> None:
    header = {DatabaseOptions.AUTHORIZATION_HEADER.value: f"Bearer {serving.token('ada')}"}
    with adbc.connect(f"grpc://127.0.0.1:{serving.signed.port}", db_kwargs=header) as connection:
        assert rows(connection, "SELECT 1") == [(1,)]
