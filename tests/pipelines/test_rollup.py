"""Rolling up: what it must never do first, then what it does, and how drops and observers are counted."""

import datetime as dt
import itertools
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from pipelines.maintenance.compaction import GRACE, compact_closed_hours
from pipelines.maintenance.rollup import clusters_to_roll_up, plan, roll_up, roll_up_closed_hours, seal
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, edge_questions, flow_questions, rollup_notes
from warehouse.questions.door import Door
from warehouse.questions.edge_questions import EdgeScope
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import DNS_NAMES, EDGES_1H, FLOWS, LABEL_SETS, ROLLUPS, TIMELINE_1M

HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LATER = NOON + 6 * HOUR
SETTINGS = config.Rollups()
DAY = FlowFilter(since=NOON, until=LATER)


@pytest.fixture
def lake(place: Any) -> Lake:
    opened: Lake = place.open()
    return opened


def flows(begin: dt.datetime, count: int, *, seed: int = 1, rate: float = 1.0) -> list[flow_pb2.Flow]:
    return list(itertools.islice(Traffic(build_fleet(1, clusters=("c1",)), seed, begin, rate).flows(), count))


def append(lake: Lake, some: list[flow_pb2.Flow], cluster: str = "c1") -> None:
    rows = decode([flow.SerializeToString() for flow in some], cluster=cluster, recorded=NOON, live=False).rows
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})


def total(lake: Lake, table: Any = EDGES_1H) -> int:
    return pc.sum(lake.read(table)["flows"]).as_py() or 0


def door(lake: Lake, **ownership: Any) -> Door:
    return Door(lake, config.Ownership.model_validate(ownership))


# What it must never do ----------------------------------------------------------------------------------------


def test_an_empty_lake_has_nothing_to_roll_up(lake: Lake) -> None:
    assert plan(lake, now=LATER) == []
    assert clusters_to_roll_up(lake, now=LATER) == []
    assert roll_up_closed_hours(lake, SETTINGS, now=LATER) == []


def test_an_hour_that_has_not_closed_is_left_alone(lake: Lake) -> None:
    append(lake, flows(NOON, 50))
    assert plan(lake, now=NOON + HOUR + GRACE - dt.timedelta(seconds=1)) == []
    assert clusters_to_roll_up(lake, now=NOON + HOUR + GRACE) == ["c1"]


def test_a_second_run_changes_nothing(lake: Lake) -> None:
    append(lake, flows(NOON, 300))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    files = [lake.files(table) for table in ROLLUPS]
    assert plan(lake, now=LATER) == []
    assert roll_up_closed_hours(lake, SETTINGS, now=LATER) == []
    assert [lake.files(table) for table in ROLLUPS] == files
    assert total(lake) == total(lake, TIMELINE_1M) == 300


def test_two_that_planned_the_same_double_nothing(lake: Lake, place: Any) -> None:
    append(lake, flows(NOON, 300))
    other = place.open()
    (mine,), (theirs,) = plan(lake, now=LATER), plan(other, now=LATER)
    done: list[Any] = []
    threads = [
        threading.Thread(target=lambda lake=one, task=task: done.append(roll_up(lake, task, SETTINGS)))  # type: ignore[misc]
        for one, task in ((lake, mine), (other, theirs))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 2
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    for table in (EDGES_1H, TIMELINE_1M):
        assert total(lake, table) == 300
        assert len(lake.files(table)) == 1


def test_flows_that_come_while_an_hour_is_rolled_up_reopen_it(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, flows(NOON, 300))
    (task,) = plan(lake, now=LATER)
    append(lake, flows(NOON + MINUTE, 10, seed=9))  # planned without them
    assert roll_up(lake, task, SETTINGS) is not None
    answer = door(lake).answer(OPERATOR, count_questions.timeline(DAY))
    assert (answer.source, sum(answer.rows["flows"].to_pylist())) == ("flows", 310)
    assert len(plan(lake, now=LATER)) == 1


ROLLER = """
    import datetime as dt, sys, time
    from pipelines.maintenance.rollup import roll_up_closed_hours
    from warehouse import config
    from warehouse.lake.tables import Lake

    lake = Lake.open(config.Lake(url=sys.argv[1]))
    while True:
        roll_up_closed_hours(lake, config.Rollups(), now=dt.datetime(2026, 3, 3, tzinfo=dt.UTC))
        time.sleep(0.02)
"""


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # the programs are given a folder
def test_rollups_that_are_killed_leave_every_answer_right(lake: Lake, place: Any) -> None:
    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", textwrap.dedent(ROLLER), str(place.folder)], stderr=subprocess.DEVNULL)

    reader = door(place.open())
    running, stored, wrong = [start(), start()], 0, []
    try:
        for round_ in range(6):
            append(lake, flows(NOON + round_ * 20 * MINUTE, 100, seed=round_))
            stored += 100
            for _ in range(2):
                answers = (
                    reader.answer(OPERATOR, count_questions.timeline(DAY)),
                    reader.answer(OPERATOR, edge_questions.edges(DAY, scope=EdgeScope.CLUSTER)),
                )
                wrong += [(round_, one.source, one.rows) for one in answers if sum(one.rows["flows"].to_pylist()) != stored]
            os.kill(running[round_ % 2].pid, signal.SIGKILL)
            running[round_ % 2].wait()
            running[round_ % 2] = start()
    finally:
        for process in running:
            process.kill()
            process.wait()
    assert wrong == []
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert total(lake) == total(lake, TIMELINE_1M) == stored
    assert all(len(lake.files(table)) == 1 for table in (EDGES_1H, TIMELINE_1M))


# What it does -------------------------------------------------------------------------------------------------


def test_an_answer_says_what_it_comes_from(lake: Lake) -> None:
    append(lake, flows(NOON, 300, rate=0.02))
    some = door(lake)
    assert some.answer(OPERATOR, edge_questions.edges(DAY)).source == "flows"
    roll_up_closed_hours(lake, SETTINGS, now=NOON + 2 * HOUR + GRACE)
    assert some.answer(OPERATOR, edge_questions.edges(DAY)).source == "edges_1h and flows"
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert some.answer(OPERATOR, edge_questions.edges(DAY)).source == "edges_1h"
    assert some.answer(OPERATOR, count_questions.timeline(DAY)).source == "timeline_1m"
    assert (
        some.answer(OPERATOR, count_questions.timeline(DAY, buckets=6)).source
        == some.answer(OPERATOR, count_questions.drop_reasons(DAY)).source
        == "edges_1h"
    )
    cut = replace(DAY, since=NOON + dt.timedelta(minutes=7), until=NOON + 2 * HOUR + dt.timedelta(minutes=3))
    assert some.answer(OPERATOR, count_questions.drop_reasons(cut)).source == "edges_1h and timeline_1m"


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # it is about sums, not about storage
@pytest.mark.parametrize("minutes", [(0, 240), (7, 183), (59, 61), (10, 50), (60, 120)])
def test_hours_and_minutes_give_what_the_flows_give(lake: Lake, minutes: tuple[int, int]) -> None:
    append(lake, flows(NOON, 400, rate=0.03))
    before, some = door(lake), door(lake)
    window = FlowFilter(since=NOON + minutes[0] * dt.timedelta(minutes=1), until=NOON + minutes[1] * dt.timedelta(minutes=1))

    def answers(asked: Door) -> list[list[dict[str, object]]]:
        narrower = replace(window, source_namespaces=("payments", "checkout"))
        return [
            asked.answer(OPERATOR, count_questions.drop_reasons(window)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.values("destination_namespace", window)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.timeline(window, buckets=2)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.pulse(narrower, buckets=2)).rows.to_pylist(),
            asked.answer(OPERATOR, count_questions.namespaces(window, buckets=1)).rows.to_pylist(),
        ]

    expected = answers(before)
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert answers(some) == expected
    assert any(expected)
    assert some.answer(OPERATOR, count_questions.values("source_namespace", DAY)).source == "timeline_1m"
    assert some.answer(OPERATOR, edge_questions.names(DAY)).source == "dns_names"
    assert some.answer(OPERATOR, count_questions.values("source_pod_name", DAY)).source == "flows"
    by_pod = FlowFilter(since=NOON, until=LATER, pods=("web",))
    assert (
        some.answer(OPERATOR, count_questions.timeline(by_pod)).source
        == some.answer(OPERATOR, count_questions.drop_reasons(by_pod)).source
        == "flows"
    )
    with pytest.raises(QueryError, match="pods"):
        some.answer(OPERATOR, edge_questions.edges(by_pod))
    assert some.answer(OPERATOR, flow_questions.newest(DAY)).source == "flows"


def test_late_flows_reopen_their_hour_and_no_other(lake: Lake) -> None:
    append(lake, flows(NOON, 100))
    append(lake, flows(NOON + 2 * HOUR, 100))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    append(lake, flows(NOON + 5 * MINUTE, 10, seed=99))
    (task,) = plan(lake, now=LATER)
    assert [hour for hour, _ in task.hours] == [NOON]
    (done,) = roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert (done.hours, done.flows) == (1, 110)
    assert total(lake) == 210


def test_compaction_changes_no_sum_and_the_hour_is_done_again(lake: Lake) -> None:
    some = flows(NOON, 100)
    append(lake, some)
    append(lake, some[:10])  # stored twice: compaction drops them
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert total(lake) == 110
    compact_closed_hours(lake, now=LATER)
    assert sum(door(lake).answer(OPERATOR, count_questions.timeline(DAY)).rows["flows"].to_pylist()) == 100
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert total(lake) == 100


def test_hours_add_up_the_same_however_many_are_done_at_once(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    append(lake, flows(NOON, 600, rate=0.05))
    append(lake, flows(NOON + 4 * HOUR, 100))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    at_once = [sorted(lake.read(table).to_pylist(), key=repr) for table in ROLLUPS]
    for table in ROLLUPS:
        lake.replace(table, lake.contents(table), [], guard="test", data_change=True)
    monkeypatch.setattr("pipelines.maintenance.rollup.BATCH_ROWS", 1)
    (done,) = roll_up_closed_hours(lake, SETTINGS, now=LATER)
    assert done.hours > 2
    assert [sorted(lake.read(table).to_pylist(), key=repr) for table in ROLLUPS] == at_once


def test_what_is_rolled_up_outlives_its_flows(lake: Lake) -> None:
    append(lake, flows(NOON, 200))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    cut = FlowFilter(since=NOON + 90 * dt.timedelta(seconds=1), until=NOON + HOUR)
    exact = door(lake).answer(OPERATOR, edge_questions.edges(cut))
    lake.replace(FLOWS, lake.contents(FLOWS), [], guard="test", data_change=True)
    assert plan(lake, now=LATER) == []
    answer = door(lake).answer(OPERATOR, edge_questions.edges(cut))
    assert sum(answer.rows["flows"].to_pylist()) == 200 > sum(exact.rows["flows"].to_pylist())
    assert answer.window == Window(since=NOON, until=NOON + HOUR)  # the hour cannot be cut any more, and the answer says so


def test_a_sealed_day_stands_when_part_of_its_flows_goes(lake: Lake) -> None:
    append(lake, flows(NOON, 100))
    append(lake, flows(NOON + 10 * MINUTE, 50, seed=2))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    seal(lake, "c1", NOON.replace(hour=0))
    lake.replace(FLOWS, lake.contents(FLOWS)[:1], [], guard="test", data_change=True)
    assert plan(lake, now=LATER) == []
    answer = door(lake).answer(OPERATOR, count_questions.timeline(DAY))
    assert (answer.source, sum(answer.rows["flows"].to_pylist())) == ("timeline_1m", 150)


def test_names_of_files_carry_the_notes_of_their_hours(lake: Lake) -> None:
    append(lake, flows(NOON, 20))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    (file,), (flows_file,) = lake.contents(EDGES_1H), lake.contents(FLOWS)
    assert rollup_notes.notes(file) == {NOON: rollup_notes.note([flows_file])}
    assert len(file.name) < 255


# How it counts ------------------------------------------------------------------------------------------------


def seen_by(node: str, at: dt.datetime, *, reply: bool = False, **fields: Any) -> flow_pb2.Flow:
    """A flow between web-1 on node a and db-0 on node b, as one of the nodes reports it."""
    flow = flow_pb2.Flow(node_name=f"c1/{node}", verdict=flow_pb2.FORWARDED, uuid=f"{node}{at}{reply}{fields}")
    flow.time.FromDatetime(at)
    client, server = (flow.destination, flow.source) if reply else (flow.source, flow.destination)
    client.namespace, client.pod_name, server.namespace, server.pod_name = "shop", "web-6d4cf56db6-x7k2p", "data", "db-0"
    if node == "a":
        client.workloads.add(name="web", kind="Deployment")
    else:
        server.workloads.add(name="ledger", kind="StatefulSet")
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port = (5432, 41_000) if reply else (41_000, 5432)
    flow.traffic_direction = flow_pb2.EGRESS if node == "a" else flow_pb2.INGRESS
    flow.is_reply.value = reply
    for name, value in fields.items():
        setattr(flow, name, value)
    return flow


def test_a_connection_seen_at_both_ends_is_one_edge_with_two_observers(lake: Lake) -> None:
    pair = [seen_by(node, NOON + number * dt.timedelta(seconds=1)) for number in range(3) for node in ("a", "b")]
    append(lake, [*pair, seen_by("b", NOON, reply=True)])
    for _ in range(2):
        (edge,) = door(lake).answer(OPERATOR, edge_questions.edges(DAY)).rows.to_pylist()
        assert (edge["source_workload_name"], edge["destination_workload_name"]) == ("web", "ledger")
        assert (edge["destination_workload_kind"], edge["ports"]) == ("StatefulSet", ["5432/TCP"])
        assert (edge["flows"], edge["flows_at_source"], edge["flows_at_destination"], edge["flows_once"]) == (7, 3, 4, 4)
        assert (edge["observers"], edge["forwarded"], edge["dropped"]) == (2, 4, 0)
        roll_up_closed_hours(lake, SETTINGS, now=LATER)


def test_a_policy_drop_that_arrives_as_two_events_counts_once(lake: Lake) -> None:
    refused = []
    for number in range(3):
        at = NOON + number * dt.timedelta(seconds=1)
        for event in (5, 1):
            flow = seen_by(
                "b", at + event * dt.timedelta(microseconds=1), verdict=flow_pb2.DROPPED, drop_reason_desc=flow_pb2.POLICY_DENIED
            )
            flow.event_type.type = event
            flow.ClearField("is_reply")
            refused.append(flow)
    refused.append(seen_by("b", NOON, verdict=flow_pb2.DROPPED, uuid="only the drop"))
    refused[-1].event_type.type, refused[-1].l4.TCP.source_port = 1, 50_001
    append(lake, refused)
    for _ in range(2):
        reasons = {
            row["drop_reason_desc"]: (row["drops"], row["flows"])
            for row in door(lake).answer(OPERATOR, count_questions.drop_reasons(DAY)).rows.to_pylist()
        }
        assert reasons == {"POLICY_DENIED": (3, 6), None: (1, 1)}
        (edge,) = door(lake).answer(OPERATOR, edge_questions.edges(DAY)).rows.to_pylist()
        assert (edge["dropped"], edge["flows"], edge["drop_reasons"]) == (4, 7, ["POLICY_DENIED"])
        assert door(lake).answer(OPERATOR, count_questions.timeline(DAY)).rows.to_pylist()[0]["repeats"] == 3
        by_port = FlowFilter(since=NOON, until=LATER, nodes=("c1/b",))  # answered from flows, by the same rule
        assert door(lake).answer(OPERATOR, count_questions.drop_reasons(by_port)).rows["drops"].to_pylist() == [3, 1]
        roll_up_closed_hours(lake, SETTINGS, now=LATER)


def test_real_flows_become_edges_from_client_to_server(lake: Lake) -> None:
    captured = Path(__file__).parents[1] / "data" / "hubble" / "real_2021_gke.jsonl"
    from google.protobuf import json_format

    some = [json_format.ParseDict(json.loads(line)["flow"], flow_pb2.Flow(), ignore_unknown_fields=True) for line in captured.open()]
    append(lake, some)
    begin = min(flow.time.ToDatetime(dt.UTC) for flow in some).replace(minute=0, second=0, microsecond=0)
    wanted = FlowFilter(since=begin, until=begin + 365 * 24 * HOUR)
    before = door(lake).answer(OPERATOR, edge_questions.edges(wanted)).rows
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    answer = door(lake).answer(OPERATOR, edge_questions.edges(wanted))
    assert answer.source == "edges_1h"
    assert sorted(map(str, answer.rows.to_pylist())) == sorted(map(str, before.to_pylist()))
    assert sum(answer.rows["flows"].to_pylist()) == len(some)
    dns = [edge for edge in answer.rows.to_pylist() if edge["ports"] == ["53/UDP"]]
    assert dns
    assert {edge["destination_workload_name"] for edge in dns} == {
        "coredns"
    }  # told by newer agents, inferred from pods like coredns-66bff467f8-l9g4x of older
    assert not [edge for edge in answer.rows.to_pylist() if edge["destination_workload_name"] and edge["destination_cidr"]]
    assert door(lake).answer(OPERATOR, edge_questions.names(wanted)).rows.num_rows > 0


# What is remembered -------------------------------------------------------------------------------------------


def outside(at: dt.datetime, address: str, *names: str, namespace: str = "shop") -> flow_pb2.Flow:
    flow = flow_pb2.Flow(node_name="c1/a", verdict=flow_pb2.FORWARDED, uuid=f"{at}{address}{names}{namespace}", destination_names=names)
    flow.time.FromDatetime(at)
    flow.source.namespace, flow.source.pod_name, flow.destination.identity = namespace, "web-0", 2
    flow.IP.source, flow.IP.destination = "10.0.0.1", address
    flow.l4.TCP.source_port, flow.l4.TCP.destination_port = 41_000, 443
    flow.is_reply.value = False
    return flow


def test_a_name_that_was_seen_names_an_outside_peer_later_and_is_marked_inferred(lake: Lake) -> None:
    append(lake, [outside(NOON, "198.51.100.7", "api.example."), outside(NOON + 5 * HOUR, "198.51.100.7")])
    later = FlowFilter(since=NOON + 5 * HOUR, until=LATER)
    assert door(lake).answer(OPERATOR, edge_questions.edges(later)).rows["destination_names_inferred"].to_pylist() == [
        None
    ]  # what is remembered is rolled up
    before = door(lake).answer(OPERATOR, edge_questions.names(DAY)).rows
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    (edge,) = door(lake).answer(OPERATOR, edge_questions.edges(later)).rows.to_pylist()
    assert (edge["destination_dns_name"], edge["destination_cidr"]) == (None, "198.51.100.0/24")
    assert edge["destination_names_inferred"] == ["api.example"]
    (name,) = door(lake).answer(OPERATOR, edge_questions.names(DAY)).rows.to_pylist()
    assert (name["ip"], name["name"], name["inferred"], name["learned_from"]) == ("198.51.100.7", "api.example", True, ["names"])
    assert [name] == before.to_pylist()


def test_sightings_far_apart_are_intervals_of_their_own(lake: Lake) -> None:
    for day in (0, 0.5, 3):
        append(lake, [outside(NOON + day * 24 * HOUR, "198.51.100.7", "api.example")])
    wanted = FlowFilter(since=NOON, until=NOON + 96 * HOUR, ips=("198.51.100.7",))
    rows = door(lake).answer(OPERATOR, edge_questions.names(wanted)).rows.to_pylist()
    assert [(row["first_seen"], row["last_seen"]) for row in rows] == [(NOON, NOON + 12 * HOUR), (NOON + 72 * HOUR, NOON + 72 * HOUR)]


def test_new_edges_are_those_of_the_window_that_were_not_there_before(lake: Lake) -> None:
    append(lake, [outside(NOON, "198.51.100.7", "a.example"), outside(NOON + 2 * HOUR, "198.51.100.7", "a.example")])
    append(lake, [outside(NOON + 2 * HOUR, "203.0.113.9", "b.example")])
    for _ in range(2):
        now = FlowFilter(since=NOON + HOUR, until=LATER)
        new = door(lake).answer(OPERATOR, edge_questions.new_edges(now, Window(since=NOON, until=NOON + HOUR))).rows
        assert new["destination_dns_name"].to_pylist() == ["b.example"]
        roll_up_closed_hours(lake, SETTINGS, now=LATER)


# Who sees it --------------------------------------------------------------------------------------------------


def test_an_owner_sees_her_edges_and_names_and_no_one_elses(lake: Lake) -> None:
    append(lake, [outside(NOON, "198.51.100.7", "a.example"), outside(NOON, "203.0.113.9", "b.example", namespace="pay")])
    append(lake, [seen_by("a", NOON), seen_by("b", NOON)])
    grants = [{"subject": "ada", "role": "namespace-owner", "namespaces": ["shop"]}]
    ada, eve = Principal(user="ada"), Principal(user="eve")
    for _ in range(2):
        some = door(lake, grants=grants, peer_detail="namespace")
        edges = some.answer(ada, edge_questions.edges(DAY)).rows.to_pylist()
        assert {(edge["destination_namespace"], edge["destination_workload_name"], edge["destination_dns_name"]) for edge in edges} == {
            ("data", None, None),
            (None, None, "a.example"),
        }
        assert some.answer(ada, edge_questions.names(DAY)).rows["name"].to_pylist() == ["a.example"]
        assert some.answer(ada, edge_questions.talkers(DAY)).rows["namespace"].to_pylist() == ["shop", "data", None]
        with pytest.raises(AccessDeniedError):
            some.answer(eve, edge_questions.edges(DAY))
        roll_up_closed_hours(lake, SETTINGS, now=LATER)
    window = Window(since=NOON, until=LATER)
    assert some.answer(ada, OwnSql(text="SELECT sum(flows)::INT AS flows FROM edges_1h", window=window)).rows.to_pylist() == [{"flows": 3}]
    assert some.answer(ada, OwnSql(text="SELECT DISTINCT namespace FROM label_sets", window=window)).rows["namespace"].to_pylist() in (
        [],
        ["shop"],
    )


def test_label_sets_name_the_labels_of_edges(lake: Lake) -> None:
    append(lake, flows(NOON, 300))
    roll_up_closed_hours(lake, SETTINGS, now=LATER)
    text = """SELECT count(*) AS edges, count(labels) AS labelled, count(DISTINCT id) AS sets FROM edges_1h
        LEFT JOIN label_sets ON edges_1h.cluster = label_sets.cluster AND edges_1h.hour = label_sets.hour AND id = source_labels_id"""
    (found,) = door(lake).answer(OPERATOR, OwnSql(text=text)).rows.to_pylist()
    assert found["edges"] == lake.read(EDGES_1H).num_rows == found["labelled"]
    assert found["sets"] > 5
    sets = lake.read(LABEL_SETS)
    assert all(labels == sorted(labels) for labels in sets["labels"].to_pylist())
    assert lake.read(DNS_NAMES).num_rows > 0


@pytest.mark.parametrize("place", ["folder"], indirect=True)  # the programs are given a folder
def test_the_commands_roll_up_and_print_edges(lake: Lake, place: Any) -> None:
    append(lake, flows(NOON, 300))

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "hindcast", *arguments, "--lake", str(place.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert run("maintain", "rollup", "--hour", "noon").returncode == 2
    assert "c1 2026-03-02: hours 12" in run("maintain", "rollup", "--dry-run").stdout
    assert "1 hours rolled up: 300 flows became" in run("maintain", "rollup").stdout
    assert "0 hours rolled up" in run("maintain", "rollup").stdout
    window = ("--since", "2026-03-02T12:00Z", "--until", "2026-03-02T13:00Z")
    printed = run("edges", *window, "--output", "json", "--limit", "1000")
    assert "source: edges_1h" in printed.stderr
    assert sum(json.loads(line)["flows"] for line in printed.stdout.splitlines()) == 300
    assert "storefront/web" in run("edges", *window).stdout
    assert run("edges", *window, "--new-since", "2026-03-02T14:00Z").returncode == 2
