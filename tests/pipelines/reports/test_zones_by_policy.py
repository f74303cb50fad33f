"""The segmentation report says what the policies in force allow between zones, and does not say it where that cannot be known."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pytest

from collectors.simulator import configuration, history
from collectors.simulator.fleet import build_fleet
from collectors.simulator.story import Story
from pipelines.evidence.reports import making
from pipelines.evidence.reports.asked import ReportOf
from pipelines.replay.asked_connection import AskedConnection, explain_connection
from pipelines.replay.in_force import History
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door

NOW = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
SECOND, HOUR = dt.timedelta(seconds=1), dt.timedelta(hours=1)
ZONES = {"zones": [{"name": "money", "namespaces": ["payments", "fraud"]}]}
"""Nothing is allowed between zones, so all that policies allow is beyond the rules."""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """Ninety minutes of traffic of one simulated cluster, and its configuration history."""
    made = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("zones") / "lake")))
    fleet, story = build_fleet(1, clusters=("c1",)), Story.before(NOW)
    history.backfill(made, fleet, story, since=NOW - 1.5 * HOUR, until=NOW, flows_per_second=0.5, seed=1)
    configuration.backfill(made, fleet, story, since=NOW - 48 * HOUR, until=NOW)
    return made


def report(lake: Lake, subject: Principal = OPERATOR, ownership: config.Ownership | None = None) -> dict[str, Any]:
    settings = config.Config(ownership=ownership or config.Ownership())
    request = ReportOf(name="segmentation", since=NOW - HOUR, until=NOW, known=NOW + HOUR, settings=json.dumps(ZONES), subject=subject)
    made, _ = making.build(settings, lake, request)
    return {one.id: one for one in made.sections}


def test_what_went_through_is_allowed_by_policies_and_each_is_allowed_when_it_is_explained(lake: Lake) -> None:
    """The report judges in bulk; explaining one connection walks through the rules, which is other code."""
    found = report(lake)
    paths = found["beyond"].rows.to_pylist()
    by_policies = {(path["source"], path["destination"], path["port"]): path["policies"] for path in paths}
    went = [row for row in found["crossings"].rows.to_pylist() if row["to_zone"] == "money" and "/" in row["source"]]
    assert went
    replayed = History(Door(lake, config.Ownership()), OPERATOR)
    for row in went[:6]:
        port, _, protocol = row["port"].partition("/")
        ends = {"source": row["source"], "destination": row["destination"], "protocol": protocol, "port": int(port)}
        explained = explain_connection(replayed, AskedConnection(**ends, at=NOW - SECOND, clusters=("c1",)))
        assert by_policies[row["source"], row["destination"], row["port"]] == explained.verdict.value
    (row,) = [row for row in found["zones"].rows.to_pylist() if (row["from"], row["to"]) == ("other", "money")]
    counted = [path for path in paths if (path["from_zone"], path["to_zone"]) == ("other", "money")]
    assert row["by_policies"] == row["beyond"] == sum(path["policies"] == "allowed" for path in counted)
    assert not any("not judged:" in text for text in found["zones"].text)


def test_who_does_not_see_all_policies_is_not_told_what_they_allow(lake: Lake) -> None:
    """A policy that she does not see may allow or deny what hers do not."""
    grant = config.Grant(subject="paula", role="namespace-owner", namespaces=("payments",))
    found = report(lake, Principal(user="paula"), config.Ownership(grants=(grant,)))
    assert found["beyond"].rows.num_rows == 0
    assert any("c1 is not judged: not all of its policies and workloads are visible" in text for text in found["zones"].text)
    assert all("uncertain" in row["policies"] for row in found["zones"].rows.to_pylist())
