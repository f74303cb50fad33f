"""Sign-in: at a real OpenID provider, and behind a proxy; what strangers get, and what becomes of a deep link."""

import csv
import datetime as dt
import http.client
import io
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import oidc_provider_mock
import pytest
from playwright.sync_api import Page, expect

from dashboards.access import identity
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter

pytestmark = pytest.mark.browser
GRANTS = [
    {"subject": "group:payments", "role": "namespace-owner", "namespaces": ["payments"]},
    {"subject": "carlos@example.com", "role": "namespace-owner", "namespaces": ["cart"]},
]
USERS = [
    oidc_provider_mock.User(sub="1", claims={"email": "paula@example.com", "email_verified": True, "groups": ["payments", "staff"]}),
    oidc_provider_mock.User(sub="2", claims={"email": "carlos@example.com", "email_verified": True}),
    oidc_provider_mock.User(sub="3", claims={"email": "carlos@example.com", "email_verified": False}),
]


def oidc(folder: Path, provider: int, port: int) -> dict[str, Any]:
    """The dashboard's section of a configuration that signs in at a provider."""
    (folder / "secret").write_text("client secret")
    (folder / "cookie").write_text("a cookie secret that is long enough to sign with")
    return {
        "auth": {
            "mode": "oidc",
            "oidc": {
                "metadata_url": f"http://localhost:{provider}/.well-known/openid-configuration",
                "client_id": "hindcast",
                "client_secret_file": str(folder / "secret"),
                "cookie_secret_file": str(folder / "cookie"),
                "redirect_uri": f"http://localhost:{port}/oauth2callback",
            },
        }
    }


@pytest.fixture(scope="module")
def signed(serve: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The dashboard behind a provider with our users."""
    port = _free(tmp_path_factory)
    with oidc_provider_mock.run_server_in_thread(user_claims=USERS) as provider:
        folder = tmp_path_factory.mktemp("oidc")
        serve(port, ownership={"grants": GRANTS}, dashboard=oidc(folder, provider.server_port, port))
        yield f"http://localhost:{port}"


def _free(_factory: pytest.TempPathFactory) -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def sign_in(page: Page, sub: str) -> None:
    """Press our button, and be one of the provider's users."""
    page.get_by_role("button", name="Sign in").click()
    page.locator(f"button[value='{sub}'], button:text-is('{sub}')").first.click()


def test_a_deep_link_survives_sign_in_and_what_is_shown_is_the_groups(signed: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    page.goto(f"{signed}/flows?last=6h&verdict=DROPPED")
    expect(page.get_by_text("Sign in to see the history")).to_be_visible()
    assert page.get_by_test_id("stDataFrame").count() == 0
    sign_in(page, "1")
    expect(page.get_by_test_id("stDataFrame")).to_be_visible()
    assert "/flows?" in page.url
    assert "last=6h" in page.url
    assert "verdict=DROPPED" in page.url
    page.get_by_role("button", name="paula").click()
    expect(page.get_by_text("paula@example.com")).to_be_visible()
    expect(page.get_by_text("through the group payments")).to_be_visible()


def test_an_address_that_is_not_verified_is_nobodys(signed: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    page.goto(f"{signed}/flows")
    sign_in(page, "3")
    expect(page.get_by_text("Signed in, but as nobody")).to_be_visible()


def test_a_file_of_a_session_is_for_nobody_else_and_holds_what_sql_answers(
    signed: str, demo_lake: Path, visitor: Callable[..., Page]
) -> None:
    hers, his, nobodys = visitor(accept_downloads=True), visitor(), visitor()
    his.goto(f"{signed}/flows")
    sign_in(his, "2")
    expect(his.get_by_test_id("stMain")).to_contain_text("of node-time")
    lake = Lake.open(config.Lake(url=str(demo_lake / "lake")))
    now = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    since = now - dt.timedelta(hours=2)
    hers.goto(f"{signed}/flows?from={since:%Y-%m-%dT%H:%MZ}&until={now:%Y-%m-%dT%H:%MZ}")
    sign_in(hers, "1")
    expect(hers.get_by_test_id("stDataFrame")).to_be_visible()
    hers.get_by_role("button", name="Share").click()
    with hers.expect_download() as download:
        hers.get_by_test_id("stPopoverBody").get_by_role("button", name="CSV").click()
    file = download.value.url
    assert "/media/" in file
    assert hers.request.get(file).status == 200
    assert his.request.get(file).status == 403
    assert nobodys.request.get(file).status == 403
    rows = list(csv.DictReader(io.StringIO(Path(download.value.path()).read_text())))
    settings = config.Ownership(grants=tuple(config.Grant(**grant) for grant in GRANTS))  # type: ignore[arg-type]
    who = Principal(user="paula@example.com", groups=frozenset(["payments", "staff"]))
    answer = Door(lake, settings).answer(who, flow_questions.newest(FlowFilter(since=since, until=now)))
    assert [row["uuid"] for row in rows] == answer.rows["uuid"].to_pylist()
    assert rows


def test_a_session_ends_with_its_token(
    serve: Callable[..., str], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, visitor: Callable[..., Page]
) -> None:
    port = _free(tmp_path_factory)
    lifetime = dt.timedelta(seconds=15)
    with oidc_provider_mock.run_server_in_thread(user_claims=USERS, access_token_max_age=lifetime) as provider:
        serve(port, ownership={"grants": GRANTS}, dashboard=oidc(tmp_path, provider.server_port, port))
        page = visitor()
        page.goto(f"http://localhost:{port}/access")
        sign_in(page, "1")
        ended = page.get_by_text("Your session has ended")
        expect(page.get_by_text("What paula@example.com may see").or_(ended)).to_be_visible()  # a slow machine shows only the end
        expect(ended).to_be_visible()
        assert page.get_by_text("What paula@example.com may see").count() == 0


# Behind a proxy -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def behind_proxy(serve: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> str:
    secret = tmp_path_factory.mktemp("proxy") / "secret"
    secret.write_text("the proxy's secret\n")
    return serve(ownership={"grants": GRANTS}, dashboard={"auth": {"mode": "proxy", "proxy": {"secret_file": str(secret)}}})


SECRET = ("X-Hindcast-Proxy-Secret", "the proxy's secret")
PAULA = ("X-Forwarded-User", "paula@example.com")
REFUSED: dict[str, list[tuple[str, str]]] = {
    "nothing": [],
    "no secret": [PAULA],
    "another secret": [("X-Hindcast-Proxy-Secret", "guessed"), PAULA],
    "two secrets": [SECRET, SECRET, PAULA],
    "nobody": [SECRET],
    "an empty name": [SECRET, ("X-Forwarded-User", " ")],
    "two names": [SECRET, PAULA, ("X-Forwarded-User", "carlos@example.com")],
    "groups twice": [SECRET, PAULA, ("X-Forwarded-Groups", "a"), ("x-forwarded-groups", "payments")],
}


def status(address: str, path: str, headers: list[tuple[str, str]]) -> int:
    connection = http.client.HTTPConnection(urllib.parse.urlsplit(address).netloc, timeout=200)
    connection.putrequest("GET", path)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders()
    return connection.getresponse().status


@pytest.mark.parametrize("headers", REFUSED.values(), ids=list(REFUSED))
@pytest.mark.parametrize("path", ["/", "/flows", "/_stcore/host-config", "/static/index.html"])
def test_whoever_is_not_the_proxy_is_refused(path: str, headers: list[tuple[str, str]], behind_proxy: str) -> None:
    assert status(behind_proxy, path, headers) == 403


@pytest.mark.parametrize("headers", REFUSED.values(), ids=list(REFUSED))
def test_no_session_begins_without_the_proxy(headers: list[tuple[str, str]], behind_proxy: str) -> None:
    upgrade = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "x3JJHMbDL1EzLkh9GBhXDw=="),
    ]
    assert status(behind_proxy, "/_stcore/stream", [*upgrade, *headers]) == 403


def test_the_proxy_gets_through_and_health_is_answered_to_anyone(behind_proxy: str) -> None:
    assert status(behind_proxy, "/", [SECRET, PAULA]) == 200
    assert status(behind_proxy, "/_stcore/health", []) == 200


def test_a_proxys_user_sees_what_her_groups_own(behind_proxy: str, visitor: Callable[..., Page]) -> None:
    page = visitor(extra_http_headers=dict([SECRET, PAULA, ("X-Forwarded-Groups", "staff, payments")]))
    page.goto(f"{behind_proxy}/access")
    expect(page.get_by_text("What paula@example.com may see")).to_be_visible()
    page.get_by_role("button", name="paula").click()
    expect(page.get_by_text("through the group payments")).to_be_visible()


# Without a server ---------------------------------------------------------------------------------------------


def auth(**claims: str) -> config.DashboardAuth:
    settings = {
        "metadata_url": "https://id.example/.well-known/openid-configuration",
        "client_id": "c",
        "client_secret_env": "A",
        "cookie_secret_env": "B",
        "redirect_uri": "https://hindcast.example/oauth2callback",
        **claims,
    }
    return config.DashboardAuth(mode="oidc", oidc=config.Oidc.model_validate(settings))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({}, None),
        ({"email": ""}, None),
        ({"email": ["a", "b"]}, None),
        ({"email": "a@b", "email_verified": False}, None),
        ({"email": "a@b"}, Principal(user="a@b")),
        ({"email": "a@b", "groups": "one"}, Principal(user="a@b", groups=frozenset(["one"]))),
        ({"email": "a@b", "groups": ["one", 2, "", None]}, Principal(user="a@b", groups=frozenset(["one"]))),
        ({"email": "a@b", "groups": {"one": 1}}, Principal(user="a@b")),
    ],
)
def test_only_claims_that_are_what_they_should_be_make_a_principal(claims: dict[str, Any], expected: Principal | None) -> None:
    assert identity.principal_of(claims, auth()) == expected


def test_a_user_cannot_take_a_groups_name(tmp_path: Path) -> None:
    who = identity.principal_of({"email": "group:payments", "sub": "x"}, auth())
    assert who is not None
    assert not who.subjects


@pytest.mark.parametrize(
    "oidc_settings",
    [
        {"redirect_uri": "http://hindcast.example/oauth2callback"},
        {"redirect_uri": "https://hindcast.example/"},
        {"metadata_url": "http://id.example/x"},
    ],
)
def test_sign_in_over_an_open_line_is_refused(oidc_settings: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        auth(**oidc_settings)


def test_the_token_says_how_many_seconds_are_left() -> None:
    assert identity.seconds_left({"exp": time.time() + 60}, time.time()) == pytest.approx(60, abs=1)
    assert identity.seconds_left({}, time.time()) is None
    assert identity.seconds_left(json.loads('{"exp": "soon"}'), time.time()) is None
