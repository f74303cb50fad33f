"""The traffic of the made-up company."""

from __future__ import annotations

import datetime as dt
import itertools
import statistics

import pytest

from collectors.hubble_api.flow import flow_pb2
from collectors.simulator.fleet import NAMESPACES, build_fleet
from collectors.simulator.traffic import Traffic, daily_factor

START = dt.datetime(2026, 11, 24, 14, tzinfo=dt.UTC)


def some(seed: int = 7, count: int = 6_000, start: dt.datetime = START) -> list[flow_pb2.Flow]:
    """The first flows of a fleet."""
    return list(itertools.islice(Traffic(build_fleet(seed), seed, start, flows_per_second=100).flows(), count))


@pytest.fixture(scope="module")
def flows() -> list[flow_pb2.Flow]:
    """One minute's worth at the busiest hour."""
    return some()


def test_a_start_without_a_time_zone_or_no_rate_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        Traffic(build_fleet(1), 1, START.replace(tzinfo=None), 1)
    with pytest.raises(ValueError, match="rate"):
        Traffic(build_fleet(1), 1, START, 0)


def test_a_fleet_without_clusters_or_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="clusters"):
        build_fleet(1, ())
    with pytest.raises(ValueError, match="node"):
        build_fleet(1, ("a",), 0)


def test_nodes_of_the_default_cluster_have_no_prefix() -> None:
    assert build_fleet(1, ("default", "eu"), 1).nodes == ("worker-001", "eu/worker-001")


def test_the_same_seed_gives_the_same_flows_and_another_seed_others() -> None:
    assert some(count=300) == some(count=300)
    assert some(count=300) != some(seed=8, count=300)


def test_flows_are_in_order_with_unique_ids_and_known_nodes(flows: list[flow_pb2.Flow]) -> None:
    times = [flow.time.ToNanoseconds() for flow in flows]
    assert times == sorted(times)
    assert len({flow.uuid for flow in flows}) == len(flows)
    assert {flow.node_name for flow in flows} == set(build_fleet(7).nodes)


def test_flows_are_as_large_as_real_ones(flows: list[flow_pb2.Flow]) -> None:
    assert 1_000 < statistics.mean(flow.ByteSize() for flow in flows) < 1_600


def test_the_rate_follows_the_day(flows: list[flow_pb2.Flow]) -> None:
    assert 50 < flows[-1].time.seconds - START.timestamp() < 70
    assert daily_factor(START) == pytest.approx(1)
    assert daily_factor(START.replace(hour=2)) == pytest.approx(0.3)
    assert daily_factor(START + dt.timedelta(days=4)) == pytest.approx(0.6)


def test_a_policy_drop_is_a_verdict_then_a_drop_and_not_known_to_be_a_reply(flows: list[flow_pb2.Flow]) -> None:
    dropped = [flow for flow in flows if flow.verdict == flow_pb2.DROPPED]
    assert [flow.event_type.type for flow in dropped[:4]] == [5, 1, 5, 1]
    assert {flow.drop_reason_desc for flow in dropped} == {flow_pb2.POLICY_DENIED, flow_pb2.POLICY_DENY}
    assert not any(flow.HasField("is_reply") for flow in dropped)


def test_every_kind_of_traffic_occurs(flows: list[flow_pb2.Flow]) -> None:
    ports = {flow.l4.TCP.destination_port for flow in flows if flow.l4.HasField("TCP")}
    assert {443, 5432, 9092} <= ports
    assert {flow.l7.WhichOneof("record") for flow in flows} >= {"dns", "http"}
    assert {flow.source.identity for flow in flows} >= {1, 2}
    assert {flow.verdict for flow in flows} == {flow_pb2.FORWARDED, flow_pb2.REDIRECTED, flow_pb2.DROPPED, flow_pb2.AUDIT}
    assert {flow.destination.namespace for flow in flows if flow.destination.namespace} <= set(NAMESPACES)


def test_only_the_local_end_has_an_id_and_workloads(flows: list[flow_pb2.Flow]) -> None:
    for flow in flows:
        assert bool(flow.source.ID) == bool(flow.source.workloads)
        assert flow.source.ID or flow.destination.ID
