"""A real Alertmanager shows an alert once, grouped with others of its rule, and resolved when it has ended."""

from __future__ import annotations

import datetime as dt
import json
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "pipelines" / "evidence"))
import incident

from pipelines.evidence.rules import running
from tests.peers import running as peer_programs
from warehouse import config

pytestmark = pytest.mark.peers
MINUTE = dt.timedelta(minutes=1)
RECEIVER = {
    "route": {"receiver": "none", "group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s"},
    "receivers": [{"name": "none"}],
}


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[str]:
    """Its address."""
    try:
        program = peer_programs.program("alertmanager")
    except peer_programs.PeerMissing as missing:
        pytest.skip(str(missing))

    class Server(peer_programs.Peer):
        def ready(self) -> bool:
            try:
                with urllib.request.urlopen(f"http://{self.address}/-/ready", timeout=1) as answer:
                    return bool(answer.status == 200)
            except OSError:
                return False

    (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(RECEIVER))
    address = peer_programs.free_address()
    command = [str(program), f"--config.file={tmp_path}/alertmanager.yml", f"--storage.path={tmp_path}/alertmanager"]
    command.append("--cluster.listen-address=")
    server = Server([*command, f"--web.listen-address={address}"], address=address, output=tmp_path / "alertmanager.log")
    with peer_programs.running(server):
        yield f"http://{address}"


def ask(address: str, path: str) -> Any:
    with urllib.request.urlopen(f"{address}/api/v2/{path}", timeout=30) as answer:  # noqa: S310
        return json.load(answer)


def test_an_alert_is_shown_once_grouped_and_resolved(tmp_path: Path, alertmanager: str, wait: Callable[..., Any]) -> None:
    begin = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0) - 20 * MINUTE
    lake = incident.lake_in(tmp_path)
    incident.covered(lake, incident.observed(begin - 60 * MINUTE, begin + 60 * MINUTE))
    incident.stored(lake, *(incident.drops(begin, 200, destination=name) for name in ("shop", "pay")))
    drops = "SELECT cluster, destination_namespace AS namespace, count(*) AS value FROM flows WHERE verdict = 'DROPPED' GROUP BY ALL"
    rule = {"alert": "Drops", "expr": drops, "labels": {"severity": "high"}, "annotations": {"summary": "{{ $value }} drops"}}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    alerts = {"rules": [{"files": "rules.yaml"}], "lag": "0s", "alertmanager": {"url": alertmanager}, "dashboard_url": "https://h.example"}
    settings = config.parse_config(json.dumps({"alerts": alerts}), source=tmp_path / "hindcast.yaml")

    for minutes in (5, 6, 7):  # sent again at each run
        assert running.run(settings, lake, now=begin + minutes * MINUTE, source="test").failures == []
    shown = wait(lambda: ask(alertmanager, "alerts?active=true"), what="alerts")
    assert sorted(one["labels"]["namespace"] for one in shown) == ["pay", "shop"]
    one = shown[0]
    assert (one["annotations"], one["status"]["state"]) == ({"summary": "200 drops"}, "active")
    assert dt.datetime.fromisoformat(one["startsAt"]) == begin + 5 * MINUTE
    assert one["generatorURL"].startswith("https://h.example/flows?from=")
    (group,) = wait(lambda: ask(alertmanager, "alerts/groups"), what="groups")
    assert (group["labels"], len(group["alerts"])) == ({"alertname": "Drops"}, 2)

    assert running.run(settings, lake, now=begin + 14 * MINUTE, source="test").failures == []
    wait(lambda: ask(alertmanager, "alerts?active=true") == [], what="alerts that are resolved")


def test_an_alertmanager_that_is_away_is_a_failure_and_the_state_is_kept(tmp_path: Path) -> None:
    lake = incident.lake_in(tmp_path)
    rule = {"alert": "A", "expr": "collector_silent()"}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]}))
    alerts = {"rules": [{"files": "rules.yaml"}], "alertmanager": {"url": "http://127.0.0.1:9"}}
    begin = dt.datetime.now(dt.UTC) - 60 * MINUTE
    incident.covered(lake, incident.observed(begin - 60 * MINUTE, begin))
    settings = config.parse_config(json.dumps({"alerts": alerts}), source=tmp_path / "hindcast.yaml")
    done = running.run(settings, lake, now=dt.datetime.now(dt.UTC), source="test")
    assert done.failures == ["Alertmanager was not told: 127.0.0.1 cannot be reached: Connection refused"]
    assert sorted(one.state for one in running.newest_states(lake)) == ["evaluated", "firing"]
