"""The real JDBC driver of Flight SQL, which DBeaver and other tools on Java use, asks a server with TLS as a user with a token."""

import datetime as dt
import importlib.util
import itertools
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from api.flight import FlightSql
from api.identity import SignedIn
from collectors.decoding import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from tests.peers import certificates
from warehouse import config, schema
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.records import tokens

pytestmark = [pytest.mark.peers, pytest.mark.slow]
HERE = Path(__file__).parent
GRANTS = {"grants": [{"subject": "ada", "role": "namespace-owner", "namespaces": ["cart"]}]}


@pytest.fixture(scope="module")
def jar() -> Path:
    """The driver."""
    spec = importlib.util.spec_from_file_location("hindcast_tests_peers_build_jars", HERE / "build.py")
    assert spec is not None
    assert spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = build
    spec.loader.exec_module(build)
    path: Path = build.jar_path("flight-sql-jdbc")
    if not path.exists() or shutil.which("java") is None:
        pytest.skip("the JDBC driver of Flight SQL or java is not there: python3 tests/peers/build.py flight-sql-jdbc")
    return path


@dataclass
class Served:
    """A server, and Ada's token."""

    jar: Path
    url: str
    token: str
    mine: int

    def lines(self, *steps: tuple[str, ...], token: str | None = None, more: str = "") -> list[str]:
        """What the client prints for these steps."""
        client = HERE / "flight-sql-jdbc" / "Client.java"
        command = ["java", "--add-opens=java.base/java.nio=ALL-UNNAMED", "-cp", str(self.jar), str(client), self.url + more, "ada"]
        asked = "".join("\t".join(step) + "\n" for step in steps)
        environment = config.environment(TOKEN=token or self.token)
        ended = subprocess.run(command, input=asked, capture_output=True, text=True, env=environment, timeout=300)
        assert not ended.returncode, ended.stderr
        return ended.stdout.splitlines()


@pytest.fixture(scope="module")
def served(running: ModuleType, jar: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("jdbc")
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    now = dt.datetime.now(dt.UTC)
    traffic = Traffic(build_fleet(1, ("c1",), 2), 1, now - dt.timedelta(hours=2), 0.25)
    flows = list(itertools.islice(traffic.flows(), 300))
    rows = decode.decode([flow.SerializeToString() for flow in flows], cluster="c1", recorded=now, live=False).rows
    lake.commit(schema.FLOWS, lake.write_files(schema.FLOWS, rows), transactions={}, metadata={})
    issued = certificates.authority(folder / "tls", nodes=())
    cert, key = issued.files(certificates.RELAY_SERVER_NAME)
    tls = config.ServeTls(cert=cert, key=key)
    door = Door(lake, config.Ownership.model_validate(GRANTS), purpose="serve")
    token = tokens.create(lake, Principal(user="ada"), name="dbeaver", lifetime=dt.timedelta(days=1), changed_by="test")[1]
    mine = sum("cart" in (flow.source.namespace, flow.destination.namespace) for flow in flows)
    with FlightSql(door, SignedIn(config.Serve(tls=tls), lake), config.ServeLimits(), "127.0.0.1:0", tls) as server:
        # The certificate is for relay's name: the driver checks the authority and, here alone, not the name.
        url = f"jdbc:arrow-flight-sql://127.0.0.1:{server.port}/?useEncryption=true&disableCertificateVerification=true"
        yield Served(jar, url, token, mine)


def test_a_wrong_token_is_refused(served: Served) -> None:
    (line,) = served.lines(("query", "SELECT 1"), token="wrong")
    assert "the token is wrong, expired or revoked" in line


def test_what_dbeaver_does(served: Served) -> None:
    steps = [
        ("query", "SELECT count(*) FROM flows"),
        ("prepared", "SELECT ?, count(*) > 0 FROM flows WHERE verdict = ?", "o'clock", "FORWARDED"),
        ("query", "SELECT nope"),
        ("query", "SELECT count(*) FROM tokens"),
        ("query", "COPY flows TO '/tmp/flows'"),
        ("metadata",),
    ]
    own, prepared, wrong, hidden, copied, product, *listed = served.lines(*steps)
    assert own == str(served.mine)
    assert prepared == "o'clock\ttrue"
    assert "nope" in wrong
    assert hidden.startswith("SQLException")
    assert copied.startswith("SQLException")
    assert product == 'product\thindcast\ttrue\t"'
    assert listed[:6] == ["catalogs", "hindcast", "schemas", "main\thindcast", "types", "TABLE"]
    (uuid,) = [line.split("\t") for line in listed if line.startswith("hindcast\tmain\tflows\tuuid\t")]
    assert uuid[11].startswith("Hubble's id of the flow")
    assert listed[-1] == "end"


def test_a_cancelled_statement_ends_and_the_next_one_is_answered(served: Served) -> None:
    endless = "SELECT i + length(repeat('x', 200)) FROM range(1000000000000) t(i)"
    first, own = served.lines(("first", endless), ("query", "SELECT count(*) FROM flows"))
    assert first == "first\t200"
    assert own == str(served.mine)


def test_properties_of_the_address_say_which_time_is_asked_about(served: Served) -> None:
    count = ("query", "SELECT count(*) FROM flows")
    assert served.lines(count, more="&hindcast-since=30m") == ["0"]
    with pytest.raises(AssertionError, match="hindcast-since"):  # the client ends with the server's words
        served.lines(count, more="&hindcast-since=yesterday")
