"""What SQL decides of a filter is what the flow itself decides, and what SQL leaves out never matches."""

from pathlib import Path
from typing import Any

import pytest

from api import pushdown
from collectors.filtering.filters import compile_filters
from collectors.hubble_api.flow import flow_pb2
from tests.modules import load
from tests.peers import filter_generator

FILTERS = 40


@pytest.fixture(scope="module")
def made(stored: Any) -> list[tuple[list[flow_pb2.FlowFilter], list[flow_pb2.FlowFilter]]]:
    """Filters of requests, none of which is refused."""
    make = filter_generator.filters(stored.flows, seed=5)
    found: list[tuple[list[flow_pb2.FlowFilter], list[flow_pb2.FlowFilter]]] = []
    while len(found) < FILTERS:
        white, black = [make() for _ in range(len(found) % 3)], [make() for _ in range(len(found) % 2)]
        try:
            compile_filters(white, black)
        except ValueError:
            continue
        found.append((white, black))
    return found


def test_requests_get_the_flows_that_match(stored: Any, client: Any, made: Any) -> None:
    some = 0
    for white, black in made:
        matches = compile_filters(white, black)
        wanted = [flow.uuid for flow in stored.flows if matches(flow)][-1_000:]
        found = [flow.uuid for flow in client.flows(number=1_000, whitelist=white, blacklist=black)]
        assert found == wanted, (white, black)
        some += bool(0 < len(wanted) < 1_000)
    assert some > FILTERS // 8


def test_a_flow_with_more_than_its_columns_hold_is_found_by_it(stored: Any, tmp_path: Any) -> None:
    world = load(Path(__file__).with_name("conftest.py"))
    flow = world.simulated(1)[0]
    flow.source.workloads.add(name="second", kind="StatefulSet")
    lake = world.Lake.open(world.config.Lake(url=str(tmp_path / "lake")))
    world.store(lake, [flow])
    with world.serving(world.Door(lake, world.config.Ownership())) as client:
        second = flow_pb2.FlowFilter(source_workload=[flow_pb2.Workload(name="second")])
        assert len(client.flows(number=5, whitelist=[second])) == 1
        assert client.flows(number=5, blacklist=[second]) == []
        assert client.flows(number=5, whitelist=[flow_pb2.FlowFilter(source_workload=[flow_pb2.Workload(name="third")])]) == []


def test_a_namespace_limits_a_scan_only_if_every_filter_of_the_scan_fixes_it() -> None:
    shop, bare = flow_pb2.FlowFilter(source_pod=["shop/", "shop/web"]), flow_pb2.FlowFilter(source_ip=["10.0.0.1"])
    other = flow_pb2.FlowFilter(source_pod=["ops/"])

    def first(*filters: flow_pb2.FlowFilter) -> str:
        return pushdown.scans([pushdown.of_filter(one) for one in filters], [])[0].where

    assert first(shop).startswith("source_namespace = ? AND")
    assert not first(shop, bare).startswith("source_namespace")
    assert not first(shop, other).startswith("source_namespace")
