"""Rollups say what the flows say: sums of generated flows, with the rules of docs/counting.md written plainly beside."""

import datetime as dt
import itertools
import tempfile
from collections import Counter
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.maintenance import compaction, merging, rollup
from warehouse import config, engine
from warehouse.access import access_log, redaction
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits, Window
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, edge_questions, edge_rule, flow_questions, part_sums, rollup_sql
from warehouse.questions.door import Door
from warehouse.questions.edge_questions import EdgeScope
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import DNS_NAMES, EDGES_1H, FLOWS, LABEL_SETS, TIMELINE_1M

START = dt.datetime(2026, 3, 2, 22, tzinfo=dt.UTC)  # so that hours lie on both sides of midnight
HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
HOURS = 4
HARD = int(config.environment().get("HINDCAST_EXAMPLES", 0))
LATER = START + 2 * dt.timedelta(days=1)
EVERYONE = Limits(rows=1_000_000)
GRANTS = {
    "grants": [
        {"subject": "ada", "role": "namespace-owner", "namespaces": ["shop"]},
        {"subject": "carl", "role": "cluster-admin", "clusters": ["c2"]},
        {
            "subject": "tom",
            "role": "namespace-owner",
            "namespaces": ["p*"],
            "since": "2026-03-02T22:30:10Z",
            "until": "2026-03-03T00:00:30Z",
        },
        {"subject": "tom", "role": "cluster-admin", "clusters": ["c1"], "since": "2026-03-03T01:00:00Z"},
        {"subject": "tom", "deny": True, "namespaces": ["shop"], "since": "2026-03-03T01:10:00Z"},
    ]
}
Row = dict[str, Any]

# Flows that collide in everything: few values each, times near the bounds of minutes, hours and days.
_ENDS = st.sampled_from(
    [
        {"namespace": "shop", "pod_name": "web-6d4cf56db6-x7k2p", "workload_name": "web", "workload_kind": "Deployment", "ip": "10.0.0.1"},
        {"namespace": "shop", "pod_name": "web-6d4cf56db6-x7k2p", "ip": "10.0.0.1", "labels": ["k8s:app=web"]},
        {"namespace": "shop", "pod_name": "job-28500000-bcdfg", "ip": "10.0.0.2"},
        {"namespace": "pay", "pod_name": "db-0", "ip": "10.0.0.3", "labels": ["k8s:app=db", "k8s:a=b"], "identity": 4711},
        {"namespace": "pay", "pod_name": "db-0", "workload_name": "ledger", "workload_kind": "StatefulSet", "ip": "10.0.0.3"},
        {"namespace": "pay"},
        {"namespace": "shop", "pod_name": "web-6d4cf56db6-x7k2p", "ip": "10.0.0.1", "cluster_name": "c9"},
        {"namespace": "shop", "ip": "10.0.0.1", "cluster_name": "default"},
        {"ip": "192.0.2.7", "identity": 2, "labels": ["reserved:world"]},
        {"ip": "192.0.2.99", "identity": 16_777_217, "labels": ["cidr:192.0.2.99/32", "reserved:world"]},
        {"ip": "198.51.100.9", "identity": 16_777_300, "names": ["b.example.", "a.example"]},
        {"ip": "10.0.0.254", "identity": 1},
        {"ip": "2001:db8::1"},
        {"ip": "not an address"},
        {},
    ]
)
_OFFSETS = st.one_of(
    st.integers(0, HOURS * 3_600_000_000 - 1),
    st.builds(lambda minute, near: max(0, minute * 60_000_000 + near), st.integers(0, HOURS * 60 - 1), st.integers(-2, 2)),
    st.sampled_from([0, 60_000_000, 61_000_000]),  # where drops meet their verdicts
)
_PORTS = st.sampled_from([None, 53, 443, 8080, 32_767, 32_768, 45_000, 50_000])


@st.composite
def flows(draw: st.DrawFn, *, most: int = 40) -> list[Row]:
    rows = []
    for number in range(draw(st.integers(0, most))):
        verdict, reason, event = draw(
            st.sampled_from(
                [("FORWARDED", None, 4), ("REDIRECTED", None, 5), ("AUDIT", None, 5), ("DROPPED", None, 129)]
                + [("DROPPED", "POLICY_DENIED", event) for event in (1, 1, 5, 5, None)]
                + [("DROPPED", "STALE_OR_UNROUTABLE_IP", 1)]
            )
        )
        row: Row = {
            "cluster": draw(st.sampled_from(["c1", "c1", "c2"])),
            "time": START + dt.timedelta(microseconds=draw(_OFFSETS)),
            "uuid": f"{number}-{draw(st.integers(0, 10**9))}",
            "node_name": draw(st.sampled_from(["n1", "n2"])),
            "verdict": verdict,
            "drop_reason_desc": reason,
            "event_type": event,
            "traffic_direction": draw(st.sampled_from(["INGRESS", "EGRESS", None])),
            "is_reply": None if verdict == "DROPPED" else draw(st.sampled_from([True, False, None])),
            "l4_protocol": draw(st.sampled_from(["TCP", "UDP", None])),
            "source_port": draw(_PORTS),
            "destination_port": draw(_PORTS),
            "flow_count": draw(st.sampled_from([1, 1, 1, 3])),
        }
        for side in ("source", "destination"):
            row |= {f"{side}_{name}": value for name, value in draw(_ENDS).items()}
        row["date"] = row["time"].date()
        rows.append(row)
    return rows


def table(rows: Sequence[Row]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=FLOWS.schema)


# The rules, written plainly ---------------------------------------------------------------------------------------


def repeats(rows: Sequence[Row]) -> Counter[tuple[Any, ...]]:
    """Of each minute, namespaces and reason: how many flows report a drop that a policy verdict reports too."""
    seen: dict[tuple[Any, ...], Counter[int]] = {}
    for row in rows:
        if row["verdict"] == "DROPPED" and row["event_type"] in (1, 5):
            ends = tuple(row.get(f"{side}_{part}") for side in ("source", "destination") for part in ("namespace", "ip", "port"))
            key = (
                row["cluster"],
                row["time"].replace(second=0, microsecond=0),
                row["drop_reason_desc"],
                row["node_name"],
                row["l4_protocol"],
            )
            seen.setdefault((*key, *ends), Counter())[row["event_type"]] += row["flow_count"]
    found: Counter[tuple[Any, ...]] = Counter()
    for key, counts in seen.items():
        found[key[0], key[1], key[5], key[8], key[2]] += min(counts[1], counts[5])
    return Counter({key: count for key, count in found.items() if count})


def elsewhere(row: Row, side: str) -> str | None:
    """The cluster of a side, if it is another one."""
    return row.get(f"{side}_cluster_name") if row.get(f"{side}_cluster_name") != "default" else None


def turned(row: Row) -> bool:
    """Whether the source is the server."""
    if row["is_reply"] is not None:
        return bool(row["is_reply"])
    return (row["source_port"] or 99_999) < 32_768 <= (row["destination_port"] or 0)


def server_port(row: Row) -> int | None:
    ports = [row["source_port"], row["destination_port"]]
    if row["is_reply"] is None and None not in ports and min(ports) >= 32_768:
        return None
    return ports[0] if turned(row) else ports[1]


def edge_key(row: Row) -> tuple[Any, ...]:
    client, server = ("destination", "source") if turned(row) else ("source", "destination")
    hour = row["time"].replace(minute=0, second=0, microsecond=0)
    rest = (row["l4_protocol"], row["verdict"], row["drop_reason_desc"], row["traffic_direction"])
    return (row["cluster"], hour, row.get(f"{client}_namespace"), row.get(f"{server}_namespace"), server_port(row), *rest)


# Sums ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=HARD or 30)
@given(rows=flows(), labels=st.booleans())
def test_edges_add_up_to_the_flows_by_every_column_they_keep(rows: list[Row], labels: bool) -> None:
    with engine.connect(Limits()) as connection:
        connection.from_arrow(table(rows)).create_view("flows")
        query = rollup_sql.edges(connection, rollup_sql.edge_parts("flows", labels=labels), edge_rule.pods_seen("flows"), config.Rollups())
        made = connection.sql(query).to_arrow_table().to_pylist()
    expected, replies, found, found_replies = Counter(), Counter(), Counter(), Counter()  # type: ignore[var-annotated]
    for row in rows:
        expected[edge_key(row)] += row["flow_count"]
        replies[edge_key(row)] += row["flow_count"] if row["is_reply"] else 0
    names = (
        "source_namespace",
        "destination_namespace",
        "destination_port",
        "l4_protocol",
        "verdict",
        "drop_reason_desc",
        "traffic_direction",
    )
    for edge in made:
        key = (edge["cluster"], edge["hour"], *(edge[name] for name in names))
        found[key] += edge["flows"]
        found_replies[key] += edge["replies"]
        assert 0 <= edge["repeats"] <= edge["flows"] or labels
        assert edge["hour"] <= edge["first_seen"] <= edge["last_seen"] < edge["hour"] + HOUR
        assert edge["source_cidr"] in (None, "192.0.2.0/24", "2001:db8::/48")
    assert (found, +found_replies) == (expected, +replies)
    assert sum(edge["repeats"] for edge in made) == repeats(rows).total()


@settings(max_examples=HARD or 30)
@given(rows=flows())
def test_the_timeline_is_the_flows_a_minute_and_counts_a_drop_once(rows: list[Row]) -> None:
    with engine.connect(Limits()) as connection:
        connection.from_arrow(table(rows)).create_view("flows")
        made = connection.sql(rollup_sql.timeline("flows")).to_arrow_table().to_pylist()
    expected: Counter[tuple[Any, ...]] = Counter()
    for row in rows:
        minute = row["time"].replace(second=0, microsecond=0)
        ends = [(elsewhere(row, side), row.get(f"{side}_namespace")) for side in ("source", "destination")]
        key = (row["cluster"], minute, *ends[0], *ends[1], row["verdict"], row["drop_reason_desc"])
        expected[key] += row["flow_count"]
    sides = ("source_cluster_name", "source_namespace", "destination_cluster_name", "destination_namespace")
    names = ("cluster", "minute", *sides, "verdict", "drop_reason_desc")
    assert {tuple(row[name] for name in names): row["flows"] for row in made} == expected
    assert len(made) == len(expected)
    found: Counter[tuple[Any, ...]] = Counter()
    for row in made:
        key = (row["cluster"], row["minute"], row["source_namespace"], row["destination_namespace"], row["drop_reason_desc"])
        found[key] += row["repeats"]
    assert +found == repeats(rows)


def test_a_scan_of_many_ports_becomes_few_rows_with_the_same_sum() -> None:
    one = {"cluster": "c1", "date": START.date(), "time": START, "verdict": "DROPPED", "flow_count": 1, "source_port": 40_000}
    rows = [one | {"destination_port": port, "uuid": str(port)} for port in range(1, 1001)] + [one | {"destination_port": 443}] * 5
    with engine.connect(Limits()) as connection:
        connection.from_arrow(table(rows)).create_view("flows")
        query = rollup_sql.edges(
            connection, rollup_sql.edge_parts("flows", labels=False), edge_rule.pods_seen("flows"), config.Rollups(ports_per_edge=10)
        )
        made = connection.sql(query).to_arrow_table().to_pylist()
    assert sum(edge["flows"] for edge in made) == 1005
    ports = {edge["destination_port"]: edge["flows"] for edge in made}
    assert (len(ports), ports[443], ports[None]) == (11, 6, 990)


# Seams --------------------------------------------------------------------------------------------------------------


def append(lake: Lake, rows: Sequence[Row]) -> None:
    if rows:
        lake.commit(FLOWS, lake.write_files(FLOWS, table(rows)), transactions={}, metadata={})


def answers(door: Door, who: Principal, wanted: FlowFilter, scope: EdgeScope) -> dict[str, list[Row]]:
    """What rollups answer, in an order of its own."""
    cut = wanted.since + (wanted.until - wanted.since) / 3
    asked = {
        "timeline": door.answer(who, count_questions.timeline(wanted, limits=EVERYONE)),
        "edges": door.answer(who, edge_questions.edges(wanted, scope=scope, limits=EVERYONE)),
        "talkers": door.answer(who, edge_questions.talkers(wanted, scope=scope, limits=EVERYONE)),
        "drops": door.answer(who, count_questions.drop_reasons(wanted, limits=EVERYONE)),
        "namespaces": door.answer(who, count_questions.values("destination_namespace", wanted, limits=EVERYONE)),
        "names": door.answer(who, edge_questions.names(wanted, limits=EVERYONE)),
        "new": door.answer(who, edge_questions.new_edges(wanted, Window(since=START, until=cut), scope=scope, limits=EVERYONE)),
    }
    hints = {"source_names_inferred", "destination_names_inferred"}  # these are remembered, not summed up
    rows = {name: answer.rows.drop_columns(list(hints & set(answer.rows.column_names))) for name, answer in asked.items()}
    return {name: sorted(listed.to_pylist(), key=repr) for name, listed in rows.items()}


_MOMENTS = st.one_of(
    st.integers(0, HOURS).map(lambda hour: START + hour * HOUR),
    st.integers(0, HOURS * 60).map(lambda minute: START + minute * MINUTE),
    _OFFSETS.map(lambda offset: START + dt.timedelta(microseconds=offset)),
)
_FILTERS = st.sampled_from(
    [{}, {}, {"namespaces": ("shop",)}, {"destination_namespaces": ("pay",)}, {"verdicts": ("DROPPED",)}, {"clusters": ("c2",)}]
)


@settings(max_examples=HARD or 10, suppress_health_check=[HealthCheck.too_slow])
@given(
    batches=st.lists(flows(most=25), min_size=1, max_size=3),
    steps=st.lists(st.sampled_from(["roll up early", "roll up", "compact", "merge"]), max_size=3),
    bounds=st.tuples(_MOMENTS, _MOMENTS).filter(lambda pair: pair[0] != pair[1]),
    conditions=_FILTERS,
    level=st.sampled_from(redaction.LEVELS),
    who=st.sampled_from([OPERATOR, Principal(user="ada"), Principal(user="carl"), Principal(user="tom")]),
)
def test_an_answer_is_the_same_whatever_is_rolled_up(
    batches: list[list[Row]],
    steps: list[str],
    bounds: tuple[dt.datetime, dt.datetime],
    conditions: Row,
    level: str,
    who: Principal,
) -> None:
    ownership = config.Ownership.model_validate({**GRANTS, "peer_detail": level})
    every = list(itertools.chain(*batches))
    for number, row in enumerate(every):
        row["uuid"] = str(number)
    wanted = FlowFilter(since=min(bounds), until=max(bounds), **conditions)
    scope = list(EdgeScope)[len(every) % 3]
    with tempfile.TemporaryDirectory() as folder:
        plain, rolled = (Lake.open(config.Lake(url=f"{folder}/{name}")) for name in ("plain", "rolled"))
        append(plain, every)
        for batch, step in itertools.zip_longest(batches, steps):
            append(rolled, batch or [])  # after a roll-up, or a question that remembers sums, these are late flows
            if step == "compact":
                compaction.compact_closed_hours(rolled, now=LATER)
            elif step == "merge":
                merging.merge(rolled, now=START + HOUR)
            elif step is not None:
                now = START + 2 * HOUR + compaction.GRACE if step == "roll up early" else LATER
                rollup.roll_up_closed_hours(rolled, config.Rollups(), now=now)
            if len(every) % 2:
                for question in (count_questions.pulse(wanted), edge_questions.edges(wanted)):  # their sums are then remembered
                    Door(rolled, ownership).answer(OPERATOR, question)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(part_sums, "MOST_PARTS", 0)
            expected = answers(Door(plain, ownership), who, wanted, scope)
        assert answers(Door(rolled, ownership), who, wanted, scope) == expected
        seen = sum(Door(plain, ownership).answer(who, flow_questions.newest(wanted, limits=EVERYONE)).rows["flow_count"].to_pylist())
        access_log.flush()  # while the folder is there
    assert sum(row["flows"] for row in expected["timeline"]) == seen
    if "destination_namespaces" not in conditions:  # which end is the destination, edges see otherwise
        assert sum(row["flows"] for row in expected["edges"]) == seen
    if who is OPERATOR and not conditions:
        inside = [row for row in every if wanted.since <= row["time"] < wanted.until]
        total = sum(row["flow_count"] for row in inside)
        assert [sum(row["flows"] for row in expected[name]) for name in ("timeline", "edges")] == [total, total]
        drops = sum(row["flow_count"] for row in inside if row["verdict"] == "DROPPED")
        assert sum(row["drops"] for row in expected["drops"]) == drops - repeats(inside).total()


@pytest.mark.parametrize("rolled_up", [EDGES_1H, TIMELINE_1M, LABEL_SETS, DNS_NAMES], ids=lambda table: table.name)
def test_a_rollup_of_no_flows_is_empty(rolled_up: Any, tmp_path: Any) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path)))
    assert rollup.roll_up_closed_hours(lake, config.Rollups(), now=LATER) == []
    assert lake.read(rolled_up).num_rows == 0
    wanted = FlowFilter(since=START, until=LATER)
    assert all(rows == [] for rows in answers(Door(lake, config.Ownership()), OPERATOR, wanted, EdgeScope.WORKLOAD).values())
