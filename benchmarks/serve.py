"""What `hindcast serve` costs: the first flow of a namespace, a stream of history beside the real relay, and fifty followers.

Run: .venv/bin/python -m benchmarks.serve [--lake DIR] [--flows N] [--stream N]. Without a lake one of 1 M flows is generated and
compacted. Of history, the oldest `--stream` flows are read. Both servers are read by the same client, which takes messages off the
wire and does nothing with them; the relay's flows come from real nodes.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pycurl
from google.protobuf.field_mask_pb2 import FieldMask

from benchmarks import stand
from benchmarks.generate import compacted
from collectors.hubble_api.observer import observer_pb2
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

FIRST_MS, FLOWS_A_SECOND, TIMES_RELAY, FOLLOWERS, FOLLOWERS_BYTES = 300.0, 60_000.0, 2.0, 50, 1024**3
RING, NODES = 65_535, 2
OF_THE_COMMAND = (
    "time", "source.identity", "source.namespace", "source.pod_name", "destination.identity", "destination.namespace",
    "destination.pod_name", "source_service", "destination_service", "l4", "IP", "ethernet", "l7", "Type", "node_name", "is_reply",
    "event_type", "verdict", "Summary",
)  # fmt: skip
"""About what `hubble observe` asks for without -o."""


@contextlib.contextmanager
def serving(lake: Path) -> Iterator[tuple[str, int]]:
    """Run the command; yield its address and process id."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hindcast.yaml"
        file.write_text(json.dumps({"lake": {"url": str(lake.resolve())}, "serve": {"limits": {"streams": 2 * FOLLOWERS}}}))
        command = [sys.executable, "-u", "-m", "hindcast", "serve", "--plaintext", "--config", str(file), "--listen", "127.0.0.1:0"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        try:
            yield process.stdout.readline().split()[1], process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait()


def drained(address: str, request: observer_pb2.GetFlowsRequest) -> tuple[int, float, float]:
    """Read one answer; return the number of messages, and the seconds until the first and the last."""
    content = request.SerializeToString()
    found, began, first = [0, 0, b""], time.monotonic(), [0.0]

    def take(data: bytes) -> None:
        first[0] = first[0] or time.monotonic() - began
        data = found[2] + data  # type: ignore[operator]
        place = 0
        while place + 5 <= len(data) and place + 5 + (size := int.from_bytes(data[place + 1 : place + 5])) <= len(data):
            place += 5 + size
            found[0] += 1  # type: ignore[operator]
        found[2] = data[place:]

    curl = pycurl.Curl()
    curl.setopt(pycurl.URL, f"http://{address}/observer.Observer/GetFlows")
    curl.setopt(pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
    curl.setopt(pycurl.POSTFIELDS, b"\0" + len(content).to_bytes(4) + content)
    curl.setopt(pycurl.HTTPHEADER, ["content-type: application/grpc", "te: trailers"])
    curl.setopt(pycurl.BUFFERSIZE, 512 * 1024)
    curl.setopt(pycurl.WRITEFUNCTION, take)
    curl.perform()
    curl.close()
    return int(found[0]), first[0], time.monotonic() - began  # type: ignore[call-overload]


def relay_rate(running: Any, folder: Path) -> float:
    """Return the messages a second of the real relay in front of real nodes with full rings."""
    with contextlib.ExitStack() as stack:
        names = [f"test/node-{number + 1}" for number in range(NODES)]
        addresses = {name: running.free_address() for name in names}
        more: dict[str, Any] = {"rate": 0, "count": RING + 1, "ring": RING, "peers": addresses}
        nodes = [stack.enter_context(running.hubble_node(folder, name=name, address=addresses[name], **more)) for name in names]
        for node in nodes:
            node.wait_fed()
        relay = stack.enter_context(running.hubble_relay(folder, peer_service=nodes[0].address, nodes=NODES))
        rates = []
        for _ in range(stand.RUNS):
            count, _, seconds = drained(relay.address, observer_pb2.GetFlowsRequest(number=2**63 - 1))
            rates.append(count / seconds)
    return stand.median(rates)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path)
    parser.add_argument("--flows", type=int, default=1_000_000)
    parser.add_argument("--stream", type=int, default=1_000_000)
    parser.add_argument("--namespace", default="cart-00")
    given = parser.parse_args()
    running = stand.peers("hubble", "hubble-relay", "hubble-node")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake = given.lake or compacted(folder / "lake", given.flows)
        measured(running, folder, lake, given)


def first_flows(running: Any, address: str, namespace: str) -> None:
    """Measure the newest flows of a namespace with the real command, from its start to its end."""
    hubble = [str(running.program("hubble")), "observe", "--server", address, "--last", "100", "-n", namespace]
    times, flows = [], 0
    for _ in range(6):
        began = time.monotonic()
        printed = subprocess.run(hubble, capture_output=True, text=True, check=True).stdout
        times.append((time.monotonic() - began) * 1000)
        flows = len(printed.splitlines())
    usual = stand.median(times[1:])
    print(f"hubble observe --last 100 -n {namespace}: {flows} flows, the first time in {times[0]:.0f} ms, then in {usual:.0f} ms")
    print(f"ratio: {usual / FIRST_MS:.2f} of the limit of {FIRST_MS:.0f} ms")


def history(label: str, address: str, process: int, request: observer_pb2.GetFlowsRequest) -> float:
    """Measure the stream of everything; return flows a second."""
    server = psutil.Process(process)
    before = sum(server.cpu_times()[:2])
    count, first, seconds = drained(address, request)
    cpu, memory = sum(server.cpu_times()[:2]) - before, server.memory_info().rss / 1e6
    print(f"history, {label}: {count:,} flows, the first after {first * 1000:.0f} ms, {count / seconds:,.0f} flows/s")
    print(f"    {cpu / count * 1e6:.1f} us CPU a flow, {memory:.0f} MB")
    return count / seconds


def measured(running: Any, folder: Path, lake: Path, given: argparse.Namespace) -> None:
    """Measure over a lake and print."""
    print(f"{Lake.open(config.Lake(url=str(lake))).rows(FLOWS):,} flows in the lake")
    whole = observer_pb2.GetFlowsRequest(number=given.stream, first=True)
    masked = observer_pb2.GetFlowsRequest(number=given.stream, first=True, field_mask=FieldMask(paths=OF_THE_COMMAND))
    with serving(lake) as (address, process):
        first_flows(running, address, given.namespace)
        rates = {
            label: history(label, address, process, request)
            for label, request in (("whole flows", whole), ("as hubble observe asks", masked))
        }
    relay = relay_rate(running, folder)
    print(f"relay: {relay:,.0f} flows/s by the same client")
    for label, rate in rates.items():
        goals = f"(goal {TIMES_RELAY:.0f}); {rate / FLOWS_A_SECOND:.2f} of the goal of {FLOWS_A_SECOND:,.0f} flows/s"
        print(f"{label}: {rate / relay:.2f} x relay {goals}")
    with serving(lake) as (address, process):
        follow = [str(running.program("hubble")), "observe", "--server", address, "--follow", "--last", "20", "-o", "jsonpb"]
        more: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL, "text": True}
        followers = [subprocess.Popen(follow, **more) for _ in range(FOLLOWERS)]
        for follower in followers:
            assert follower.stdout is not None
            json.loads(follower.stdout.readline())
        rss = psutil.Process(process).memory_info().rss
        print(f"{FOLLOWERS} followers: {rss / 1e6:.0f} MB, {rss / FOLLOWERS_BYTES:.2f} of the limit of 1 GB")
        for follower in followers:
            follower.terminate()
            follower.wait()


if __name__ == "__main__":
    main()
