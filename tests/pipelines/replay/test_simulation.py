"""What candidate policies would have done: nothing is said that history does not show, and what is folded is read from flows."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.policy.documents import read_documents
from pipelines.replay.agreement import Disagreement
from pipelines.replay.changed_edges import rows_of
from pipelines.replay.confidence import Level, level
from pipelines.replay.grouping import grouped
from pipelines.replay.in_force import History
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import Result, WhatIf, simulate
from warehouse.access import access_log
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError, CancelledError, ConfigError, QueryError
from warehouse.questions import replay_questions
from warehouse.schema import ACCESS_LOG, CLUSTER_SETTINGS, POLICY_VERSIONS

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
PAULA = Principal(user="paula")
ONLY_API = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: api}}]
    toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""


def ingress(rules: str, *, name: str = "web", namespace: str = "shop") -> str:
    """A policy of shop/web with these ingress rules."""
    metadata = f"{{name: {name}, namespace: {namespace}}}"
    spec = f"{{endpointSelector: {{matchLabels: {{app: web}}}}, ingress: {rules}}}"
    return f"apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {metadata}\nspec: {spec}\n"


def changes(result: Result) -> dict[tuple[str, str], int]:
    """Flows by change and name of the source."""
    found: dict[tuple[str, str], int] = {}
    for edge in result.edges:
        _, _, workload, entity, dns_name, cidr = edge.source
        key = (edge.change.value, workload or dns_name or cidr or entity or "?")
        found[key] = found.get(key, 0) + edge.flows
    return found


def test_an_empty_lake_gives_no_edges(recorded: Any) -> None:
    result = recorded.simulate(ONLY_API)
    assert result.edges == []
    assert result.alone


def test_who_owns_nothing_is_denied(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    with pytest.raises((AccessDeniedError, QueryError)):
        recorded.simulate(ONLY_API, who=Principal(user="eve"))


def test_without_configuration_history_candidates_are_judged_alone_and_it_says_so(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"), times=3)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), times=2)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "db"))
    result = recorded.simulate(ONLY_API)
    assert result.alone
    assert changes(result) == {("unchanged", "api"): 3, ("newly_denied", "batch"): 2, ("unchanged", "batch"): 1}
    denied = result.edges[0]
    assert (denied.before, denied.after, denied.destination_port, denied.l4_protocol) == ("allowed", "denied", 80, "TCP")
    assert "CiliumNetworkPolicy shop/web" in denied.rules[0]
    assert "isolated for ingress" in denied.reason
    assert len(denied.uuids) == 2
    assert agreement_of(result) == (0, 0)


def agreement_of(result: Result) -> tuple[int, int]:
    disagreed = result.agreement.disagreed
    return disagreed[Disagreement.DROPPED], disagreed[Disagreement.FORWARDED]


def test_nothing_to_simulate_is_refused(recorded: Any) -> None:
    with pytest.raises(ConfigError, match="nothing to simulate"):
        recorded.simulate()


def test_a_cluster_that_is_not_there_is_refused(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    with pytest.raises(ConfigError, match="no cluster c9"):
        recorded.simulate(ONLY_API, clusters=("c9",))


def test_a_candidate_replaces_the_policy_of_its_name_and_a_removed_one_opens(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0)  # lets everyone in on port 80
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"))
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), 81, verdict="DROPPED")
    assert changes(recorded.simulate(ONLY_API)) == {("newly_denied", "batch"): 1, ("unchanged", "batch"): 1}
    opened = recorded.simulate(removed=(("CiliumNetworkPolicy", "shop", "web"),))
    assert changes(opened) == {("newly_allowed", "batch"): 1, ("unchanged", "batch"): 1}
    assert opened.agreement.share == 1
    with pytest.raises(ConfigError, match=r"no such policy was in force.*there are web"):
        recorded.simulate(removed=(("CiliumNetworkPolicy", "shop", "wbe"),))


def test_the_same_policy_again_changes_nothing(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"))
    same = ingress('[{toPorts: [{ports: [{port: "80", protocol: TCP}]}]}]').replace("{matchLabels: {app: web}}", "{}")
    result = recorded.simulate(same)
    assert changes(result) == {("unchanged", "batch"): 1}
    assert "no policy that changes" in result.edges[0].reason


def test_only_removes_every_other_policy(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("all", 0)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "db"), 81, verdict="DROPPED")
    result = recorded.simulate(ONLY_API, only=True)
    assert changes(result) == {("newly_allowed", "batch"): 1}


def test_policies_of_a_time_stand_in_for_those_in_force(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0, 6)
    recorded.policy("web", 6, port=81)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), at=1)
    result = recorded.simulate(policies_of=START + 12 * HOUR)
    assert changes(result) == {("newly_denied", "batch"): 1}
    with pytest.raises(ConfigError, match="--policies-of"):
        recorded.simulate(policies_of=START - 12 * HOUR)


def test_time_that_history_does_not_cover_is_uncertain(recorded: Any, ends: Any) -> None:
    recorded.observed(6, 24)
    recorded.policy("web", 6)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), at=1)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), at=8)
    result = recorded.simulate(ONLY_API)
    assert changes(result) == {("newly_denied", "batch"): 1, ("uncertain", "batch"): 1}
    assert "does not cover that time" in result.edges[1].reason
    assert result.agreement.disagreed[Disagreement.NOT_KNOWN] == 1
    assert (result.concerned.flows, result.concerned.uncertain) == (2, 1)


def test_confidence_is_low_while_what_the_change_concerns_is_uncertain_however_much_else_is_known(recorded: Any, ends: Any) -> None:
    """The newest flows are those that the change is about, and no snapshot has seen their time yet."""
    recorded.observed(0, 20)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "db"), at=8, times=500)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), at=21)
    result = recorded.simulate(ONLY_API)
    assert result.agreement.share == 1
    assert result.agreement.unknown_share < 0.02
    assert result.concerned.uncertain_share == 1
    assert result.confidence is Level.LOW


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Level.HIGH),
        ({"uncertain": 0.05}, Level.FAIR),
        ({"uncertain": 0.3}, Level.LOW),
        ({"unknown": 0.05}, Level.FAIR),
        ({"unknown": 0.3}, Level.LOW),
        ({"observed": 0.9}, Level.FAIR),
        ({"reproduced": 0.9}, Level.LOW),
        ({"reproduced": None}, Level.LOW),
        ({"alone": True}, Level.LOW),
    ],
)
def test_each_thing_that_is_not_known_lowers_confidence(changed: dict[str, Any], expected: Level) -> None:
    known: dict[str, Any] = {"observed": 1.0, "reproduced": 1.0, "unknown": 0.0, "uncertain": 0.0, "alone": False}
    assert level(**(known | changed)) is expected


def test_a_change_within_an_hour_is_judged_on_both_of_its_sides(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0, port=81, end=None)
    recorded.version(
        POLICY_VERSIONS, "CiliumNetworkPolicy", "more", 6, spec={"endpointSelector": {}, "ingress": [{"fromEntities": ["all"]}]}
    )
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), at=5.9, verdict="DROPPED")
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), at=6.1)
    recorded.roll_up()
    result = recorded.simulate(removed=(("CiliumNetworkPolicy", "shop", "web"),))
    assert changes(result) == {("newly_allowed", "batch"): 1, ("unchanged", "batch"): 1}
    assert result.agreement.share == 1


def test_what_the_replay_contradicts_is_uncertain(recorded: Any, ends: Any) -> None:
    """The policy in force denies port 81 and yet it was forwarded: a candidate that denies it, too, has not been shown to matter."""
    recorded.observed(0, 24)
    recorded.policy("web", 0)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), 81)
    result = recorded.simulate(ONLY_API)
    assert changes(result) == {("uncertain", "batch"): 1}
    assert "another verdict than the one that was recorded" in result.edges[0].reason
    assert agreement_of(result) == (0, 1)
    assert result.disagreements[0]["disagreement"] == "policy says deny and it was forwarded"


def test_replies_need_no_rule(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "web"), ends.pod("shop", "api"), 40_000, source_port=80, is_reply=True, direction="EGRESS")
    closed = "apiVersion: cilium.io/v2\nkind: CiliumNetworkPolicy\nmetadata: {name: web, namespace: shop}\n"
    closed += "spec: {endpointSelector: {matchLabels: {app: web}}, egress: [{}]}\n"
    assert changes(recorded.simulate(closed)) == {("unchanged", "api"): 1}


def test_drops_for_other_reasons_are_not_judged(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), verdict="DROPPED", drop_reason_desc="CT_MAP_INSERTION_FAILED")
    result = recorded.simulate(ONLY_API)
    assert result.edges == []
    assert result.agreement.not_judged == 1


def test_a_flow_in_audit_mode_counts_as_denied(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.policy("web", 0)
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), 81, verdict="AUDIT")
    result = recorded.simulate(removed=(("CiliumNetworkPolicy", "shop", "web"),))
    assert changes(result) == {("newly_allowed", "batch"): 1}
    assert result.agreement.share == 1


def test_the_own_node_always_reaches_its_pods(recorded: Any, ends: Any) -> None:
    recorded.flow({"identity": 1, "ip": "10.0.0.254", "labels": ["reserved:host"]}, ends.pod("shop", "web"))
    recorded.flow({"identity": 6, "ip": "10.0.1.254", "labels": ["reserved:remote-node"]}, ends.pod("shop", "web"))
    assert changes(recorded.simulate(ONLY_API)) == {("unchanged", "host"): 1, ("newly_denied", "remote-node"): 1}


def test_what_was_allowed_at_one_end_and_denied_at_the_other_is_one_denied_connection(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), direction="EGRESS")
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), verdict="DROPPED")
    result = recorded.simulate(ONLY_API)
    assert [(edge.before, edge.change, edge.flows) for edge in result.edges] == [("denied", Change.UNCHANGED, 2)]


def test_an_opened_egress_still_needs_the_other_end(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    closed = {"endpointSelector": {"matchLabels": {"app": "batch"}}, "egress": [{}]}
    recorded.version(POLICY_VERSIONS, "CiliumNetworkPolicy", "batch", 0, spec=closed)
    entry = {"fromEndpoints": [{"matchLabels": {"app": "api"}}]}
    recorded.version(
        POLICY_VERSIONS, "CiliumNetworkPolicy", "db", 0, spec={"endpointSelector": {"matchLabels": {"app": "db"}}, "ingress": [entry]}
    )
    for name in ("web", "db"):
        recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", name), direction="EGRESS", verdict="DROPPED")
    result = recorded.simulate(removed=(("CiliumNetworkPolicy", "shop", "batch"),))
    assert {(edge.destination[2], edge.change) for edge in result.edges} == {("web", Change.NEWLY_ALLOWED), ("db", Change.UNCHANGED)}


HALF = ingress("[{fromCIDR: [203.0.113.0/25]}]")


def test_a_range_that_a_candidate_splits_is_read_from_flows(recorded: Any, ends: Any) -> None:
    for address in ("203.0.113.5", "203.0.113.200"):
        recorded.flow(ends.world(address), ends.pod("shop", "web"))
    recorded.flow(ends.world("198.51.100.7"), ends.pod("shop", "web"))
    recorded.roll_up()
    result = recorded.simulate(HALF)
    assert changes(result) == {
        ("unchanged", "203.0.113.5/32"): 1,
        ("newly_denied", "203.0.113.200/32"): 1,
        ("newly_denied", "198.51.100.0/24"): 1,
    }
    assert (result.hours_read, result.hours_left) == (1, 0)


def test_a_range_that_is_split_is_uncertain_once_its_flows_are_gone(recorded: Any, ends: Any) -> None:
    for address in ("203.0.113.5", "203.0.113.200"):
        recorded.flow(ends.world(address), ends.pod("shop", "web"))
    recorded.roll_up()
    recorded.lose_flows()
    result = recorded.simulate(HALF)
    assert changes(result) == {("uncertain", "203.0.113.0/24"): 2}
    assert "the address of world 203.0.113.0/24" in result.edges[0].reason
    assert (result.hours_read, result.hours_left) == (0, 1)


@pytest.mark.slow
def test_ports_of_a_scan_are_read_from_flows(recorded: Any, ends: Any) -> None:
    for port in range(100, 130):
        recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"), port, times=1 + (port < 110))
    recorded.roll_up()
    result = recorded.simulate(ingress('[{toPorts: [{ports: [{port: "125", protocol: TCP}]}]}]'))
    ports = {edge.destination_port: edge.change for edge in result.edges}
    assert ports.pop(125) is Change.UNCHANGED
    assert None not in ports
    assert set(ports.values()) == {Change.NEWLY_DENIED}


GETS = ingress('[{toPorts: [{ports: [{port: "80", protocol: TCP}], rules: {http: [{method: GET}]}}]}]')
REQUEST = {"event_type": 129, "flow_type": "L7", "l7_type": "REQUEST", "l7_http_url": "http://web/items?x=1"}


def test_requests_are_judged_where_flows_carry_them(recorded: Any, ends: Any) -> None:
    api, web = ends.pod("shop", "api"), ends.pod("shop", "web")
    recorded.flow(api, web)
    for method, times in (("GET", 2), ("POST", 3)):
        recorded.flow(api, web, times=times, l7_http_method=method, **REQUEST)
    result = recorded.simulate(GETS)
    assert changes(result) == {("unchanged", "api"): 3, ("newly_denied", "api"): 3}
    assert "allows the port, but not POST /items?x=1" in result.edges[0].reason


def test_an_edge_of_which_a_change_denies_some_flows_only_is_one_row(recorded: Any, ends: Any) -> None:
    api, web = ends.pod("shop", "api"), ends.pod("shop", "web")
    for method, times in (("GET", 2), ("POST", 3)):
        recorded.flow(api, web, times=times, l7_http_method=method, **REQUEST)
    (row,) = rows_of(recorded.simulate(GETS).edges)
    assert (row["change"], row["flows"], row["flows_of_change"]) == ("newly_denied", 5, 3)
    assert row["reason"].endswith("; of its other flows: 2 unchanged")


def test_a_port_with_rules_for_requests_is_uncertain_where_no_request_was_recorded(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    result = recorded.simulate(GETS)
    assert changes(result) == {("uncertain", "api"): 1}
    assert "its rules for requests were not judged, because none was recorded" in result.edges[0].reason


def test_an_icmp_type_is_read_from_flows(recorded: Any, ends: Any) -> None:
    for kind in (8, 13):
        recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"), None, l4_protocol="ICMPv4", icmp_type=kind, source_port=None)
    result = recorded.simulate(ingress("[{icmps: [{fields: [{type: 8, family: IPv4}]}]}]"))
    assert changes(result) == {("unchanged", "api"): 1, ("newly_denied", "api"): 1}


def test_a_candidate_elsewhere_is_refused_and_noted(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    with pytest.raises(QueryError, match="namespace vault is not yours"):
        recorded.simulate(ingress("[{}]", namespace="vault"), who=PAULA)
    clusterwide = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: all}\n"
    clusterwide += "spec: {endpointSelector: {}, ingress: [{}]}\n"
    with pytest.raises(QueryError, match="only who sees a whole cluster"):
        recorded.simulate(clusterwide, who=PAULA)
    with pytest.raises(QueryError, match="--only"):
        recorded.simulate(ONLY_API, who=PAULA, only=True)
    access_log.flush()
    noted = [row for row in recorded.lake.read(ACCESS_LOG).to_pylist() if row["question"] == "policy_simulation"]
    assert any("vault" in (row["text"] or "") and row["principal"] == "paula" for row in noted)


@pytest.mark.slow
@pytest.mark.parametrize("label", ["api", "batch"])
def test_labels_of_a_hidden_peer_decide_nothing(recorded: Any, ends: Any, label: str) -> None:
    """Whatever the peer's labels are, the owner of shop gets the same answer: no way to find them out."""
    hidden = ends.pod("vault", "store", role=label)
    recorded.flow(hidden, ends.pod("shop", "web"), times=2)
    by_label = ingress("[{fromEndpoints: [{matchLabels: {role: api, 'k8s:io.kubernetes.pod.namespace': vault}}]}]")
    result = recorded.simulate(by_label, who=PAULA)
    assert changes(result) == {("uncertain", "store"): 2}
    assert "labels of a peer that is not yours" in result.edges[0].reason
    assert changes(recorded.simulate(by_label)) == {("unchanged" if label == "api" else "newly_denied", "store"): 2}


def test_a_rule_that_asks_for_the_namespace_alone_is_decided(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("vault", "store"), ends.pod("shop", "web"))
    recorded.flow(ends.pod("ads", "bot"), ends.pod("shop", "web"))
    by_namespace = ingress("[{fromEndpoints: [{matchLabels: {'k8s:io.kubernetes.pod.namespace': vault}}]}]")
    assert changes(recorded.simulate(by_namespace, who=PAULA)) == {("unchanged", "store"): 1, ("newly_denied", "bot"): 1}


def test_an_owner_does_not_learn_who_owns_other_namespaces(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("vault", "store"), ends.pod("shop", "web"))
    closed = ingress("[{}]")
    assert recorded.simulate(closed, who=PAULA).edges[0].owners == ("paula",)
    assert recorded.simulate(closed, who=OPERATOR).edges[0].owners == ("paula",)


def test_a_candidate_that_would_be_refused_is_named_with_its_place(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    wrong = ingress("[{fromEndpoints: [{}], fromCIDR: [10.0.0.0/8]}]")
    with pytest.raises(ConfigError, match=r"(?s)every candidate would be refused.*candidate.yaml:4.*Cilium agent.*spec.ingress\[0\]"):
        recorded.simulate(wrong)
    result = recorded.simulate(wrong, ingress("[{}]", name="other"))
    assert [refusal.name for refusal in result.refusals] == ["web"]
    assert changes(result) == {("newly_denied", "api"): 1}


def test_a_namespace_without_traffic_is_named(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    result = recorded.simulate(ingress("[{}]", namespace="empty"))
    assert "namespace empty has no recorded traffic in this window" in result.notes


@pytest.mark.parametrize("name", ["another-name", "default"])
def test_without_the_agents_settings_the_cluster_is_named_as_its_pods_labels_name_it(recorded: Any, ends: Any, name: str) -> None:
    for source in ("api", "batch"):
        pods = [ends.pod("shop", one, labelled_cluster=name) for one in (source, "web")]
        recorded.flow(*pods)
    assert changes(recorded.simulate(ONLY_API)) == {("unchanged", "api"): 1, ("newly_denied", "batch"): 1}


def test_settings_of_the_time_count(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.version(CLUSTER_SETTINGS, "ConfigMap", "cilium-config", 0, namespace="kube-system", data={"enable-policy": "never"})
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"))
    assert changes(recorded.simulate(ONLY_API)) == {("unchanged", "batch"): 1}


def test_a_second_run_gives_the_same(recorded: Any, ends: Any) -> None:
    for name in ("api", "batch"):
        recorded.flow(ends.pod("shop", name), ends.pod("shop", "web"), times=4)
    first, second = (recorded.simulate(ONLY_API) for _ in range(2))
    assert [edge.row() for edge in first.edges] == [edge.row() for edge in second.edges]


@pytest.mark.slow
def test_edges_read_a_cluster_at_a_time_give_the_same(recorded: Any, ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.observed(0, 24)
    recorded.observed(0, 24, cluster="c2")
    for cluster in ("c1", "c2"):
        recorded.policy("web", 0, cluster=cluster)
        for name in ("api", "batch"):
            recorded.flow(ends.pod("shop", name, cluster=cluster), ends.pod("shop", "web", cluster=cluster), cluster=cluster, times=3)
    recorded.roll_up()
    together = recorded.simulate(ONLY_API)
    monkeypatch.setattr(replay_questions, "_PORTION", 1)
    apart = recorded.simulate(ONLY_API)
    assert {edge.cluster for edge in together.edges} == {"c1", "c2"}
    assert sorted(map(str, apart.edges)) == sorted(map(str, together.edges))


def test_ends_whose_keys_collide_are_told_apart(recorded: Any, ends: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    recorded.flow(ends.pod("shop", "batch"), ends.pod("shop", "web"))
    key = replay_questions._key
    monkeypatch.setattr(replay_questions, "_key", lambda side, salt: key(side, salt) if salt else "0::UBIGINT")
    assert changes(recorded.simulate(ONLY_API)) == {("unchanged", "api"): 1, ("newly_denied", "batch"): 1}


@given(st.lists(st.lists(st.integers(-(2**40), 2**40), min_size=5, max_size=5), max_size=30), st.integers(1, 2**20))
def test_rows_are_grouped_in_order_however_large_the_numbers_are(rows: list[list[int]], scale: int) -> None:
    found = [tuple(value // scale for value in row) for row in rows]
    columns = np.array(found, np.int64).reshape(-1, 5).T
    first, group = grouped(list(columns))
    assert [found[place] for place in first] == sorted(set(found))
    assert [found[first[number]] for number in group] == found
    assert all(found.index(found[place]) == place for place in first)


def test_a_simulation_that_is_cancelled_asks_nothing_more(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    cancelled, told = threading.Event(), []

    def tell(what: str, done: int, steps: int) -> None:
        told.append((what, done, steps))
        if what == "reading recorded edges":
            cancelled.set()

    window = Window(since=START, until=START + 24 * HOUR)
    asked = WhatIf(window=window, removed=(), documents=tuple(read_documents(ONLY_API, "candidate.yaml")))
    with pytest.raises(CancelledError):
        simulate(History(recorded.door, OPERATOR, cancelled), asked, progress=tell)
    assert [what for what, _, _ in told] == ["reading which policies were in force", "reading recorded edges"]


def test_a_simulation_tells_how_far_it_is(recorded: Any, ends: Any) -> None:
    for address in ("203.0.113.5", "203.0.113.200"):
        recorded.flow(ends.world(address), ends.pod("shop", "web"))
    recorded.roll_up()
    told: list[tuple[str, int, int]] = []
    window = Window(since=START, until=START + 24 * HOUR)
    asked = WhatIf(window=window, documents=tuple(read_documents(HALF, "candidate.yaml")))
    simulate(History(recorded.door, OPERATOR), asked, progress=lambda *step: told.append(step))
    assert [what for what, _, _ in told] == [
        "reading which policies were in force",
        "reading recorded edges",
        "judging the edges of c1",
        "reading flows of c1 from 2026-03-02 01:00 UTC",
        "putting the edges together",
        "done",
    ]
    assert [done for _, done, _ in told] == [0, 1, 2, 3, 4, 5]
    assert told[-1][2] == 5
