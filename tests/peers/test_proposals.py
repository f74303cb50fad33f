"""Proposals against a real API server with RBAC: applied as the user, refused by the server, changed underneath, rolled back."""

from __future__ import annotations

import itertools
import json
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints import objects
from pipelines.cluster_access import ClusterAccess, Impersonated
from pipelines.policy.documents import read_documents
from pipelines.proposals import applying, reading, rolling_back, steps, store
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Event, Status
from tests.modules import load
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import (
    AccessDeniedError,
    ClusterConflictError,
    ClusterError,
    ClusterForbiddenError,
    ClusterUnreachableError,
    ConfigError,
    ProposalError,
    RollBackDeniesError,
)

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parents[2]
office_module: Any = load(ROOT / "tests" / "pipelines" / "proposals" / "conftest.py")
_numbers = itertools.count()
OWN = {"role": "namespace-owner"}


class Place:
    """A namespace of one test's own in a cluster, with owners in Hindcast and in RBAC."""

    def __init__(self, server: Any, folder: Path) -> None:
        self.server = server
        self.namespace = f"prop{next(_numbers)}"
        self.office = office_module.Office(folder)
        server.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        self.may_edit("paula", group="shop-owners")
        self.may_impersonate(["paula", "pete", "carla", "ghost"], ["shop-owners"])
        self.configure()

    def configure(self, **proposals: Any) -> None:
        grants = [
            {"subject": "ada", "role": "platform-admin"},
            {"subject": "otto", "role": "auditor"},
            *(OWN | {"subject": name, "namespaces": [self.namespace]} for name in ("paula", "pete", "ghost", "nobody")),
            OWN | {"subject": "carla", "namespaces": ["cart"]},
        ]
        access = {"kubeconfig": str(self.server.kubeconfig("proposer"))}
        self.office.configure(
            ownership={"grants": grants},
            clusters=[{"name": "c1", "proposer": access}],
            proposals={"approval": "none"} | proposals,
            dashboard={"auth": {"decide_without_sign_in": ["ada", "paula"]}},
        )

    def may_edit(self, user: str, *, group: str) -> None:
        """Give a group, and not the user herself, the right to change policies of the namespace."""
        name, api = f"edit-{user}", "rbac.authorization.k8s.io"
        rule = {"apiGroups": ["networking.k8s.io", "cilium.io"], "resources": ["networkpolicies", "ciliumnetworkpolicies"]}
        self.server.apply(
            {
                "apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": name, "namespace": self.namespace},
                "rules": [rule | {"verbs": ["get", "create", "patch", "update", "delete"]}],
            },
            {
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
                "metadata": {"name": name, "namespace": self.namespace},
                "roleRef": {"apiGroup": api, "kind": "Role", "name": name},
                "subjects": [{"apiGroup": api, "kind": "Group", "name": group}],
            },
        )  # fmt: skip

    def may_impersonate(self, users: list[str], groups: list[str]) -> None:
        """Apply the manifest that is delivered, for these users and groups and for the token of the tests."""
        _, role, binding = yaml.safe_load_all((ROOT / "deploy" / "helm" / "hindcast" / "files" / "proposer.yaml").read_text())
        role["rules"][0]["resourceNames"], role["rules"][1]["resourceNames"] = users, groups
        binding["subjects"] = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "proposer"}]
        self.server.apply(role, binding)

    def desk(self, user: str, *groups: str) -> Desk:
        desk = self.office.desk(user)
        return Desk(settings=desk.settings, lake=desk.lake, door=desk.door, who=Principal(user=user, groups=frozenset(groups)))

    @property
    def paula(self) -> Desk:
        return self.desk("paula", "shop-owners")

    def propose(self, desk: Desk, *texts: str, removed: tuple[tuple[str, str, str], ...] = ()) -> steps.Made:
        documents = [document for text in texts for document in read_documents(text, "web.yaml")]
        (asked,) = reading.read(documents, removed)
        return steps.propose(desk, "c1", asked)

    def policy(self, *apps: str, name: str = "web") -> str:
        return str(office_module.policy(*({"app": app} for app in apps), name=name, namespace=self.namespace))

    def stored(self, name: str = "web") -> dict[str, Any] | None:
        path = f"/apis/cilium.io/v2/namespaces/{self.namespace}/ciliumnetworkpolicies/{name}"
        try:
            found: dict[str, Any] = self.server.request("GET", path)
            return found
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def spec(self, name: str = "web") -> Any:
        found = self.stored(name)
        return found and found["spec"]

    def events(self, made: Any) -> list[tuple[str, str, str]]:
        rows = self.office.rows(made)
        return [(row["event"], row["actor"], row["result"]) for row in rows]

    def again(self, made: Any) -> Any:
        return store.one(self.office.lake, made.id)


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


def lose_answers(monkeypatch: pytest.MonkeyPatch, after: Callable[[], None] = lambda: None) -> None:
    """Let the API server do what is asked of it, and every answer to a change be lost on its way."""
    apply, remove = objects.apply, objects.remove

    def lost(what: Callable[..., Any], *given: Any, dry_run: bool = False, **more: Any) -> Any:
        answer = what(*given, dry_run=dry_run, **more)
        if dry_run:
            return answer
        after()
        raise ClusterUnreachableError("the connection was reset")

    monkeypatch.setattr(objects, "apply", lambda *given, **more: lost(apply, *given, **more))
    monkeypatch.setattr(objects, "remove", lambda *given, **more: lost(remove, *given, **more))


def test_changes_whose_answers_were_lost_are_found_made_and_can_be_rolled_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch", name="web2")), yaml.safe_load(place.policy("batch", name="web3")))
    removed = (("CiliumNetworkPolicy", place.namespace, "web3"),)
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2"), removed=removed).proposal
    with monkeypatch.context() as patch:
        lose_answers(patch)
        applied = applying.apply(place.paula, made)
    assert applied.status(place.paula.now) is Status.APPLIED
    api = yaml.safe_load(place.policy("api"))["spec"]
    assert [place.spec("web"), place.spec("web2"), place.spec("web3")] == [api, api, None]
    rolling_back.roll_back(place.paula, place.again(made))
    batch = yaml.safe_load(place.policy("batch"))["spec"]
    assert [place.spec("web"), place.spec("web2"), place.spec("web3")] == [None, batch, batch]


def test_a_change_that_can_no_longer_be_read_is_said_to_be_unknown(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place.propose(place.paula, place.policy("api")).proposal

    def unread(*_: Any, **__: Any) -> Any:
        raise ClusterUnreachableError("no answer")

    with monkeypatch.context() as patch:
        lose_answers(patch, after=lambda: patch.setattr(objects, "read", unread))
        with pytest.raises(ClusterUnreachableError, match=r"reset; unknown whether CiliumNetworkPolicy .* was changed") as told:
            applying.apply(place.paula, made)
    assert "nothing was changed" not in str(told.value)
    assert place.again(made).entries[-1].detail == str(told.value)


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


def test_a_roll_back_whose_answers_were_lost_is_found_made_and_one_that_was_interrupted_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch")))
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2")).proposal
    applying.apply(place.paula, made)
    with monkeypatch.context() as patch:
        lose_answers(patch)
        back = rolling_back.roll_back(place.paula, place.again(made))
    assert back.status(place.paula.now) is Status.ROLLED_BACK
    assert (place.spec("web"), place.stored("web2")) == (yaml.safe_load(place.policy("batch"))["spec"], None)
    assert place.events(made)[-1][0] == "rolled_back"


def test_a_roll_back_that_was_interrupted_in_the_middle_goes_on_with_the_rest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupted(place, monkeypatch)
    applied = applying.apply(place.paula, left)
    restore, done = applying.restore, list[str]()

    class KilledError(BaseException):
        pass

    def killed(api: Any, one: Any, now: Any, *, dry_run: bool = False) -> Any:
        if not dry_run and done:
            raise KilledError
        done.extend([] if dry_run else [one.key.name])
        return restore(api, one, now, dry_run=dry_run)

    with monkeypatch.context() as patch:
        patch.setattr(applying, "restore", killed)
        with pytest.raises(KilledError):
            rolling_back.roll_back(place.paula, applied)
    batch = yaml.safe_load(place.policy("batch"))["spec"]
    assert done == ["web2"]
    assert place.spec("web2") == batch
    assert place.spec("web") != batch
    back = rolling_back.roll_back(place.paula, place.again(applied))
    assert (back.status(place.paula.now), place.spec("web")) == (Status.ROLLED_BACK, batch)


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


def test_applying_that_was_interrupted_is_taken_up_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place.propose(place.paula, place.policy("api")).proposal

    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        add = steps.add
        patch.setattr(steps, "add", lambda *given, **more: killed() if given[2].value == "applied" else add(*given, **more))
        with pytest.raises(KilledError):
            applying.apply(place.paula, made)
    left = place.again(made)
    assert left.status(place.paula.now) is Status.APPLYING
    with pytest.raises(ProposalError, match="it is applying"):
        applying.apply(place.paula, left)
    monkeypatch.setattr(applying, "STUCK_AFTER", applying.timedelta(0))
    applied = applying.apply(place.paula, left)
    assert applied.status(place.paula.now) is Status.APPLIED
    assert applied.entries[-1].about == {"groups": ["shop-owners"]}, "as whom it is rolled back by a rule"
    rolling_back.roll_back(place.paula, place.again(made))
    assert place.stored() is None


def interrupted(place: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A proposal of two objects; the process that applied it was killed after the first one."""
    place.server.apply(yaml.safe_load(place.policy("batch")), yaml.safe_load(place.policy("batch", name="web2")))
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2")).proposal
    change = applying._change

    class KilledError(BaseException):
        pass

    def killed(api: Any, one: Any) -> Any:
        if one.key.name == "web2":
            raise KilledError
        return change(api, one)

    with monkeypatch.context() as patch:
        patch.setattr(applying, "_change", killed)
        with pytest.raises(KilledError):
            applying.apply(place.paula, made)
    monkeypatch.setattr(applying, "STUCK_AFTER", applying.timedelta(0))
    assert place.spec("web") == yaml.safe_load(place.policy("api"))["spec"]
    return place.again(made)


def test_applying_that_was_interrupted_in_the_middle_goes_on_with_the_rest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupted(place, monkeypatch)
    applied = applying.apply(place.paula, left)
    api, batch = (yaml.safe_load(place.policy(name))["spec"] for name in ("api", "batch"))
    assert [place.spec("web"), place.spec("web2")] == [api, api]
    assert applied.entries[-1].about == {"groups": ["shop-owners"]}, "as whom it is rolled back by a rule"
    rolling_back.roll_back(place.paula, place.again(left))
    assert [place.spec("web"), place.spec("web2")] == [batch, batch]


def test_applying_that_was_interrupted_and_cannot_go_on_is_put_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupted(place, monkeypatch)
    place.server.apply(yaml.safe_load(place.policy("other", name="web2")))
    with pytest.raises(ProposalError, match=r"applying was interrupted, and .*web2 was changed after .*; put back: .*web"):
        applying.apply(place.paula, left)
    assert place.spec("web") == yaml.safe_load(place.policy("batch"))["spec"]
    assert place.spec("web2") == yaml.safe_load(place.policy("other"))["spec"]
    assert place.again(left).status(place.paula.now) is Status.READY


def test_an_api_server_that_does_not_answer_is_said_and_not_taken_for_consent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.proposals.desk as desk_module

    monkeypatch.setattr(desk_module, "PATIENCE_SECONDS", 0.1)
    kubeconfig = json.loads(place.server.kubeconfig("proposer").read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    file = place.office.folder / "gone.kubeconfig"
    file.write_text(json.dumps(kubeconfig))
    settings = place.office.settings
    cluster = settings.clusters[0].model_copy(update={"proposer": config.Proposer(kubeconfig=file)})
    place.office.settings = settings.model_copy(update={"clusters": (cluster,)})
    made = place.propose(place.paula, place.policy("api"))
    assert any(check.is_met is None and "was not asked" in check.text for check in made.judged.checks)
    with pytest.raises(Exception, match="Connection refused"):
        applying.apply(place.paula, made.proposal)
    assert [event for event, _, _ in place.events(made.proposal)] == ["proposed"]
