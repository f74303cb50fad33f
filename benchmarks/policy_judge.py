"""How many connections per second and core a policy set judges: all at once against one at a time.

    python -m benchmarks.policy_judge --policies 500 --edges 2000000

The policies resemble a fleet's: a default deny, DNS, and rules by label, port, range and name for each namespace. The edges
connect distinct label sets, as in `edges_1h`. Both sides of each edge are judged; that counts as one judgement.
"""

from __future__ import annotations

import argparse
import random
import resource
import statistics
import time
from ipaddress import ip_address
from typing import Any

import numpy as np

from pipelines.policy.bulk import BulkJudge, Connections
from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Connection, Side
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import Document
from pipelines.policy.topology import world_side
from pipelines.policy.verdict import judge

POLICIES_A_NAMESPACE = 5
WORKLOADS_A_NAMESPACE = 25
OUTSIDE = 500
PORTS = np.array([53, 80, 443, 5432, 6379, 8080, 9090])
ROUNDS = 3


def policies(count: int) -> PolicySet:
    """Return this many compiled policies of a fleet."""
    manifests: list[dict[str, Any]] = []
    for index in range(count):
        namespace, kind = f"team-{index // POLICIES_A_NAMESPACE}", index % POLICIES_A_NAMESPACE
        metadata = {"name": f"policy-{index}", "namespace": namespace}
        if kind == 0:
            spec: dict[str, Any] = {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
            manifests.append({"kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
            continue
        app = {"matchLabels": {"app": f"app-{kind}"}}
        ports = [{"port": str(port), "protocol": "TCP"} for port in (80, 8080, 9090)]
        other = {"k8s:io.kubernetes.pod.namespace": f"team-{(index * 7) % (count // POLICIES_A_NAMESPACE)}"}
        dns = {
            "toEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "team-0"}}],
            "toPorts": [{"ports": [{"port": "53"}]}],
        }
        egress = [dns, {"toEndpoints": [{}]}, {"toFQDNs": [{"matchPattern": "*.example.com"}]}, {"toCIDR": [f"203.0.{kind}.0/24"]}]
        ingress = [{"fromEndpoints": [app, {"matchLabels": other}], "toPorts": [{"ports": ports}]}]
        spec = {"endpointSelector": app, "ingress": ingress, "egress": egress}
        manifests.append({"kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec})
    return compile_policies([Document(manifest) for manifest in manifests])


def ends(namespaces: int) -> list[Side]:
    """Return the distinct sides: workloads of each namespace, and addresses outside."""
    found = []
    for number in range(namespaces * WORKLOADS_A_NAMESPACE):
        namespace, workload = f"team-{number // WORKLOADS_A_NAMESPACE}", number % WORKLOADS_A_NAMESPACE
        texts = [
            f"k8s:app=app-{workload % POLICIES_A_NAMESPACE}",
            f"k8s:name=workload-{workload}",
            f"k8s:io.kubernetes.pod.namespace={namespace}",
            f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
        ]
        labels = LabelSet(texts)
        found.append(Side(f"{namespace}/workload-{workload}", labels, True, labels, ip_address(0x0A000000 + number), (), {}))
    for number in range(OUTSIDE):
        names = [f"host-{number}.example.com"] if number % 2 else []
        found.append(world_side(str(ip_address(0xCB000000 + number * 7)), names, dual_stack=False))
    return found


def connections(sides: int, count: int, seed: int) -> Connections:
    """Return this many edges between random sides."""
    chooser = np.random.default_rng(seed)
    return Connections(
        chooser.integers(0, sides, count),
        chooser.integers(0, sides, count),
        chooser.integers(0, 2, count),
        chooser.choice(PORTS, count).astype(np.int64),
        ("TCP", "UDP"),
    )


def one_at_a_time(compiled: PolicySet, sides: list[Side], edges: Connections, count: int) -> float:
    """Return judgements per second without arrays."""
    places = random.Random(1).sample(range(len(edges)), count)
    start = time.process_time()
    for place in places:
        source, destination = sides[edges.source[place]], sides[edges.destination[place]]
        judge(compiled, Connection(source, destination, edges.protocols[edges.protocol[place]], int(edges.number[place])))
    return count / (time.process_time() - start)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure the policy engine.")
    parser.add_argument("--policies", type=int, default=500)
    parser.add_argument("--edges", type=int, default=2_000_000)
    options = parser.parse_args()
    compiled = policies(options.policies)
    sides = ends(options.policies // POLICIES_A_NAMESPACE)
    edges = connections(len(sides), options.edges, 1)
    rates, preparing = [], []
    for _ in range(ROUNDS):
        start = time.process_time()
        bulk = BulkJudge(compiled, sides)
        bulk.judge(connections(len(sides), len(sides), 2))
        preparing.append(time.process_time() - start)
        start = time.process_time()
        verdicts = bulk.judge(edges)
        rates.append(len(edges) / (time.process_time() - start))
    single = one_at_a_time(compiled, sides, edges, 20_000)
    counts = np.bincount(verdicts.both, minlength=3)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{options.policies} policies, {len(compiled.rules)} rules, {len(sides)} distinct ends, {len(edges)} edges")
    print(f"allowed {counts[0]}, denied {counts[1]}, uncertain {counts[2]}")
    print(f"set up: {statistics.median(preparing):.2f} s of CPU")
    print(f"at once: {statistics.median(rates):,.0f} judgements a second a core ({min(rates):,.0f} to {max(rates):,.0f})")
    print(f"one at a time: {single:,.0f}; ratio {statistics.median(rates) / single:.0f}; peak memory {memory:.0f} MiB")


if __name__ == "__main__":
    main()
