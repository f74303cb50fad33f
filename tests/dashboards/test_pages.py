"""The pages without a browser: who sees what, and what is said when there is nothing to see."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from dashboards.frame import ownership
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.engine import Window
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.record_questions import AccessLog

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]
PAGES = ("overview", "flows", "map", "compare", "coverage", "sql", "access", "docs")


@pytest.mark.parametrize("page", PAGES)
def test_without_grants_every_page_says_what_to_do(page: str, folder: Path, look: Look, said: Said) -> None:
    (folder / "hindcast.yaml").write_text("{}")
    assert "ownership.grants" in said(look(page))


def test_a_configuration_that_is_wrong_is_reported_with_its_line(folder: Path, look: Look, said: Said) -> None:
    (folder / "hindcast.yaml").write_text("lakes: {}")
    assert "hindcast.yaml:1: lakes: unknown key" in said(look())


@pytest.mark.parametrize("page", ["overview", "flows", "map", "compare"])
def test_an_empty_lake_says_how_to_fill_it(page: str, look: Look, said: Said) -> None:
    assert "hindcast collect" in said(look(page, user="ada"))


@pytest.mark.parametrize("page", ["overview", "flows", "map", "compare", "coverage", "sql"])
def test_a_user_without_namespaces_sees_a_page_that_says_so(page: str, filled: Path, look: Look, said: Said) -> None:
    app = look(page, user="zoe")
    assert "Nothing here is yours" in said(app)
    assert not app.dataframe


def test_a_user_whom_no_grant_names_is_refused_and_does_not_become_the_first_of_them(filled: Path, look: Look, said: Said) -> None:
    for page in ("overview", "flows", "sql"):
        app = look(page, user="nobody")
        assert "'nobody' has no grant" in said(app)
        assert not app.dataframe
        assert not app.metric
        assert "visit" not in app.session_state


def test_an_owner_without_traffic_learns_that_the_time_was_observed(filled: Path, look: Look, said: Said) -> None:
    assert "No flow of yours" in said(look("flows", user="nina", last="15m"))


def test_a_window_that_nobody_recorded_is_not_called_quiet(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="ada", from_="2020-01-01T00:00Z", until="2020-01-01T01:00Z")
    assert "Not observed" in said(app)
    assert "Go to the newest flows" in [button.label for button in app.button]


def test_a_filter_that_leaves_nothing_is_named_and_removed_by_a_click(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="ada", f=["ns=cart", "ip=203.0.113.254"])
    assert "Without **ip=203.0.113.254** there would be" in said(app)
    next(button for button in app.button if button.label == "Remove ip=203.0.113.254").click().run()
    assert app.query_params["f"] in ("ns=cart", ["ns=cart"])
    assert len(app.dataframe[-1].value)


NONSENSE: list[dict[str, Any]] = [
    {"last": "7 weeks"},
    {"from_": "noon", "until": "2020-01-01T01:00Z"},
    {"from_": "2020-01-02T00:00Z", "until": "2020-01-01T00:00Z"},
    {"from_": "1000-01-01T00:00Z", "until": "2020-01-01T00:00Z"},
    {"user": "eve"},
    {"f": ["nonsense"]},
    {"f": ["ns=x' OR 1=1", "-port=http", "pod~("]},
    {"verdict": ["MAYBE"]},
    {"level": "galaxy", "against": "never", "kind": ["odd"], "find": "nobody", "drawn": "-3"},
    {"cols": "secrets,rest,Time"},
    {"flow": "none"},
    {"page_": "../../etc/passwd"},
]


@pytest.mark.parametrize("query", NONSENSE, ids=[json.dumps(query)[:40] for query in NONSENSE])
def test_an_address_with_nonsense_in_it_breaks_no_page(query: dict[str, Any], filled: Path, look: Look) -> None:
    page = (
        "flows"
        if {"f", "verdict", "cols", "flow"} & query.keys()
        else "map"
        if "find" in query
        else "docs"
        if "page_" in query
        else "overview"
    )
    look(page, **({"user": "ada"} | query))


def test_what_is_wrong_with_the_address_is_reported(filled: Path, look: Look, said: Said) -> None:
    assert "last='7 weeks' in the address is none of" in said(look("flows", user="ada", last="7 weeks"))
    assert "did you mean 'port'" in said(look("flows", user="ada", f=["prt=53", "ns=cart"]))


def test_an_owner_sees_only_flows_of_her_namespace(filled: Path, look: Look, said: Said) -> None:
    everyone, hers = look("flows", user="ada"), look("flows", user="paula")
    assert len(everyone.dataframe[-1].value) == 400
    rows = hers.dataframe[-1].value
    assert 0 < len(rows) < 400
    assert all(row["Source"].startswith("payments") or row["Destination"].startswith("payments") for _, row in rows.iterrows())
    assert "observed" in said(hers)


def test_a_filter_cannot_reach_what_is_not_ones_own(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="paula", f="ns=catalog")
    foreign = [row for frame in app.dataframe for _, row in frame.value.iterrows()]
    assert not foreign
    assert "catalog is not yours" in said(app)


def test_a_group_owns_in_the_name_of_its_members(filled: Path, look: Look, said: Said) -> None:
    app = look("overview", user="group:checkout")
    assert "You own **cart**, **checkout** through the group `checkout`" in said(app)


def test_a_filter_in_the_address_is_applied_and_shown_as_a_chip(filled: Path, look: Look) -> None:
    app = look("flows", user="ada", f=["src.ns=cart"])
    assert all(row["Source"].startswith("cart") for _, row in app.dataframe[-1].value.iterrows())


def test_a_filter_that_cannot_be_understood_is_reported_and_noted(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="ada")
    app.session_state["filter typed"] = "mistaken"  # AppTest types nothing new into a selectbox
    app.run()
    (line,) = (box for box in app.text_input if box.label == "Add a filter")
    line.set_value("nosuch=shop").run()
    assert "nosuch" in said(app)
    window = Window(since=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5), until=dt.datetime.now(dt.UTC))
    door = Door(Lake.open(config.Lake(url=str(filled / "lake"))), config.Ownership())
    noted = door.answer(OPERATOR, AccessLog(window=window)).rows.to_pylist()
    told = [tuple(row[name] for name in ("principal", "question", "text", "outcome")) for row in noted]
    assert ("ada", "filter", "nosuch=shop", "refused") in told


def test_a_filter_that_is_switched_off_lets_through(filled: Path, look: Look) -> None:
    assert len(look("flows", user="ada", f="-ns=cart").dataframe[-1].value) == 400


def test_the_summary_shows_limit_source_and_losses(filled: Path, look: Look, said: Said) -> None:
    text = said(look("flows", user="ada"))
    assert "**400** of **900** flows · newest first" in text
    assert "limit 400" in text
    assert "from flows" in text
    assert "**1.23K** flows known lost" in text


def test_the_overview_counts_what_the_page_of_flows_counts(filled: Path, look: Look) -> None:
    metrics = {metric.label: metric for metric in look("overview", user="ada").metric}
    assert metrics["Flows"].value == "900"


def test_nothing_is_held_against_a_day_that_was_not_observed(filled: Path, look: Look, said: Said) -> None:
    page = look("overview", user="ada")
    metrics = {metric.label: metric for metric in page.metric}
    assert metrics["New edges"].value == "unknown"
    assert metrics["New edges"].delta == metrics["Flows"].delta == "the day before was not observed"
    assert "not seen on the day before" not in said(page)


def test_coverage_names_the_gap_and_its_cause(filled: Path, look: Look) -> None:
    frames = [frame.value for frame in look("coverage", user="ada", last="15m").dataframe]
    assert any("the ring no longer held it" in frame.to_string() for frame in frames)
    assert any("1234" in frame.to_string() for frame in frames)


def test_the_map_draws_what_was_denied(filled: Path, look: Look, said: Said) -> None:
    text = said(look("map", user="ada", denied="1"))
    assert "edges" in text
    assert "from flows" in text


def test_compare_says_when_the_window_before_was_not_observed(filled: Path, look: Look, said: Said) -> None:
    assert "A was not observed" in said(look("compare", user="ada", against="week"))


def test_sql_answers_within_what_is_ones_own(filled: Path, look: Look) -> None:
    query = "SELECT DISTINCT coalesce(source_namespace, '') AS s, coalesce(destination_namespace, '') AS d FROM flows"
    app = look("sql", user="paula", run="1", q=query)
    rows = app.dataframe[-1].value
    assert len(rows)
    assert all("payments" in (row["s"], row["d"]) for _, row in rows.iterrows())


def test_sql_that_writes_is_refused_in_words(filled: Path, look: Look, said: Said) -> None:
    assert "only queries are allowed" in said(look("sql", user="paula", run="1", q="DROP TABLE flows"))


def test_the_access_page_explains_each_grant(filled: Path, look: Look) -> None:
    frame = look("access", user="paula").dataframe[0].value
    assert "payments" in frame.to_string()
    assert "granted to you in the configuration, line 1" in set(frame["Why"]), "the whole file is one line"


def test_a_flow_of_the_address_opens_its_panel(filled: Path, look: Look, said: Said) -> None:
    rows = look("flows", user="ada", cols="Time,uuid").dataframe[-1].value
    app = look("flows", user="ada", flow=str(rows["uuid"][3]))
    assert [tab.label for tab in app.tabs][:2] == ["Fields", "Raw JSON"]
    assert json.loads(app.code[-1].value)["uuid"] == rows["uuid"][3]


def test_a_grant_that_is_taken_away_is_gone_at_the_next_question(filled: Path, look: Look, said: Said) -> None:
    app = look("flows", user="paula")
    assert app.dataframe
    settings = json.loads((filled / "hindcast.yaml").read_text())
    settings["ownership"]["grants"][2] = {"subject": "paula", "namespaces": ["payments"], "deny": True}
    (filled / "hindcast.yaml").write_text(json.dumps(settings))
    app.session_state["answers"] = {}  # what is kept of answers, for less than a minute
    app.run()
    assert "Nothing here is yours" in said(app)


def test_answers_of_one_person_are_not_shown_to_another_in_the_same_session(filled: Path, look: Look) -> None:
    app = look("flows", user="ada")
    app.query_params["user"] = "paula"
    app.run()
    rows = app.dataframe[-1].value
    assert all(row["Source"].startswith("payments") or row["Destination"].startswith("payments") for _, row in rows.iterrows())


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("ownership.grants[1]", "granted to you in the configuration, line 6"),
        ("ownership.grants[0]: on call", "granted to you in the configuration, line 3: on call"),
        ("ownership.sources[0]: label team=pay", "read from the clusters, as the configuration asks, line 1: label team=pay"),
        ("runs on the lake", "runs on the lake"),
    ],
)
def test_a_grants_reason_is_a_sentence_with_the_line(reason: str, words: str, folder: Path) -> None:
    (folder / "hindcast.yaml").write_text(
        "ownership:\n  grants:\n    - subject: ada\n      role: platform-admin\n\n    - subject: paula\n      role: auditor\n"
    )
    assert ownership.in_words(reason) == words
