"""The collector behind a real hubble-relay and Cilium's own nodes: nothing twice, and every missing flow declared."""

import contextlib
import datetime as dt
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.peers import certificates

pytestmark = pytest.mark.peers

SLACK = dt.timedelta(milliseconds=1)


@contextlib.contextmanager
def fleet(running: ModuleType, folder: Path, *, rate: int, ring: int = 32767, tls: Any = None) -> Iterator[tuple[Any, Any, Any]]:
    """Two nodes and a relay; the relay hands on each flow as it comes. By default, rings hold what comes in minutes, however busy the
    machine is on which somebody is away."""
    addresses = {name: running.free_address() for name in ("test/node-1", "test/node-2")}

    def node(name: str) -> Any:
        return running.hubble_node(folder, name=name, address=addresses[name], peers=addresses, rate=rate, ring=ring, tls=tls)

    with node("test/node-1") as first, node("test/node-2") as second:
        more = ["--sort-buffer-len-max", "1"]
        with running.hubble_relay(folder, peer_service=first.address, nodes=2, tls=tls, more=more) as relay:
            yield first, second, relay


def of_relay(relay: Any, tls: Any, running: ModuleType) -> dict[str, Any]:
    """Settings of `hubble` for this relay."""
    if tls is None:
        return {"nodes": [], "address": relay.address}
    certificate, key = tls.client
    names = {"ca": str(tls.ca), "cert": str(certificate), "key": str(key), "server_name": running.RELAY_SERVER_NAME}
    return {"nodes": [], "address": relay.address, "plaintext": False, "tls": names}


def account(stand: Any, *nodes: Any) -> dict[str, int]:
    """Check that nothing is stored twice and all that is missing is declared; gives how much is missing of each node.

    Of each node from its first stored flow to its last.
    """
    stored = stand.uuids()
    known = set(stored)
    assert len(stored) == len(known), "flows are stored twice"
    missing = {}
    for node in nodes:
        logged = list(node.flows_logged().items())
        held = [number for number, (uuid, _) in enumerate(logged) if uuid in known]
        assert held, f"nothing is stored of {node.name}"
        declared = [row for row in stand.coverage("gap", "lost") if row["node_name"] == node.name]
        lost = [(uuid, time_ns) for uuid, time_ns in logged[held[0] : held[-1]] if uuid not in known]
        for uuid, time_ns in lost:
            at = dt.datetime.fromtimestamp(time_ns / 1e9, dt.UTC)
            assert any(row["from"] - SLACK <= at < row["to"] + SLACK for row in declared), (
                f"{node.name}: {uuid} at {at} is missing, undeclared"
            )
        missing[node.name] = len(lost)
    return missing


def flows_after_the_last(stand: Any, node: Any, until: dt.datetime) -> int:
    """How many flows the node saw after the last one that is stored, up to a time."""
    known, count = set(stand.uuids()), 0
    for uuid, time_ns in reversed(node.flows_logged().items()):
        if uuid in known:
            break
        count += time_ns <= until.timestamp() * 1e9
    return count


@pytest.mark.parametrize("encrypted", [False, True], ids=["plaintext", "mutual TLS"])
def test_a_relay_that_is_killed_and_started_again_costs_no_flow(
    encrypted: bool, running: ModuleType, stand: Any, tmp_path: Path, wait: Any
) -> None:
    tls = certificates.authority(tmp_path / "tls") if encrypted else None
    with fleet(running, tmp_path, rate=200, tls=tls) as (first, second, relay):
        with stand.collecting(stand.settings(**of_relay(relay, tls, running))):
            stand.wait_for_flows(500)
            relay.kill()
            if tls:  # certificates are rotated on disk while processes run
                tls.issue(running.RELAY_SERVER_NAME)
                tls.issue("client")
            before = len(stand.uuids())
            time.sleep(1.5)
            relay.start()
            stand.wait_for_flows(before + 1500)
        assert account(stand, first, second) == {"test/node-1": 0, "test/node-2": 0}
    assert stand.coverage("gap") == []
    assert len(stand.coverage("disconnected")) == 1


def test_a_collector_that_is_stopped_and_started_again_costs_no_flow(running: ModuleType, stand: Any, tmp_path: Path) -> None:
    with fleet(running, tmp_path, rate=200) as (first, second, relay):
        settings = stand.settings(**of_relay(relay, None, running))
        for run in range(1, 4):
            with stand.collecting(settings):
                stand.wait_for_flows(run * 800)
        assert account(stand, first, second) == {"test/node-1": 0, "test/node-2": 0}
    assert stand.coverage("gap", "lost") == []


def test_a_node_that_loses_its_ring_is_a_gap_of_that_node_alone(running: ModuleType, stand: Any, tmp_path: Path, wait: Any) -> None:
    with fleet(running, tmp_path, rate=200) as (first, second, relay):
        with stand.collecting(stand.settings(**of_relay(relay, None, running))):
            stand.wait_for_flows(500)
            second.kill()
            time.sleep(2)
            second.start()
            wait(lambda: stand.coverage("gap"), what="gap", seconds=400)
            stand.wait_for_flows(len(stand.uuids()) + 500)
        missing = account(stand, first, second)
    assert missing["test/node-1"] == 0
    assert {row["node_name"] for row in stand.coverage("gap")} == {"test/node-2"}
    assert len(stand.coverage("gap")) == 1


def test_a_ring_too_small_for_an_outage_is_a_gap_of_each_node(running: ModuleType, stand: Any, tmp_path: Path) -> None:
    with fleet(running, tmp_path, rate=500, ring=255) as (first, second, relay):
        with stand.collecting(stand.settings(**of_relay(relay, None, running))):
            stand.wait_for_flows(1000)
            relay.kill()
            time.sleep(2)
            before = len(stand.uuids())
            relay.start()
            stand.wait_for_flows(before + 2000)
        missing = account(stand, first, second)
    assert all(count > 100 for count in missing.values())
    assert {row["node_name"] for row in stand.coverage("gap")} == {"test/node-1", "test/node-2"}


def test_flows_lost_to_a_slow_reader_are_counted(running: ModuleType, stand: Any, tmp_path: Path) -> None:
    with fleet(running, tmp_path, rate=2000, ring=127) as (first, second, relay):
        with stand.collecting(stand.settings(**of_relay(relay, None, running))):
            stand.wait_for_flows(2000)
            first.pause()  # relay, and whoever else has no turn for a while, is as slow for its nodes
            relay.pause()
            time.sleep(2)
            first.resume()
            time.sleep(4)
            relay.resume()
            stand.wait_for_flows(len(stand.uuids()) + 4000)
        missing = account(stand, first, second)
    lost = stand.coverage("lost")
    if sum(missing.values()):
        assert {row["source"] for row in lost} | {row["source"] for row in stand.coverage("gap")}
    for name, count in missing.items():
        if not [row for row in stand.coverage("gap") if row["node_name"] == name]:
            rows = [row for row in lost if row["node_name"] == name]
            told = sum(row["flows_lost"] for row in rows)
            # With each loss Cilium's ring may count the flow that it reads next, and a row sums up several; it also counts what it lost
            # after the collector stopped to store flows.
            after = flows_after_the_last(stand, first if name == first.name else second, max(row["to"] for row in rows)) if rows else 0
            assert count <= told <= count + after + len(rows) + count // 100


def test_a_node_of_a_relay_that_goes_away_is_unavailable_in_the_ledger(running: ModuleType, stand: Any, tmp_path: Path, wait: Any) -> None:
    with fleet(running, tmp_path, rate=200) as (first, second, relay):
        with stand.collecting(stand.settings(**of_relay(relay, None, running))):
            stand.wait_for_flows(500)
            second.kill()
            time.sleep(6)
            second.start()
            wait(lambda: stand.coverage("node_unavailable"), what="node that is away", seconds=400)
        account(stand, first, second)
    assert {row["node_name"] for row in stand.coverage("node_unavailable")} == {"test/node-2"}
