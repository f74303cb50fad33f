"""Questions that the server begins when a browser asks for a page: for whom, for which page, and what becomes of their answers."""

import datetime as dt
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit.testing.v1 import AppTest

from dashboards import ahead, arriving, front, opened
from dashboards.access import sign_in
from warehouse import config
from warehouse.access import access_log
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions import count_questions
from warehouse.questions.answers import Answer
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.question import Question
from warehouse.schema import ACCESS_LOG

Look = Callable[..., AppTest]
SHOWN = {"Sec-Fetch-Dest": "document"}
"""What a browser says of a page that it is to show."""
PAGES = [
    Route(f"/{name}", front.page(connects_at_once=True, then=arriving.begin))
    for name in ("", "flows", "map", "compare", "docs", "sql", "what-if")
]


@dataclass(frozen=True)
class Hour:
    """The hour up to now, in which the lake has flows."""

    until: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC).replace(microsecond=0))

    def query(self, *, hours: int = 1, minutes_more: int = 0) -> dict[str, str]:
        """The hours, or some minutes more, as an address has them."""
        until = self.until + dt.timedelta(minutes=minutes_more)
        return {"from": (self.until - dt.timedelta(hours=hours)).isoformat(), "until": until.isoformat()}

    @property
    def pulse(self) -> Question[Answer]:
        """A question that the first page asks about it."""
        return count_questions.pulse(FlowFilter(since=self.until - dt.timedelta(hours=1), until=self.until))


@pytest.fixture
def hour() -> Hour:
    return Hour()


@pytest.fixture
def client(filled: Path, monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """Asks for pages, and does nothing with them; what they begin waits for as long as a busy machine may need."""
    ahead.forget()
    monkeypatch.setattr(ahead, "WAITS_SECONDS", 3600.0)
    return TestClient(Starlette(routes=PAGES), headers=SHOWN)


def asked(folder: Path) -> dict[str, Counter[str]]:
    """How often each question was noted, by who asked it."""
    ahead.finish()
    access_log.flush()
    rows = Lake.open(config.Lake(url=str(folder / "lake"))).read(ACCESS_LOG).to_pylist()
    return {who: Counter(row["question"] for row in rows if row["principal"] == who) for who in {row["principal"] for row in rows}}


@pytest.mark.parametrize("user", ["mallory", "zoe"], ids=["without a grant", "with a denial alone"])
def test_nothing_is_begun_for_whom_nothing_is_shown(user: str, client: TestClient, filled: Path, hour: Hour) -> None:
    assert client.get("/", params={"user": user, **hour.query()}).status_code == 200
    assert asked(filled) == {}


@pytest.mark.parametrize("address", ["/docs", "/sql", "/what-if"])
def test_nothing_is_begun_for_a_page_that_asks_nothing_first(address: str, client: TestClient, filled: Path, hour: Hour) -> None:
    assert client.get(address, params={"user": "ada", **hour.query()}).status_code == 200
    assert asked(filled) == {}


@pytest.mark.parametrize("shown", [{}, {"Sec-Fetch-Dest": "image"}], ids=["a probe", "a picture on another site"])
def test_nothing_is_begun_for_what_shows_no_page(shown: dict[str, str], client: TestClient, filled: Path, hour: Hour) -> None:
    TestClient(client.app, headers=shown).get("/", params={"user": "ada", **hour.query()})
    assert asked(filled) == {}


def test_a_page_is_served_although_the_configuration_cannot_be_read(client: TestClient, filled: Path, hour: Hour) -> None:
    (filled / "hindcast.yaml").write_text("lake: [")
    assert client.get("/", params={"user": "ada", **hour.query()}).status_code == 200


def test_an_address_that_cannot_be_read_asks_what_its_page_will_ask(client: TestClient, filled: Path) -> None:
    given = {"user": "ada", "f": "nonsense", "from": "yesterday"}
    assert client.get("/", params=given).status_code == 200
    assert asked(filled)["ada"]["pulse"] == 1


def test_behind_a_proxy_questions_are_begun_for_whom_the_proxy_names(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead.forget()
    document = json.loads((filled / "hindcast.yaml").read_text())
    monkeypatch.setenv("SECRET", "the proxy's")
    document["dashboard"] = {"auth": {"mode": "proxy", "proxy": {"secret_env": "SECRET"}}}
    (filled / "hindcast.yaml").write_text(json.dumps(document))
    settings = config.load_config(filled / "hindcast.yaml").dashboard
    proxy = settings.auth.proxy
    assert proxy is not None
    middleware = [Middleware(sign_in.ProxySecret, settings=proxy, secret="the proxy's")]
    client = TestClient(Starlette(routes=PAGES, middleware=middleware), headers=SHOWN)
    assert client.get("/", params={"user": "ada"}, headers={proxy.user_header: "ada"}).status_code == 403
    assert asked(filled) == {}
    headers = {proxy.secret_header: "the proxy's", proxy.user_header: "paula"}
    assert client.get("/", params={"user": "ada"}, headers=headers).status_code == 200
    assert set(asked(filled)) == {"paula"}


def test_an_answer_is_for_nobody_else_and_for_one_page_only(client: TestClient, filled: Path, hour: Hour) -> None:
    client.get("/", params={"user": "ada", **hour.query()})
    door = opened.door(opened.configuration(), "overview")
    assert ahead.taken(door, Principal(user="paula"), hour.pulse) is None
    assert ahead.taken(door, Principal(user="ada", groups=frozenset({"checkout"})), hour.pulse) is None
    assert ahead.taken(opened.door(opened.configuration(), "flows"), Principal(user="ada"), hour.pulse) is None
    found = ahead.taken(door, Principal(user="ada"), hour.pulse)
    assert found is not None
    assert found.result().rows.num_rows > 0
    assert ahead.taken(door, Principal(user="ada"), hour.pulse) is None


def test_an_answer_waits_for_its_page_for_seconds_only(
    client: TestClient, filled: Path, monkeypatch: pytest.MonkeyPatch, hour: Hour
) -> None:
    client.get("/", params={"user": "ada", **hour.query()})
    monkeypatch.setattr(ahead, "WAITS_SECONDS", 0.0)
    assert ahead.taken(opened.door(opened.configuration(), "overview"), Principal(user="ada"), hour.pulse) is None


def test_many_requests_begin_no_more_than_may_wait(client: TestClient, filled: Path, monkeypatch: pytest.MonkeyPatch, hour: Hour) -> None:
    monkeypatch.setattr(ahead, "MOST_WAITING", 3)
    for hours in range(1, 5):
        client.get("/", params={"user": "ada", **hour.query(hours=hours)})
    assert asked(filled)["ada"].total() == 3


@pytest.mark.parametrize("page", ["overview", "flows", "map", "compare"])
def test_a_page_asks_nothing_again_that_was_begun_for_it(page: str, client: TestClient, filled: Path, look: Look, hour: Hour) -> None:
    query: dict[str, Any] = {"user": "ada", "f": "ns=payments", **hour.query()}
    client.get("/" if page == "overview" else f"/{page}", params=query)
    begun = asked(filled)["ada"]
    assert begun
    look(page, **query)
    seen = asked(filled)["ada"]
    assert {name: seen[name] for name in begun} == dict(begun)


def test_a_page_asks_for_itself_where_its_window_has_moved_on(client: TestClient, filled: Path, look: Look, hour: Hour) -> None:
    client.get("/", params={"user": "ada", **hour.query()})
    look("overview", user="ada", **hour.query(minutes_more=1))
    assert asked(filled)["ada"]["pulse"] == 2
