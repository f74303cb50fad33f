"""The demo's past has something true to show: a drift, drops with a cause, a deployment's new edges, and rollups."""

import datetime as dt
import json

import pytest

from collectors.simulator import configuration, policies
from collectors.simulator.story import Story
from hindcast import demo_files, demo_history
from hindcast.simulate import CLUSTERS, GRANTS
from pipelines.evidence.rules import running
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.lake.tables import Lake
from warehouse.questions import flow_questions
from warehouse.questions.door import Door
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import Controls, Drift
from warehouse.schema import DRIFT, EDGES_1H, POSTURE

NOW = dt.datetime(2026, 3, 2, 14, 30, tzinfo=dt.UTC)
HISTORY = dt.timedelta(hours=23)
"""Enough for the story, and stored in half the time."""


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Lake, config.Config]:
    folder = tmp_path_factory.mktemp("demo")
    document = {"clusters": [{"name": name} for name in CLUSTERS[:3]], "ownership": {"grants": GRANTS}} | demo_files.write(folder)
    (folder / "hindcast.yaml").write_text(json.dumps(document))
    settings = config.load_config(folder / "hindcast.yaml")
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    demo_history.fill(lake, settings, now=NOW, history=HISTORY, flows_per_second=0.2)
    return lake, settings


def test_what_drifted_is_found_when_it_did_and_what_was_mended_is_closed(past: tuple[Lake, config.Config]) -> None:
    lake, _ = past
    door, story = Door(lake, config.Ownership()), Story.before(NOW)
    assert door.answer(OPERATOR, Drift(at=story.deployment)).rows.num_rows == 0
    during = door.answer(OPERATOR, Drift(at=story.deployment + dt.timedelta(hours=4))).rows.to_pylist()
    assert [(row["drift"], row["namespace"]) for row in during] == [("missing", policies.REMOVED)]
    rows = door.answer(OPERATOR, Drift(at=NOW)).rows.to_pylist()
    assert {(row["cluster"], row["drift"], row["namespace"], row["changed_by"]) for row in rows} == {
        ("us-east", "setting", None, configuration.SOMEBODY),
        ("us-east", "modified", policies.OPENED, configuration.SOMEBODY),
    }
    assert {row["since"] for row in rows if row["drift"] == "setting"} == {story.new_host}


def test_the_other_clusters_stand_as_the_blueprint_wants(past: tuple[Lake, config.Config]) -> None:
    rows = Door(past[0], config.Ownership()).answer(OPERATOR, Controls(at=NOW)).rows.to_pylist()
    status = {(row["cluster"], row["control"]): row["status"] for row in rows}
    assert {status[cluster, "BP-OBJ"] for cluster in CLUSTERS[:2]} == {"pass"}
    assert status["us-east", "BP-OBJ"] == status["us-east", "BP-CILIUM"] == "fail"


def test_drops_of_the_incident_and_edges_of_the_deployment_are_there(past: tuple[Lake, config.Config]) -> None:
    door, story = Door(past[0], config.Ownership()), Story.before(NOW)
    inside = FlowFilter(since=story.incident[0], until=story.incident[1], namespaces=("cart",), verdicts=("DROPPED",))
    assert door.answer(OPERATOR, flow_questions.newest(inside)).rows.num_rows > 0
    assert past[0].rows(EDGES_1H) > 0, "closed hours are rolled up"


def test_the_alert_rules_have_no_mistake_and_tell_of_the_drift(past: tuple[Lake, config.Config]) -> None:
    lake, settings = past
    done = running.run(settings, lake, now=NOW, source="test")
    assert (done.mistakes, done.failures) == ((), [])
    states = running.newest_states(lake)
    assert {(one.labels["cluster"], one.labels["severity"]) for one in states if one.state == "firing"} >= {
        ("us-east", "critical"),
        ("us-east", "high"),
    }
    assert {one.rule.split("/")[0] for one in states} == {"platform", demo_files.OWNER}


def test_a_second_run_adds_nothing(past: tuple[Lake, config.Config]) -> None:
    lake, settings = past
    before = {table.name: lake.rows(table) for table in (DRIFT, POSTURE, EDGES_1H)}
    demo_history.fill(lake, settings, now=NOW, history=HISTORY, flows_per_second=0.2)
    assert {table.name: lake.rows(table) for table in (DRIFT, POSTURE, EDGES_1H)} == before
