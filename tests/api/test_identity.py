"""Who a caller is: certificates, personal tokens and OpenID tokens, over real TLS, and what is refused."""

import base64
import datetime as dt
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from joserfc import jwt
from joserfc.jwk import ECKey

from api import identity, observer
from api.observer import Observer
from api.server import Server
from tests.modules import load
from warehouse import config
from warehouse.access import access_log
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.records import tokens
from warehouse.schema import ACCESS_LOG, TOKENS

world: Any = load(Path(__file__).with_name("conftest.py"))
ADA = Principal(user="ada", groups=frozenset({"payments"}))


class Authority:
    """A certificate authority."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.certificate = self._signed(subject, self.key, subject, [x509.BasicConstraints(ca=True, path_length=None)])
        self.file = folder / f"{name}-ca.pem"
        self.file.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, name: str, *, organizations: tuple[str, ...] = (), alternatives: tuple[x509.GeneralName, ...] = ()
    ) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, name)] if name else []
        parts += [x509.NameAttribute(NameOID.ORGANIZATION_NAME, one) for one in organizations]
        extensions = [x509.SubjectAlternativeName(alternatives)] if alternatives else []
        made = self._signed(x509.Name(parts), key, self.certificate.subject, extensions)
        files = self.folder / f"{self.name}-{name}.pem", self.folder / f"{self.name}-{name}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        plain = serialization.NoEncryption()
        files[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain))
        return files

    def _signed(self, subject: x509.Name, key: Any, issuer: x509.Name, extensions: list[Any]) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        builder = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(days=1))
        for extension in extensions:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


@dataclass
class Secured:
    """Servers with TLS over one lake: one that asks for client certificates, and one that does not."""

    authority: Authority
    mutual: Server
    plain: Server
    provider: "Provider"

    def channel(self, server: Server, files: tuple[Path, Path] | None = None) -> grpc.Channel:
        key, cert = (files[1].read_bytes(), files[0].read_bytes()) if files else (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.file.read_bytes(), key, cert)
        return grpc.secure_channel(f"localhost:{server.port}", credentials)

    def uuids(self, authorization: str | None = None, files: tuple[Path, Path] | None = None) -> list[str]:
        """The newest flows' uuids as a caller sees them."""
        metadata = [("authorization", authorization)] if authorization else None
        with self.channel(self.mutual if files else self.plain, files) as channel:
            return [flow.uuid for flow in world.Client(channel).flows(number=5, metadata=metadata)]


class Provider:
    """The published documents of an OpenID provider."""

    def __init__(self) -> None:
        self.key = ECKey.generate_key("P-256", parameters={"kid": "one"})
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                keys = {"keys": [provider.key.as_dict(private=False)]}
                found = keys if self.path == "/keys" else {"issuer": provider.url, "jwks_uri": f"{provider.url}/keys"}
                self.send_response(200)
                self.end_headers()
                self.wfile.write(json.dumps(found).encode())

            def log_message(self, *_arguments: Any) -> None:
                """Print nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def token(self, **changed: Any) -> str:
        """A token, with some claims changed."""
        soon = int(dt.datetime.now(dt.UTC).timestamp()) + 3600
        claims = {"iss": self.url, "aud": "hindcast", "exp": soon, "email": "ada", "groups": ["payments"]} | changed
        return jwt.encode({"alg": "ES256", "kid": "one"}, {name: value for name, value in claims.items() if value is not None}, self.key)


@pytest.fixture(scope="module")
def secured(stored: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    authority, provider = Authority(folder, "ours"), Provider()
    cert, key = authority.issue("localhost", alternatives=(x509.DNSName("localhost"),))
    oidc = config.ServeOidc(metadata_url=f"{provider.url}/.well-known/openid-configuration", audience="hindcast")
    threading.Thread(target=provider.server.serve_forever, daemon=True).start()

    def make(client_ca: Path | None) -> Server:
        tls = config.ServeTls(cert=cert, key=key, client_ca=client_ca)
        serve = config.Serve(tls=tls, oidc=oidc)
        return Server(Observer(stored.door(), identity.SignedIn(serve, stored.lake), serve.limits), "127.0.0.1:0", tls)

    with world.running(lambda: make(authority.file)) as mutual, world.running(lambda: make(None)) as plain:
        yield Secured(authority, mutual, plain, provider)
    provider.server.shutdown()


@pytest.fixture
def newest(stored: Any) -> list[str]:
    """The newest flows that ada sees."""
    mine = [flow.uuid for flow in stored.flows if "cart" in (flow.source.namespace, flow.destination.namespace)]
    return mine[-5:]


def refusal(secured: Secured, authorization: str | None = None, files: tuple[Path, Path] | None = None) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as caught:
        secured.uuids(authorization, files)
    return caught.value.code(), caught.value.details()  # type: ignore[attr-defined]


def password(user: str, text: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{text}".encode()).decode()


def made(stored: Any, who: Principal = ADA, **lifetime: float) -> tuple[tokens.Token, str]:
    return tokens.create(stored.lake, who, name="test", lifetime=dt.timedelta(**lifetime or {"days": 1}), changed_by="test")


def test_a_caller_without_credentials_is_told_what_to_use(secured: Secured) -> None:
    code, details = refusal(secured)
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "hindcast token create" in details


@pytest.mark.parametrize(
    "header",
    [
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff").decode(),
        "Digest x",
        "Bearer ",
        "Bearer hct_0000000000000000_" + "a" * 43,
        "Bearer x.y.z",
    ],
)
def test_wrong_credentials_are_refused(secured: Secured, header: str) -> None:
    assert refusal(secured, header)[0] is grpc.StatusCode.UNAUTHENTICATED


def test_a_token_of_someone_else_an_expired_and_a_revoked_one_are_refused(stored: Any, secured: Secured) -> None:
    token, text = made(stored)
    assert secured.uuids(password("ada", text))
    assert refusal(secured, password("root", text))[0] is grpc.StatusCode.UNAUTHENTICATED
    assert refusal(secured, password("ada", text[:-1] + ("a" if text[-1] != "a" else "b")))[0] is grpc.StatusCode.UNAUTHENTICATED
    tokens.revoke(stored.lake, token.id, changed_by="test")
    assert refusal(secured, password("ada", text))[0] is grpc.StatusCode.UNAUTHENTICATED
    _, short = made(stored, microseconds=1)
    assert "expired" in refusal(secured, password("ada", short))[1]


def test_a_stream_that_is_open_ends_when_its_token_is_revoked(stored: Any, secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observer, "CHECKED_EVERY_SECONDS", 0.0)
    token, text = made(stored)
    with secured.channel(secured.plain) as channel:
        call = world.Client(channel).stream(number=1, follow=True, metadata=[("authorization", password("ada", text))])
        assert next(call).HasField("flow")
        tokens.revoke(stored.lake, token.id, changed_by="test")
        with pytest.raises(grpc.RpcError) as caught:
            for _ in call:
                pass
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED  # type: ignore[attr-defined]


def test_a_token_is_stored_as_a_hash_and_asks_on_behalf_of_its_user(stored: Any, secured: Secured, newest: list[str]) -> None:
    _, text = made(stored)
    assert secured.uuids(password("ada", text)) == newest
    assert secured.uuids(f"Bearer {text}") == newest
    secret = text.rpartition("_")[2]
    assert secret not in json.dumps(stored.lake.read(TOKENS).to_pylist(), default=str)


def test_what_a_token_asked_is_in_the_access_log(stored: Any, secured: Secured) -> None:
    _, text = made(stored)
    secured.uuids(password("ada", text))
    access_log.flush()
    entries = [row for row in stored.lake.read(ACCESS_LOG).to_pylist() if row["principal"] == "ada" and row["question"] == "GetFlows: end"]
    assert entries[-1]["rows"] == 5
    assert entries[-1]["groups"] == ["payments"]


def test_guessing_becomes_slower_with_each_failure() -> None:
    throttle = identity.Throttle()
    delays = []
    for _ in range(10):
        delays.append(throttle.delay("ipv4:10.0.0.1"))
        throttle.failed("ipv4:10.0.0.1")
    assert delays[0] == 0
    assert delays == sorted(delays)
    assert throttle.delay("ipv4:10.0.0.1") == identity.LONGEST_DELAY_SECONDS
    assert throttle.delay("ipv4:10.0.0.2") == 0
    throttle.succeeded("ipv4:10.0.0.1")
    assert throttle.delay("ipv4:10.0.0.1") > 0


@pytest.mark.parametrize(
    "changed", [{"aud": "other"}, {"iss": "https://evil.example"}, {"exp": 1}, {"email": None}, {"exp": None}, {"email_verified": False}]
)
def test_a_bearer_token_that_was_not_made_for_this_is_refused(secured: Secured, changed: dict[str, Any]) -> None:
    checked = identity.OpenId(config.ServeOidc(metadata_url=f"{secured.provider.url}/x", audience="hindcast"))
    with pytest.raises(AccessDeniedError):
        checked.principal(secured.provider.token(**changed))


def test_a_bearer_token_signed_by_another_key_is_refused(secured: Secured) -> None:
    forged = Provider()
    checked = identity.OpenId(config.ServeOidc(metadata_url=f"{secured.provider.url}/x", audience="hindcast"))
    with pytest.raises(AccessDeniedError):
        checked.principal(forged.token(iss=secured.provider.url))
    unsigned = ".".join([base64.urlsafe_b64encode(b'{"alg":"none"}').decode().rstrip("="), secured.provider.token().split(".")[1], ""])
    with pytest.raises(AccessDeniedError):
        checked.principal(unsigned)


def test_a_bearer_token_of_the_provider_names_its_user(secured: Secured, newest: list[str]) -> None:
    assert secured.uuids(f"Bearer {secured.provider.token()}") == newest


def test_a_certificate_of_another_authority_is_refused(secured: Secured, tmp_path: Path) -> None:
    assert refusal(secured, files=Authority(tmp_path, "theirs").issue("ada"))[0] is grpc.StatusCode.UNAVAILABLE


def test_a_certificate_names_user_and_groups(secured: Secured, newest: list[str]) -> None:
    assert secured.uuids(files=secured.authority.issue("ada", organizations=("payments",))) == newest
    code, details = refusal(secured, files=secured.authority.issue("eve"))
    assert (code, "eve owns no namespace" in details) == (grpc.StatusCode.PERMISSION_DENIED, True)


def test_the_rule_says_what_of_a_certificate_is_the_user(tmp_path: Path) -> None:
    names = (x509.RFC822Name("ada@example.com"), x509.DNSName("ada.example.com"), x509.UniformResourceIdentifier("spiffe://x/ada"))
    file, _ = Authority(tmp_path, "any").issue("Ada", organizations=("a", "b"), alternatives=names)
    found = {
        rule: identity.of_certificate(file.read_bytes(), config.ServeCertificates(user=rule))  # type: ignore[arg-type]
        for rule in ("common_name", "email", "dns", "uri")
    }
    assert [one.user for one in found.values()] == ["Ada", "ada@example.com", "ada.example.com", "spiffe://x/ada"]
    assert found["dns"].groups == {"a", "b"}
    assert identity.of_certificate(file.read_bytes(), config.ServeCertificates(groups="none")).groups == frozenset()
    nameless, _ = Authority(tmp_path, "no").issue("", organizations=("group:a",))
    with pytest.raises(identity.NotSignedInError):
        identity.of_certificate(nameless.read_bytes(), config.ServeCertificates())


@pytest.mark.parametrize(
    ("who", "name", "days"),
    [(Principal(user="group:x"), "a", 1), (Principal(user=""), "a", 1), (ADA, "", 1), (ADA, "a" * 81, 1), (ADA, "a", 0), (ADA, "a", 400)],
)
def test_a_token_that_makes_no_sense_is_not_made(stored: Any, who: Principal, name: str, days: int) -> None:
    with pytest.raises(QueryError):
        tokens.create(stored.lake, who, name=name, lifetime=dt.timedelta(days=days), changed_by="test")


def test_a_token_that_does_not_exist_cannot_be_revoked(stored: Any) -> None:
    token, _ = made(stored)
    with pytest.raises(QueryError, match="there is no token"):
        tokens.revoke(stored.lake, token.id, user="eve", changed_by="eve")
