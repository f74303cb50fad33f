"""Proposals against a real API server with RBAC: applied as the user, refused by the server, changed underneath, rolled back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints import objects
from pipelines.cluster_access import ClusterAccess, Impersonated
from pipelines.policy.documents import read_documents
from pipelines.proposals import applying, rolling_back, steps
from pipelines.proposals.model import Event, Status
from tests.peers.proposal_place import Place, office_module
from warehouse.errors import (
    AccessDeniedError,
    ClusterConflictError,
    ClusterError,
    ClusterForbiddenError,
    ConfigError,
    ProposalError,
    RollBackDeniesError,
)

pytestmark = pytest.mark.peers


@pytest.fixture
def place(clusters: dict[str, Any], tmp_path: Path) -> Place:
    return Place(clusters["one"], tmp_path)


def test_who_owns_nothing_is_refused_by_us_and_when_we_are_bypassed_by_the_api_server(place: Place) -> None:
    with pytest.raises(AccessDeniedError, match="is not yours now"):
        place.propose(place.desk("carla"), place.policy("api"))
    settings = place.office.settings.clusters[0].proposing
    assert settings is not None
    access = ClusterAccess(settings, cluster="c1", impersonated=Impersonated(user="carla"))
    (document,) = read_documents(place.policy("api"), "")
    with pytest.raises(ClusterForbiddenError, match='User "carla" cannot'):
        applying.live.put(access, dict(document.manifest), None)
    assert place.stored() is None


def test_the_credentials_that_impersonate_have_no_right_of_their_own(place: Place) -> None:
    settings = place.office.settings.clusters[0].proposing
    assert settings is not None
    access = ClusterAccess(settings, cluster="c1")
    with pytest.raises(ClusterForbiddenError):
        access.request("GET", f"/apis/cilium.io/v2/namespaces/{place.namespace}/ciliumnetworkpolicies/web")
    with pytest.raises(ClusterForbiddenError, match="cannot impersonate"):
        ClusterAccess(settings, cluster="c1", impersonated=Impersonated(user="admin")).request("GET", "/api/v1/namespaces")
    with pytest.raises(ConfigError, match="Kubernetes' own"):
        Impersonated(user="paula", groups=("system:masters",))


def test_an_owner_without_rights_in_the_cluster_is_told_so_and_nothing_is_stored_but_the_refusal(place: Place) -> None:
    made = place.propose(place.desk("pete"), place.policy("api"))
    (check,) = made.judged.refusals
    assert check.check == "admission"
    assert "the cluster does not let 'pete' do that, or knows no such user" in check.text
    unknown = place.propose(place.desk("ghost"), place.policy("api"))
    assert "knows no such user" in unknown.judged.refusals[0].text
    unnamed = place.propose(place.desk("nobody"), place.policy("api"))
    assert "may not act as 'nobody'" in unnamed.judged.refusals[0].text
    assert place.stored() is None
    for one in (made, unknown, unnamed):
        assert [event for event, _, _ in place.events(one.proposal)] == ["refused"]


def test_rights_that_are_gone_when_it_is_applied_leave_the_object_as_it_was(place: Place) -> None:
    made = place.propose(place.paula, place.policy("api")).proposal
    place.server.kubectl("delete", "rolebinding", "edit-paula", "-n", place.namespace)
    with pytest.raises(ClusterForbiddenError, match="the cluster does not let 'paula' do that"):
        applying.apply(place.paula, made)
    assert place.stored() is None
    assert place.again(made).status(place.paula.now) is Status.READY


def test_a_new_policy_is_applied_as_the_user_and_rolled_back_by_deleting_it(place: Place) -> None:
    made = place.propose(place.paula, place.policy("api")).proposal
    assert place.stored() is None, "proposing must not change the cluster"
    applied = applying.apply(place.paula, made)
    live = place.stored()
    assert live is not None
    assert live["spec"] == made.objects[0].after["spec"]
    assert [field["manager"] for field in live["metadata"]["managedFields"]] == ["hindcast"]
    audited = [json.loads(line) for line in place.server.audit_log.read_text().splitlines()]
    (written,) = [
        one for one in audited
        if one["objectRef"].get("namespace") == place.namespace and one["verb"] == "patch" and "dryRun" not in one["requestURI"]
        and one["objectRef"]["resource"] == "ciliumnetworkpolicies"
    ]  # fmt: skip
    assert (written["user"]["username"], written["impersonatedUser"]["username"]) == ("proposer", "paula")
    assert "shop-owners" in written["impersonatedUser"]["groups"]
    with pytest.raises(ProposalError, match="it is applied"):
        applying.apply(place.paula, applied)
    back = rolling_back.roll_back(place.paula, place.again(made))
    assert place.stored() is None
    assert back.status(place.paula.now) is Status.ROLLED_BACK
    assert place.events(made) == [
        ("proposed", "paula", "noted"), ("applying", "paula", "noted"), ("applied", "paula", "done"),
        ("rolling_back", "paula", "noted"), ("rolled_back", "paula", "done"),
    ]  # fmt: skip
    with pytest.raises(ProposalError, match="it is rolled-back"):
        rolling_back.roll_back(place.paula, place.again(made))


def test_a_changed_policy_becomes_what_was_approved_and_is_put_back_as_it_was(place: Place) -> None:
    before = yaml.safe_load(place.policy("api", "batch"))
    before["metadata"]["labels"] = {"team": "shop"}
    before["spec"]["egress"] = [{"toEntities": ["cluster"]}]
    place.server.apply(before, manager="kubectl")
    old = place.stored()
    made = place.propose(place.paula, place.policy("api")).proposal
    assert made.objects[0].action == "update"
    applying.apply(place.paula, made)
    assert place.spec() == yaml.safe_load(place.policy("api"))["spec"], "what others had written besides must be gone"
    live = place.stored()
    assert live is not None
    assert live["metadata"]["labels"] == {"team": "shop"}, "labels of others stay"
    rolling_back.roll_back(place.paula, place.again(made))
    restored = place.stored()
    assert old is not None
    assert restored is not None
    assert (restored["spec"], restored["metadata"]["labels"]) == (old["spec"], old["metadata"]["labels"])


def test_a_deleted_policy_comes_back(place: Place) -> None:
    place.server.apply(yaml.safe_load(place.policy("api")))
    made = place.propose(place.paula, removed=(("CiliumNetworkPolicy", place.namespace, "web"),)).proposal
    applying.apply(place.paula, made)
    assert place.stored() is None
    rolling_back.roll_back(place.paula, place.again(made))
    assert place.spec() == yaml.safe_load(place.policy("api"))["spec"]


def test_an_object_that_changed_under_a_proposal_is_judged_and_approved_again(place: Place) -> None:
    place.configure(approval="always")
    place.server.apply(yaml.safe_load(place.policy("api", "batch")))
    made = steps.approve(place.desk("ada"), place.propose(place.paula, place.policy("api")).proposal)
    place.server.apply(yaml.safe_load(place.policy("other")))
    with pytest.raises(ProposalError, match="was changed after the proposal was judged: judge it again"):
        applying.apply(place.paula, place.again(made))
    assert place.spec() == yaml.safe_load(place.policy("other"))["spec"]
    again = steps.judge_again(place.paula, place.again(made)).proposal
    assert again.status(place.paula.now) is Status.WAITING
    applying.apply(place.paula, steps.approve(place.desk("ada"), place.again(made)))
    assert place.spec() == yaml.safe_load(place.policy("api"))["spec"]


def test_an_object_that_was_created_or_deleted_meanwhile_is_not_touched(place: Place) -> None:
    created = place.propose(place.paula, place.policy("api")).proposal
    place.server.apply(yaml.safe_load(place.policy("other")))
    with pytest.raises(ProposalError, match="was created after the proposal was judged"):
        applying.apply(place.paula, created)
    changed = place.propose(place.paula, place.policy("api")).proposal
    place.server.kubectl("delete", "ciliumnetworkpolicy", "web", "-n", place.namespace)
    with pytest.raises(ProposalError, match="was deleted after the proposal was judged"):
        applying.apply(place.paula, changed)
    place.server.apply(yaml.safe_load(place.policy("api", "batch")))  # the same content as before would still be another object
    with pytest.raises(ProposalError, match="was changed after"):
        applying.apply(place.paula, changed)
    assert place.spec() == yaml.safe_load(place.policy("api", "batch"))["spec"]


def test_a_change_between_looking_and_applying_is_a_conflict_and_nothing_is_half_done(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch")), yaml.safe_load(place.policy("batch", name="web2")))
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2")).proposal
    change = applying._change

    def changing(api: Any, one: Any) -> Any:
        if one.key.name == "web2":
            place.server.apply(yaml.safe_load(place.policy("other", name="web2")))
        return change(api, one)

    monkeypatch.setattr(applying, "_change", changing)
    with pytest.raises(ClusterConflictError):
        applying.apply(place.paula, made)
    assert place.spec("web") == yaml.safe_load(place.policy("batch"))["spec"], "the first object must be put back"
    assert place.spec("web2") == yaml.safe_load(place.policy("other"))["spec"]
    failed = place.again(made)
    assert (failed.entries[-1].event.value, failed.entries[-1].result) == ("failed", "failed")
    assert "put back: CiliumNetworkPolicy" in (failed.entries[-1].detail or "")


def test_what_does_not_become_what_was_proposed_is_put_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch")), yaml.safe_load(place.policy("batch", name="web2")))
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2")).proposal
    apply = objects.apply

    def altered(api: Any, manifest: Any, *, dry_run: bool = False, **more: Any) -> Any:
        """As an admission webhook does that treats dry runs otherwise."""
        if not dry_run and manifest["metadata"]["name"] == "web2" and "batch" not in str(manifest):
            manifest = manifest | {"spec": yaml.safe_load(place.policy("webhook"))["spec"]}
        return apply(api, manifest, dry_run=dry_run, **more)

    monkeypatch.setattr(objects, "apply", altered)
    with pytest.raises(ClusterError, match=r"web2 did not become what was proposed; put back: .*web, .*web2"):
        applying.apply(place.paula, made)
    batch = yaml.safe_load(place.policy("batch"))["spec"]
    assert [place.spec("web"), place.spec("web2")] == [batch, batch]


def test_rolling_back_over_somebody_elses_change_must_be_asked_for(place: Place) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch")))
    made = applying.apply(place.paula, place.propose(place.paula, place.policy("api")).proposal)
    place.server.apply(yaml.safe_load(place.policy("other")))
    with pytest.raises(ProposalError, match=r"was changed after it was applied.*--even-if-changed"):
        rolling_back.roll_back(place.paula, place.again(made))
    assert place.spec() == yaml.safe_load(place.policy("other"))["spec"]
    rolling_back.roll_back(place.paula, place.again(made), even_if_changed=True)
    assert place.spec() == yaml.safe_load(place.policy("batch"))["spec"]


def test_a_roll_back_that_would_deny_traffic_is_made_only_once_that_was_accepted(place: Place) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch")))
    place.office.in_force(place.policy("batch"))
    made = place.propose(place.paula, place.policy("batch", "api")).proposal
    applied = applying.apply(place.paula, made)
    place.office.now = office_module.datetime.now(office_module.UTC)
    place.office.flows(f"{place.namespace}/api", f"{place.namespace}/web", ago=0, times=1)
    with pytest.raises(RollBackDeniesError, match="would deny 1 flow on 1 edge that go through now; nothing was changed") as refused:
        rolling_back.roll_back(place.paula, applied)
    assert place.spec() == yaml.safe_load(place.policy("batch", "api"))["spec"]
    assert [event for event, _, _ in place.events(made)] == ["proposed", "applying", "applied"]
    back = rolling_back.roll_back(place.paula, applied, accepted=refused.value.judged)
    assert place.spec() == yaml.safe_load(place.policy("batch"))["spec"]
    begun = next(entry for entry in back.entries if entry.event is Event.ROLLING_BACK)
    assert begun.about["denies"] == {"flows": 1, "edges": 1, "uncertain": 0, "why_not": ""}


def test_a_status_that_the_agent_writes_is_no_change(place: Place) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch")))
    made = place.propose(place.paula, place.policy("api")).proposal
    live = place.stored()
    assert live is not None
    live["status"] = {"conditions": [{"type": "Valid", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
    place.server.request("PUT", f"/apis/cilium.io/v2/namespaces/{place.namespace}/ciliumnetworkpolicies/web/status", live)
    applied = applying.apply(place.paula, made)
    live = place.stored()
    assert live is not None
    live["status"] = {"conditions": []}
    place.server.request("PUT", f"/apis/cilium.io/v2/namespaces/{place.namespace}/ciliumnetworkpolicies/web/status", live)
    rolling_back.roll_back(place.paula, applied)
    assert place.spec() == yaml.safe_load(place.policy("batch"))["spec"]


def test_a_field_that_the_api_server_does_not_know_is_refused_when_it_is_proposed(place: Place) -> None:
    made = place.propose(place.paula, place.policy("api").replace("app: web", "app: web\n  bogus: 1"))
    assert made.is_refused
    assert any("bogus" in check.text for check in made.judged.refusals)
