"""Helm, a real API server to install into, and containers of the rendered pods. Tests skip where a peer is not built."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from tests.modules import load
from tests.peers import clusters, running

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "hindcast"
VALUE_SETS = sorted((CHART / "ci").glob("*.yaml"))


class Helm:
    """The helm command, with a cluster's kubeconfig if one is given."""

    def __init__(self, program: Path, home: Path, server: Any = None) -> None:
        self._command = [str(program)]
        self._environment = {"HOME": str(home), "PATH": "/usr/bin:/bin"}
        if server is not None:
            self._environment["KUBECONFIG"] = str(server.kubeconfig())

    def __call__(self, *arguments: str, values: dict[str, Any] | None = None, fails: bool = False) -> str:
        """What it prints; with `fails`, its errors. `values` are given to it as a file."""
        command = [*self._command, *arguments, *(["-f", "-"] if values is not None else [])]
        done = subprocess.run(
            command, input=json.dumps(values or {}), capture_output=True, text=True, timeout=600, check=False, env=self._environment
        )
        assert bool(done.returncode) == fails, done.stdout + done.stderr
        return done.stderr if fails else done.stdout

    def objects(self, *arguments: str, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The objects that `helm template` renders."""
        text = self("template", "hindcast", str(CHART), "-n", "hindcast", *arguments, values=values)
        return [document for document in yaml.safe_load_all(text) if document]


@pytest.fixture(scope="session")
def peers() -> ModuleType:
    """The module that starts real peers; skips where helm or Kubernetes is not built."""
    try:
        for name in ("helm", "etcd", "kube-apiserver", "kubectl"):
            running.program(name)
    except running.PeerMissing as missing:
        pytest.skip(str(missing))
    return running


@pytest.fixture(scope="session")
def helm(peers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm without a cluster."""
    return Helm(peers.program("helm"), tmp_path_factory.mktemp("helm"))


@pytest.fixture(scope="session")
def server(peers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A cluster's API server with Cilium's CRDs, and the namespaces `hindcast` and `airflow`, which admit restricted pods only."""
    folder = tmp_path_factory.mktemp("deploy")
    with clusters.etcd(folder) as store, clusters.cluster(folder / "cluster", store, name="deploy") as running:
        labels = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn")}
        spaces = [
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}} for name in ("hindcast", "airflow")
        ]
        # A controller that is not there would make it.
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "hindcast"}}
        running.apply(*spaces, account)
        yield running


@pytest.fixture(scope="session")
def cilium_chart(server: Any) -> Path:
    """Cilium's own chart."""
    folder: Path = clusters.cilium_folder()
    return folder / "install" / "kubernetes" / "cilium"


@pytest.fixture(scope="session")
def cluster_helm(peers: ModuleType, server: Any, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Helm that installs into the cluster."""
    return Helm(peers.program("helm"), tmp_path_factory.mktemp("helm-home"), server)


@pytest.fixture(scope="session")
def pods() -> ModuleType:
    """The module that runs containers of pods; skips where there can be no mount namespaces."""
    module = load(Path(__file__).with_name("pods.py"))
    if not module.can_run():
        pytest.skip("containers of pods need root and mount namespaces")
    return module


@pytest.fixture(scope="session")
def chart() -> Path:
    """The chart's folder."""
    return CHART


@pytest.fixture(params=VALUE_SETS, ids=lambda path: path.stem)
def value_set(request: pytest.FixtureRequest) -> Path:
    """A file of values, each in turn."""
    path: Path = request.param
    return path


@pytest.fixture(scope="session")
def pod_specs() -> Callable[[list[dict[str, Any]]], dict[str, dict[str, Any]]]:
    """Finds the pod templates of rendered objects, by the owner's kind and name."""

    def find(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
        found = {}
        for each in objects:
            spec = each.get("spec", {})
            template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
            if template:
                found[f"{each['kind']}/{each['metadata']['name']}"] = template
        return found

    return find
