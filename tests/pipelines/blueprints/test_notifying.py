"""Drift that opens is told at least once and not twice; what was not evaluated is never called clear."""

from __future__ import annotations

import datetime as dt
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipelines.blueprints import evaluation, model, notifying
from pipelines.configuration import manifests
from pipelines.evidence.delivery import delivering
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.record_questions import Evaluations
from warehouse.records import posture
from warehouse.schema import COVERAGE, DRIFT, FINDINGS

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further tries begin at once."""
    monkeypatch.setattr(delivering, "FIRST_WAIT", dt.timedelta())


class Webhook:
    """A real webhook that answers with a status, and keeps what it was sent with 200."""

    def __init__(self) -> None:
        self.status, self.told = 200, list[dict[str, Any]]()
        hook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if hook.status == 200:
                    hook.told.append(body)
                self.send_response(hook.status)
                self.end_headers()

            def log_message(self, *_args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook() -> Iterator[Webhook]:
    made = Webhook()
    yield made
    made.close()


class Fleet:
    """Clusters that are folders of manifests, a blueprint for all of them, and a lake."""

    def __init__(self, folder: Path, webhook: Webhook, *names: str) -> None:
        self.folder, self.lake = folder, Lake.open(config.Lake(url=str(folder / "lake")))
        (folder / "hook").write_text(webhook.url)
        self.settings = config.Config(alerts=config.Alerts(webhook_file=folder / "hook"))
        self.clusters = []
        for name in names:
            (folder / name).mkdir()
            self.clusters.append(config.Cluster(name=name, kubernetes=config.Kubernetes(manifests=folder / name)))
            self.put(name, "shop")
        document = {"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {"names": ["c*"]}}
        (folder / "base.yaml").write_text(yaml.safe_dump(document | {"namespaces": [{"policies": [{"template": "default-deny-ingress"}]}]}))
        self.files = [model.load_file(folder / "base.yaml")]

    def put(self, cluster: str, namespace: str) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        (self.folder / cluster / f"{namespace}.json").write_text(text)

    def run(self, at: dt.datetime, *, clusters: list[config.Cluster] | None = None, tell: bool = True) -> list[str]:
        """What the hourly run does; gives what could not be told."""
        chosen = self.clusters if clusters is None else clusters
        for cluster in chosen:
            manifests.take(self.lake, cluster, now=lambda: at)
        found = evaluation.evaluate_fleet(self.lake, self.files, chosen, at=at)
        evaluation.store(self.lake, found, now=at, configured={cluster.name for cluster in chosen})
        return notifying.notify_opened(self.settings, self.lake, now=at, source="test") if tell else []


@pytest.fixture
def fleet(tmp_path: Path, webhook: Webhook) -> Fleet:
    return Fleet(tmp_path, webhook, "c1")


def test_a_webhook_that_is_down_is_notified_by_the_next_run_and_only_once(fleet: Fleet, webhook: Webhook) -> None:
    webhook.status = 503
    for hours in range(2):
        (failure,) = fleet.run(NOW + hours * HOUR)
        assert "answered 503" in failure
    assert webhook.told == []
    webhook.status = 200
    for hours in range(2, 5):
        assert fleet.run(NOW + hours * HOUR) == []
    (message,) = webhook.told
    assert message["text"].splitlines()[0] == "Hindcast: 1 new drift in c1"
    assert fleet.lake.read(FINDINGS).num_rows == 1


def test_a_retry_after_a_run_that_was_ended_before_it_had_posted_posts(fleet: Fleet, webhook: Webhook) -> None:
    fleet.run(NOW, tell=False)
    assert fleet.run(NOW + HOUR) == []
    assert len(webhook.told) == 1
    assert fleet.lake.read(FINDINGS).num_rows == 1


def test_drift_that_opened_and_closed_while_the_webhook_was_down_is_announced_too(fleet: Fleet, webhook: Webhook) -> None:
    webhook.status = 500
    fleet.run(NOW)
    (fleet.folder / "c1" / "shop.json").unlink()
    fleet.put("c1", "pay")
    fleet.run(NOW + HOUR)
    webhook.status = 200
    fleet.run(NOW + 2 * HOUR)
    (message,) = webhook.told
    assert message["text"].splitlines()[0] == "Hindcast: 2 new drifts in c1"


def test_two_runs_at_once_tell_once(fleet: Fleet, webhook: Webhook) -> None:
    fleet.run(NOW, tell=False)
    together = threading.Barrier(4)

    def tell() -> None:
        together.wait()
        notifying.notify_opened(fleet.settings, Lake.open(config.Lake(url=str(fleet.folder / "lake"))), now=NOW, source="test")

    threads = [threading.Thread(target=tell) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(webhook.told) == 1
    assert fleet.lake.read(FINDINGS).num_rows == 1


def test_a_claim_of_a_run_that_was_ended_while_it_posted_holds_up_the_next_only_for_a_while(
    fleet: Fleet, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet.run(NOW, tell=False)
    old = dt.datetime.now(dt.UTC) - notifying.CLAIM_FOR - dt.timedelta(seconds=1)
    fleet.lake.commit(DRIFT, [], transactions={notifying.CLAIMED: int(old.timestamp() * 1e6)}, metadata={})
    assert notifying.notify_opened(fleet.settings, fleet.lake, now=NOW, source="test") == []
    assert len(webhook.told) == 1


def test_a_webhook_that_is_configured_later_hears_of_what_opens_then(fleet: Fleet, webhook: Webhook) -> None:
    fleet.settings = config.Config()
    fleet.run(NOW)
    fleet.settings = config.Config(alerts=config.Alerts(webhook_file=fleet.folder / "hook"))
    fleet.run(NOW + HOUR)
    assert webhook.told == []
    fleet.put("c1", "pay")
    fleet.run(NOW + 2 * HOUR)
    assert [message["text"].splitlines()[0] for message in webhook.told] == ["Hindcast: 1 new drift in c1"]


def test_a_lake_evaluated_before_announcements_were_recorded_announces_only_new_drift(fleet: Fleet, webhook: Webhook) -> None:
    """The log of such a lake has the evaluations' own numbers and nothing of what was told."""
    manifests.take(fleet.lake, fleet.clusters[0], now=lambda: NOW)
    (found,) = evaluation.evaluate_fleet(fleet.lake, fleet.files, fleet.clusters, at=NOW)
    rows = pa.Table.from_pylist(evaluation.changes([found], [], now=NOW), schema=DRIFT.schema)
    numbers = {evaluation.APP_ID: int(NOW.timestamp() * 1e6)}
    fleet.lake.commit(DRIFT, fleet.lake.write_files(DRIFT, rows), transactions=numbers, metadata={})
    assert fleet.run(NOW + HOUR) == []
    assert webhook.told == []
    fleet.put("c1", "pay")
    fleet.run(NOW + 2 * HOUR)
    assert len(webhook.told) == 1


# What is known ----------------------------------------------------------------------------------------------------


def test_drift_of_a_cluster_that_left_the_configuration_is_closed_and_says_why(tmp_path: Path, webhook: Webhook) -> None:
    fleet = Fleet(tmp_path, webhook, "c1", "c2")
    fleet.run(NOW)
    assert {row["cluster"] for row in posture.open_drift(fleet.lake).to_pylist()} == {"c1", "c2"}
    fleet.run(NOW + HOUR, clusters=fleet.clusters[:1])
    assert {row["cluster"] for row in posture.open_drift(fleet.lake).to_pylist()} == {"c1"}
    assert {row["cluster"] for row in posture.open_drift(fleet.lake, at=NOW).to_pylist()} == {"c1", "c2"}
    (closed,) = (row for row in fleet.lake.read(DRIFT).to_pylist() if row["state"] == "closed")
    assert closed["summary"].endswith("closed because the cluster is not in the configuration any more")


def test_judging_some_clusters_by_hand_closes_nothing_of_the_others(tmp_path: Path, webhook: Webhook) -> None:
    fleet = Fleet(tmp_path, webhook, "c1", "c2")
    fleet.run(NOW)
    found = evaluation.evaluate_fleet(fleet.lake, fleet.files, fleet.clusters[:1], at=NOW + HOUR)
    evaluation.store(fleet.lake, found, now=NOW + HOUR, configured={"c1", "c2"})
    assert {row["cluster"] for row in posture.open_drift(fleet.lake).to_pylist()} == {"c1", "c2"}


def test_evaluations_record_when_each_cluster_was_compared_with_each_blueprint(tmp_path: Path, webhook: Webhook) -> None:
    fleet = Fleet(tmp_path, webhook, "c1", "other")
    assert posture.evaluations(fleet.lake).num_rows == 0
    fleet.run(NOW)
    fleet.run(NOW + HOUR, clusters=fleet.clusters[:1])
    rows = [
        (row["cluster"], row["blueprint"], row["blueprint_version"], row["evaluated"])
        for row in posture.evaluations(fleet.lake).to_pylist()
    ]
    assert rows == [("c1", None, None, NOW + HOUR), ("c1", "base", "1.0.0", NOW + HOUR), ("other", None, None, NOW)]
    assert posture.evaluations(fleet.lake, at=NOW - HOUR).num_rows == 0
    assert set(posture.evaluations(fleet.lake, at=NOW)["evaluated"].to_pylist()) == {NOW}
    grants = (config.Grant(subject="ada", role="namespace-owner", clusters=("c1",), namespaces=("shop",)),)
    door = Door(fleet.lake, config.Ownership(grants=grants))
    assert set(door.answer(Principal(user="ada"), Evaluations()).rows["cluster"].to_pylist()) == {"c1"}


def test_a_cluster_whose_flows_arrive_is_not_called_away(fleet: Fleet) -> None:
    fleet.run(NOW)
    late = NOW + 5 * HOUR
    (away,) = evaluation.evaluate_fleet(fleet.lake, fleet.files, fleet.clusters, at=late)
    assert [drift.drift for drift in away.drifts] == ["not_reporting"]
    row = {"cluster": "c1", "date": late.date(), "from": late - HOUR, "to": late - HOUR / 60, "node_name": "n1", "state": "connected"}
    row |= {"source": "stream", "flows_received": 7, "flows_lost": 0, "detail": None, "recorded": late}
    ledger = pa.Table.from_pylist([row], schema=COVERAGE.schema)
    fleet.lake.commit(COVERAGE, fleet.lake.write_files(COVERAGE, ledger), transactions={}, metadata={})
    (stale,) = evaluation.evaluate_fleet(fleet.lake, fleet.files, fleet.clusters, at=late)
    (drift,) = stale.drifts
    assert drift.drift == "configuration_stale"
    assert "its flows arrive (until 2026-06-01 16:59 UTC)" in drift.summary
    evaluation.store(fleet.lake, [away], now=late - HOUR / 2)
    evaluation.store(fleet.lake, [stale], now=late)
    opened = {row["drift"] for row in posture.open_drift(fleet.lake).to_pylist()}
    assert opened == {"missing", "configuration_stale"}
