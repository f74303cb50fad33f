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
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pytest
import yaml
from pyarrow import flight

import hindcast
from api import flight_messages
from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from hindcast.client import Connection, ConnectionFailedError
from tests.peers import certificates
from warehouse import config
from warehouse.errors import ConfigError, QueryError
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

ROOT = Path(__file__).resolve().parents[2]
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
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("client")
    authority = certificates.authority(folder / "certificates", nodes=())
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


def test_a_window_that_is_wrong_is_refused_and_another_one_is_asked_about(served: Served) -> None:
    with pytest.raises(ConnectionFailedError, match="hindcast-since"):
        hindcast.connect(served.url, token=served.token, ca=served.ca, since="yesterday")
    with hindcast.connect(served.url, token=served.token, ca=served.ca, since="3d", until="2d") as lake:
        assert lake.sql("SELECT count(*) AS n FROM flows").to_arrow()["n"].to_pylist() == [0]


def test_the_page_about_notebooks_works_as_written(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HINDCAST_TOKEN", served.token)
    text = (ROOT / "docs" / "notebook.md").read_text(encoding="utf-8")
    code = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    here = code.replace('"grpc+tls://hindcast.example:4246"', f'"{served.url}", ca=r"{served.ca}"')
    assert here != code
    names: dict[str, Any] = {}
    exec(here, names)  # noqa: S102 - the page's own code
    assert len(names["talkers"]) > 0
    assert names["seen"] == names["minutes"]["flows"].sum() > 0


def test_what_the_page_about_grafana_says_is_answered(served: Served) -> None:
    (source,) = yaml.safe_load((ROOT / "deploy" / "grafana" / "datasource.yaml").read_text(encoding="utf-8"))["datasources"]
    (more,) = source["jsonData"]["metadata"]
    now = int(dt.datetime.now(dt.UTC).timestamp() * 1000)
    queries = re.findall(r"```sql\n(.*?)```", (ROOT / "docs" / "grafana.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(queries) == 3
    with flight.connect(served.url, tls_root_certs=served.ca.read_bytes()) as client:
        headers = [(name.encode(), value.encode()) for name, value in {"authorization": f"Bearer {served.token}", **more}.items()]
        options = flight.FlightCallOptions(headers=headers)

        def answer(sql: str) -> pa.Table:
            command = flight_messages.packed(flight_messages.made("CommandStatementQuery", query=sql))
            (end,) = client.get_flight_info(flight.FlightDescriptor.for_command(command), options).endpoints
            return client.do_get(end.ticket, options).read_all()

        assert answer("select 1").num_rows == 1
        found = [answer(query.replace("$__from", str(now - 3_600_000)).replace("$__to", str(now))) for query in queries]
    assert pa.compute.sum(found[0]["flows"]).as_py() > 0
    assert found[1].num_rows > 0


def test_the_package_is_light_until_the_client_is_used() -> None:
    code = "import sys, hindcast; assert not {'pyarrow', 'adbc_driver_flightsql', 'duckdb'} & set(sys.modules); hindcast.connect"
    subprocess.run([sys.executable, "-c", code], check=True)
