"""What the filter bar offers: nobody's values but one's own, looked up once for all pages."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.frame import completions
from warehouse import config
from warehouse.access import access_log
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG

Look = Callable[..., AppTest]


@pytest.fixture(autouse=True)
def _nothing_remembered() -> Iterator[None]:
    completions.forget()
    yield
    completions.forget()


def offered(page: AppTest) -> list[str]:
    (box,) = (box for box in page.selectbox if box.label == "Add a filter")
    return list(box.options)


def values(page: AppTest, field: str) -> set[str]:
    return {option.removeprefix(f"{field}=") for option in offered(page) if option.startswith(f"{field}=") and not option.endswith("=")}


def times_looked_up(folder: Path) -> int:
    access_log.flush()
    questions: list[str] = Lake.open(config.Lake(url=str(folder / "lake"))).read(ACCESS_LOG)["question"].to_pylist()
    return questions.count("completions")


@pytest.mark.usefixtures("filled")
def test_who_owns_nothing_is_offered_fields_without_values(look: Look) -> None:
    look("flows", user="ada")
    assert all(option.endswith("=") for option in offered(look("flows", user="nina")))


@pytest.mark.usefixtures("filled")
def test_an_owner_is_not_offered_what_was_looked_up_for_somebody_else(look: Look) -> None:
    everyones = values(look("flows", user="ada"), "ns")
    hers = values(look("flows", user="paula"), "ns")
    assert "payments" in hers
    assert hers < everyones


def test_once_a_grant_has_ended_its_values_are_not_offered_any_more(filled: Path, look: Look) -> None:
    assert "payments" in values(look("flows", user="paula"), "ns")
    written = json.loads((filled / "hindcast.yaml").read_text())
    for grant in written["ownership"]["grants"]:
        if grant["subject"] == "paula":
            grant["namespaces"] = ["nowhere"]
    (filled / "hindcast.yaml").write_text(json.dumps(written))
    assert values(look("flows", user="paula"), "ns") == set()


def test_a_second_page_looks_nothing_up_again(filled: Path, look: Look) -> None:
    look("flows", user="ada")
    before = times_looked_up(filled)
    assert values(look("map", user="ada"), "ns")
    assert (before, times_looked_up(filled)) == (1, 1)
