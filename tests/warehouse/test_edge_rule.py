"""One rule of edges: the edges that rollups keep are those of the flows, under any filter and for everyone."""

import datetime as dt
import importlib.util
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.maintenance import rollup
from warehouse import config, engine
from warehouse.access import access_log, redaction
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits
from warehouse.lake.tables import Lake
from warehouse.questions import conditions, edge_rule, flow_questions
from warehouse.questions.door import Door
from warehouse.questions.edges_in_time import Level, edges_in_time, first_and_last_seen
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.flow_table import FlowQuestion
from warehouse.questions.rollup_table import RollupQuestion
from warehouse.schema import FLOWS

_SPEC = importlib.util.spec_from_file_location("test_rollup_sums", Path(__file__).with_name("test_rollup_sums.py"))
assert _SPEC is not None
assert _SPEC.loader is not None
sums: Any = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(sums)

START = sums.START
HOUR = dt.timedelta(hours=1)
EVERYONE = Limits(rows=1_000_000)
GRANTS = {
    "grants": [
        {"subject": "ada", "role": "platform-admin"},
        {"subject": "audrey", "role": "auditor"},
        {"subject": "olga", "role": "namespace-owner", "namespaces": ["shop"]},
        {"subject": "paul", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["p*"]},
    ]
}
PEOPLE = {"operator": OPERATOR, **{name: Principal(user=name) for name in ("ada", "audrey", "olga", "paul")}}
ALWAYS_TRUE = conditions.parse("uuid!=no-flow-has-this")
"""A condition that edges_1h does not keep, so that the flows are asked."""
FILTERS: list[dict[str, Any]] = [
    {},
    {"namespaces": ("shop",)},
    {"source_namespaces": ("shop",)},
    {"destination_namespaces": ("pay",)},
    {"verdicts": ("DROPPED",)},
    {"clusters": ("c2",)},
    {"ports": (443, 8080)},
]
COMPARED = (
    "cluster", "source_namespace", "source_name", "destination_namespace", "destination_name", "port", "protocol", "flows", "denied",
    "audited", "first", "last", "first_denied",
)  # fmt: skip


def flow(number: int, **more: Any) -> dict[str, Any]:
    row = {"cluster": "c1", "time": START + dt.timedelta(seconds=number), "uuid": str(number), "verdict": "FORWARDED", "flow_count": 1}
    return row | {"date": START.date(), "l4_protocol": "TCP"} | more


def ends(source: str, destination: str, **more: Any) -> dict[str, Any]:
    parts = (("source", source), ("destination", destination))
    return {f"{side}_{part}": name for side, name in parts for part in ("namespace", "pod_name")} | more


def lake_of(folder: Any, rows: list[dict[str, Any]]) -> Lake:
    lake = Lake.open(config.Lake(url=str(folder)))
    if rows:
        lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema)), transactions={}, metadata={})
    return lake


def edges(door: Door, who: Principal, wanted: FlowFilter, level: Level) -> list[tuple[Any, ...]]:
    rows = door.answer(who, edges_in_time(wanted, level=level, limits=EVERYONE)).rows.select(COMPARED).to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=repr)


def test_a_drop_has_the_same_direction_whatever_else_is_asked(tmp_path: Path) -> None:
    dropped = ends("shop", "web", source_port=8080, destination_port=40_000, verdict="DROPPED", is_reply=None)
    door = Door(lake_of(tmp_path, [flow(1, **dropped)]), config.Ownership())
    wanted = FlowFilter(since=START, until=START + HOUR)
    for given_ in ((), (conditions.parse("protocol=TCP"),)):
        (edge,) = door.answer(OPERATOR, edges_in_time(replace(wanted, conditions=given_))).rows.to_pylist()
        assert (edge["source_namespace"], edge["destination_namespace"], edge["port"]) == ("web", "shop", 8080)


@settings(max_examples=sums.HARD or 15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=sums.flows(most=25),
    conditions_=st.sampled_from(FILTERS),
    level=st.sampled_from(["cluster", "namespace", "workload"]),
    detail=st.sampled_from(redaction.LEVELS),
    who=st.sampled_from(list(PEOPLE)),
    rolled_up=st.booleans(),
)
def test_the_edges_of_rollups_are_those_of_the_flows(
    rows: list[dict[str, Any]], conditions_: dict[str, Any], level: Level, detail: str, who: str, rolled_up: bool
) -> None:
    for number, row in enumerate(rows):
        row["uuid"] = str(number)
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_of(folder, rows)
        if rolled_up:
            rollup.roll_up_closed_hours(lake, config.Rollups(), now=sums.LATER)
        door = Door(lake, config.Ownership.model_validate({**GRANTS, "peer_detail": detail}))
        wanted = FlowFilter(since=START, until=START + sums.HOURS * HOUR, **conditions_)
        of_flows = replace(wanted, conditions=(ALWAYS_TRUE,))
        assert isinstance(edges_in_time(wanted, level=level), RollupQuestion)
        assert isinstance(edges_in_time(of_flows, level=level), FlowQuestion)
        assert edges(door, PEOPLE[who], wanted, level) == edges(door, PEOPLE[who], of_flows, level)
        access_log.flush()  # while the folder is there


@given(ports=st.tuples(*[st.sampled_from([None, 53, 8080, 32_767, 32_768, 50_000])] * 2), is_reply=st.sampled_from([True, False, None]))
def test_the_service_s_port_of_one_flow_is_that_of_the_rule(ports: tuple[int | None, int | None], is_reply: bool | None) -> None:
    with engine.connect(Limits()) as connection:
        sql = f"SELECT {edge_rule.SERVER_PORT} FROM (SELECT ?::INT AS source_port, ?::INT AS destination_port, ?::BOOL AS is_reply)"
        ((expected,),) = connection.execute(sql, [*ports, is_reply]).fetchall()
    assert edge_rule.server_port(*ports, is_reply) == expected


@pytest.mark.parametrize("who", PEOPLE)
def test_ports_that_are_offered_are_those_of_services(who: str, tmp_path: Path) -> None:
    asked = ends("shop", "pay", source_port=38_439, destination_port=5432, is_reply=False)
    answered = ends("pay", "shop", source_port=5432, destination_port=38_439, is_reply=True)
    door = Door(lake_of(tmp_path, [flow(1, **asked), flow(2, **answered)]), config.Ownership.model_validate(GRANTS))
    rows = door.answer(PEOPLE[who], flow_questions.completions(FlowFilter(since=START, until=START + HOUR))).rows.to_pylist()
    assert [(row["value"], row["flows"]) for row in rows if row["field"] == "port"] == [("5432", 2)]


@pytest.mark.parametrize("who", PEOPLE)
def test_a_workload_has_one_name_in_edges_completions_and_filters(who: str, tmp_path: Path) -> None:
    """Agents name the workloads of their own node's pods alone: another node's flow of the same pod names none."""
    pod = {"source_pod_name": "cart-api-6d4cf56db6-x7k2p"}
    told = flow(2, **ends("shop", "pay") | pod, source_workload_name="cart-api", source_port=40_000, destination_port=80)
    untold = flow(1, **ends("shop", "pay") | pod, source_port=40_001, destination_port=80)
    odd = {"source_pod_name": "oddly-named"}
    rows = [told, untold, flow(3, **ends("shop", "pay") | odd), flow(4, **ends("shop", "pay") | odd, source_workload_name="ledger")]
    door = Door(lake_of(tmp_path, rows), config.Ownership.model_validate(GRANTS))
    wanted = FlowFilter(since=START, until=START + HOUR)
    for given_ in ((), (ALWAYS_TRUE,)):
        names = {row[2] for row in edges(door, PEOPLE[who], replace(wanted, conditions=given_), "workload")}
        assert names == {"cart-api", "ledger"}
    offered = door.answer(PEOPLE[who], flow_questions.completions(wanted)).rows.to_pylist()
    assert {row["value"]: row["flows"] for row in offered if row["field"] == "workload"} == {"cart-api": 2, "ledger": 2, "pay": 4}
    filtered = replace(wanted, conditions=(conditions.parse("workload=cart-api"),))
    assert door.answer(PEOPLE[who], flow_questions.newest(filtered, columns=["uuid"])).rows.num_rows == 2


@pytest.mark.parametrize("who", PEOPLE)
def test_first_and_last_seen_are_those_of_all_that_is_recorded(who: str, tmp_path: Path) -> None:
    called = ends("shop", "pay", source_port=40_000, destination_port=5432)
    later = START + 26 * HOUR
    rows = [flow(1, **called), flow(2, **called | {"time": later, "date": later.date()})]
    lake = lake_of(tmp_path, rows)
    rollup.roll_up_closed_hours(lake, config.Rollups(), now=sums.LATER)
    door = Door(lake, config.Ownership.model_validate(GRANTS))
    wanted = FlowFilter(since=later, until=later + HOUR)
    (within,) = door.answer(PEOPLE[who], edges_in_time(wanted)).rows.to_pylist()
    assert within["first"] == later
    answer = door.answer(PEOPLE[who], first_and_last_seen(wanted))
    (row,) = answer.rows.to_pylist()
    assert (row["first"], row["last"]) == (START + dt.timedelta(seconds=1), later)
    assert {name: row[name] for name in COMPARED[:7]} == {name: within[name] for name in COMPARED[:7]}
