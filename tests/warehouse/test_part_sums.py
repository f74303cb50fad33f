"""What is remembered of the open hour: it is used while no row of its part has changed, by everybody, and for nobody beyond their scope."""

import datetime as dt
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.maintenance import compaction, erasure, merging
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Limits
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions, part_sums
from warehouse.questions.door import Door
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
MINUTE, PART, HOUR = dt.timedelta(minutes=1), dt.timedelta(minutes=10), dt.timedelta(hours=1)
HALF_PAST = NOON + 30 * MINUTE
WINDOW = FlowFilter(since=NOON, until=HALF_PAST)
OWNERSHIP = config.Ownership.model_validate(
    {"grants": [{"subject": "ada", "role": "namespace-owner", "namespaces": ["shop"]}], "peer_detail": "hidden"}
)
ADA = Principal(user="ada")


def flow(minute: float, *, namespace: str = "shop", cluster: str = "c1", **more: Any) -> dict[str, Any]:
    time = NOON + minute * MINUTE
    ends = {"source_namespace": namespace, "source_pod_name": "web-0", "destination_namespace": "pay", "destination_pod_name": "db-0"}
    return {
        "cluster": cluster,
        "date": time.date(),
        "time": time,
        "uuid": f"{cluster} {namespace} {minute}",
        "flow_count": 1,
        "verdict": "FORWARDED",
        "source_port": 40_000,
        "destination_port": 5432,
        "l4_protocol": "TCP",
        **ends,
        **more,
    }


def append(lake: Lake, rows: Sequence[dict[str, Any]]) -> None:
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist(list(rows), schema=FLOWS.schema)), transactions={}, metadata={})


@pytest.fixture
def lake(tmp_path: Path) -> Iterator[Lake]:
    part_sums.forget()
    yield Lake.open(config.Lake(url=str(tmp_path)))
    part_sums.forget()


@pytest.fixture
def summed_up(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The kinds that are summed up, each with the number of its parts, in order."""
    done: list[tuple[str, int]] = []
    real = part_sums._summed_up

    def noted(connection: Any, flows: part_sums.Flows, kind: part_sums.Kind, name: str) -> dict[part_sums.Part, pa.Table]:
        found = real(connection, flows, kind, name)
        done.append((kind.name, len(found)))
        return found

    monkeypatch.setattr(part_sums, "_summed_up", noted)
    return done


def flows_of(lake: Lake, who: Principal = OPERATOR, wanted: FlowFilter = WINDOW) -> int:
    """The flows of a window, which minutes and edges have to agree on."""
    door = Door(lake, OWNERSHIP)
    minutes, edges = (door.answer(who, question(wanted)).rows["flows"] for question in (count_questions.pulse, edges_in_time))
    assert pc.sum(minutes) == pc.sum(edges)
    return int(pc.sum(minutes).as_py() or 0)


def test_an_owner_sees_nothing_of_what_is_remembered_of_others(lake: Lake) -> None:
    append(lake, [flow(1, namespace="secret"), flow(2)])
    assert flows_of(lake) == 2
    assert flows_of(lake, ADA) == 1
    shown = Door(lake, OWNERSHIP).answer(ADA, edges_in_time(WINDOW)).rows.to_pylist()
    assert "secret" not in str(shown)
    assert "pay" not in str(shown)


def test_an_owner_of_few_namespaces_does_not_sum_up_everybody_elses_flows(
    lake: Lake, summed_up: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_sums, "FEW_FLOWS", 1)
    append(lake, [flow(1, namespace="secret"), flow(2)])
    assert flows_of(lake, ADA) == 1
    assert "timeline" not in dict(summed_up)
    assert flows_of(lake) == 2
    assert flows_of(lake, ADA) == 1
    assert summed_up.count(("timeline", 3)) == 1


def test_a_late_flow_is_counted_and_only_its_part_is_summed_up_again(lake: Lake, summed_up: list[tuple[str, int]]) -> None:
    append(lake, [flow(1), flow(12), flow(25)])
    assert flows_of(lake) == 3
    append(lake, [flow(13)])
    append(lake, [flow(33)])
    summed_up.clear()
    assert flows_of(lake) == 4
    assert summed_up == [("timeline", 1), ("pods", 2), ("edge_parts", 1)]  # pods: of the whole hour


def test_erased_flows_are_gone_at_once(lake: Lake) -> None:
    append(lake, [flow(1), flow(2, namespace="gone"), flow(12)])
    assert flows_of(lake) == 3
    request = erasure.Request(cluster="c1", namespace="gone", reason="asked for")
    erasure.erase(lake, request, (), now=HALF_PAST)
    assert flows_of(lake) == 2


def test_merging_and_compaction_leave_what_is_remembered(lake: Lake, summed_up: list[tuple[str, int]]) -> None:
    for minute in range(30):
        append(lake, [flow(minute)])
    assert flows_of(lake) == 30
    summed_up.clear()
    assert merging.merge(lake, now=HALF_PAST)
    assert flows_of(lake) == 30
    assert compaction.compact_closed_hours(lake, now=NOON + 2 * HOUR)
    assert flows_of(lake) == 30
    assert summed_up == []


def test_flows_that_compaction_drops_as_duplicates_are_not_counted_any_more(lake: Lake) -> None:
    append(lake, [flow(1)])
    append(lake, [flow(1), flow(12)])
    assert flows_of(lake) == 3
    compaction.compact_closed_hours(lake, now=NOON + 2 * HOUR)
    assert flows_of(lake) == 2


def test_a_window_that_cuts_a_part_counts_only_the_flows_in_it(lake: Lake) -> None:
    append(lake, [flow(minute + 0.5) for minute in range(30)])
    assert flows_of(lake) == 30
    assert flows_of(lake, wanted=FlowFilter(since=NOON + 5 * MINUTE, until=NOON + 23 * MINUTE)) == 18
    assert flows_of(lake, wanted=FlowFilter(since=NOON + 11 * MINUTE, until=NOON + 13 * MINUTE)) == 2


def test_a_pod_is_named_by_the_whole_hour_also_in_parts_before_its_workload_was_reported(lake: Lake) -> None:
    append(lake, [flow(1)])
    door = Door(lake, OWNERSHIP)
    assert door.answer(OPERATOR, edges_in_time(WINDOW)).rows["source_name"].to_pylist() == ["web"]
    append(lake, [flow(45, source_workload_name="web-of-shop", source_workload_kind="StatefulSet")])
    assert door.answer(OPERATOR, edges_in_time(WINDOW)).rows["source_name"].to_pylist() == ["web-of-shop"]


def test_what_is_remembered_is_bounded(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(part_sums, "MOST_BYTES", 1)
    append(lake, [flow(1), flow(12)])
    assert flows_of(lake) == 2
    assert not part_sums._MEMORY._kept


def test_a_long_time_that_is_not_rolled_up_is_read_from_flows(
    lake: Lake, summed_up: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(part_sums, "MOST_PARTS", 2)
    append(lake, [flow(1), flow(12)])
    assert flows_of(lake) == 2
    assert summed_up == []


_EDGES = st.integers(0, 60).map(lambda minute: NOON + minute * MINUTE)


@given(spans=st.lists(_EDGES, min_size=2, max_size=6, unique=True).map(sorted), taken=st.sets(st.integers(0, 5)))
def test_whole_parts_and_the_rest_make_up_the_spans(spans: list[dt.datetime], taken: set[int]) -> None:
    given_spans = {"c1": list(zip(spans[::2], spans[1::2], strict=False))}
    whole = set(part_sums._whole_parts(given_spans))
    known = {("c1", NOON + number * PART) for number in taken} & whole
    rest = part_sums._without(given_spans, known)

    def minutes(listed: part_sums.Spans) -> list[dt.datetime]:
        return [begin + number * MINUTE for begin, end in listed.get("c1", []) for number in range((end - begin) // MINUTE)]

    assert sorted([*minutes(rest), *minutes(part_sums._spans_of(sorted(known)))]) == minutes(given_spans)


def test_limits_hold_also_while_parts_are_summed_up(lake: Lake) -> None:
    append(lake, [flow(1)])
    answer = Door(lake, OWNERSHIP).answer(OPERATOR, count_questions.pulse(WINDOW, limits=Limits(seconds=30, rows=1)))
    assert answer.rows.num_rows == 1
