"""How often a page asks the lake: each question once, nothing for who may see nothing, and all of them anew when it is refreshed."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from warehouse import config
from warehouse.access import access_log
from warehouse.lake.tables import Lake
from warehouse.schema import ACCESS_LOG

Look = Callable[..., AppTest]


def asked(folder: Path) -> Counter[str]:
    """How often each question was noted."""
    access_log.flush()
    return Counter(Lake.open(config.Lake(url=str(folder / "lake"))).read(ACCESS_LOG)["question"].to_pylist())


def test_who_may_see_nothing_is_refused_once(filled: Path, look: Look) -> None:
    written = json.loads((filled / "hindcast.yaml").read_text())
    written["ownership"]["grants"] = [grant for grant in written["ownership"]["grants"] if grant["subject"] != "paula"]
    (filled / "hindcast.yaml").write_text(json.dumps(written))
    look("overview", user="zoe")
    assert set(asked(filled)) <= {"pulse", "completions"}


def test_a_page_asks_each_question_once_and_a_second_look_asks_nothing(filled: Path, look: Look) -> None:
    page = look("overview", user="ada")
    first = asked(filled)
    assert first["pulse"] == first["namespaces"] == first["timeline"] == first["completions"] == 1
    assert first["edges_in_time"] == 2  # of the window, and of the day before
    page.run()
    assert asked(filled) == first


def test_a_refreshed_page_asks_again_within_the_same_minute(filled: Path, look: Look) -> None:
    page = look("overview", user="ada")
    first = asked(filled)
    page.button(key="refresh").click().run()
    again = asked(filled)
    assert again["pulse"] == first["pulse"] + 1
    assert again["ledger"] == first["ledger"] + 1
