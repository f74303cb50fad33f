"""The order and the number of rows tell nothing of what is hidden: also through a person's own SQL."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from warehouse import config
from warehouse.access import access_log, visible
from warehouse.access.principals import Principal
from warehouse.engine import Limits, Window
from warehouse.errors import QueryLimitError
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import DNS_NAMES, EDGES_1H, FLOWS, TIMELINE_1M, Table

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
WINDOW = Window(since=NOON, until=NOON + HOUR)
PAULA = Principal(user="paula")
PEERS = [f"team-{letter}" for letter in "abcdefghij"]


def rows(number_of_each: int = 5) -> list[dict[str, Any]]:
    """Flows of shop with its peers, stored as compaction stores them: by the peer, which is hidden, not by time."""
    found = []
    for number, peer in enumerate(PEERS):
        for each in range(number_of_each):
            at = NOON + dt.timedelta(seconds=(each * 997 + number * 131) % 3600)
            flow = {"cluster": "c1", "time": at, "date": at.date(), "source_namespace": "shop", "destination_namespace": peer}
            found.append(flow | {"flow_count": 1, "verdict": "FORWARDED", "destination_labels": [f"k8s:team={peer}"], "uuid": None})
    return found


def doored(folder: Path, tables: dict[Table, list[dict[str, Any]]], level: str = "hidden") -> Door:
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    for table, made in tables.items():
        lake.commit(table, lake.write_files(table, pa.Table.from_pylist(made, schema=table.schema)), transactions={}, metadata={})
    grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]}]
    return Door(lake, config.Ownership.model_validate({"peer_detail": level, "grants": grants}))


@pytest.fixture(autouse=True)
def stored() -> Iterator[None]:
    yield
    access_log.flush()


def test_flows_come_in_the_order_of_what_is_shown_in_sql(tmp_path: Path) -> None:
    door = doored(tmp_path, {FLOWS: rows()})
    times = door.answer(PAULA, OwnSql(text="SELECT time FROM flows", window=WINDOW)).rows["time"].to_pylist()
    assert len(times) == 50
    assert times == sorted(times)


def test_flows_of_one_moment_come_in_the_same_order_wherever_they_were_stored(tmp_path: Path) -> None:
    made = [flow | {"time": NOON, "source_port": number} for number, flow in enumerate(rows())]
    ports = []
    for name, stored in (("as made", made), ("reversed", made[::-1])):
        door = doored(tmp_path / name, {FLOWS: stored})
        in_sql = door.answer(PAULA, OwnSql(text="SELECT source_port FROM flows", window=WINDOW)).rows["source_port"].to_pylist()
        listed = door.answer(PAULA, flow_questions.newest(FlowFilter(since=NOON, until=NOON + HOUR))).rows["source_port"].to_pylist()
        ports.append((in_sql, listed))
    assert ports[0] == ports[1]
    assert ports[0][0] != sorted(ports[0][0])


def test_many_flows_are_put_in_order_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(visible, "ROWS_IN_ORDER", 7)
    door = doored(tmp_path, {FLOWS: rows()})
    times = door.answer(PAULA, OwnSql(text="SELECT time FROM flows", window=WINDOW)).rows["time"].to_pylist()
    assert len(times) == 50
    assert times == sorted(times)


def test_more_rows_than_fit_into_memory_are_refused_before_they_are_put_in_order(tmp_path: Path) -> None:
    door = doored(tmp_path, {FLOWS: rows(60)})
    with pytest.raises(QueryLimitError, match="ask for less time"):
        door.answer(PAULA, OwnSql(text="SELECT time FROM flows", window=WINDOW, limits=Limits(memory_bytes=300_000)))


MADE = {"cluster": "c1", "date": NOON.date(), "hour": NOON, "minute": NOON, "source_namespace": "shop", "flows": 3, "repeats": 0}
EDGE = MADE | {"source_workload_name": "cart", "verdict": "FORWARDED", "replies": 1, "last_seen": NOON + HOUR / 2}
NAME = MADE | {"first_seen": NOON, "last_seen": NOON}
NUMBERED = list(enumerate(PEERS))
SPLIT: dict[Table, list[dict[str, Any]]] = {
    EDGES_1H: [
        EDGE | {"destination_namespace": peer, "destination_labels_id": peer, "first_seen": NOON + number * HOUR / 60}
        for number, peer in NUMBERED
    ],
    TIMELINE_1M: [MADE | {"destination_namespace": peer} for peer in PEERS],
    DNS_NAMES: [NAME | {"destination_namespace": peer, "ip": f"10.0.0.{number}", "name": f"{peer}.svc"} for number, peer in NUMBERED],
}


@pytest.mark.parametrize("table", SPLIT, ids=lambda table: table.name)
def test_rows_that_differ_only_in_what_is_hidden_are_summed_up(table: Table, tmp_path: Path) -> None:
    door = doored(tmp_path, {table: SPLIT[table]})
    (found,) = door.answer(PAULA, OwnSql(text=f"SELECT * FROM {table.name}", window=WINDOW)).rows.to_pylist()
    assert found["flows"] == 30
    assert found["destination_namespace"] is None
    if table is EDGES_1H:
        assert (found["replies"], found["first_seen"], found["last_seen"]) == (10, NOON, NOON + HOUR / 2)


def test_label_sets_of_a_peer_whose_namespace_is_shown_do_not_split_its_edge(tmp_path: Path) -> None:
    edges = [EDGE | {"destination_namespace": "team-a", "destination_labels_id": str(number)} for number in range(4)]
    door = doored(tmp_path, {EDGES_1H: edges}, level="workload")
    (found,) = door.answer(PAULA, OwnSql(text="SELECT * FROM edges_1h", window=WINDOW)).rows.to_pylist()
    assert (found["flows"], found["destination_namespace"]) == (12, "team-a")
