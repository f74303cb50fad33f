"""What goes wrong on the way to the first flow, with a real relay and a real API server: `hindcast check` finds it and says what to do."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.peers import certificates

pytestmark = pytest.mark.peers


@pytest.fixture(scope="module")
def relays(peers: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A relay that demands certificates, one without TLS, and one without nodes; and the authority of the first."""
    try:
        for name in ("hubble-relay", "hubble-node"):
            peers.program(name)
    except peers.PeerMissing as missing:
        pytest.skip(str(missing))
    folder = tmp_path_factory.mktemp("relays")
    tls, address = certificates.authority(folder / "tls"), peers.free_address()
    one = {"test/node-1": address}
    with (
        peers.hubble_node(folder / "a", name="test/node-1", address=address, peers=one, rate=50, tls=tls) as secret,
        peers.hubble_node(folder / "b", name="test/node-1", address=peers.free_address(), rate=50) as plain,
        peers.hubble_relay(folder / "a", peer_service=secret.address, nodes=1, tls=tls) as with_tls,
        peers.hubble_relay(folder / "b", peer_service=plain.address, nodes=1) as without,
        peers.hubble_relay(folder / "c", peer_service=peers.free_address()) as lonely,
    ):
        yield {"tls": with_tls.address, "plain": without.address, "lonely": lonely.address, "authority": tls}


def check(folder: Path, document: dict[str, Any], *arguments: str) -> dict[str, dict[str, str]]:
    """The rows that it prints, by the cluster's name."""
    file = folder / "hindcast.yaml"
    file.write_text(json.dumps(document))
    command = [sys.executable, "-m", "hindcast", "check", "--config", str(file), "--output", "jsonl", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows, done.stderr
    assert done.returncode == any(row["state"] == "failed" for row in rows)
    return {row["what"].removeprefix("cluster "): row for row in rows}


def test_each_way_in_which_relay_cannot_be_reached_comes_with_what_to_do(relays: dict[str, Any], peers: ModuleType, tmp_path: Path) -> None:
    authority, (certificate, key) = relays["authority"], relays["authority"].client
    other = certificates.authority(tmp_path / "other")
    right = {"ca": str(authority.ca), "cert": str(certificate), "key": str(key), "server_name": peers.RELAY_SERVER_NAME}
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(0)
        closed = peers.free_address()
        cases: dict[str, tuple[dict[str, Any], str]] = {
            "not-known": ({"address": "hubble-relay.kube-system.svc:80", "plaintext": True}, "a name inside its own cluster"),
            "not-running": ({"address": closed, "plaintext": True}, "is relay enabled"),
            "speaks-tls": ({"address": relays["tls"], "plaintext": True}, "it speaks TLS: take out plaintext"),
            "no-tls": ({"address": relays["plain"], "tls": right}, "it answers without TLS: say plaintext: true"),
            "public-authority": ({"address": relays["tls"], "tls": {"server_name": "r.example"}}, "only public authorities are trusted"),
            "other-authority": ({"address": relays["tls"], "tls": right | {"ca": str(other.ca)}}, "not signed by an authority of tls.ca"),
            "other-name": (
                {"address": relays["tls"], "tls": right | {"server_name": "relay"}},
                f"tls.server_name: {peers.RELAY_SERVER_NAME}",
            ),
            "no-certificate": (
                {"address": relays["tls"], "tls": {key: right[key] for key in ("ca", "server_name")}},
                "if it demands a client certificate",
            ),
            "refused-certificate": (
                {"address": relays["tls"], "tls": right | {"cert": str(other.client[0]), "key": str(other.client[1])}},
                "it refuses ours",
            ),
            "without-nodes": ({"address": relays["lonely"], "plaintext": True}, "agents need hubble.enabled=true"),
            "right": ({"address": relays["tls"], "tls": right}, ""),
        }
        clusters = [{"name": name, "hubble": hubble} for name, (hubble, _) in cases.items()]
        rows = check(tmp_path, {"clusters": clusters}, "--only", "hubble")
    assert {name for name, row in rows.items() if row["state"] == "ok"} == {"right"}
    for name, (_, said) in cases.items():
        assert said in (rows[name]["advice"] or ""), (name, rows[name])


def test_rights_that_lack_a_token_that_is_old_and_one_that_is_not_there_come_with_what_to_do(
    server: Any, peers: ModuleType, tmp_path: Path
) -> None:
    def kubeconfig(name: str, **changes: str) -> dict[str, str]:
        document = json.loads(server.kubeconfig("reader", token=changes.get("token")).read_text())
        document["clusters"][0]["cluster"]["server"] = changes.get("server", f"https://{server.address}")
        (tmp_path / name).write_text(json.dumps(document))
        return {"kubeconfig": str(tmp_path / name)}

    clusters = [
        {"name": "forbidden", "kubernetes": kubeconfig("a")},
        {"name": "old-token", "kubernetes": kubeconfig("b", token="expired")},
        {"name": "outside", "kubernetes": {"in_cluster": True}},
    ]
    rows = check(tmp_path, {"clusters": clusters}, "--only", "kubernetes")
    assert {row["state"] for row in rows.values()} == {"failed"}
    assert "NetworkPolicy" in rows["forbidden"]["found"]
    assert "rbac.reader" in rows["forbidden"]["advice"]
    assert "create token" in rows["old-token"]["advice"]
    assert "check --only kubernetes there" in rows["outside"]["advice"]
