"""Proposals: who may make and decide them, what is refused, what is risky, what is recorded."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.proposals import applying, steps, store
from pipelines.proposals.model import Event, Needs, Status
from warehouse.access.access_log import flush
from warehouse.access.principals import OPERATOR, Principal
from warehouse.errors import AccessDeniedError, ConfigError, ProposalError
from warehouse.questions.door import Door
from warehouse.questions.proposal_questions import ProposalEvents, ProposedEdges
from warehouse.schema import ACCESS_LOG

CLUSTERWIDE = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: all}
spec: {endpointSelector: {}, ingress: [{fromEntities: [cluster]}]}
"""
SHOP = {"k8s:io.kubernetes.pod.namespace": "shop"}


def test_an_owner_of_another_namespace_is_refused_and_the_attempt_is_recorded_for_who_owns_it(office: Any, closed: str) -> None:
    with pytest.raises(AccessDeniedError, match="namespace shop of cluster c1 is not yours now"):
        office.propose("carla", closed)
    (row,) = office.rows()
    assert (row["event"], row["actor"], row["namespace"], row["before"]) == ("refused", "carla", "shop", None)
    flush()
    logged = [entry for entry in office.lake.read(ACCESS_LOG).to_pylist() if entry["question"] == "policy_proposal"]
    assert [(entry["principal"], entry["outcome"]) for entry in logged] == [("carla", "refused")]
    assert not events(office, "carla")
    assert [row["actor"] for row in events(office, "paula")] == ["carla"]


def test_an_auditor_may_look_and_neither_propose_nor_approve(office: Any, closed: str) -> None:
    with pytest.raises(AccessDeniedError):
        office.propose("otto", closed)
    made = office.propose("paula", closed).proposal
    with pytest.raises(ProposalError, match="must be approved by a platform-admin"):
        steps.approve(office.desk("otto"), made)
    seen = store.proposals_of(rows_of(office, "otto"))
    assert {one.id for one in seen} >= {made.id}
    (after,) = [json.loads(row["after"])["spec"] for row in events(office, "otto") if row["proposal"] == made.id]
    assert after == {"endpointSelector": "(labels are hidden)", "ingress": [{"fromEndpoints": [{"matchLabels": "(labels are hidden)"}]}]}


def test_the_page_is_there_without_the_client_of_kubernetes_and_says_what_asking_a_cluster_needs(tmp_path: Path) -> None:
    code = """
        import sys
        sys.modules["kubernetes"] = None
        import dashboards.views.proposals
        from pipelines.proposals.desk import Desk
        from warehouse import config
        from warehouse.access.principals import Principal
        from warehouse.errors import ConfigError

        cluster = {"name": "c1", "kubernetes": {"context": "x"}}
        settings = config.Config.model_validate({"clusters": [cluster]})
        try:
            Desk(settings=settings, lake=None, door=None, who=Principal(user="paula")).api("c1")
        except ConfigError as error:
            print(error)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "needs the extra pipelines" in done.stdout


def test_an_auditor_reads_no_label_in_what_a_check_quotes(office: Any, closed: str) -> None:
    office.propose("paula", closed.replace("app: api", "app: 'secret label!'"))
    assert "secret label" in str(events(office, "paula"))
    assert "secret label" not in str(events(office, "otto"))


def test_a_policy_of_the_whole_cluster_is_for_platform_admins(office: Any) -> None:
    with pytest.raises(AccessDeniedError, match="only a platform-admin of c1"):
        office.propose("paula", CLUSTERWIDE)
    assert office.propose("ada", CLUSTERWIDE).proposal.namespace is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{apiVersion: v1, kind: Secret, metadata: {name: x, namespace: shop}}", "Secret cannot be proposed"),
        ("{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: x}, spec: {}}", "metadata.namespace is missing"),
        ("{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {namespace: shop}, spec: {}}", "metadata.name is missing"),
        ("{apiVersion: cilium.io/v2, kind: CiliumNetworkPolicy, metadata: {name: A/b, namespace: shop}}", "lower-case"),
        ("{apiVersion: cilium.io/v2, kind: CiliumClusterwideNetworkPolicy, metadata: {name: x, namespace: shop}}", "whole cluster"),
        (
            "{apiVersion: v1, kind: NetworkPolicy, metadata: {name: x, namespace: shop}, spec: {}}",
            "apiVersion must be networking.k8s.io/v1",
        ),
    ],
)
def test_what_is_no_policy_is_refused_with_file_and_line(office: Any, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        office.propose("paula", text)
    assert "web.yaml:1" in str(refused.value)
    assert not office.rows()


def test_a_policy_that_an_agent_would_refuse_is_stored_as_refused_with_its_line(office: Any, closed: str) -> None:
    made = office.propose("paula", closed.replace("fromEndpoints: [{matchLabels: {app: api}}]", "fromCIDR: [300.0.0.0/8]"))
    (check,) = made.judged.refusals
    assert (check.check, check.line, check.path) == ("schema", 7, "spec.ingress[0].fromCIDR[0]")
    assert made.proposal.status(office.now) is Status.REFUSED
    with pytest.raises(ProposalError, match="it is refused"):
        steps.approve(office.desk("ada"), made.proposal)


def test_what_denies_recorded_traffic_needs_the_platform(office: Any, closed: str) -> None:
    made = office.propose("paula", closed)
    numbers = made.proposal.judgement.about["simulation"]["changes"]
    assert numbers["newly_denied"] == {"flows": 7, "edges": 2}
    assert made.proposal.needs is Needs.PLATFORM
    assert any("would have denied 7 flows on 2 edges" in risk for risk in made.judged.risks)


def test_what_changes_nothing_that_was_seen_and_opens_nothing_needs_nobody(office: Any, policy: Any) -> None:
    office.in_force(policy(SHOP, {"k8s:io.kubernetes.pod.namespace": "cart"}))
    made = office.propose("paula", policy(SHOP, {"app": "new"}, {"k8s:io.kubernetes.pod.namespace": "cart"}))
    assert made.judged.risks == ()
    assert (made.proposal.needs, made.proposal.status(office.now)) == (Needs.NOBODY, Status.READY)


def test_a_rule_that_opens_to_others_is_a_risk_although_nobody_came_yet(office: Any, policy: Any) -> None:
    office.in_force(policy(SHOP, {"k8s:io.kubernetes.pod.namespace": "cart"}))
    made = office.propose("paula", policy(SHOP, {"k8s:io.kubernetes.pod.namespace": "cart"}, {"k8s:io.kubernetes.pod.namespace": "ads"}))
    (risk,) = made.judged.risks
    assert "spec.ingress[2] (web.yaml:" in risk
    assert risk.endswith("opens ingress for pods of ads")


def test_deleting_what_isolates_is_a_risk(office: Any, policy: Any) -> None:
    office.in_force(policy(SHOP, {"k8s:io.kubernetes.pod.namespace": "cart"}))
    made = office.propose("paula", removed=(("CiliumNetworkPolicy", "shop", "web"),))
    assert made.proposal.objects[0].action == "delete"
    assert any("no longer denied" in risk for risk in made.judged.risks)


def test_what_is_already_so_is_no_proposal(office: Any, closed: str) -> None:
    office.in_force(closed)
    with pytest.raises(ProposalError, match="already as proposed"):
        office.propose("paula", closed)
    with pytest.raises(ProposalError, match="cannot be deleted: there is none"):
        office.propose("paula", removed=(("CiliumNetworkPolicy", "shop", "api"),))
    assert not office.rows()


def test_nobody_approves_her_own_and_an_approval_counts_once(office: Any, closed: str) -> None:
    made = office.propose("ada", closed).proposal
    with pytest.raises(ProposalError, match="is your own"):
        steps.approve(office.desk("ada"), made)
    made = office.propose("paula", closed, reason="only api needs it").proposal
    with pytest.raises(ProposalError, match="by a platform-admin of c1, which you are not"):
        steps.approve(office.desk("pete"), made)
    with pytest.raises(ProposalError, match=f"you approve 0123456789ab, and it was judged again as {made.judged}"):
        steps.approve(office.desk("ada"), made, judged="0123456789ab")
    approved = steps.approve(office.desk("ada"), made, "fine", judged=made.judged)
    assert approved.status(office.desk("ada").now) is Status.READY
    with pytest.raises(ProposalError, match="already approved"):
        steps.approve(office.desk("ada"), approved)
    with pytest.raises(ProposalError, match="somebody else did something with it at the same time"):
        steps.reject(office.desk("ada"), made, "from a page that was opened before")
    recorded = [(row["event"], row["actor"], row["detail"]) for row in office.rows(made)]
    assert recorded == [("proposed", "paula", "only api needs it"), ("approved", "ada", "fine")]
    stored = store.one(office.lake, made.id)
    assert (stored.digest, stored.approval and stored.approval.actor) == (approved.digest, "ada")


@pytest.mark.parametrize(
    ("approval", "needs", "approver"),
    [("none", Needs.NOBODY, None), ("another-owner", Needs.ANOTHER_OWNER, "pete"), ("always", Needs.PLATFORM, "ada")],
)
def test_the_configuration_says_who_approves(office: Any, closed: str, approval: str, needs: Needs, approver: str | None) -> None:
    office.configure(proposals={"approval": approval})
    made = office.propose("paula", closed).proposal
    assert made.needs is needs
    if approver is None:
        assert made.status(office.now) is Status.READY
    else:
        with pytest.raises(ProposalError):
            steps.approve(office.desk("carla"), made)
        assert steps.approve(office.desk(approver), made).status(office.desk("ada").now) is Status.READY


def test_an_approval_expires_and_counts_no_more_after_another_judgement(office: Any, closed: str) -> None:
    office.configure(proposals={"approval": "always", "approval_expires": "1h"})
    made = steps.approve(office.desk("ada"), office.propose("paula", closed).proposal)
    later = office.desk("ada").now + timedelta(hours=2)
    assert made.status(later) is Status.EXPIRED
    office.configure(proposals={"approval": "always", "approval_expires": "1ms"})
    short = steps.approve(office.desk("ada"), office.propose("paula", closed).proposal)
    with pytest.raises(ProposalError, match=r"its time to be applied ended .* judge it again"):
        applying.apply(office.desk("paula"), short)
    office.configure(proposals={"approval": "always"})
    again = steps.judge_again(office.desk("paula"), made).proposal
    assert again.status(office.desk("ada").now) is Status.WAITING
    with pytest.raises(ProposalError, match="waits for the approval of the platform"):
        applying.apply(office.desk("paula"), again)


def test_an_author_withdraws_and_a_rejection_needs_a_reason(office: Any, closed: str) -> None:
    made = office.propose("paula", closed).proposal
    with pytest.raises(ProposalError, match="say why"):
        steps.reject(office.desk("paula"), made, " ")
    gone = steps.reject(office.desk("paula"), made, "not needed")
    assert gone.status(office.now) is Status.REJECTED
    with pytest.raises(ProposalError, match="it is rejected"):
        steps.judge_again(office.desk("paula"), gone)


def test_a_cluster_without_an_api_server_is_not_asked_and_nothing_is_applied(office: Any, closed: str) -> None:
    office.configure(proposals={"approval": "none"})
    made = office.propose("paula", closed)
    assert [check.text for check in made.judged.checks if check.is_met is None] == [
        "cluster c1 has no API server in the configuration, so it was not asked whether it would accept this"
    ]
    with pytest.raises(ProposalError, match="hand the proposal over instead"):
        applying.apply(office.desk("paula"), made.proposal)
    assert [row["event"] for row in office.rows(made.proposal)] == ["proposed"]


def test_edges_of_the_simulation_are_shown_to_owners_of_an_end_without_what_is_hidden(office: Any, closed: str) -> None:
    made = office.propose("ada", closed).proposal
    question = ProposedEdges(proposal=made.id, judgement=1)
    door = office.desk("ada").door
    whole = door.answer(Principal(user="ada"), question).rows.to_pylist()
    assert [(row["source_workload_name"], row["change"], row["flows"]) for row in whole] == [
        ("batch", "newly_denied", 5), ("cart", "newly_denied", 2)
    ]  # fmt: skip
    assert all(row["reason"] for row in whole)
    (own,) = door.answer(Principal(user="carla"), question).rows.to_pylist()
    assert (own["source_namespace"], own["destination_namespace"], own["reason"]) == ("cart", "shop", None)
    assert {row["source_namespace"] for row in door.answer(Principal(user="paula"), question).rows.to_pylist()} == {"shop", "cart"}


def test_hidden_peers_are_hidden_in_stored_edges_too(office: Any, closed: str) -> None:
    made = office.propose("ada", closed).proposal
    grants = office.settings.ownership.model_copy(update={"peer_detail": "hidden"})
    door = Door(office.lake, grants, office.settings.rollups, purpose="test")
    rows = door.answer(Principal(user="paula"), ProposedEdges(proposal=made.id, judgement=1)).rows.to_pylist()
    assert {(row["source_namespace"], row["source_workload_name"]) for row in rows} == {("shop", "batch"), (None, None)}


def test_policies_of_two_namespaces_are_two_proposals(office: Any, policy: Any) -> None:
    from pipelines.policy.documents import read_documents
    from pipelines.proposals import reading

    texts = [policy(SHOP), policy(SHOP, namespace="cart")]
    groups = reading.read([document for text in texts for document in read_documents(text, "x")])
    assert [[one.key.namespace for one in group] for group in groups] == [["shop"], ["cart"]]
    with pytest.raises(ConfigError, match="is there twice"):
        reading.read(read_documents(f"{texts[0]}---\n{texts[0]}", "x"))


def test_what_was_fetched_from_a_cluster_is_proposed_without_what_the_server_writes(office: Any, policy: Any) -> None:
    import yaml

    fetched = yaml.safe_load(policy(SHOP)) | {"status": {"conditions": []}}
    fetched["metadata"] |= {"uid": "u", "resourceVersion": "7", "managedFields": [], "creationTimestamp": "2026-01-01T00:00:00Z"}
    made = office.propose("paula", yaml.safe_dump(fetched)).proposal
    assert made.objects[0].after == yaml.safe_load(policy(SHOP))


def test_a_proposal_is_shown_to_who_owned_the_namespace_when_it_was_made_and_owns_it_now(office: Any, closed: str) -> None:
    made = office.propose("paula", closed).proposal
    between = max(row["time"] for row in office.rows(made)) + timedelta(microseconds=1)
    steps.judge_again(office.desk("paula"), made)
    grants = [
        {"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]},
        {"subject": "old", "role": "namespace-owner", "namespaces": ["shop"], "until": between.isoformat()},
        {"subject": "new", "role": "namespace-owner", "namespaces": ["shop"], "since": between.isoformat()},
    ]
    office.configure(ownership={"grants": grants})
    assert [len(events(office, user)) for user in ("new", "old", "paula")] == [0, 0, 2]
    with pytest.raises(ProposalError, match="that you may see"):
        store.visible_one(office.desk("new"), made.id)


def events(office: Any, user: str) -> list[dict[str, Any]]:
    return list(rows_of(office, user).to_pylist())


def rows_of(office: Any, user: str) -> Any:
    who = Principal(user=user) if user else OPERATOR
    return office.desk("ada").door.answer(who, ProposalEvents()).rows


def test_the_events_of_a_proposal_are_in_the_order_of_their_numbers(office: Any, closed: str) -> None:
    made = steps.judge_again(office.desk("paula"), office.propose("paula", closed).proposal).proposal
    assert [entry.event for entry in store.one(office.lake, made.id).entries] == [Event.PROPOSED, Event.JUDGED]
    assert {one.number for one in store.one(office.lake, made.id).entries} == {1, 2}
