"""The page of HTML that the dashboard starts with, and the sparks of its cards, which a browser draws without a script."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient
from streamlit import file_util

from dashboards import front, server
from dashboards.charting import sparks
from warehouse import config

SCRIPTS = Path(file_util.get_static_dir()) / "static" / "js"


@pytest.fixture(scope="module")
def client() -> TestClient:
    return TestClient(server.build(config.Dashboard()))


@pytest.mark.parametrize("address", ["/", "/flows", "/what-if", "/docs"])
def test_each_page_is_told_where_its_server_is_and_loads_nothing_that_is_not_there(client: TestClient, address: str) -> None:
    answer = client.get(address)
    assert answer.headers["cache-control"] == "no-cache"
    assert "BACKEND_BASE_URL" in answer.text
    addresses = re.findall(r'(?:src|href)="(/[^"]+)"', answer.text)
    served = [client.get(each).status_code for each in addresses if not each.startswith(("/static/", "/app/static/", "/_stcore/"))]
    assert served
    assert set(served) == {200}
    assert all((SCRIPTS.parents[1] / each.lstrip("/")).exists() for each in addresses if each.startswith("/static/"))
    scripts = [each for each in addresses if each.endswith(".js")]
    assert len(scripts) == len(set(scripts))


def test_where_people_sign_in_the_page_first_asks_for_the_cookie_without_which_nobody_is_signed_in() -> None:
    answer = TestClient(Starlette(routes=[Route("/flows", front.page(connects_at_once=False, then=lambda _: None))])).get("/flows")
    assert "modulepreload" in answer.text
    assert "BACKEND_BASE_URL" not in answer.text


def test_an_address_that_is_no_page_has_streamlits_own_answer(client: TestClient) -> None:
    assert "BACKEND_BASE_URL" not in client.get("/flows/nothing").text
    assert client.get("/static/js/nothing.js").text != client.get("/").text


@pytest.mark.parametrize("name", sorted({name for names in front.OF_PAGE.values() for name in names} | set(front.ON_EVERY_PAGE)))
def test_scripts_that_are_loaded_ahead_are_streamlits(name: str) -> None:
    assert list(SCRIPTS.glob(f"{name}.*.js"))  # else its name has changed, and the page is as slow as without


@pytest.mark.parametrize("kind", ["area", "bars", "steps"])
@pytest.mark.parametrize("values", [[], [0], [0, 0], [3], [1, 2.5, 0]], ids=["none", "a zero", "zeros", "one", "some"])
def test_a_spark_is_drawn_within_its_picture_whatever_the_values(values: list[float], kind: str) -> None:
    picture = ElementTree.fromstring(sparks.svg(values, "#6C8EB5", kind))  # noqa: S314 - written by the function under test
    width, height = (float(picture.attrib[name]) for name in ("width", "height"))
    for part in picture:
        numbers = [float(each) for each in re.findall(r"[\d.]+", part.get("points") or part.get("d") or "")]
        assert all(0 <= number <= max(width, height) for number in numbers)
        assert float(part.get("y") or 0) + float(part.get("height") or 0) <= height
