"""Drift and controls over a lake: since when, kept once, gone when it is gone, read back for any time."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints import evaluation, model, notifying
from pipelines.configuration import manifests
from pipelines.evidence.delivery import delivering, hooks
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError, CommitConflictError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.record_questions import Controls, Drift
from warehouse.records import posture
from warehouse.schema import DRIFT, FINDINGS, POSTURE

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)
DENY = "base-default-deny-ingress"


class Fleet:
    """A cluster that is a folder of manifests, its history in a lake, and a blueprint."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "cluster"
        self.folder.mkdir()
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))
        self.cluster = config.Cluster(name="c1", kubernetes=config.Kubernetes(manifests=self.folder))
        document = {"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}}
        file = folder / "base.yaml"
        file.write_text(yaml.safe_dump(document | {"namespaces": [{"policies": [{"template": "default-deny-ingress"}]}]}))
        self.files = [model.load_file(file)]

    def put(self, name: str, manifest: dict[str, Any] | None) -> None:
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump(manifest)) if manifest else file.unlink()

    def policy(self, **spec: Any) -> dict[str, Any]:
        labels = {"app.kubernetes.io/managed-by": "hindcast", "hindcast/blueprint": "base"}
        metadata = {"name": DENY, "namespace": "shop", "labels": labels}
        body = {"podSelector": {}, "policyTypes": ["Ingress"]} | spec
        return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": body}

    def look(self, at: dt.datetime) -> None:
        manifests.take(self.lake, self.cluster, now=lambda: at)

    def evaluate(self, at: dt.datetime) -> list[evaluation.Evaluation]:
        return evaluation.evaluate_fleet(self.lake, self.files, [self.cluster], at=at)

    def keep(self, at: dt.datetime) -> int:
        return evaluation.store(self.lake, self.evaluate(at), now=at).rows

    def open(self, at: dt.datetime | None = None) -> list[tuple[str, str]]:
        return [(row["drift"], row["name"]) for row in posture.open_drift(self.lake, at=at).to_pylist()]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    made = Fleet(tmp_path)
    made.put("shop", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}})
    return made


def test_a_fleet_never_looked_at_is_not_reporting_and_passes_no_control(fleet: Fleet) -> None:
    (found,) = fleet.evaluate(NOW)
    assert [drift.drift for drift in found.drifts] == ["not_reporting"]
    assert {result.status for result in found.results} == {"unknown", "not_evaluated"}
    assert found.observed is None


def test_no_clusters_is_no_drift_and_is_kept(fleet: Fleet) -> None:
    assert evaluation.store(fleet.lake, [], now=NOW).rows == 0
    assert not posture.controls(fleet.lake).num_rows


def test_drift_opens_once_keeps_its_since_and_closes(fleet: Fleet) -> None:
    fleet.put("deny", fleet.policy())
    fleet.look(NOW)
    assert fleet.keep(NOW) == 0
    fleet.put("deny", fleet.policy(ingress=[{}]))
    fleet.look(NOW + HOUR)
    assert fleet.keep(NOW + HOUR) == 1
    assert fleet.keep(NOW + HOUR * 1.5) == 0
    fleet.put("deny", fleet.policy(ingress=[{"from": [{"podSelector": {}}]}]))
    fleet.look(NOW + HOUR * 2)
    assert fleet.keep(NOW + HOUR * 2) == 1
    (row,) = posture.open_drift(fleet.lake).to_pylist()
    assert row["drift"] == "modified"
    assert NOW <= row["since"] <= NOW + HOUR
    fleet.put("deny", fleet.policy())
    fleet.look(NOW + HOUR * 3)
    assert fleet.keep(NOW + HOUR * 3) == 1
    assert fleet.open() == []
    assert fleet.open(NOW) == []
    assert fleet.open(NOW + HOUR) == fleet.open(NOW + HOUR * 2) == [("modified", DENY)]


def test_a_deleted_object_is_missing_since_it_was_deleted(fleet: Fleet) -> None:
    fleet.put("deny", fleet.policy())
    fleet.look(NOW)
    fleet.put("deny", None)
    fleet.look(NOW + HOUR)
    (found,) = fleet.evaluate(NOW + HOUR)
    (drift,) = found.drifts
    assert drift.drift == "missing"
    assert NOW <= drift.since <= NOW + HOUR
    assert drift.summary.endswith("was deleted")


def test_drift_of_a_cluster_that_is_away_stays_open(fleet: Fleet) -> None:
    fleet.look(NOW)
    fleet.keep(NOW)
    assert fleet.keep(NOW + dt.timedelta(days=1)) == 1
    assert sorted(drift for drift, _ in fleet.open()) == ["missing", "not_reporting"]
    fleet.put("deny", fleet.policy())
    fleet.look(NOW + dt.timedelta(days=2))
    fleet.keep(NOW + dt.timedelta(days=2))
    assert fleet.open() == []


def test_one_evaluation_of_a_time_is_stored_once(fleet: Fleet) -> None:
    fleet.look(NOW)
    found = fleet.evaluate(NOW)
    evaluation.store(fleet.lake, found, now=NOW)
    with pytest.raises(CommitConflictError):
        evaluation.store(fleet.lake, found, now=NOW)
    assert fleet.lake.read(DRIFT).num_rows == 1
    assert fleet.lake.read(POSTURE).num_rows == 16


def test_the_matrix_shows_the_given_time(fleet: Fleet) -> None:
    fleet.look(NOW)
    fleet.keep(NOW)
    fleet.put("deny", fleet.policy())
    fleet.look(NOW + HOUR)
    fleet.keep(NOW + HOUR)

    def status(at: dt.datetime | None) -> str:
        return {row["control"]: row["status"] for row in posture.controls(fleet.lake, at=at).to_pylist()}["BP-OBJ"]

    assert status(NOW) == "fail"
    assert status(NOW + HOUR / 2) == "fail"
    assert status(NOW + HOUR) == status(None) == "pass"
    assert posture.controls(fleet.lake, at=NOW - HOUR).num_rows == 0


def test_history_of_then_can_be_judged_by_the_blueprints_of_now(fleet: Fleet) -> None:
    fleet.look(NOW)
    fleet.put("deny", fleet.policy())
    fleet.look(NOW + HOUR)
    assert [drift.drift for drift in fleet.evaluate(NOW + HOUR / 2)[0].drifts] == ["missing"]
    assert not fleet.evaluate(NOW + HOUR)[0].drifts


def test_owners_see_the_drift_of_their_namespaces_and_no_cluster(fleet: Fleet) -> None:
    fleet.put("pay", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "pay"}})
    fleet.look(NOW)
    fleet.keep(NOW)
    late = dt.datetime.now(dt.UTC)
    assert fleet.keep(late) == 1  # by now it does not report, which is no team's matter
    grants = (config.Grant(subject="ada", role="namespace-owner", namespaces=("pay",)), config.Grant(subject="eve", role="auditor"))
    door = Door(fleet.lake, config.Ownership(grants=grants))

    def seen(user: str) -> list[tuple[str, str]]:
        return [(row["drift"], row["namespace"]) for row in door.answer(Principal(user=user), Drift()).rows.to_pylist()]

    assert seen("ada") == [("missing", "pay")]
    assert sorted(seen("eve"), key=str) == [("missing", "pay"), ("missing", "shop"), ("not_reporting", None)]
    assert door.answer(Principal(user="ada"), Controls()).rows.num_rows == 0
    assert door.answer(Principal(user="eve"), Controls()).rows.num_rows == 16
    with pytest.raises(AccessDeniedError):
        door.answer(Principal(user="nobody"), Drift())


def test_drift_that_is_new_is_announced_once(fleet: Fleet) -> None:
    fleet.look(NOW)
    for at in (NOW, NOW + HOUR / 2):
        evaluation.store(fleet.lake, fleet.evaluate(at), now=at)
        assert not notifying.notify_opened(config.Config(), fleet.lake, now=at, source="test")
    (finding,) = fleet.lake.read(FINDINGS).to_pylist()
    assert (finding["kind"], finding["severity"], finding["namespace"]) == ("drift", "high", "shop")
    assert finding["subject"] == f"NetworkPolicy/{DENY}"
    assert json.loads(finding["detail"])["drift"] == "missing"


def test_a_message_names_the_worst_and_counts_the_rest_and_a_webhook_that_is_away_is_reported(
    fleet: Fleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(7):
        fleet.put(f"n{number}", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"n{number}"}})
    fleet.look(NOW)
    evaluation.store(fleet.lake, fleet.evaluate(NOW), now=NOW)
    (tmp_path / "hook").write_text("http://127.0.0.1:1/secret")
    settings = config.Config(alerts=config.Alerts(webhook_file=tmp_path / "hook"))
    monkeypatch.setattr(delivering, "FIRST_WAIT", dt.timedelta())
    (failure,) = notifying.notify_opened(settings, fleet.lake, now=NOW, source="test")
    assert "alerts-webhook (webhook): failed: 127.0.0.1 cannot be reached" in failure
    assert "secret" not in failure
    assert fleet.lake.read(FINDINGS).num_rows == 8
    posted: list[Any] = []
    monkeypatch.setattr(hooks, "send", lambda _hook, body, **_: posted.append(body))
    assert notifying.notify_opened(settings, fleet.lake, now=NOW, source="test") == []
    assert posted[0]["text"].splitlines()[0] == "Hindcast: 8 new drifts in c1"
    assert posted[0]["text"].splitlines()[-1] == "and 3 more"
    assert posted[0]["severity"] == "high"


def test_a_row_of_drift_has_the_object_before_and_after(fleet: Fleet) -> None:
    fleet.put("deny", fleet.policy(policyTypes=["Ingress", "Egress"]))
    fleet.look(NOW)
    fleet.keep(NOW)
    (row,) = posture.open_drift(fleet.lake).to_pylist()
    assert row["paths"] == ["spec.policyTypes[1]"]
    assert json.loads(row["before"]) == {"spec.policyTypes[1]": None}
    assert json.loads(row["after"]) == {"spec.policyTypes[1]": "Egress"}
    assert row["blueprint_version"] == "1.0.0"
