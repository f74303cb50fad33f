"""What rollups hold: how drops and observers are counted, which names are remembered, who sees what, and the commands."""

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from collectors.hubble_api.flow import flow_pb2
from pipelines.maintenance.rollup import roll_up_closed_hours
from tests.modules import load
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, edge_questions
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import DNS_NAMES, EDGES_1H, LABEL_SETS

rolling: Any = load(Path(__file__).with_name("test_rollup.py"))
HOUR, MINUTE, NOON, LATER, SETTINGS, DAY = rolling.HOUR, rolling.MINUTE, rolling.NOON, rolling.LATER, rolling.SETTINGS, rolling.DAY
lake, flows, append, total, door = rolling.lake, rolling.flows, rolling.append, rolling.total, rolling.door


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
    assert "1 hour rolled up: 300 flows became" in run("maintain", "rollup").stdout
    assert "0 hours rolled up" in run("maintain", "rollup").stdout
    window = ("--since", "2026-03-02T12:00Z", "--until", "2026-03-02T13:00Z")
    printed = run("edges", *window, "--output", "json", "--limit", "1000")
    assert "source: edges_1h" in printed.stderr
    assert sum(json.loads(line)["flows"] for line in printed.stdout.splitlines()) == 300
    assert "storefront/web" in run("edges", *window).stdout
    assert run("edges", *window, "--new-since", "2026-03-02T14:00Z").returncode == 2
