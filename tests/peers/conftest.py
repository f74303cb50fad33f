"""Real peers for the tests in this folder; a test skips where its peer is not built."""

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


def load(name: str) -> ModuleType:
    """A module beside this file, loaded once, by its path."""
    full_name = f"hindcast_peers_{name}"
    if full_name not in sys.modules:
        spec = importlib.util.spec_from_file_location(full_name, Path(__file__).with_name(f"{name}.py"))
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[full_name] = module
        spec.loader.exec_module(module)
    return sys.modules[full_name]


def require(running: ModuleType, *programs: str) -> None:
    """Skip the test unless these programs are built."""
    try:
        for name in programs:
            running.program(name)
    except running.PeerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def running() -> ModuleType:
    """The module that starts and stops peers, loaded by its path; skips when `make peers` built nothing."""
    module = load("running")
    require(module, "hubble", "hubble-relay", "hubble-node")
    return module


def with_programs(name: str) -> ModuleType:
    """A module that compares policy engines; its `program` skips the test when a program is not built."""
    running = load("running")
    module = load(name)

    def program(needed: str) -> Path:
        require(running, needed)
        return Path(running.program(needed))

    module.program = program  # type: ignore[attr-defined]
    return module


@pytest.fixture(scope="session")
def policy_comparison() -> ModuleType:
    """The comparison with Cilium's engines."""
    return with_programs("policy_comparison")


@pytest.fixture(scope="session")
def policy_mutations() -> ModuleType:
    """What makes policies a little wrong."""
    return load("policy_mutations")


@pytest.fixture(scope="session")
def policy_text_comparison() -> ModuleType:
    """The comparison with the engine that reads policies by their texts."""
    return with_programs("policy_text_comparison")


@pytest.fixture(scope="session")
def filter_generator() -> ModuleType:
    """What makes filters of flows."""
    return load("filter_generator")


@pytest.fixture(scope="session")
def kubernetes() -> ModuleType:
    """The module that starts etcd and API servers; skips when they are not built."""
    running = load("running")
    require(running, "etcd", "kube-apiserver", "kubectl")
    return load("clusters")


@pytest.fixture(scope="session")
def etcd(kubernetes: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An etcd that clusters stand on; `compact()` makes older revisions gone."""
    with kubernetes.etcd(tmp_path_factory.mktemp("etcd")) as peer:
        yield peer


@pytest.fixture(scope="session")
def clusters(kubernetes: ModuleType, etcd: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Two clusters, `one` and `two`, with RBAC on and Cilium's CRDs; a test uses namespaces of its own in them."""
    with contextlib.ExitStack() as stack:
        yield {name: stack.enter_context(kubernetes.cluster(tmp_path_factory.mktemp(name), etcd, name=name)) for name in ("one", "two")}


@pytest.fixture(scope="session")
def object_store() -> ModuleType:
    """The module that starts an S3 server; skips when it is not built."""
    require(load("running"), "versitygw")
    return load("object_store")
