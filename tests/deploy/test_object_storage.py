"""A release whose lake is in a bucket and whose Secrets are named: its collector writes there, and `hubble` reads it back from `serve`."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.peers import certificates
from warehouse import config, schema
from warehouse.lake.tables import Lake

pytestmark = pytest.mark.peers

SPACE = "hindcast"
BUCKET = "chart"


@pytest.fixture(scope="module")
def tls(peers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """An authority, with certificates of a relay, of `serve` and of a client."""
    return certificates.authority(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def relay(peers: ModuleType, tls: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A relay that demands certificates, before a node with flows."""
    try:
        for name in ("hubble", "hubble-relay", "hubble-node"):
            peers.program(name)
    except peers.PeerMissing as missing:
        pytest.skip(str(missing))
    folder, address = tmp_path_factory.mktemp("relay"), peers.free_address()
    peer = {"test/node-1": address}
    with (
        peers.hubble_node(folder, name="test/node-1", address=address, peers=peer, rate=200, tls=tls) as node,
        peers.hubble_relay(folder, peer_service=node.address, nodes=1, tls=tls, more=["--sort-buffer-len-max", "1"]) as running,
    ):
        yield running


def secret(name: str, **files: bytes) -> dict[str, Any]:
    data = {key.replace("_", "."): base64.b64encode(content).decode() for key, content in files.items()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": SPACE}, "data": data}


@pytest.fixture(scope="module")
def lake(buckets: Any, tmp_path_factory: pytest.TempPathFactory) -> config.Lake:
    """The lake's settings, for whoever is not in a pod."""
    (buckets.objects / BUCKET).mkdir()
    settings: config.Lake = buckets.settings(BUCKET, tmp_path_factory.mktemp("copies"))
    return settings


@pytest.fixture(scope="module")
def container(
    pods: ModuleType,
    peers: ModuleType,
    server: Any,
    cluster_helm: Any,
    chart: Path,
    relay: Any,
    tls: Any,
    lake: config.Lake,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[str, str], Any]]:
    """Makes containers of a release named `store`, which reads all that is secret from Secrets."""
    keys = {name: lake.options[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    (certificate, key), (of_client, key_of_client) = tls.files(peers.RELAY_SERVER_NAME), tls.client
    server.apply(
        secret("store", id=keys["AWS_ACCESS_KEY_ID"].encode(), key=keys["AWS_SECRET_ACCESS_KEY"].encode()),
        secret("relay", ca_crt=tls.ca.read_bytes(), tls_crt=of_client.read_bytes(), tls_key=key_of_client.read_bytes()),
        secret("serve", tls_crt=certificate.read_bytes(), tls_key=key.read_bytes()),
        secret("clients", ca_crt=tls.ca.read_bytes()),
    )
    options = {name: value for name, value in lake.options.items() if name not in keys}
    credentials = {"secretName": "store", "keys": {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "key"}}
    hubble = {"address": relay.address, "tls": {"secretName": "relay", "server_name": peers.RELAY_SERVER_NAME}}
    values = {
        "lake": {"url": lake.url, "options": options, "credentials": credentials},
        "clusters": [{"name": "test", "hubble": hubble}],
        "config": {"ownership": {"grants": [{"subject": "client", "role": "platform-admin"}]}, "collect": {"flush_every": "500ms"}},
        "serve": {"enabled": True, "tls": {"secretName": "serve", "clientCaSecretName": "clients"}},
        "collector": {"spool": {"persistent": False}},
        "dashboard": {"enabled": False},
        "maintenance": {"mode": "none"},
    }
    cluster_helm("install", "store", str(chart), "-n", SPACE, values=values)
    ports = {port: int(peers.free_address().rpartition(":")[2]) for port in (9965, 4245)}
    node = pods.Node(server, tmp_path_factory.mktemp("node"), ports)

    def make(kind: str, name: str) -> Any:
        spec = server.request("GET", f"/apis/apps/v1/namespaces/{SPACE}/{kind}/store-hindcast-{name}")["spec"]
        return pods.Container(node, spec["template"], namespace=SPACE, name=name, claims=name)

    yield make
    cluster_helm("uninstall", "store", "-n", SPACE)


def test_flows_go_through_relay_and_the_bucket_to_hubble_with_secrets_by_name_alone(
    container: Callable[[str, str], Any], peers: ModuleType, server: Any, relay: Any, tls: Any, lake: config.Lake
) -> None:
    settings = server.request("GET", f"/api/v1/namespaces/{SPACE}/configmaps/store-hindcast")["data"]["hindcast.yaml"]
    assert "AWS_SECRET_ACCESS_KEY: env:AWS_SECRET_ACCESS_KEY" in settings
    collector = container("statefulsets", "collector")
    collector.start()
    try:
        relay.wait_for(lambda: "collecting" in collector.printed(), what="collecting")
        relay.wait_for(lambda: Lake.open(lake).rows(schema.FLOWS) > 100, what="flows in the bucket")
    finally:
        code = collector.stop()
    assert code == 0, collector.printed()
    stored = set(Lake.open(lake).read(schema.FLOWS, ["uuid"])["uuid"].to_pylist())
    serving = container("deployments", "serve")
    serving.start()
    try:
        relay.wait_for(lambda: "serving" in serving.printed(), what="serving")
        address = f"127.0.0.1:{serving.node.ports[4245]}"
        arguments = peers.tls_arguments(tls, name=peers.RELAY_SERVER_NAME)
        flows = peers.run_hubble(["observe", "--server", address, *arguments, "--last", "5", "-o", "jsonpb"])
    finally:
        assert serving.stop() == 0, serving.printed()
    shown = {uuid for uuid in stored if uuid in str(flows)}
    assert len(shown) == 5
