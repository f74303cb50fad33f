"""Real peers for the tests in this folder; a test skips where its peer is not built."""

import contextlib
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.peers import clusters as peer_clusters
from tests.peers import object_store, store_proxy
from tests.peers import running as peer_programs
from warehouse import config
from warehouse.access.access_log import flush


def require(*programs: str) -> None:
    """Skip the test unless these programs are built."""
    try:
        for name in programs:
            peer_programs.program(name)
    except peer_programs.PeerMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def running() -> ModuleType:
    """The module that starts and stops peers; skips when `make peers` built nothing."""
    require("hubble", "hubble-relay", "hubble-node")
    return peer_programs


@pytest.fixture(scope="session")
def built() -> Callable[[str], Path]:
    """Returns a program of a peer; skips the test when it is not built."""

    def program(name: str) -> Path:
        require(name)
        return peer_programs.program(name)

    return program


@pytest.fixture(scope="session")
def kubernetes() -> ModuleType:
    """The module that starts etcd and API servers; skips when they are not built."""
    require("etcd", "kube-apiserver", "kubectl")
    return peer_clusters


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


@dataclass(frozen=True)
class Bucket:
    """An empty bucket of a running S3 server, behind a proxy that counts requests and makes them fail."""

    proxy: Any
    server: Any
    options: dict[str, str]
    copies: Path

    def settings(self, lake: str = "lake", *, bucket: str = "bucket", cache_bytes: int = 2 * 1024**3, **options: str) -> config.Lake:
        """A lake in the bucket; options of this lake alone replace the usual ones."""
        return config.Lake(url=f"s3://{bucket}/{lake}", options=self.options | options, cache=self.copies, cache_bytes=cache_bytes)


def bucket_of(name: str, folder: Path, stack: contextlib.ExitStack) -> Bucket:
    """Start a server and a proxy before it; skips the test where it is not built."""
    require(name)
    (folder / "objects" / "bucket").mkdir(parents=True)
    if name == "moto":
        server = stack.enter_context(object_store.moto_server(folder, "bucket"))
    else:
        server = stack.enter_context(object_store.s3_server(folder / "objects", folder, folder / "requests.log"))
    proxy = stack.enter_context(store_proxy.proxy(server.address))
    options = {"AWS_ENDPOINT_URL": f"http://{proxy.address}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1"}
    options |= {"AWS_ACCESS_KEY_ID": object_store.KEY, "AWS_SECRET_ACCESS_KEY": object_store.SECRET}
    return Bucket(proxy, server, options, folder / "copies")


@pytest.fixture(scope="module", params=["versitygw", "moto"])
def bucket(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket of each of two servers that have nothing in common."""
    with contextlib.ExitStack() as stack:
        yield bucket_of(request.param, tmp_path_factory.mktemp("bucket"), stack)
        flush()  # while there is a server to take it


@pytest.fixture(scope="module")
def versitygw(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    """A bucket of versitygw."""
    with contextlib.ExitStack() as stack:
        yield bucket_of("versitygw", tmp_path_factory.mktemp("bucket"), stack)
        flush()  # while there is a server to take it


@pytest.fixture(scope="session")
def faults() -> ModuleType:
    """What can be made to go wrong on the way to a store."""
    return store_proxy


@pytest.fixture
def dashboard(tmp_path: Path) -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """What runs a real dashboard on a configuration, as a process, and says its address."""

    @contextlib.contextmanager
    def running(configuration: Path) -> Iterator[str]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            listen = f"127.0.0.1:{probe.getsockname()[1]}"
        command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(configuration), "--listen", listen]
        with (tmp_path / "log").open("wb") as log:
            server = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            deadline = time.monotonic() + 300
            while True:
                try:
                    urllib.request.urlopen(f"http://{listen}/_stcore/health", timeout=1)
                    break
                except OSError:
                    assert time.monotonic() < deadline, (tmp_path / "log").read_text()
                    time.sleep(0.2)
            yield f"http://{listen}"
        finally:
            server.terminate()
            server.wait(100)

    return running
