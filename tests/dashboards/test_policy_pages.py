"""Policies and posture: shown where they are recorded, within what one owned, as of the time that is looked at."""

import datetime as dt
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from collectors.simulator import configuration
from collectors.simulator.fleet import build_fleet
from collectors.simulator.story import Story
from dashboards.frame import theme
from hindcast import demo_history
from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.blueprints.controls import CONTROLS
from pipelines.evidence import findings
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import posture

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, judged: Callable[[Path], config.Config]) -> tuple[Path, Story]:
    """A lake with two days of one cluster's configuration, held against the blueprint."""
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    folder, story = tmp_path_factory.mktemp("configured"), Story.before(now)
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    configuration.backfill(lake, build_fleet(1, clusters=("c1",)), story, since=now - dt.timedelta(days=2), until=now)
    demo_history.judge(lake, judged(folder), story, since=now - dt.timedelta(days=2), until=now)
    return folder / "lake", story


@pytest.fixture
def story(folder: Path, made: tuple[Path, Story], configure: Callable[..., None]) -> Story:
    """What happened in the lake that the pages look at."""
    configure(folder, lake={"url": str(made[0])})
    return made[1]


def test_pages_of_what_is_not_recorded_are_not_there(filled: Path, look: Look, said: Said) -> None:
    assert "Policies" not in said(look("policies", user="ada"))
    assert "Drift" not in {metric.label for metric in look("overview", user="ada").metric}


def test_an_owner_sees_her_namespaces_policies_and_no_one_elses(story: Story, look: Look) -> None:
    everyones, hers = (look("policies", user=user, last="1d").dataframe[0].value for user in ("ada", "paula"))
    assert len(everyones) > len(hers)
    assert set(hers["Namespace"]) == {"payments"}


def test_a_policys_history_shows_what_changed_and_by_whom(story: Story, look: Look, said: Said) -> None:
    key = "c1|CiliumNetworkPolicy|cart|cart-ingress"
    app = look("policies", user="ada", last="1d", object=key)
    text = said(app)
    assert "cart/cart-ingress" in text
    assert theme.no_link(configuration.SOMEBODY) in text
    assert "history (" in " ".join(tab.label for tab in app.tabs).lower()
    assert "cart-apl" not in app.code[-1].value, "the version of now is the mended one"
    during = story.incident[0] + dt.timedelta(minutes=5)
    window = {"from_": f"{during - dt.timedelta(hours=1):%Y-%m-%dT%H:%MZ}", "until": f"{during:%Y-%m-%dT%H:%MZ}"}
    assert "cart-apl" in look("policies", user="ada", object=key, **window).code[-1].value


def test_what_audits_found_stands_beside_the_policy_for_its_owner_alone(story: Story, folder: Path, look: Look, said: Said) -> None:
    lake = Lake.open(config.load_config(folder / "hindcast.yaml").lake)
    found = [
        Finding(
            kind=Kind.UNUSED_RULE,
            severity="low",
            cluster="c1",
            namespace=namespace,
            subject=f"CiliumNetworkPolicy/{namespace}-ingress",
            place="1",
            summary=f"spec.ingress[0] of {namespace} decided on nothing in 30 days",
        )
        for namespace in ("payments", "cart")
    ]
    audited = Audited(cluster="c1", kind=Kind.UNUSED_RULE, findings=tuple(found))
    findings.keep(lake, [audited], now=dt.datetime.now(dt.UTC) - dt.timedelta(minutes=5), source="test")
    app = look("policies", user="paula", last="1d", object="c1|CiliumNetworkPolicy|payments|payments-ingress")
    rows = app.dataframe[0].value.set_index("Name")
    assert rows.loc["payments-ingress", "Findings"] == 1
    assert "decided on nothing in 30 days" in said(app)
    assert "of cart" not in said(app)


def test_a_time_that_nobody_looked_at_is_called_unknown(story: Story, look: Look, said: Said) -> None:
    assert "Not known for this time" in said(look("policies", user="ada", from_="2020-01-01T00:00Z", until="2020-01-02T00:00Z"))


def test_a_cluster_whose_configuration_was_never_seen_whole_is_named_and_gets_no_all_clear(
    folder: Path, configure: Callable[..., None], judged: Callable[[Path], config.Config], look: Look, said: Said
) -> None:
    now = dt.datetime.now(dt.UTC)
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    demo_history.judge(lake, judged(folder), Story.before(now), since=now - dt.timedelta(hours=7), until=now)
    configure(folder, clusters=[{"name": "c1"}])
    text = said(look("posture", user="ada", last="1d"))
    assert "Configuration never seen whole: c1." in text
    assert "None: every cluster" not in text


def test_drift_is_reported_as_of_the_time(story: Story, look: Look, said: Said) -> None:
    assert "enable-policy" in look("posture", user="ada", last="1d").dataframe[0].value.to_string()
    before = story.deployment
    window = {"from_": f"{before - dt.timedelta(hours=8):%Y-%m-%dT%H:%MZ}", "until": f"{before:%Y-%m-%dT%H:%MZ}"}
    assert "None: every cluster" in said(look("posture", user="ada", **window))


def test_a_time_in_which_nothing_was_evaluated_is_not_called_as_wanted(story: Story, look: Look, said: Said) -> None:
    text = said(look("posture", user="ada", from_="2020-01-01T00:00Z", until="2020-01-02T00:00Z"))
    assert "None: every cluster" not in text
    assert "No open drift is recorded" in text
    minutes = {
        "from_": f"{story.deployment + dt.timedelta(minutes=7):%Y-%m-%dT%H:%MZ}",
        "until": f"{story.deployment + dt.timedelta(minutes=9):%Y-%m-%dT%H:%MZ}",
    }
    text = said(look("posture", user="ada", **minutes))
    assert "Not evaluated in this window: c1; the last evaluation was at" in text
    assert "None: every cluster" not in text


def test_controls_say_what_they_ask_and_what_they_found(story: Story, look: Look, said: Said) -> None:
    app = look("posture", user="ada", last="1d")
    matrix = app.dataframe[1].value.set_index("Control")
    assert matrix.loc["BP-CILIUM", "Asks"] == "Cilium's version and settings are as the blueprints want"
    assert list(matrix.loc["BP-CILIUM", "c1"]) == ["▲ Fail"]
    assert list(matrix.loc["C-0205", "c1"]) == ["✓ Pass"]
    assert {control.id for control in CONTROLS} == set(posture.REQUIREMENTS)
    only = look("posture", user="ada", last="1d", only="1").dataframe[1].value
    assert 0 < len(only) < len(matrix)


def test_a_day_that_nobody_looked_at_counts_no_drift(story: Story, look: Look) -> None:
    written = [str(block.proto.body) for block in look("posture", user="ada", last="1d").get("html")]
    strip = next(text for text in written if "<table" in text)
    days = re.findall(r"<td[^>]*>([^<]+)</td>", strip)
    assert len(days) == 7
    assert days[0] == "–"  # noqa: RUF001
    assert days[-1] == "2"


def test_an_owner_sees_no_drift_of_the_whole_cluster(story: Story, look: Look, said: Said) -> None:
    text = said(look("posture", user="paula", last="1d"))
    assert "No open drift is recorded in your namespaces" in text
    assert "None: every cluster" not in text


def test_a_cluster_that_is_compared_with_no_blueprint_is_not_called_as_wanted(folder: Path, look: Look, said: Said) -> None:
    now = dt.datetime.now(dt.UTC).replace(microsecond=0)
    story, since = Story.before(now), now - dt.timedelta(hours=1)
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    configuration.backfill(lake, build_fleet(1, clusters=("c1",)), story, since=since, until=now)
    (folder / "unwanted.yaml").write_text('{"clusters": [{"name": "c1"}]}')
    demo_history.judge(lake, config.load_config(folder / "unwanted.yaml"), story, since=since, until=now)
    text = said(look("posture", user="ada", last="1d"))
    assert "Held against no blueprint: c1." in text
    assert "None: every cluster" not in text
