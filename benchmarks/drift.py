"""Drift and controls of 20 clusters, 500 namespaces and 5,000 policies each, over stored history: seconds against the limit of 10.

    python -m benchmarks.drift [--clusters 20] [--namespaces 500] [--policies 5000]

Half of the policies are the blueprint's own, half are the teams'. One in a thousand has drifted, and exactly those
must be found. It also judges pairs of objects from a real API server, and prints how many are judged correctly.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from pipelines.blueprints import evaluation, model
from pipelines.blueprints.render import render
from pipelines.configuration import kinds
from pipelines.objects.compare import compare
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import CLUSTER_SETTINGS, CONFIG_COVERAGE, NAMESPACES, POLICY_VERSIONS, WORKLOADS, Table

LIMIT_SECONDS = 10.0
PAIRS = Path(__file__).parents[1] / "tests" / "data" / "drift_pairs.json"
NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
TEMPLATES = ("default-deny-ingress", "default-deny-egress", "allow-dns", "allow-same-namespace", "allow-from-ingress")


def main() -> None:
    """Build the fleet's history, judge it three times, print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--clusters", type=int, default=20)
    parser.add_argument("--namespaces", type=int, default=500)
    parser.add_argument("--policies", type=int, default=5000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as folder:
        lake = Lake.open(config.Lake(url=f"{folder}/lake"))
        files = [_blueprint(Path(folder))]
        clusters = [config.Cluster(name=f"c{number:02}") for number in range(options.clusters)]
        drifted = sum(_fill(lake, files, cluster, options.namespaces, options.policies) for cluster in clusters)
        seconds, cpu = [], []
        for _ in range(3):
            began, cpu_began = time.perf_counter(), time.process_time()
            found = evaluation.evaluate_fleet(lake, files, clusters, at=NOW)
            seconds.append(time.perf_counter() - began)
            cpu.append(time.process_time() - cpu_began)
        drifts = [drift for one in found for drift in one.drifts]
        assert len(drifts) == drifted, f"{len(drifts)} drifts found, {drifted} were made"
        assert {drift.drift for drift in drifts} == {"modified"}
    took, busy = statistics.median(seconds), statistics.median(cpu)
    print(
        f"drift: {options.clusters} clusters, {options.namespaces} namespaces and {options.policies} policies each: "
        f"median CPU {busy:.2f} s, {busy / LIMIT_SECONDS:.2f} of the limit of {LIMIT_SECONDS:g} s (wall {took:.2f} s); "
        f"all {drifted} drifts found, none besides"
    )
    right, total = _pairs()
    print(f"drift: pairs of a real API server judged rightly: {right} of {total} ({right / total:.1%})")


def _blueprint(folder: Path) -> model.BlueprintFile:
    policies = [{"template": name} for name in TEMPLATES]
    document = {"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}, "namespaces": [{"policies": policies}]}
    file = folder / "base.yaml"
    file.write_text(yaml.safe_dump(document), encoding="utf-8")
    return model.load_file(file)


def _fill(lake: Lake, files: list[model.BlueprintFile], cluster: config.Cluster, namespaces: int, policies: int) -> int:
    """Write one cluster's history; return how many objects drifted."""
    names = [f"team-{number:03}" for number in range(namespaces)]
    wanted = render(files, cluster=cluster.name, labels={}, namespaces={name: {} for name in names}, now=NOW)
    objects = [dict(one.manifest) for one in wanted.objects.values()]
    drifted = 0
    for number in range(0, len(objects), 1000):
        spec = dict(objects[number]["spec"], podSelector={"matchLabels": {"app": "x"}})
        objects[number], drifted = objects[number] | {"spec": spec}, drifted + 1
    for number in range(policies - len(objects)):
        rule = {"from": [{"podSelector": {"matchLabels": {"app": f"a{number}"}}}], "ports": [{"port": 80 + number, "protocol": "TCP"}]}
        metadata = {"name": f"own-{number}", "namespace": names[number % namespaces]}
        spec = {"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"], "ingress": [rule]}
        objects.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec})
    spaces = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}} for name in names]
    pods = [
        {"apiVersion": "hindcast/v1", "kind": "PodLabels", "metadata": {"name": app, "namespace": name, "labels": {"app": app}}, "spec": {}}
        for name in names
        for app in ("web", "db", "cache", "worker")
    ]
    settings = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "cilium-config", "namespace": "kube-system"},
        "data": {"enable-policy": "default"},
    }
    for table, made in ((NAMESPACES, spaces), (POLICY_VERSIONS, objects), (WORKLOADS, pods), (CLUSTER_SETTINGS, [settings])):
        _write(lake, table, [_version(cluster.name, one) for one in made])
    seen = ["Namespace", "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "PodLabels", "ConfigMap", "Deployment"]
    look = {"cluster": cluster.name, "date": NOW.date(), "from": NOW, "to": NOW, "state": "observed", "kinds": seen, "recorded": NOW}
    _write(lake, CONFIG_COVERAGE, [look])
    return drifted


def _version(cluster: str, manifest: dict[str, Any]) -> dict[str, Any]:
    seen = kinds.observed(manifest, namespace=manifest["metadata"].get("namespace"))
    return {
        "cluster": cluster,
        "valid_from": NOW - dt.timedelta(days=1),
        "recorded": NOW,
        "kind": seen.kind,
        "namespace": seen.namespace,
        "name": seen.name,
        "hash": seen.hash,
        "api_version": seen.api_version,
        "source": "snapshot",
        "manifest": seen.manifest,
    }


def _write(lake: Lake, table: Table, rows: list[dict[str, Any]]) -> None:
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions={}, metadata={})


def _pairs() -> tuple[int, int]:
    document = json.loads(PAIRS.read_text(encoding="utf-8"))
    expected = {True: "drift", False: "equal", "order-only": "order-only"}
    pairs = [*document["fresh"], *document["mutations"]]
    return sum(compare(pair["applied"], pair["live"]).verdict == expected[pair["drift"]] for pair in pairs), len(pairs)


if __name__ == "__main__":
    main()
