"""How each question about flows is asked, and what its answer has to be by what a person may see."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from seen_by_people import ALL, DAY, FIRST, REST, START, WHOLE, Seen, keyed, tokens

from pipelines.evidence.reports.parts import Parts
from warehouse.access.principals import Principal
from warehouse.questions import conditions, count_questions, edge_questions, flow_questions, flow_spans, replay_questions
from warehouse.questions.answers import Answer
from warehouse.questions.door import Door
from warehouse.questions.edge_questions import EdgeScope
from warehouse.questions.edges_in_time import denials, edges_in_time, first_and_last_seen
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.sql_question import OwnSql, SqlStream
from warehouse.questions.two_windows import two_windows
from warehouse.schema import FLOWS


def flows(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, flow_questions.newest(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    assert keyed(answer.rows.to_pylist()) == keyed(seen.flows)
    assert answer.rows.num_rows == len(seen.flows)
    return answer


def flows_in_order(door: Door, who: Principal, seen: Seen) -> Answer:
    window = FlowFilter(since=START, until=START + 6 * DAY)
    for by in ("source", "port"):
        answer = door.answer(who, flow_questions.ordered(window, flow_questions.Order(by, descending=False), limits=ALL))
        assert keyed(answer.rows.to_pylist()) == keyed(seen.flows)
        assert answer.rows.num_rows == len(seen.flows)
    return answer


def flows_oldest_first(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, flow_questions.oldest_first(FlowFilter(since=START, until=START + 6 * DAY)))
    assert keyed(answer.rows.to_pylist()) == keyed(seen.flows)
    times = answer.rows["time"].to_pylist()
    assert times == sorted(row["time"] for row in seen.flows)
    return answer


def flows_a_second(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, flow_questions.a_second(FlowFilter(since=START, until=START + 6 * DAY)))
    assert sum(answer.rows["flows"].to_pylist()) == len(seen.flows)
    return answer


def last_of_nodes(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, flow_questions.last_of_nodes(FlowFilter(since=START, until=START + 6 * DAY)))
    last: dict[tuple[str, str], dt.datetime] = {}
    for row in seen.flows:
        key = row["cluster"], row["node_name"] or ""
        last[key] = max(row["time"], last.get(key, row["time"]))
    assert {(row["cluster"], row["node_name"]): row["last"] for row in answer.rows.to_pylist()} == last
    return answer


def span_of_flows(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.flows_of(WHOLE, FLOWS.schema.names)).to_pylist()
    assert keyed(rows) == keyed(seen.flows)
    assert len(rows) == len(seen.flows)
    pod = next((row["destination_pod_name"] for row in seen.everything if row["destination_pod_name"]), "none")
    chosen = flow_spans.Selection(
        scans=(flow_spans.Scan(where="destination_pod_name = ?", values=(pod,)),), columns=frozenset({"destination_pod_name"})
    )
    found = door.answer(who, flow_spans.flows_of(WHOLE, ("uuid",), chosen))["uuid"].to_pylist()
    assert sorted(found) == sorted(row["uuid"] for row in seen.flows if row["destination_pod_name"] == pod)


def stream_of_flows(door: Door, who: Principal, seen: Seen) -> None:
    rows = list[dict[str, Any]]()
    door.answer(who, flow_spans.stream_of(WHOLE, FLOWS.schema.names, flow_spans.EVERY, lambda batch: rows.extend(batch.to_pylist())))
    assert keyed(rows) == keyed(seen.flows)
    assert len(rows) == len(seen.flows)


def span_of_seconds(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.seconds_of(WHOLE)).to_pylist()
    assert sum(row["flows"] for row in rows) == len(seen.flows)


def span_of_times(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.newest_times(WHOLE, 100_000)).to_pylist()
    assert [row["at"] for row in rows] == sorted((round(row["time"].timestamp() * 1e6) for row in seen.flows), reverse=True)


def span_of_namespaces(door: Door, who: Principal, seen: Seen) -> None:
    rows = door.answer(who, flow_spans.namespaces_of(WHOLE)).to_pylist()
    ends = {(row["cluster"], row[f"{side}_namespace"]) for row in seen.flows for side in ("source", "destination")}
    assert {(row["cluster"], row["namespace"]) for row in rows} == {end for end in ends if end[1] is not None}


def timeline(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, count_questions.timeline(FlowFilter(since=START, until=START + 6 * DAY)))
    expected = Counter((row["time"].timestamp() // 10800 * 10800, row["verdict"]) for row in seen.flows)
    assert Counter({(row["start"].timestamp(), row["verdict"]): row["flows"] for row in answer.rows.to_pylist()}) == expected
    return answer


def values(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    for column in ("source_namespace", "destination_namespace", "destination_pod_name", "l7_http_url", "verdict", "source_ip"):
        answer = door.answer(who, count_questions.values(column, wanted, limits=ALL))
        expected = Counter(row[column] for row in seen.flows if row[column] is not None)
        assert Counter(dict(zip(answer.rows["value"].to_pylist(), answer.rows["flows"].to_pylist(), strict=True))) == expected
    return answer


def edges(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    by_name = door.answer(who, edge_questions.edges(wanted, scope=EdgeScope.NAMESPACE, limits=ALL))
    found: Counter[tuple[str, str | None, str | None]] = Counter()
    for row in by_name.rows.to_pylist():
        found[row["cluster"], row["source_namespace"], row["destination_namespace"]] += row["flows"]
    assert found == Counter((row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in seen.flows)
    answer = door.answer(who, edge_questions.edges(wanted, limits=ALL))
    assert sum(answer.rows["flows"].to_pylist()) == len(seen.flows)
    return answer


def two_windows_at_once(door: Door, who: Principal, seen: Seen) -> Answer:
    """The sums of rollups say what the questions over flows say that they replace."""
    now = door.as_of(dt.datetime.now(dt.UTC))
    wanted = FlowFilter(since=START + 3 * DAY, until=START + 6 * DAY, as_of=now)
    before = FlowFilter(since=START, until=START + 3 * DAY, as_of=now)
    answer = door.answer(who, two_windows(wanted))
    parts = Parts(answer.rows, door.answer(who, count_questions.timeline(wanted, of_moments=True)).rows)
    for count in (count_questions.namespaces, count_questions.drop_reasons):
        assert door.answer(who, count(wanted, of_moments=True)).rows == door.answer(who, count(wanted)).rows
    assert parts.timeline.to_pylist() == door.answer(who, count_questions.timeline(wanted)).rows.to_pylist()
    together = [(parts.edges(), edges_in_time(wanted, limits=ALL)), (parts.edges(before=True), edges_in_time(before, limits=ALL))]
    for found, question in (*together, (parts.denials(), denials(wanted, limits=ALL))):
        assert found.to_pylist() == door.answer(who, question).rows.select(found.column_names).to_pylist()
    assert sum(answer.rows["flows"].to_pylist()) == len(seen.flows)
    return answer


def distinct_edges(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    answer = door.answer(who, replay_questions.DistinctEdges(wanted=wanted))
    found: Counter[tuple[str, str | None, str | None]] = Counter()
    rows = answer.plain()
    for row in rows.to_pylist():
        found[row["cluster"], row["source_namespace"], row["destination_namespace"]] += row["flows"]
    assert found == Counter((row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in seen.flows)
    assert not tokens(answer.label_sets.to_pylist()) - seen.tokens
    begins = tuple((cluster, START + day * DAY) for cluster in ("c1", "c2") for day in (0, 3))
    in_spans = door.answer(who, replay_questions.DistinctEdges(wanted=wanted, begins=begins))
    assert {row["since"] for row in in_spans.rows.to_pylist()} <= {START, START + 3 * DAY}
    assert sum(in_spans.rows["flows"].to_pylist()) == len(seen.flows)
    return replace(answer, rows=rows)


def replayed_connections(door: Door, who: Principal, seen: Seen) -> Answer:
    wanted = FlowFilter(since=START, until=START + 6 * DAY)
    answer = door.answer(who, replay_questions.connections(wanted))
    assert sum(answer.rows["flows"].to_pylist()) == len(seen.flows)
    cut = START + 3 * DAY + dt.timedelta(minutes=20)
    cut_there = door.answer(who, replay_questions.connections(wanted, cuts=(("c1", cut), ("c2", cut)))).rows.to_pylist()
    assert sum(row["flows"] for row in cut_there) == len(seen.flows)
    assert all(row["since"] == cut or row["since"].minute == 0 for row in cut_there)
    assert all(row["last_seen"] < cut for row in cut_there if row["since"] < cut)
    return answer


def new_edges(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, edge_questions.new_edges(REST, FIRST, scope=EdgeScope.NAMESPACE, limits=ALL))
    pairs = {(row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in answer.rows.to_pylist()}
    now, before = (
        {(row["cluster"], row["source_namespace"], row["destination_namespace"]) for row in seen.within(window)} for window in (REST, FIRST)
    )
    assert pairs <= now
    assert {pair for pair in now - before if None not in pair} <= pairs
    return answer


def talkers(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, edge_questions.talkers(FlowFilter(since=START, until=START + 6 * DAY), scope=EdgeScope.NAMESPACE, limits=ALL))
    ends = {(row["cluster"], row[f"{side}_namespace"]) for row in seen.flows for side in ("source", "destination")}
    assert {(row["cluster"], row["namespace"]) for row in answer.rows.to_pylist()} == ends
    return answer


def drop_reasons(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, count_questions.drop_reasons(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    expected = Counter(row["cluster"] for row in seen.flows if row["verdict"] == "DROPPED")
    assert Counter({row["cluster"]: row["flows"] for row in answer.rows.to_pylist()}) == expected
    return answer


def names(door: Door, who: Principal, seen: Seen) -> Answer:
    return door.answer(who, edge_questions.names(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))


def sql(door: Door, who: Principal, seen: Seen) -> Answer:
    counted = door.answer(
        who, OwnSql(text="SELECT count(*) AS n, count(destination_pod_name) AS pods FROM flows", window=WHOLE)
    ).rows.to_pylist()
    assert counted == [{"n": len(seen.flows), "pods": sum(row["destination_pod_name"] is not None for row in seen.flows)}]
    found = door.answer(who, OwnSql(text="SELECT summary FROM findings", window=WHOLE, limits=ALL)).rows["summary"].to_pylist()
    assert sorted(found) == sorted(row["summary"] for row in seen.findings)
    clusters = door.answer(who, OwnSql(text="SELECT DISTINCT cluster FROM coverage", window=WHOLE)).rows["cluster"].to_pylist()
    assert set(clusters) == seen.clusters
    answer = door.answer(who, OwnSql(text="SELECT * FROM flows ORDER BY destination_pod_name, summary", window=WHOLE, limits=ALL))
    assert keyed(answer.rows.to_pylist()) == keyed(seen.flows)
    return answer


def streamed_sql(door: Door, who: Principal, seen: Seen) -> None:
    question = SqlStream(text="SELECT * FROM flows ORDER BY destination_pod_name, summary", window=WHOLE, limits=ALL)
    with door.reading(who, question.name, question.subject) as reading, reading.answer(question) as streamed:
        rows = streamed.rows.read_all().to_pylist()
    assert keyed(rows) == keyed(seen.flows)
    assert not tokens([rows, streamed.about.coverage]) - seen.tokens


ALL_CLUSTERS = (conditions.parse("cluster~."),)
"""A condition that every flow meets, and that only the flows themselves can answer."""


def pulse(door: Door, who: Principal, seen: Seen, met: tuple[conditions.Condition, ...] = ()) -> Answer:
    answer = door.answer(who, count_questions.pulse(FlowFilter(since=START, until=START + 6 * DAY, conditions=met)))
    found: Counter[str] = Counter()
    for row in answer.rows.to_pylist():
        found[row["verdict"]] += row["flows"]
    assert found == Counter(row["verdict"] for row in seen.flows)
    return answer


def pulse_of_flows(door: Door, who: Principal, seen: Seen) -> Answer:
    return pulse(door, who, seen, ALL_CLUSTERS)


def namespaces_of_flows(door: Door, who: Principal, seen: Seen) -> Answer:
    return namespaces(door, who, seen, ALL_CLUSTERS)


def namespaces(door: Door, who: Principal, seen: Seen, met: tuple[conditions.Condition, ...] = ()) -> Answer:
    answer = door.answer(who, count_questions.namespaces(FlowFilter(since=START, until=START + 6 * DAY, conditions=met)))
    found: Counter[tuple[str, str]] = Counter()
    for row in answer.rows.to_pylist():
        found[row["cluster"], row["namespace"]] += row["flows"]
    ends = ({(row["cluster"], row[f"{side}_namespace"]) for side in ("source", "destination")} for row in seen.flows)
    expected = Counter(end for pair in ends for end in pair if end[1] is not None)
    assert {key for key in found if key[1] is not None} == set(expected)
    return answer


def edges_over_time(door: Door, who: Principal, seen: Seen) -> Answer:
    return door.answer(who, edges_in_time(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))


def denied_edges(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, denials(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    assert sum(answer.rows["flows"].to_pylist()) == sum(row["verdict"] in ("DROPPED", "ERROR") for row in seen.flows)
    return answer


def first_and_last(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, first_and_last_seen(FlowFilter(since=START, until=START + 6 * DAY), limits=ALL))
    assert answer.rows.num_rows == 0  # nothing is rolled up in this world
    return answer


def completions(door: Door, who: Principal, seen: Seen) -> Answer:
    answer = door.answer(who, flow_questions.completions(FlowFilter(since=START, until=START + 6 * DAY), each=100_000, limits=ALL))
    pods = {row["value"] for row in answer.rows.to_pylist() if "pod" in row["field"]}
    own = {row[f"{side}_pod_name"] for row in seen.flows for side in ("source", "destination")}
    assert {pod.rpartition("/")[2] for pod in pods} <= own
    return answer


def edges_of_pods(door: Door, who: Principal, seen: Seen) -> Answer:
    return door.answer(who, edges_in_time(FlowFilter(since=START, until=START + 6 * DAY), level="pod", limits=ALL))


def one_flow(door: Door, who: Principal, seen: Seen) -> Answer:
    whole = {"at": START, "until": START + 6 * DAY}
    absent = next((row for row in seen.everything if row["uuid"] not in keyed(seen.flows)), None)
    if absent is not None:
        assert not door.answer(who, flow_questions.one_flow(cluster=absent["cluster"], uuid=absent["uuid"], **whole)).rows.num_rows
    asked = seen.flows[0] if seen.flows else seen.everything[0]
    answer = door.answer(who, flow_questions.one_flow(cluster=asked["cluster"], uuid=asked["uuid"], **whole))
    assert answer.rows.to_pylist() == seen.flows[:1]
    return answer


DOORS_ABOUT_FLOWS: dict[str, Callable[[Door, Principal, Seen], Answer | None]] = {
    "flow_questions.newest": flows,
    "flow_questions.ordered": flows_in_order,
    "flow_questions.oldest_first": flows_oldest_first,
    "flow_questions.a_second": flows_a_second,
    "flow_questions.last_of_nodes": last_of_nodes,
    "flow_questions.one_flow": one_flow,
    "flow_spans.SpanQuestion": span_of_flows,
    "flow_spans.flows_of": span_of_flows,
    "flow_spans.SpanStream": stream_of_flows,
    "flow_spans.stream_of": stream_of_flows,
    "flow_spans.seconds_of": span_of_seconds,
    "flow_spans.newest_times": span_of_times,
    "flow_spans.namespaces_of": span_of_namespaces,
    "flow_questions.completions": completions,
    "count_questions.timeline": timeline,
    "count_questions.pulse": pulse,
    "count_questions.namespaces": namespaces,
    "count_questions.drop_reasons": drop_reasons,
    "count_questions.values": values,
    "edge_questions.edges": edges,
    "edge_questions.new_edges": new_edges,
    "edge_questions.talkers": talkers,
    "edge_questions.names": names,
    "edges_in_time.edges_in_time": edges_over_time,
    "edges_in_time.first_and_last_seen": first_and_last,
    "edges_in_time.denials": denied_edges,
    "two_windows.two_windows": two_windows_at_once,
    "replay_questions.DistinctEdges": distinct_edges,
    "replay_questions.connections": replayed_connections,
    "sql_question.OwnSql": sql,
    "sql_question.SqlStream": streamed_sql,
}
