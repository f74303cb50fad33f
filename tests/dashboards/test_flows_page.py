"""The page of flows, without a browser: who sees what, and what is said when there is nothing to see."""

import datetime as dt
import itertools
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from collectors.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from dashboards import charts
from warehouse import config
from warehouse.schema import COVERAGE, FLOWS
from warehouse.tables import Lake

APP = Path(__file__).parents[2] / "dashboards" / "app.py"
GRANTS = [
    {"subject": "ada", "role": "platform-admin"},
    {"subject": "nina", "role": "namespace-owner", "namespaces": ["nowhere"]},
    {"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]},
    {"subject": "zoe", "role": "namespace-owner"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "hindcast.yaml").write_text(json.dumps({"ownership": {"grants": GRANTS}}))
    monkeypatch.setenv("HINDCAST_CONFIG", str(tmp_path / "hindcast.yaml"))
    return tmp_path


def fill(folder: Path) -> None:
    """The traffic of the last minutes, and its coverage."""
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    now = dt.datetime.now(dt.UTC)
    traffic = Traffic(build_fleet(1, clusters=("c1",)), 1, now - dt.timedelta(minutes=10), 5.0)
    flows = [flow.SerializeToString() for flow in itertools.islice(traffic.flows(), 900)]
    lake.commit(FLOWS, lake.write_files(FLOWS, decode(flows, cluster="c1", recorded=now).rows), transactions={}, metadata={})
    begin = now - dt.timedelta(minutes=15)
    row: dict[str, Any] = {
        "cluster": "c1",
        "date": begin.date(),
        "from": begin,
        "to": now,
        "node_name": "c1/worker-001",
        "state": "connected",
    }
    lake.commit(COVERAGE, lake.write_files(COVERAGE, pa.Table.from_pylist([row], schema=COVERAGE.schema)), transactions={}, metadata={})


def look(**query: str) -> AppTest:
    page = AppTest.from_file(str(APP), default_timeout=30)
    for name, value in query.items():
        page.query_params[name] = value
    page.run()
    assert not page.exception
    return page


def said(page: AppTest) -> str:
    kinds = (page.subheader, page.title, page.markdown, page.caption, page.error)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def test_without_grants_the_page_says_what_to_do(folder: Path) -> None:
    (folder / "hindcast.yaml").write_text("{}")
    assert "ownership.grants" in said(look())


def test_a_configuration_that_is_wrong_is_said(folder: Path) -> None:
    (folder / "hindcast.yaml").write_text("lakes: {}")
    assert "lakes" in said(look())


def test_an_empty_lake_says_how_to_fill_it(folder: Path) -> None:
    assert "hindcast collect" in said(look(user="ada"))


def test_who_was_given_no_namespace_is_told_that_nothing_is_hers(folder: Path) -> None:
    fill(folder)
    page = look(user="zoe")
    assert "Nothing here is yours" in said(page)
    assert not page.dataframe


def test_an_owner_without_traffic_is_told_that_the_time_was_observed(folder: Path) -> None:
    fill(folder)
    assert "No flow of yours" in said(look(user="nina", last="15m"))


def test_a_window_that_nobody_recorded_is_not_called_quiet(folder: Path) -> None:
    fill(folder)
    assert "Not observed" in said(look(user="ada", last="custom", **{"from": "2020-01-01 00:00", "until": "2020-01-01 01:00"}))


def test_a_filter_that_leaves_nothing_says_how_much_there_was(folder: Path) -> None:
    fill(folder)
    assert "900 flows of this window" in said(look(user="ada", ip="203.0.113.254"))


NONSENSE = [{"last": "7 weeks"}, {"port": "http"}, {"last": "custom", "from": "noon"}, {"user": "eve"}, {"ns": "x' OR 1=1"}]


@pytest.mark.parametrize("query", NONSENSE)
def test_an_address_with_nonsense_in_it_breaks_nothing(query: dict[str, str], folder: Path) -> None:
    fill(folder)
    look(**{"user": "ada"} | query)


def test_an_owner_sees_only_flows_of_her_namespace(folder: Path) -> None:
    fill(folder)
    everyone, hers = look(user="ada"), look(user="paula")
    assert len(everyone.dataframe[0].value) == 400
    rows = hers.dataframe[0].value
    assert 0 < len(rows) < 400
    assert all(row["Source"].startswith("payments") or row["Destination"].startswith("payments") for _, row in rows.iterrows())
    assert "observed" in said(hers)


def test_a_filter_in_the_address_is_applied(folder: Path) -> None:
    fill(folder)
    rows = look(user="ada", ns="cart").dataframe[0].value
    assert all(row["Source"].startswith("cart") or row["Destination"].startswith("cart") for _, row in rows.iterrows())


def test_verdicts_have_a_word_a_sign_and_a_colour() -> None:
    assert set(charts.LABELS) == set(charts.COLOURS)
    assert len(charts.CHIPS) == len(charts.LABELS)
