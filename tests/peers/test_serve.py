"""The real `hubble` asks `hindcast serve` as it asks relay."""

import contextlib
import datetime as dt
import itertools
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from collectors.decoding import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from tests.peers import certificates
from warehouse import config, schema
from warehouse.lake.tables import Lake

pytestmark = pytest.mark.peers
COUNT = 400


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration and its lake of some flows of the last days."""
    made = tmp_path_factory.mktemp("serve")
    now = dt.datetime.now(dt.UTC)
    traffic = Traffic(build_fleet(1, ("c1",), 2), 1, now - dt.timedelta(days=9), 0.001)
    messages = [flow.SerializeToString() for flow in itertools.islice(traffic.flows(), COUNT)]
    lake = Lake.open(config.Lake(url=str(made / "lake")))
    rows = decode.decode(messages, cluster="c1", recorded=now, live=False).rows
    lake.commit(schema.FLOWS, lake.write_files(schema.FLOWS, rows), transactions={}, metadata={})
    grants = {"grants": [{"subject": "ada", "role": "namespace-owner", "namespaces": ["cart"]}]}
    (made / "hindcast.yaml").write_text(json.dumps({"lake": {"url": "lake"}, "ownership": grants}))
    return made


@contextlib.contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[str]:
    """The address of `hindcast serve`; it ends with status 0 at SIGTERM."""
    command = [sys.executable, "-m", "hindcast", "serve", "--config", str(folder / "hindcast.yaml"), "--listen", "127.0.0.1:0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=config.environment(PYTHONUNBUFFERED="1"))
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("serving 127.0.0.1:"), line
        yield line.split()[1]
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def flows_of(running: ModuleType, *arguments: str) -> list[dict[str, Any]]:
    """What `hubble observe` prints as JSON."""
    command = [str(running.program("hubble")), "observe", "-o", "jsonpb", *arguments]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [found["flow"] for line in printed.splitlines() if "flow" in (found := json.loads(line))]


@pytest.fixture(scope="module")
def address(folder: Path) -> Iterator[str]:
    with serving(folder, "--plaintext") as found:
        yield found


def test_hubble_observes_flows_of_the_last_month(running: ModuleType, address: str, folder: Path) -> None:
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    stored = lake.read(schema.FLOWS, ["uuid", "time", "time_ns"]).sort_by([("time", "ascending"), ("time_ns", "ascending")])
    found = flows_of(running, "--server", address, "--since", "720h", "--last", "100")
    assert [flow["uuid"] for flow in found] == stored["uuid"].to_pylist()[-100:]
    assert len(flows_of(running, "--server", address, "--since", "720h")) == COUNT
    text = subprocess.run(
        [str(running.program("hubble")), "observe", "--server", address, "--last", "20"], capture_output=True, text=True, check=True
    ).stdout
    assert len(text.splitlines()) == 20


def test_hubble_filters_by_namespace(running: ModuleType, address: str) -> None:
    found = flows_of(running, "--server", address, "--since", "720h", "--namespace", "cart")
    assert found
    ends = [{flow.get(side, {}).get("namespace") for side in ("source", "destination")} for flow in found]
    assert all("cart" in both for both in ends)


def test_hubble_asks_for_status_namespaces_and_nodes(running: ModuleType, address: str) -> None:
    hubble = str(running.program("hubble"))
    status = subprocess.run([hubble, "status", "--server", address], capture_output=True, text=True, check=True).stdout
    assert f"{COUNT}/{COUNT}" in status
    for what in ("namespaces", "nodes"):
        subprocess.run([hubble, "list", what, "--server", address], capture_output=True, check=True)


def test_hubble_signs_in_with_a_personal_token_over_tls(running: ModuleType, folder: Path) -> None:
    issued = certificates.authority(folder / "certificates", nodes=())
    document = json.loads((folder / "hindcast.yaml").read_text())
    name = running.RELAY_SERVER_NAME
    tls = dict(zip(("cert", "key"), map(str, issued.files(name)), strict=True))
    secured = folder / "secured"
    secured.mkdir()
    (secured / "hindcast.yaml").write_text(json.dumps(document | {"lake": {"url": str(folder / "lake")}, "serve": {"tls": tls}}))
    create = [sys.executable, "-m", "hindcast", "token", "create", "--user", "ada", "--config", str(secured / "hindcast.yaml")]
    token = subprocess.run(create, capture_output=True, text=True, check=True).stdout.strip()
    with serving(secured) as address:
        usual = ["--server", address, "--tls", "--tls-ca-cert-files", str(issued.ca), "--tls-server-name", name]
        found = flows_of(running, *usual, "--basic-auth-username", "ada", "--basic-auth-password", token, "--last", "5")
        assert len(found) == 5
        assert all("cart" in (flow.get("source", {}).get("namespace"), flow.get("destination", {}).get("namespace")) for flow in found)
        with pytest.raises(subprocess.CalledProcessError) as caught:
            flows_of(running, *usual, "--basic-auth-username", "ada", "--basic-auth-password", "wrong", "--last", "5")
        assert "wrong, expired or revoked" in caught.value.stderr
