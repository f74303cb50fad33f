"""Hostile SQL: nothing of others is told, nothing outside is read or written, and the next question is answered."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import flight

from api import flight_messages, identity
from api.flight import FlightSql
from tests.modules import load
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Limits, Window
from warehouse.errors import CancelledError, QueryError, QueryLimitError
from warehouse.questions.door import Door
from warehouse.questions.sql_question import OwnSql
from warehouse.sql.workers import WORKERS

CANARY = "hunter2-canary"
TENANT = "payments"
QUICK = Limits(seconds=1.0, rows=50_000, memory_bytes=256 * 1024**2)
PATIENT = Limits(seconds=600.0)

hostile: Any = load(Path(__file__).with_name("hostile_statements.py"))


class Target:
    """The world under attack, and what has to stay true of it."""

    def __init__(self, world: Any, folder: Path) -> None:
        self.world = world
        self.door: Door = world.door()
        self.folder = folder
        self.secret = folder / "secret.csv"
        self.secret.write_text(f"password\n{CANARY}\n")
        self.lake = Path(world.folder) / "lake"
        self.file = next((self.lake / "flows").rglob("*.parquet"))
        self.window = Window(since=world.everything.since, until=world.everything.until)
        self.before = self.digest()
        shown = [row for flow in world.flows if (row := world.oracle.shown(TENANT, flow))]
        self.allowed = set(self.tokens(str(shown)))
        self.allowed |= {
            token
            for row in world.findings
            if world.oracle.owns(TENANT, row["cluster"], row["namespace"], row["time"])
            for token in self.tokens(str(row))
        }
        self.count = len(shown)
        assert 0 < self.count < len(world.flows) / 2

    @staticmethod
    def tokens(text: str) -> list[str]:
        """The values that the world's rows are made of; each says of which row and column it is."""
        return re.findall(r"\w+~\d+|uuid-\d+", text)

    def digest(self) -> str:
        """Of every byte that a query could have changed: the lake but its access log, and the folder outside."""
        found = hashlib.sha256()
        for path in sorted([*self.lake.rglob("*"), *self.folder.rglob("*")]):
            if path.is_file() and "access_log" not in path.parts:
                found.update(str(path).encode())
                found.update(path.read_bytes())
        return found.hexdigest()

    def attack(self, statement: str, who: Principal) -> str:
        """What is told to who asks this, rows or error."""
        text = statement
        for name, value in (("secret", self.secret), ("folder", self.folder), ("lake", self.lake), ("file", self.file)):
            text = text.replace("{" + name + "}", str(value))
        try:
            return str(self.door.answer(who, OwnSql(text=text, window=self.window, limits=QUICK)).rows.to_pylist())
        except QueryError as error:
            return str(error).replace(text, "")

    def is_alive(self, who: Principal) -> int:
        rows = self.door.answer(who, OwnSql(text="SELECT count(*) AS n FROM flows", window=self.window, limits=PATIENT)).rows
        number: int = rows["n"][0].as_py()
        return number


@pytest.fixture(scope="module")
def target(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    patch = pytest.MonkeyPatch()
    patch.setenv("HINDCAST_CANARY", CANARY)
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").mkdir()
    target = Target(world, folder)
    yield target
    patch.undo()
    assert target.digest() == target.before


@pytest.fixture(scope="module")
def tenant() -> Principal:
    return Principal(user="paula", groups=frozenset({"payments"}))


def test_there_are_enough_of_them() -> None:
    assert len(set(hostile.HOSTILE)) >= 200


@pytest.mark.parametrize("statement", hostile.HOSTILE, ids=[f"{number}-{text[:40]!a}" for number, text in enumerate(hostile.HOSTILE)])
def test_hostile_sql_learns_nothing_about_others_and_changes_nothing(statement: str, target: Target, tenant: Principal) -> None:
    began = time.monotonic()
    told = target.attack(statement, tenant)
    assert time.monotonic() - began < 300
    assert CANARY not in told
    assert "root:" not in told
    if "{" not in statement:  # else it is told what it named
        assert str(target.folder.parent) not in told
    # What a statement names itself is no secret; anything else is.
    foreign = set(Target.tokens(told)) - target.allowed - set(Target.tokens(statement))
    # Statistics of storage show the beginning of a value, after a byte that tells its length.
    cut = {re.sub(r"^x[0-9a-f]{2}\d*", "", token) for token in foreign}
    assert not {token for token in cut if not any(allowed.startswith(token) for allowed in target.allowed)}
    assert target.is_alive(tenant) == target.count


@pytest.mark.parametrize(
    "statement",
    [*hostile.WRITES, *hostile.SETTINGS, *hostile.SPELLINGS, *hostile.READS[:10], *hostile.READS[23:36], *hostile.DIALECT[25:65]],
)
def test_who_sees_everything_reads_the_lake_and_nothing_else_and_changes_nothing(statement: str, target: Target) -> None:
    ada = Principal(user="ada")
    told = target.attack(statement, ada)
    assert CANARY not in told
    assert "root:" not in told
    assert target.secret.read_text().endswith(f"{CANARY}\n")


def test_hostile_sql_over_flight_learns_nothing_about_others(target: Target, tenant: Principal) -> None:
    """The same statements through Flight SQL, without those that only try to exhaust the process."""
    server = FlightSql(target.door, identity.Fixed(tenant), config.ServeLimits(seconds=QUICK.seconds), "127.0.0.1:0", None)
    headers = [(f"hindcast-{name}".encode(), getattr(target.window, name).isoformat().encode()) for name in ("since", "until")]
    told = []
    with server, flight.connect(f"grpc://127.0.0.1:{server.port}") as client:
        for statement in [statement for statement in hostile.HOSTILE if statement not in hostile.BOMBS] + ["SELECT * FROM flows"]:
            ticket = flight_messages.packed(flight_messages.made("TicketStatementQuery", statement_handle=statement.encode()))
            try:
                rows = client.do_get(flight.Ticket(ticket), flight.FlightCallOptions(headers=headers)).read_all()
                told.append(str(rows.to_pylist()))
            except (pa.ArrowException, flight.FlightError) as error:
                told.append(str(error).replace(statement, ""))
            foreign = set(Target.tokens(told[-1])) - target.allowed - set(Target.tokens(statement))
            cut = {re.sub(r"^x[0-9a-f]{2}\d*", "", token) for token in foreign}
            assert not {token for token in cut if not any(allowed.startswith(token) for allowed in target.allowed)}, statement
            assert CANARY not in told[-1]
    assert len(set(Target.tokens(told[-1])) & target.allowed) > target.count


def test_the_time_a_query_takes_does_not_depend_on_hidden_rows(target: Target, tenant: Principal) -> None:
    """A question that waits where it finds a value waits for what is shown, and neither for what is hidden nor for what is nowhere."""
    world = target.world
    rows = {flow["uuid"]: (flow, shown) for flow in world.flows if (shown := world.oracle.shown(TENANT, flow))}
    hidden = next(flow["destination_pod_name"] for flow, shown in rows.values() if shown["destination_pod_name"] is None)
    shown = next(shown["destination_pod_name"] for _, shown in rows.values() if shown["destination_pod_name"] is not None)
    absent = next(flow["destination_pod_name"] for flow in world.flows if flow["uuid"] not in rows)
    taken = {}
    for what, value in (("shown", shown), ("hidden", hidden), ("absent", absent), ("nowhere", "no-such-pod")):
        waits = "CASE WHEN count(*) > 0 THEN coalesce(sleep_ms(300)::INTEGER, 0) ELSE 0 END"
        text = f"SELECT count(*) + {waits} AS n FROM flows WHERE destination_pod_name = '{value}'"
        target.attack(text, tenant)
        began = time.monotonic()
        target.attack(text.replace("300", "301"), tenant)
        taken[what] = time.monotonic() - began
    assert taken["shown"] > 0.3, taken
    assert max(taken[what] for what in ("hidden", "absent", "nowhere")) < taken["shown"], taken


def test_who_sees_everything_has_a_living_worker_afterwards(target: Target) -> None:
    assert target.is_alive(Principal(user="ada")) == len(target.world.flows)
    assert target.digest() == target.before


def test_nothing_was_written_and_the_lake_is_as_it_was(target: Target) -> None:
    assert target.digest() == target.before


def test_a_query_can_be_cancelled_and_the_next_is_answered(target: Target, tenant: Principal) -> None:
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        target.door.answer(
            tenant,
            OwnSql(
                text="SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range + b.range = -1",
                window=target.window,
                limits=PATIENT,
            ),
            cancelled=cancelled,
        )
    assert time.monotonic() - began < 300
    assert target.is_alive(tenant) == target.count


def test_a_worker_that_dies_is_replaced(target: Target, tenant: Principal) -> None:
    assert target.is_alive(tenant) == target.count
    (worker,) = [worker for (_, who), worker in WORKERS._workers.items() if who == tenant]  # type: ignore[misc]
    os.kill(worker.process, 9)
    with pytest.raises(QueryLimitError):
        target.is_alive(tenant)
    assert target.is_alive(tenant) == target.count


def test_workers_see_no_file_no_environment_and_no_network(target: Target, tenant: Principal) -> None:
    target.is_alive(tenant)
    (worker,) = [worker for (_, who), worker in WORKERS._workers.items() if who == tenant]  # type: ignore[misc]
    process = Path(f"/proc/{worker.process}")
    if not process.exists():
        pytest.skip("no /proc here")
    environment = (process / "environ").read_bytes()
    assert CANARY.encode() not in environment
    assert b"PATH=" not in environment
    opened = [str(path.readlink()) for path in (process / "fd").iterdir()]
    assert not [name for name in opened if str(target.lake) in name or str(Path.home()) in name]
    limits = (process / "limits").read_text()
    assert re.search(r"Max file size +0 +0", limits)
    assert "NoNewPrivs:\t1" in (process / "status").read_text()
