"""One rule of edges: the edges that rollups keep are those of the flows, under any filter and for everyone."""

import datetime as dt
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.maintenance import compaction, rollup
from tests.modules import load
from warehouse import config, engine
from warehouse.access import access_log, redaction
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits
from warehouse.lake.tables import Lake
from warehouse.questions import conditions, edge_rule, flow_questions, recorded_workloads
from warehouse.questions.door import Door
from warehouse.questions.edges_in_time import Level, edges_in_time, first_and_last_seen
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.flow_table import FlowQuestion
from warehouse.questions.rollup_table import RollupQuestion
from warehouse.schema import FLOWS, WORKLOADS

sums: Any = load(Path(__file__).with_name("test_rollup_sums.py"))

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


def test_a_drop_has_the_same_direction_with_every_other_filter(tmp_path: Path) -> None:
    dropped = ends("shop", "web", source_port=8080, destination_port=40_000, verdict="DROPPED", is_reply=None)
    door = Door(lake_of(tmp_path, [flow(1, **dropped)]), config.Ownership())
    wanted = FlowFilter(since=START, until=START + HOUR)
    for given_ in ((), (conditions.parse("protocol=TCP"),)):
        (edge,) = door.answer(OPERATOR, edges_in_time(replace(wanted, conditions=given_))).rows.to_pylist()
        assert (edge["source_namespace"], edge["destination_namespace"], edge["port"]) == ("web", "shop", 8080)


def version(kind: str, name: str, **more: Any) -> dict[str, Any]:
    """A version of a workload of c1's namespace shop, in force since the day before."""
    begin = START - 24 * HOUR
    row = {"cluster": "c1", "namespace": "shop", "kind": kind, "name": name, "valid_from": begin, "recorded": begin, "manifest": "{}"}
    return row | more


def record(lake: Lake, rows: list[dict[str, Any]]) -> None:
    if rows:
        files = lake.write_files(WORKLOADS, pa.Table.from_pylist(rows, schema=WORKLOADS.schema))
        lake.commit(WORKLOADS, files, transactions={}, metadata={})


_OWNERS = [("Deployment", "web"), ("DaemonSet", "web-6d4cf56db6"), ("Job", "web-6d4cf56db6"), ("CronJob", "job"), ("Job", "job-28500000")]
_OWNERS += [("StatefulSet", "db"), ("PodLabels", "pod.db-0.0123abcd")]


@st.composite
def versions(draw: st.DrawFn) -> dict[str, Any]:
    """A version of a workload that pods of `sums.flows` may belong to; some end, and some are learned of after the roll-up."""
    hour = st.integers(-2, sums.HOURS + 1)
    begin = START + draw(hour) * HOUR
    end = draw(st.none() | hour.map(lambda hours: START + hours * HOUR).filter(lambda moment: moment > begin))
    more = {"cluster": draw(st.sampled_from(["c1", "c2", "c9"])), "namespace": draw(st.sampled_from(["shop", "pay"]))}
    recorded = begin + draw(st.sampled_from([dt.timedelta(), HOUR, 3 * 24 * HOUR]))
    ended = end and max(recorded, end)
    return version(*draw(st.sampled_from(_OWNERS)), valid_from=begin, valid_to=end, recorded=recorded, ended_recorded=ended, **more)


@settings(max_examples=sums.HARD or 15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=sums.flows(most=25),
    history=st.lists(versions(), max_size=6),
    conditions_=st.sampled_from(FILTERS),
    level=st.sampled_from(["cluster", "namespace", "workload"]),
    detail=st.sampled_from(redaction.LEVELS),
    who=st.sampled_from(list(PEOPLE)),
    rolled_up=st.booleans(),
)
def test_the_edges_of_rollups_are_those_of_the_flows(
    rows: list[dict[str, Any]],
    history: list[dict[str, Any]],
    conditions_: dict[str, Any],
    level: Level,
    detail: str,
    who: str,
    rolled_up: bool,
) -> None:
    for number, row in enumerate(rows):
        row["uuid"] = str(number)
    with tempfile.TemporaryDirectory() as folder:
        lake = lake_of(folder, rows)
        record(lake, [row for row in history if row["recorded"] < sums.LATER])
        if rolled_up:
            rollup.roll_up_closed_hours(lake, config.Rollups(), now=sums.LATER)
        record(lake, [row for row in history if row["recorded"] >= sums.LATER])
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


# Workloads of configuration history ---------------------------------------------------------------------------------

AGENT = "agent-bcdfgh-x7k2p"
"""A pod of the DaemonSet `agent-bcdfgh`: by its name alone it could as well be of a Deployment `agent`."""


def names_of(door: Door, who: str = "operator") -> list[set[Any]]:
    """What the ends in the namespace shop are called: in edges of rollups and of flows, in completions."""
    wanted = FlowFilter(since=START, until=START + HOUR)
    found: list[set[Any]] = []
    for given_ in ((), (ALWAYS_TRUE,)):
        rows = door.answer(PEOPLE[who], edges_in_time(replace(wanted, conditions=given_), limits=EVERYONE)).rows.to_pylist()
        found.append({row[f"{side}_name"] for row in rows for side in ("source", "destination") if row[f"{side}_namespace"] == "shop"})
    offered = door.answer(PEOPLE[who], flow_questions.completions(wanted)).rows.to_pylist()
    found.append({row["value"] for row in offered if row["field"] == "workload"} - {"db"})
    return found


def called(pods: dict[str, dict[str, Any]], history: list[dict[str, Any]], folder: Path) -> list[set[Any]]:
    """What pods of the namespace shop are called, where their flows say what is given besides; the same before and after the roll-up."""
    calls = ends("shop", "pay") | {"destination_pod_name": "db-0", "source_port": 40_000, "destination_port": 80}
    lake = lake_of(folder, [flow(number, **calls | {"source_pod_name": pod} | more) for number, (pod, more) in enumerate(pods.items())])
    record(lake, history)
    door = Door(lake, config.Ownership.model_validate(GRANTS))
    names = names_of(door)
    assert rollup.roll_up_closed_hours(lake, config.Rollups(), now=sums.LATER)
    assert names_of(door) == names
    return names


def test_without_configuration_history_a_pod_is_called_by_its_name(tmp_path: Path) -> None:
    assert called({AGENT: {}}, [], tmp_path) == [{"agent"}] * 3


def test_a_namesake_elsewhere_or_at_another_time_or_learned_of_too_late_names_no_pod(tmp_path: Path) -> None:
    elsewhere: list[dict[str, Any]] = [
        {"cluster": "c2"},
        {"namespace": "pay"},
        {"valid_to": START - HOUR, "ended_recorded": START - HOUR},
        {"valid_from": START + HOUR, "recorded": START + HOUR},
        {"valid_from": START - HOUR, "recorded": START + 6 * HOUR},
        {"kind": "StatefulSet"},
        {"kind": "Service"},
        {"name": "gent-bcdfgh"},
    ]
    history = [version("DaemonSet", "agent-bcdfgh") | more for more in elsewhere]
    assert called({AGENT: {}}, history, tmp_path) == [{"agent"}] * 3


def test_a_pod_that_two_recorded_workloads_may_own_is_called_by_its_name(tmp_path: Path) -> None:
    history = [version("DaemonSet", "agent-bcdfgh"), version("Job", "agent-bcdfgh"), version("DaemonSet", "agent")]
    assert called({AGENT: {}}, history, tmp_path) == [{"agent"}] * 3


def test_a_pod_of_which_no_flow_says_the_workload_has_the_name_of_the_recorded_one(tmp_path: Path) -> None:
    owners = {
        AGENT: ("DaemonSet", "agent-bcdfgh"),
        "web-5d4-x7k2p": ("Deployment", "web"),
        "old-bcdfgh-x7k2p": ("ReplicaSet", "old-bcdfgh"),
        "queue-bcdfgh-0-0": ("StatefulSet", "queue-bcdfgh-0"),
        "once-bcdfgh-x7k2p": ("Job", "once-bcdfgh"),
        "parts-3-x7k2p": ("Job", "parts"),
        "nightly-1772488800-x7k2p": ("CronJob", "nightly"),
        "debug-0": ("PodLabels", "pod.debug-0.0123abcd"),
    }
    shorter = [version("Deployment", "agent"), version("StatefulSet", "debug"), version("Deployment", "we")]
    history = [*shorter, *(version(kind, name) for kind, name in owners.values())]
    expected = {"agent-bcdfgh", "web", "old-bcdfgh", "queue-bcdfgh-0", "once-bcdfgh", "parts", "nightly", "debug-0"}
    assert called({pod: {} for pod in owners}, history, tmp_path) == [expected] * 3


def test_a_pod_of_another_cluster_of_the_mesh_is_named_by_that_cluster_s_workloads(tmp_path: Path) -> None:
    elsewhere = {"source_cluster_name": "c2"}
    pods = {AGENT: elsewhere, "robot-bcdfgh-x7k2p": elsewhere}
    history = [version("DaemonSet", "agent-bcdfgh"), version("DaemonSet", "robot-bcdfgh", cluster="c2")]
    assert called(pods, history, tmp_path) == [{"agent", "robot-bcdfgh"}] * 3


def test_what_flows_say_of_a_pod_counts_more_than_what_is_recorded(tmp_path: Path) -> None:
    pods = {AGENT: {"source_workload_name": "robot"}}
    assert called(pods, [version("DaemonSet", "agent-bcdfgh")], tmp_path) == [{"robot"}] * 3


def test_a_filter_by_workload_finds_the_flows_of_a_recorded_workload(tmp_path: Path) -> None:
    lake = lake_of(tmp_path, [flow(1, **ends("shop", "pay") | {"source_pod_name": AGENT})])
    record(lake, [version("DaemonSet", "agent-bcdfgh")])
    for name, rows in (("agent-bcdfgh", 1), ("agent", 0)):
        wanted = FlowFilter(since=START, until=START + HOUR, conditions=(conditions.parse(f"workload={name}"),))
        assert Door(lake, config.Ownership()).answer(OPERATOR, flow_questions.newest(wanted, columns=["uuid"])).rows.num_rows == rows


@pytest.mark.parametrize("is_shown", [False, True])
def test_an_owner_reads_a_recorded_workload_of_the_other_side_only_where_workloads_are_shown(is_shown: bool, tmp_path: Path) -> None:
    lake = lake_of(tmp_path, [flow(1, **ends("shop", "pay") | {"destination_pod_name": "ledger-bcdfgh-x7k2p"})])
    record(lake, [version("DaemonSet", "ledger-bcdfgh", namespace="pay")])
    wanted = FlowFilter(since=START, until=START + HOUR)
    for detail in ("workload", "full") if is_shown else ("hidden", "namespace"):
        door = Door(lake, config.Ownership.model_validate({**GRANTS, "peer_detail": detail}))
        for given_ in ((), (ALWAYS_TRUE,)):
            (edge,) = door.answer(PEOPLE["olga"], edges_in_time(replace(wanted, conditions=given_))).rows.to_pylist()
            assert ("ledger" in str(edge), edge["destination_name"] == "ledger-bcdfgh") == (is_shown, is_shown)
        offered = str(door.answer(PEOPLE["olga"], flow_questions.completions(wanted)).rows["value"].to_pylist())
        assert ("ledger-bcdfgh" in offered, "ledger-bcdfgh-x7k2p" in offered) == (is_shown, detail == "full")
        matching = replace(wanted, conditions=(conditions.parse("workload=ledger-bcdfgh"),))
        found = door.answer(PEOPLE["olga"], flow_questions.newest(matching, columns=["uuid"])).rows
        assert found.num_rows == int(is_shown)


def test_what_is_learned_after_an_hour_s_rollup_may_be_made_counts_for_no_answer() -> None:
    assert recorded_workloads.LEARNED_WITHIN < compaction.GRACE
