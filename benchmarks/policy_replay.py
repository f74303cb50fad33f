"""How long a simulation takes over 90 days of a fleet: one candidate, and all policies of the fleet at once.

    python -m benchmarks.policy_replay
    python -m benchmarks.policy_replay --rows 200000 --folder /tmp/replay    # fewer edges, in a folder that is kept for the next run

Writes rolled-up edges and configuration history of five clusters, without flows, and simulates on them in a process of its own
for each measurement. Seconds and peak memory are printed as shares of their limits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.policy.reading import Document
from pipelines.replay.in_force import History
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import WhatIf, simulate
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.engine import Window
from warehouse.lake.tables import Lake
from warehouse.questions import rollup_notes
from warehouse.questions.door import Door
from warehouse.schema import CONFIG_COVERAGE, EDGES_1H, LABEL_SETS, POLICY_VERSIONS, Table

CLUSTERS = tuple(f"cluster-{number}" for number in range(5))
NAMESPACES, WORKLOADS, POLICIES_A_NAMESPACE = 40, 12, 3
CHANGES_A_DAY = 2
"""Policies that change in a cluster on a day."""
END = datetime(2026, 6, 1, tzinfo=UTC)
PORTS = (53, 80, 443, 5432, 6379, 8080, 9090, 9092)
LIMITS = {"one": 10.0, "all": 60.0}
"""Seconds that a simulation of one candidate, and of all policies of the fleet, may take over two million edges."""
MOST_MEMORY = 1500
"""MB that either may take."""
KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]


def policies(version: int = 0) -> list[dict[str, Any]]:
    """Return the policies of a cluster; a later version of one opens another port."""
    found: list[dict[str, Any]] = []
    for namespace in range(NAMESPACES):
        name = f"team-{namespace}"
        for number in range(POLICIES_A_NAMESPACE):
            ports = [{"port": str(port), "protocol": "TCP"} for port in (PORTS[1 + (version % 7)], 80, 8080)]
            peers = [{"matchLabels": {"app": f"app-{number}"}}]
            peers += [
                {"matchLabels": {"k8s:io.kubernetes.pod.namespace": f"team-{(namespace + other) % NAMESPACES}"}} for other in (1, 2, 3)
            ]
            spec = {
                "endpointSelector": {"matchLabels": {"tier": f"tier-{number}"}},
                "ingress": [{"fromEndpoints": peers, "toPorts": [{"ports": ports}]}, {"fromEntities": ["host"]}],
                "egress": [{"toEndpoints": [{}]}, {"toPorts": [{"ports": [{"port": "53"}]}]}, {"toCIDR": ["203.0.113.0/24"]}],
            }
            metadata = {"name": f"policy-{number}", "namespace": name}
            found.append({"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec})
    return found


def write(lake: Lake, rows: int, days: int) -> None:
    """Write the history of the fleet."""
    chance = np.random.default_rng(1)
    since = END - timedelta(days=days)
    for cluster in CLUSTERS:
        _write_configuration(lake, cluster, since, days)
    each = rows // (days * len(CLUSTERS)) + 1
    ends = [(f"team-{number // WORKLOADS}", f"app-{number % WORKLOADS}") for number in range(NAMESPACES * WORKLOADS)]
    for cluster in CLUSTERS:
        labels = [_labels(cluster, namespace, name, place) for place, (namespace, name) in enumerate(ends)]
        ids = [hashlib.sha256("\n".join(one).encode()).hexdigest()[:16] for one in labels]
        talk = chance.integers(0, len(ends), (each, 2))
        ports = chance.choice(PORTS, each)
        for day in range(days):
            begin = since + timedelta(days=day)
            _write_day(lake, cluster, begin, (ends, labels, ids), (talk, ports), chance)


def _labels(cluster: str, namespace: str, name: str, place: int) -> list[str]:
    return sorted(
        [
            f"k8s:app={name}",
            f"k8s:tier=tier-{place % (POLICIES_A_NAMESPACE + 1)}",
            f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}",
            f"k8s:io.cilium.k8s.policy.cluster={cluster}",
            f"k8s:io.kubernetes.pod.namespace={namespace}",
        ]
    )


def _write_day(lake: Lake, cluster: str, begin: datetime, fleet: Any, traffic: Any, chance: np.random.Generator) -> None:
    ends, labels, ids = fleet
    talk, ports = traffic
    count = len(talk)
    hours = np.sort(chance.integers(0, 24, count))
    time_of = [begin + timedelta(hours=int(hour)) for hour in hours]
    columns: dict[str, Any] = {"cluster": [cluster] * count, "date": [begin.date()] * count, "hour": time_of}
    for place, side in enumerate(("source", "destination")):
        picked = talk[:, place]
        columns[f"{side}_namespace"] = [ends[one][0] for one in picked]
        columns[f"{side}_workload_name"] = [ends[one][1] for one in picked]
        columns[f"{side}_workload_kind"] = ["Deployment"] * count
        columns[f"{side}_labels_id"] = [ids[one] for one in picked]
    outside = chance.random(count) < 0.05
    for name in ("namespace", "workload_name", "workload_kind", "labels_id"):
        columns[f"destination_{name}"] = [
            None if out else value for out, value in zip(outside, columns[f"destination_{name}"], strict=True)
        ]
    columns["destination_entity"] = ["world" if out else None for out in outside]
    columns["destination_cidr"] = [f"203.0.{one % 250}.0/24" if out else None for out, one in zip(outside, talk[:, 1], strict=True)]
    columns |= {
        "destination_port": ports.astype(np.int32),
        "l4_protocol": ["TCP"] * count,
        "verdict": ["FORWARDED"] * count,
        "traffic_direction": ["INGRESS" if place % 2 else "EGRESS" for place in range(count)],
        "flows": chance.integers(1, 500, count),
        "repeats": [0] * count,
        "replies": [0] * count,
        "first_seen": [moment + timedelta(seconds=1) for moment in time_of],
        "last_seen": [moment + timedelta(minutes=59) for moment in time_of],
    }
    notes = rollup_notes.prefix(dict.fromkeys(range(24), rollup_notes.SEALED))
    _put(
        lake,
        EDGES_1H,
        [pa.table({name: pa.array(columns.get(name, [None] * count), EDGES_1H.schema.field(name).type) for name in EDGES_1H.schema.names})],
        notes,
    )
    seen = sorted({(int(hour), int(one)) for hour, pair in zip(hours, talk, strict=True) for one in pair})
    sets = [
        {
            "cluster": cluster,
            "date": begin.date(),
            "hour": begin + timedelta(hours=hour),
            "id": ids[one],
            "namespace": ends[one][0],
            "labels": labels[one],
        }
        for hour, one in seen
    ]
    _put(lake, LABEL_SETS, [pa.Table.from_pylist(sets, schema=LABEL_SETS.schema)], notes)


def _write_configuration(lake: Lake, cluster: str, since: datetime, days: int) -> None:
    current = policies()
    begins = [since] * len(current)
    rows: list[dict[str, Any]] = []
    chance = np.random.default_rng(2)
    for change in range(days * CHANGES_A_DAY):
        place, moment = int(chance.integers(0, len(current))), since + timedelta(hours=24 / CHANGES_A_DAY * (change + 1), minutes=30)
        rows.append(_version(cluster, current[place], begins[place], moment))
        current[place], begins[place] = policies(change + 1)[place], moment
    rows += [_version(cluster, one, begin, None) for one, begin in zip(current, begins, strict=True)]
    _put(lake, POLICY_VERSIONS, [pa.Table.from_pylist(rows, schema=POLICY_VERSIONS.schema)])
    known = {"cluster": cluster, "from": since, "to": END, "state": "observed", "kinds": KINDS, "source": "watch", "recorded": END}
    _put(lake, CONFIG_COVERAGE, [pa.Table.from_pylist([known], schema=CONFIG_COVERAGE.schema)])


def _version(cluster: str, manifest: dict[str, Any], begin: datetime, end: datetime | None) -> dict[str, Any]:
    text, metadata = json.dumps(manifest, sort_keys=True), manifest["metadata"]
    return {
        "cluster": cluster,
        "kind": manifest["kind"],
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "valid_from": begin,
        "valid_to": end,
        "recorded": begin,
        "ended_recorded": end,
        "hash": hashlib.sha256(text.encode()).hexdigest(),
        "manifest": text,
    }


def _put(lake: Lake, table: Table, rows: list[pa.Table], prefix: str = "") -> None:
    written = [file for one in rows for file in lake.write_files(table, one, **({"prefix": prefix} if prefix else {}))]
    lake.commit(table, written, transactions={}, metadata={})


def measure(folder: Path, what: str, days: int) -> None:
    """Simulate one candidate, or all policies, and print seconds and memory."""
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    history = History(Door(lake, config.Ownership(), purpose="benchmark"), OPERATOR)
    documents = [Document(one) for one in policies(3)]
    start = time.monotonic()
    window = Window(since=END - timedelta(days=days), until=END)
    chosen = tuple(documents if what == "all" else documents[5:6])
    result = simulate(history, WhatIf(window=window, documents=chosen, with_examples=False))
    seconds, processor = time.monotonic() - start, time.process_time()
    counts = {change.value: result.count(change) for change in Change}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    share = result.agreement.share
    limit, mebibytes = LIMITS[what], MOST_MEMORY * 1e6 / 2**20
    print(
        f"{what}: {seconds:.1f} s ({seconds / limit:.2f} x the limit of {limit:.0f} s), {processor:.1f} s of CPU, peak memory "
        f"{memory:.0f} MiB ({memory / mebibytes:.2f} x the limit of {MOST_MEMORY} MB), {len(result.edges)} edges"
    )
    print(f"{counts}, agreement {share}", flush=True)


def main() -> None:
    """Write the history once, and measure."""
    parser = argparse.ArgumentParser(description="Measure simulations over months of a fleet.")
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--days", type=int, default=90)
    parser.add_argument("--folder", type=Path, help="Where the history is written, and read again by the next run; temporary by default.")
    parser.add_argument("--measure", choices=["one", "all"])
    options = parser.parse_args()
    if options.measure:
        measure(options.folder, options.measure, options.days)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder: Path = options.folder or Path(temporary)
        if not (folder / "lake").exists():
            write(Lake.open(config.Lake(url=str(folder / "lake"))), options.rows, options.days)
        for what in LIMITS:
            command = [sys.executable, "-m", "benchmarks.policy_replay", "--folder", str(folder), "--days", str(options.days)]
            subprocess.run([*command, "--measure", what], check=True)


if __name__ == "__main__":
    main()
