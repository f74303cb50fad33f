"""The alert rules and the dashboard for the collectors ask for metrics that a real collector has, and a real promtool accepts them."""

from __future__ import annotations

import json
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from collectors.simulator.node import SimulatedNode
from collectors.streaming.health import HealthServer
from tests.peers import running

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES, DASHBOARD = DEPLOY / "prometheus" / "collectors.rules.yaml", DEPLOY / "grafana" / "collectors.json"
_METRIC = re.compile(r"\bhindcast_[a-z_]+\b")
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


def expressions() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and it."""
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            yield rule["alert"], rule["expr"]
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel["title"], target["expr"]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            yield variable["name"], variable["query"]["query"]


def test_every_metric_that_is_asked_for_exists_and_each_that_exists_is_on_the_dashboard(stand: Any) -> None:
    with SimulatedNode("c1/n1") as node, stand.collecting(stand.settings(node.address)) as collector:
        server = HealthServer("127.0.0.1:0", healthy=collector.healthy, ready=collector.ready)
        try:
            with urllib.request.urlopen(f"http://{server.address}/metrics") as answer:
                text = answer.read().decode()
        finally:
            server.close()
    kinds = {
        name.removesuffix("_total") if kind == "counter" else name: kind
        for name, kind in re.findall(r"^# TYPE (hindcast_[a-z_]+) (\w+)$", text, re.MULTILINE)
        if not name.endswith("_created")
    }
    known = {name + suffix for name, kind in kinds.items() for suffix in _SUFFIXES[kind]}
    asked = {(where, name) for where, expression in expressions() for name in _METRIC.findall(expression)}
    assert asked
    assert not [(where, name) for where, name in asked if name not in known]
    shown = {name for where, expression in expressions() for name in _METRIC.findall(expression)}
    assert not [name for name, kind in kinds.items() if not {name + suffix for suffix in _SUFFIXES[kind]} & shown]


def test_panels_have_titles_words_and_ids_of_their_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert all(panel["description"] for panel in panels)


@pytest.mark.peers
def test_promtool_accepts_the_rules_and_their_tests() -> None:
    try:
        promtool = running.program("promtool")
    except running.PeerMissing as missing:
        pytest.skip(f"{missing}; it takes minutes to build, so only make peers-all builds it")
    for arguments in (
        ["check", "rules", "--lint=all", "--lint-fatal", str(RULES)],
        ["test", "rules", str(RULES.with_name("collectors.test.yaml"))],
    ):
        done = subprocess.run([promtool, *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
