"""The Python client against a real `hindcast serve` with TLS and personal tokens."""

import contextlib
import datetime as dt
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pyarrow as pa
import pytest

import hindcast
from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from hindcast.client import Connection, ConnectionFailedError
from warehouse import config
from warehouse.errors import ConfigError, QueryError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

HINDCAST = [sys.executable, "-c", "from hindcast.cli import main; main()"]


@dataclass
class Served:
    """A server, and a token of paula, who owns `payments`."""

    url: str
    ca: Path
    token: str

    def connect(self, token: str | None = None, user: str = "") -> Connection:
        return hindcast.connect(self.url, token=token or self.token, user=user, ca=self.ca)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, certificates: ModuleType) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("client")
    authority = certificates.certificates(folder / "certificates", nodes=())
    cert, key = authority.issue("localhost", addresses=["127.0.0.1"])
    grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]}]
    document = {"ownership": {"grants": grants}, "serve": {"tls": {"cert": str(cert), "key": str(key)}}}
    (folder / "hindcast.yaml").write_text(json.dumps(document))
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    traffic = Traffic(build_fleet(1, clusters=("eu",)), 1, dt.datetime.now(dt.UTC) - dt.timedelta(minutes=20), 5.0)
    messages = [flow.SerializeToString() for flow in itertools.islice(traffic.flows(), 800)]
    rows = decode(messages, cluster="eu", recorded=dt.datetime.now(dt.UTC), live=False).rows
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})
    made = subprocess.run([*HINDCAST, "token", "create", "--user", "paula"], cwd=folder, capture_output=True, text=True, check=True)
    command = [*HINDCAST, "serve", "--listen", "127.0.0.1:0", "--flight-listen", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        with contextlib.closing(process.stdout):
            found = re.search(r"Flight SQL on \S+:(\d+)", process.stdout.readline())
            assert found
            yield Served(f"grpc+tls://localhost:{found[1]}", authority.ca, made.stdout.strip())
            process.terminate()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://localhost:1", "not an address of Flight SQL"),
        ("grpc+tls://paula:hunter2@localhost", "not an address of Flight SQL"),
        ("localhost:4246", "not an address of Flight SQL"),
        ("grpc://hindcast.example:4246", "another machine"),
    ],
)
def test_an_address_that_is_wrong_or_unsafe_is_refused_without_repeating_secrets(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        hindcast.connect(url, token="secret")
    assert "hunter2" not in str(refused.value)


def test_a_server_that_is_away_is_named() -> None:
    with pytest.raises(ConnectionFailedError, match=r"grpc://127\.0\.0\.1:1: "):
        hindcast.connect("grpc://127.0.0.1:1")


def test_an_authority_that_cannot_be_read_is_named(served: Served) -> None:
    with pytest.raises(ConfigError, match=r"ca missing\.pem: cannot be read"):
        hindcast.connect(served.url, token=served.token, ca="missing.pem")


def test_a_wrong_token_and_an_unknown_authority_are_refused(served: Served) -> None:
    with pytest.raises(ConnectionFailedError) as refused:
        hindcast.connect(served.url, token=served.token)
    assert served.token not in str(refused.value)
    with pytest.raises(ConnectionFailedError, match=r"(?i)wrong, expired or revoked"):
        served.connect(served.token[:-5] + "AAAAA")


def test_a_statement_that_is_refused_says_why_and_the_next_one_is_answered(served: Served) -> None:
    with served.connect() as lake:
        with pytest.raises(QueryError) as refused:
            lake.sql("SELECT verdic FROM flows").to_arrow()
        assert str(refused.value).startswith('Referenced column "verdic" not found in FROM clause!\nCandidate bindings: "verdict"')
        assert "Detail" not in str(refused.value)
        assert lake.sql("SELECT 42 AS answer").to_arrow().to_pylist() == [{"answer": 42}]


def test_an_owner_gets_her_rows_and_no_others_as_pandas_and_in_batches(served: Served) -> None:
    with served.connect(user="paula") as lake:
        frame = lake.sql("SELECT source_namespace, destination_namespace, time FROM flows").to_pandas()
        assert 0 < len(frame) < 800
        assert ((frame["source_namespace"] == "payments") | (frame["destination_namespace"] == "payments")).all()
        assert str(frame["time"].dt.tz) == "UTC"
        batches = list(lake.sql("SELECT x FROM range(200000) t(x)"))
        assert len(batches) > 1
        assert pa.Table.from_batches(batches)["x"].to_pylist() == list(range(200_000))


def test_values_are_bound_and_a_result_has_its_schema_before_its_rows(served: Served) -> None:
    with served.connect() as lake:
        result = lake.sql("SELECT ? AS who, ?::INTEGER + 1 AS number", ("o'clock", 6))
        assert result.schema.names == ["who", "number"]
        assert result.to_arrow().to_pylist() == [{"who": "o'clock", "number": 7}]


def test_the_package_is_light_until_the_client_is_used() -> None:
    code = "import sys, hindcast; assert not {'pyarrow', 'adbc_driver_flightsql', 'duckdb'} & set(sys.modules); hindcast.connect"
    subprocess.run([sys.executable, "-c", code], check=True)
