"""The simulated company's configuration history: it explains the story, and is stored once."""

import datetime as dt
import json
from pathlib import Path

from collectors.simulator import configuration
from collectors.simulator.fleet import NAMESPACES, OUTSIDE, build_fleet
from collectors.simulator.story import Story
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.schema import POLICY_VERSIONS

NOW = dt.datetime(2026, 3, 2, 14, 30, tzinfo=dt.UTC)


def filled(folder: Path) -> tuple[Lake, Story]:
    lake, story = Lake.open(config.Lake(url=str(folder / "lake"))), Story.before(NOW)
    fleet = build_fleet(1, clusters=("c1", "c2"))
    for _ in range(2):
        configuration.backfill(lake, fleet, story, since=NOW - dt.timedelta(days=2), until=NOW)
    return lake, story


def test_a_second_run_adds_nothing(tmp_path: Path) -> None:
    lake, _ = filled(tmp_path)
    at_start = versions.in_force(lake, NOW - dt.timedelta(hours=47), versions.Selection(tables=[POLICY_VERSIONS]))
    kinds = at_start["kind"].to_pylist()
    assert kinds.count("CiliumNetworkPolicy") == 2 * (len(NAMESPACES) + len(OUTSIDE) + 2), (
        "ingress, hosts on the internet, a deny rule, the gateway"
    )
    assert kinds.count("CiliumClusterwideNetworkPolicy") == 2
    assert kinds.count("NetworkPolicy") == 2 * (len(NAMESPACES) - 1), "all but kube-system have the blueprint's"


def test_the_incident_has_a_mistaken_policy_as_its_cause(tmp_path: Path) -> None:
    lake, story = filled(tmp_path)
    texts = {}
    for name, at in (("before", story.incident[0] - dt.timedelta(seconds=1)), ("during", story.incident[0]), ("after", story.incident[1])):
        rows = versions.in_force(
            lake, at, versions.Selection(tables=[POLICY_VERSIONS], clusters=["c1"], names=["cart-ingress"])
        ).to_pylist()
        assert len(rows) == 1
        texts[name] = rows[0]["manifest"]
    assert "cart-apl" in texts["during"]
    assert texts["before"] == texts["after"] != texts["during"]
    assert json.loads(texts["during"])["kind"] == "CiliumNetworkPolicy"
