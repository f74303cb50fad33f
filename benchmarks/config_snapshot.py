"""Configuration history beside its limits and beside kubectl: snapshots of a large cluster, and any instant of a year.

Run: .venv/bin/python -m benchmarks.config_snapshot [SHARE]. SHARE (1 by default) makes everything smaller, for a trial.
A real API server has 500 namespaces, 5,000 policies and 10,000 pods. The year consists of daily snapshots of 5,000 policies of
which 2 % change each day, written as snapshots write them and compacted as the DAG does.
"""

from __future__ import annotations

import concurrent.futures
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import urllib3

from benchmarks import stand
from pipelines.configuration import kinds, manifest_yaml
from pipelines.configuration.care import compact_configuration
from pipelines.configuration.kinds import Observed
from pipelines.configuration.recording import Look, Recorder, note_looks
from tests.peers import clusters
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.records.configuration_coverage import coverage_at
from warehouse.schema import VERSION_TABLES

NAMESPACES, POLICIES, PODS = 500, 5_000, 10_000
SNAPSHOT_SECONDS, SNAPSHOT_MB, AT_SECONDS = 20.0, 400.0, 1.0
DAYS, CHANGED = 365, 0.02
READ_BY_KUBECTL = "namespaces,networkpolicies,ciliumnetworkpolicies,services,pods"


def main() -> None:
    """Measure and print."""
    share = float(sys.argv[1]) if len(sys.argv) > 1 else 1.0
    with tempfile.TemporaryDirectory() as name:
        _looks(Path(name), share)
    with tempfile.TemporaryDirectory() as name:
        _year(Path(name), share)


def _looks(folder: Path, share: float) -> None:
    running = stand.peers("etcd", "kube-apiserver", "kubectl")
    with clusters.etcd(folder / "etcd") as etcd:
        # Without a controller, nothing creates the service accounts that pods need.
        more = ["--disable-admission-plugins=ServiceAccount", "--max-requests-inflight=2000", "--max-mutating-requests-inflight=1000"]
        with clusters.cluster(folder / "c1", etcd, name="c1", more=more) as server:
            _fill(server, share)
            document = {
                "lake": {"url": str(folder / "lake")},
                "clusters": [{"name": "c1", "kubernetes": {"kubeconfig": str(server.kubeconfig())}}],
            }
            file = folder / "hindcast.yaml"
            file.write_text(json.dumps(document))
            command = [sys.executable, "-m", "hindcast", "config", "snapshot", "--config", str(file), "--output", "json"]
            first = _run(command)
            lake = Lake.open(config.load_config(file).lake)
            stored = sum(lake.rows(table) for table in VERSION_TABLES)
            again = _run(command)
            added = sum(lake.rows(table) for table in VERSION_TABLES) - stored
            kubectl = [
                str(running.program("kubectl")),
                "--kubeconfig",
                str(server.kubeconfig()),
                "get",
                "-A",
                READ_BY_KUBECTL,
                "-o",
                "json",
            ]
            peer = _run(kubectl)
    written = json.loads(first.output)
    print(f"{written['objects']:,} objects; {written['versions_began']:,} versions stored, {added} by a second look")
    for name, look in (("first", first), ("second", again)):
        ratios = f"{look.seconds / SNAPSHOT_SECONDS:.2f} and {look.mb / SNAPSHOT_MB:.2f}"
        print(f"{name} look: {look}; ratios to the limits of {SNAPSHOT_SECONDS:g} s and {SNAPSHOT_MB:g} MB: {ratios}")
    ratios = f"{again.cpu / peer.cpu:.2f}, of memory {again.mb / peer.mb:.2f}"
    print(f"kubectl get of the same kinds: {peer}; ratio of the second look's CPU to it {ratios}")


class _Ran:
    """The resources a program used."""

    def __init__(self, seconds: float, cpu: float, mb: float, output: str) -> None:
        self.seconds, self.cpu, self.mb, self.output = seconds, cpu, mb, output

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s, {self.cpu:.1f} s of CPU, {self.mb:.0f} MB"


def _run(command: list[str]) -> _Ran:
    """Run a program in a process that has no other children, so that its resource usage is known."""
    program = (
        "import json,resource,subprocess,sys,time\n"
        "t=time.monotonic(); d=subprocess.run(sys.argv[1:],capture_output=True,text=True)\n"
        "u=resource.getrusage(resource.RUSAGE_CHILDREN)\n"
        "took=[time.monotonic()-t,u.ru_utime+u.ru_stime,u.ru_maxrss/1024]\n"
        "print(json.dumps([*took,d.returncode,d.stdout if len(d.stdout)<100000 else '',d.stderr[-2000:]]))"
    )
    done = subprocess.run([sys.executable, "-c", program, *command], capture_output=True, text=True, check=True)
    seconds, cpu, mb, code, output, errors = json.loads(done.stdout)
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}: {errors}")
    return _Ran(seconds, cpu, mb, output)


def _fill(server: Any, share: float) -> None:
    """Create the objects, several requests at a time."""
    pool = urllib3.HTTPSConnectionPool(
        *server.address.split(":"), ca_certs=str(server.authority), maxsize=8, headers={"Authorization": "Bearer admin-token"}
    )
    namespaces = [f"ns-{number:03}" for number in range(int(NAMESPACES * share))]

    def post(path: str, body: dict[str, Any]) -> None:
        answer = pool.request("POST", path, body=json.dumps(body), headers={**pool.headers, "Content-Type": "application/json"})
        if answer.status != 201:
            sys.exit(f"{path}: {answer.status} {answer.data[:500]!r}")

    def chosen(count: int) -> list[tuple[int, str]]:
        return [(number, namespaces[number % len(namespaces)]) for number in range(int(count * share))]

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        for body in (_namespace(name) for name in namespaces):
            threads.submit(post, "/api/v1/namespaces", body)
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        made = [threads.submit(post, *_policy(number, namespace)) for number, namespace in chosen(POLICIES)]
        made += [
            threads.submit(post, f"/api/v1/namespaces/{namespace}/pods", _pod(number, namespace)) for number, namespace in chosen(PODS)
        ]
    for each in made:
        each.result()


def _namespace(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": f"team-{name[-2:]}"}}}


def _policy(number: int, namespace: str, port: int = 80) -> tuple[str, dict[str, Any]]:
    """Return a policy; every other one is Cilium's."""
    metadata = {"name": f"policy-{number}", "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "argocd"}}
    if number % 2:
        ingress = [{"from": [{"podSelector": {"matchLabels": {"app": f"app-{number % 7}"}}}], "ports": [{"protocol": "TCP", "port": port}]}]
        spec: dict[str, Any] = {
            "podSelector": {"matchLabels": {"app": f"app-{number % 5}"}},
            "policyTypes": ["Ingress"],
            "ingress": ingress,
        }
        body = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
        return f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies", body
    to_ports = [{"ports": [{"port": str(port), "protocol": "TCP"}], "rules": {"http": [{"method": "GET", "path": f"/v{number % 3}/.*"}]}}]
    spec = {
        "endpointSelector": {"matchLabels": {"app": f"app-{number % 5}"}},
        "ingress": [{"fromEndpoints": [{"matchLabels": {"app": f"app-{number % 7}"}}], "toPorts": to_ports}],
    }
    body = {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": metadata, "spec": spec}
    return f"/apis/cilium.io/v2/namespaces/{namespace}/ciliumnetworkpolicies", body


def _pod(number: int, namespace: str) -> dict[str, Any]:
    app = f"app-{number % 5}"
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-5d4f8c7b9", "uid": f"u-{namespace}-{app}", "controller": True}
    environment = [{"name": f"SETTING_{index}", "value": "x" * 40} for index in range(12)]
    container = {
        "name": "app",
        "image": "registry.example/app:1.2.3",
        "env": environment,
        "ports": [{"name": "http", "containerPort": 8080}],
        "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
    }
    labels = {"app": app, "pod-template-hash": "5d4f8c7b9", "app.kubernetes.io/part-of": namespace}
    metadata = {"name": f"{app}-5d4f8c7b9-{number}", "namespace": namespace, "labels": labels, "ownerReferences": [owner]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [container]}}


def _year(folder: Path, share: float) -> None:
    random.seed(1)
    file, end = folder / "hindcast.yaml", datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    file.write_text(json.dumps({"lake": {"url": str(folder / "lake")}}))
    lake = Lake.open(config.load_config(file).lake)
    count = int(POLICIES * share)
    ports = [80] * count
    begin = end - timedelta(days=DAYS)
    recorder = Recorder(lake, "c1", source="snapshot")
    for day in range(DAYS):
        at = begin + timedelta(days=day)
        for number in range(count) if day == 0 else random.sample(range(count), int(count * CHANGED)):
            ports[number] += 1
            recorder.saw(_seen(number, ports[number]), at=at)
        recorder.commit(recorded=at)
        look = Look(state="observed", kinds=("NetworkPolicy", "CiliumNetworkPolicy"))
        note_looks(lake, "c1", [look], source="snapshot", begin=at, end=at, recorded=at)
        if day % 14 == 6:
            compact_configuration(lake)
    stored = sum(lake.rows(table) for table in VERSION_TABLES)
    print(f"a year: {stored:,} stored versions of {count:,} policies, {sum(lake.size(table)[1] for table in VERSION_TABLES)} files")
    for what, namespaces in (("whole cluster", None), ("one namespace", ["ns-007"])):
        instants = [begin + timedelta(seconds=random.uniform(1, DAYS * 86400 - 1)) for _ in range(7)]
        answers = [_answer(lake, at, namespaces) for at in instants]
        more = ["--namespace", namespaces[0]] if namespaces else []
        command = [sys.executable, "-m", "hindcast", "config", "at", "--cluster", "c1", "--config", str(file), *more]
        commands = [_run([*command, "--file", str(folder / "out.yaml"), at.isoformat()]) for at in instants[:3]]
        for name, took in (
            ("answer", answers),
            ("command, with the start of Python", [(each.seconds, each.cpu) for each in commands]),
        ):
            wall, cpu = (statistics.median(each) for each in zip(*took, strict=True))
            ratios = f"ratios to the limit of {AT_SECONDS:g} s: {wall / AT_SECONDS:.2f}, of CPU {cpu / AT_SECONDS:.2f}"
            print(f"config at, {what}, {name}: median {wall:.2f} s, CPU {cpu:.2f} s; {ratios}")


def _answer(lake: Lake, at: datetime, namespaces: list[str] | None) -> tuple[float, float]:
    """Return wall and CPU seconds for the YAML of an instant with its coverage, in this process."""
    wall, cpu = time.monotonic(), time.process_time()
    rows = versions.in_force(lake, at, versions.Selection(clusters=["c1"], namespaces=namespaces)).to_pylist()
    coverage_at(lake, at, clusters=["c1"])
    assert "".join(manifest_yaml.documents(rows))
    return time.monotonic() - wall, time.process_time() - cpu


def _seen(number: int, port: int) -> Observed:
    namespace = f"ns-{number % NAMESPACES:03}"
    _, body = _policy(number, namespace, port)
    seen = kinds.observe(kinds.BY_NAME[body["kind"]], {**body, "metadata": {**body["metadata"], "uid": f"u{number}"}})
    assert seen is not None
    return seen


if __name__ == "__main__":
    main()
