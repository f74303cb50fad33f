"""Why a connection was allowed or denied, from recorded flows and configuration history, as far as the asker may see."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from collectors.decoding.decode import decode
from collectors.hubble_api.flow import flow_pb2
from pipelines.policy.model import Direction
from pipelines.policy.verdict import Verdict
from pipelines.policy.walk import Outcome
from pipelines.replay.asked_connection import AskedConnection, explain_connection
from pipelines.replay.explaining import Explanation, explain_flow
from pipelines.replay.in_force import History
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError, ConfigError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import CONFIG_COVERAGE, FLOWS, NAMESPACES, POLICY_VERSIONS, WORKLOADS, Table

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DAY = Window(since=NOON, until=NOON + 48 * HOUR)
PAULA, EVE = Principal(user="paula"), Principal(user="eve")
_POLICIES = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]
KINDS = [*_POLICIES, "ConfigMap", "CiliumAgents", "PodLabels", "Service", "Namespace"]


def pod(namespace: str, app: str) -> flow_pb2.Endpoint:
    labels = [f"k8s:app={app}", f"k8s:io.kubernetes.pod.namespace={namespace}", "k8s:io.cilium.k8s.policy.cluster=c1"]
    end = flow_pb2.Endpoint(identity=2000, cluster_name="c1", namespace=namespace, labels=labels, pod_name=f"{app}-5d4b9c7f6-xx2xx")
    end.workloads.add(name=app, kind="Deployment")
    return end


class Town:
    """A lake with flows and configuration history, and a door to it: paula owns the namespace shop."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))
        grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]}]
        self.door = Door(self.lake, config.Ownership.model_validate({"grants": grants}), purpose="test")
        span = {"from": NOON - HOUR, "to": NOON + 24 * HOUR}
        self._put(
            CONFIG_COVERAGE, {"cluster": "c1", **span, "state": "observed", "kinds": KINDS, "source": "watch", "recorded": span["to"]}
        )

    def _put(self, table: Table, row: dict[str, Any]) -> None:
        self.lake.commit(
            table, self.lake.write_files(table, pa.Table.from_pylist([row], schema=table.schema)), transactions={}, metadata={}
        )

    def manifest(
        self, table: Table, kind: str, namespace: str, name: str, begin: float = -1, end: float | None = None, **content: Any
    ) -> None:
        metadata = {"name": name, "namespace": namespace, **content.pop("metadata", {})}
        text = json.dumps({"kind": kind, "metadata": metadata, **content})
        row: dict[str, Any] = {
            "cluster": "c1",
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "hash": str(hash(text)),
            "manifest": text,
        }
        row |= {"valid_from": NOON + begin * HOUR, "recorded": NOON + begin * HOUR}
        row |= {"valid_to": None if end is None else NOON + end * HOUR, "ended_recorded": None if end is None else NOON + end * HOUR}
        self._put(table, row)

    def policy(self, namespace: str, name: str, app: str, begin: float = -1, end: float | None = None, **rules: Any) -> None:
        spec = {"endpointSelector": {"matchLabels": {"app": app}}, **rules}
        self.manifest(POLICY_VERSIONS, "CiliumNetworkPolicy", namespace, name, begin, end, spec=spec)

    def flow(self, source: str, destination: str, port: int = 8080, *, at: float = 1, dropped: bool = False, **facts: Any) -> str:
        one = flow_pb2.Flow(uuid=str(uuid.uuid4()), node_name="c1/node-1")
        one.verdict = flow_pb2.Verdict.DROPPED if dropped else flow_pb2.Verdict.FORWARDED
        one.drop_reason_desc = facts.get("reason", flow_pb2.DropReason.POLICY_DENIED) if dropped else 0
        one.time.FromDatetime(NOON + at * HOUR)
        one.source.CopyFrom(pod(*source.split("/")))
        one.destination.CopyFrom(pod(*destination.split("/")))
        one.IP.source, one.IP.destination = "10.0.0.1", "10.0.0.2"
        one.is_reply.value = facts.get("reply", False)
        one.traffic_direction = flow_pb2.TrafficDirection.EGRESS if facts.get("reply") else flow_pb2.TrafficDirection.INGRESS
        one.l4.TCP.source_port, one.l4.TCP.destination_port = (port, 40_000) if facts.get("reply") else (40_000, port)
        for name in facts.get("named", ()):
            (one.ingress_denied_by if dropped else one.ingress_allowed_by).add(name=name, namespace="shop", kind="CiliumNetworkPolicy")
        rows = decode([one.SerializeToString()], cluster="c1", recorded=NOON, live=False).rows
        self.lake.commit(FLOWS, self.lake.write_files(FLOWS, rows), transactions={}, metadata={})
        return str(one.uuid)

    def space(self, name: str, begin: float = -1, end: float | None = None, **labels: str) -> None:
        """A namespace, as configuration history has it."""
        self.manifest(NAMESPACES, "Namespace", name, name, begin, end, metadata={"labels": labels})

    def pods(self, namespace: str, app: str, *, variant: str = "", **traits: Any) -> None:
        """The pods of a workload, as configuration history has them."""
        labels = {"app": app, **({"variant": variant} if variant else {}), "pod-template-hash": "5d4b9c7f6"}
        spec = {"workload": {"name": app}, "serviceAccountName": app, **traits}
        self.manifest(WORKLOADS, "PodLabels", namespace, f"deployment.{app}{variant}", metadata={"labels": labels}, spec=spec)

    def explained(self, name: str, who: Principal = OPERATOR) -> Explanation:
        return explain_flow(History(self.door, who), name, DAY)

    def asked(
        self, source: str, destination: str, port: int = 8080, *, at: float = 2, who: Principal = OPERATOR, cluster: str = "c1"
    ) -> Explanation:
        asked = AskedConnection(source=source, destination=destination, port=port, at=NOON + at * HOUR, clusters=(cluster,))
        return explain_connection(History(self.door, who), asked)


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def allow(app: str, port: int = 8080) -> dict[str, Any]:
    return {"fromEndpoints": [{"matchLabels": {"app": app}}], "toPorts": [{"ports": [{"port": str(port), "protocol": "TCP"}]}]}


def test_a_flow_that_nobody_recorded_is_refused_with_what_to_do(town: Town) -> None:
    with pytest.raises(ConfigError, match="that you may see; name its time with --at"):
        town.explained("nothing")


def test_who_may_see_nothing_gets_no_explanation(town: Town) -> None:
    name = town.flow("shop/cart", "shop/web")
    with pytest.raises(AccessDeniedError):
        town.explained(name, EVE)


def test_a_flow_of_others_is_not_there_for_an_owner(town: Town) -> None:
    name = town.flow("data/db", "data/web")
    with pytest.raises(ConfigError, match="that you may see"):
        town.explained(name, PAULA)


def test_without_configuration_history_nothing_is_claimed(town: Town) -> None:
    found = town.explained(town.flow("shop/cart", "shop/web", at=30, dropped=True))
    assert found.verdict is Verdict.UNCERTAIN
    assert "which objects of kind NetworkPolicy" in found.walks[0].decision.reason
    assert not found.disagrees
    assert found.changes == ()


def test_a_drop_by_default_deny_names_what_isolates_and_what_would_allow_it(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[allow("bff")])
    found = town.explained(town.flow("shop/cart", "shop/web", dropped=True))
    assert found.verdict is Verdict.DENIED
    assert found.agreement == "the engine agrees with what was recorded"
    (ingress,) = [one for one in found.walks if one.direction is Direction.INGRESS]
    assert [(step.rule.name, step.outcome) for step in ingress.steps] == [("web", Outcome.NO_MATCH)]
    assert ingress.steps[0].why_not.endswith("not shop/cart")
    assert found.attributions[Direction.INGRESS].text == "the flow names no policy"
    assert [change.text for change in found.changes] == ["add a rule to spec.ingress of CiliumNetworkPolicy shop/web"]


def test_the_policies_of_the_flows_time_count_and_not_todays(town: Town) -> None:
    town.policy("shop", "web", "web", -1, 2, ingress=[allow("cart")])
    town.policy("shop", "web", "web", 2, None, ingress=[allow("bff")])
    before, after = town.flow("shop/cart", "shop/web", at=1), town.flow("shop/cart", "shop/web", at=3, dropped=True)
    assert town.explained(before).verdict is Verdict.ALLOWED
    assert town.explained(after).verdict is Verdict.DENIED


def test_hubbles_attribution_is_compared(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[allow("cart")])
    right, wrong = town.flow("shop/cart", "shop/web", named=["web"]), town.flow("shop/cart", "shop/web", named=["old"])
    assert town.explained(right).attributions[Direction.INGRESS].agrees is True
    assert town.explained(wrong).attributions[Direction.INGRESS].agrees is False


@pytest.mark.parametrize(
    ("dropped", "app", "words"),
    [(True, "cart", "policy says allow and the datapath dropped"), (False, "bff", "policy says deny and it was forwarded")],
)
def test_an_explanation_reports_where_hubble_disagrees(town: Town, dropped: bool, app: str, words: str) -> None:
    town.policy("shop", "web", "web", ingress=[allow(app)])
    found = town.explained(town.flow("shop/cart", "shop/web", dropped=dropped))
    assert found.agreement == words
    assert found.disagrees


def test_a_drop_for_another_reason_is_not_the_policies_fault(town: Town) -> None:
    name = town.flow("shop/cart", "shop/web", dropped=True, reason=flow_pb2.DropReason.CT_MAP_INSERTION_FAILED)
    found = town.explained(name)
    assert found.agreement.startswith("it was dropped for another reason than policy: CT_MAP_INSERTION_FAILED")
    assert not found.disagrees


def test_a_reply_is_explained_by_the_connection_that_it_belongs_to(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[allow("cart")], egress=[{}])
    found = town.explained(town.flow("shop/web", "shop/cart", reply=True))
    assert found.edge.text == "shop/cart to shop/web on TCP 8080"
    assert found.verdict is Verdict.ALLOWED
    assert not found.disagrees


def test_an_owner_sees_her_own_policies_and_how_many_she_does_not(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[allow("cart")])
    town.policy("data", "secret-policy", "db", egress=[{}])
    name = town.flow("data/db", "shop/web", dropped=True)
    found = town.explained(name, PAULA)
    egress, ingress = found.walks
    assert egress.decision.verdict is Verdict.UNCERTAIN
    assert "not yours to see" in egress.decision.reason
    assert ingress.decision.verdict is Verdict.DENIED
    assert "not yours to see: 1 policy in force in c1, which may decide, too" in found.notes
    assert "secret" not in str(found)
    assert [change.part["fromEndpoints"] for change in found.changes] == [[{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "data"}}]]
    assert {step.rule.name for one in town.explained(name).walks for step in one.steps} >= {"web", "secret-policy"}


def test_a_connection_is_found_by_its_ends_and_judged_at_the_given_time(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[allow("bff")])
    name = town.flow("shop/cart", "shop/web", dropped=True, at=1)
    found = town.asked("shop/cart", "shop/web")
    assert found.recorded is not None
    assert found.recorded.uuid == name
    assert found.at == NOON + 2 * HOUR
    assert found.verdict is Verdict.DENIED


def test_a_policy_change_between_the_flow_and_the_given_time_is_reported(town: Town) -> None:
    town.policy("shop", "web", "web", 1.5, None, ingress=[allow("bff")])
    town.flow("shop/cart", "shop/web", at=1)
    found = town.asked("shop/cart", "shop/web")
    assert found.verdict is Verdict.DENIED
    assert found.agreement == ""
    assert any("changed between the recorded flow" in note for note in found.notes)


def test_a_connection_that_was_never_seen_is_judged_by_the_recorded_labels_of_its_pods(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[allow("bff")])
    town.space("shop")
    for app in ("web", "bff", "cart"):
        town.pods("shop", app)
    assert town.asked("shop/bff", "shop/web").verdict is Verdict.ALLOWED
    found = town.asked("shop/cart", "shop/web")
    assert found.verdict is Verdict.DENIED
    assert found.recorded is None
    assert any("no flow of this connection was recorded" in note for note in found.notes)
    assert town.asked("203.0.113.9", "shop/web").verdict is Verdict.DENIED
    assert town.asked("shop/web", "api.example.com", 443).verdict is Verdict.ALLOWED


def of_namespaces(**labels: str) -> dict[str, Any]:
    """A rule that lets in pods of namespaces with these labels."""
    keys = {f"k8s:io.cilium.k8s.namespace.labels.{key}": value for key, value in labels.items()}
    return {"fromEndpoints": [{"matchLabels": keys}]}


def test_labels_of_namespaces_of_that_time_decide_about_a_connection_that_was_never_seen(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[of_namespaces(tier="data")])
    town.space("shop")
    town.space("data", -1, 3, tier="data")
    town.space("data", 3, None, tier="lab")
    for namespace, app in (("shop", "web"), ("data", "db")):
        town.pods(namespace, app)
    assert town.asked("data/db", "shop/web", at=2).verdict is Verdict.ALLOWED
    assert town.asked("data/db", "shop/web", at=4).verdict is Verdict.DENIED


def test_a_namespace_or_pods_that_history_does_not_have_make_the_verdict_uncertain_and_are_named(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[of_namespaces(tier="data")])
    town.space("shop")
    town.pods("shop", "web")
    town.pods("data", "db")
    found = town.asked("data/db", "shop/web")
    assert found.verdict is Verdict.UNCERTAIN
    assert "data/db: not known: the labels of namespace data, which configuration history does not have at that time" in found.notes
    town.space("data", tier="data")
    assert town.asked("data/db", "shop/web").verdict is Verdict.ALLOWED
    found = town.asked("data/other", "shop/web")
    assert found.verdict is Verdict.ALLOWED, "the labels of its namespace are known, and they decide"
    town.policy("shop", "web", "web", 3, None, ingress=[allow("bff")])
    town.policy("data", "db", "db", 3, None, ingress=[{"fromEndpoints": [{}]}])
    assert town.asked("data/other", "data/db", at=4).verdict is Verdict.ALLOWED
    found = town.asked("data/db", "data/other", at=4)
    assert found.verdict is Verdict.UNCERTAIN, "it may be one of the pods that the policy selects"
    assert any("not known: the labels of the pods of data/other" in note for note in found.notes)


def test_pods_of_a_workload_with_different_labels_have_those_that_all_of_them_have(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[allow("bff"), {"fromEndpoints": [{"matchLabels": {"variant": "blue"}}]}])
    town.space("shop")
    for app, variant in (("web", ""), ("bff", "green"), ("bff", "blue"), ("cart", "green"), ("cart", "blue")):
        town.pods("shop", app, variant=variant)
    assert town.asked("shop/bff", "shop/web").verdict is Verdict.ALLOWED
    found = town.asked("shop/cart", "shop/web")
    assert found.verdict is Verdict.UNCERTAIN
    assert "shop/cart: not known: which of its 2 sets of labels a pod of shop/cart has" in found.notes


def test_the_service_account_decides_and_pods_on_the_network_of_their_node_are_refused(town: Town) -> None:
    account = {"k8s:io.cilium.k8s.policy.serviceaccount": "bff"}
    town.policy("shop", "web", "web", ingress=[{"fromEndpoints": [{"matchLabels": account}]}])
    town.space("shop")
    for app in ("web", "bff", "cart"):
        town.pods("shop", app)
    town.pods("shop", "agent", hostNetwork=True)
    assert town.asked("shop/bff", "shop/web").verdict is Verdict.ALLOWED
    assert town.asked("shop/cart", "shop/web").verdict is Verdict.DENIED
    with pytest.raises(ConfigError, match="run on the network of their node, so policies see the node: name it as host or remote-node"):
        town.asked("shop/agent", "shop/web")


def test_what_an_owner_may_not_see_of_the_other_end_is_not_used_for_a_connection_that_was_never_seen(town: Town) -> None:
    town.policy("shop", "web", "web", ingress=[of_namespaces(tier="data")])
    for namespace, app in (("shop", "web"), ("data", "db")):
        town.space(namespace, tier=namespace)
        town.pods(namespace, app)
    found = town.asked("data/db", "shop/web", who=PAULA)
    (ingress,) = [one for one in found.walks if one.direction is Direction.INGRESS]
    assert ingress.decision.verdict is Verdict.UNCERTAIN
    assert "labels of a peer that is not yours" in ingress.decision.reason
    assert not any("tier" in note for note in found.notes)


def test_a_cluster_of_which_nothing_is_recorded_is_refused_with_those_there_are(town: Town) -> None:
    with pytest.raises(ConfigError, match="--cluster: nothing is recorded of c9 that you may see; there are c1"):
        town.asked("shop/cart", "shop/web", cluster="c9")


@pytest.mark.parametrize("end", ["web", "shop/web/x.y", "no such thing"])
def test_an_end_that_cannot_be_read_says_how_to_write_it(town: Town, end: str) -> None:
    with pytest.raises(ConfigError, match="is not NAMESPACE/WORKLOAD, an address, a DNS name, or one of"):
        town.asked(end, "shop/web")
