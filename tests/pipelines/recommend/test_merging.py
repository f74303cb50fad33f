"""Recommendations are added to a file that exists, and nothing else in it changes."""

from __future__ import annotations

import io
from typing import Any

import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from random_traffic import traffic
from ruamel.yaml import YAML
from traffic import edge, entity, outside, pod, recommended

from pipelines.policy.documents import read_documents
from pipelines.policy.policy_set import compile_policies
from pipelines.policy.verdict import Verdict, decide
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.merging import merge
from pipelines.recommend.observed import ObservedEdge
from pipelines.recommend.recommendation import Recommendation
from pipelines.recommend.writing import as_data, as_yaml
from warehouse.errors import ConfigError

WEB, CART, DB = pod("shop", "web"), pod("shop", "cart"), pod("data", "db")
FILE = """\
# Owned by the shop team; ask in #shop before you change it.
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: web   # the shop's front
  namespace: shop
  labels: {team: 'shop', stage: "prod"}
spec:
  endpointSelector:
    matchLabels:
      app: web
  # people come in here
  ingress:
    - fromEntities:
        - world
      toPorts:
        - ports:
            - port: "8080"   # the backend's port
              protocol: TCP
    # the cart calls back
    - fromEndpoints:
        - matchLabels:
            app: cart
      toPorts:
        - ports:
            - port: "8080"
              protocol: TCP
# the end
---
# Something else, with   odd   spacing that nobody may touch
kind: ConfigMap
apiVersion: v1
metadata: {name:   other,   namespace: shop}
data:
    text: |
        --- not a document
        # not a comment
"""


def web(*edges: ObservedEdge, kind: PolicyKind = PolicyKind.CILIUM) -> Recommendation:
    return recommended(edges, workload="web", kind=kind)


def manifests(text: str) -> list[Any]:
    return [one for one in yaml.safe_load_all(text) if one]


def test_merging_what_the_file_allows_already_changes_no_byte() -> None:
    merged = merge(FILE, "web.yaml", web(edge(CART, WEB), edge(outside("203.0.113.7"), WEB)))
    assert merged.text == FILE
    assert merged.changes == ()


def test_a_merge_keeps_comments_order_quotes_and_other_documents() -> None:
    merged = merge(FILE, "web.yaml", web(edge(DB, WEB, 9090), edge(CART, WEB)))
    added = set(merged.text.splitlines()) - set(FILE.splitlines())
    rest = iter(merged.text.splitlines())
    assert all(line in rest for line in FILE.splitlines())
    assert merged.text.endswith(FILE[FILE.index("# the end") :])
    assert merged.changes == ("CiliumNetworkPolicy shop/web: added a rule for ingress: data/db",)
    assert any("recommended by Hindcast" in line and "data/db: 1,000 flows" in line for line in added)


def test_a_second_merge_changes_nothing() -> None:
    recommendation = web(edge(DB, WEB, 9090), edge(CART, WEB), edge(WEB, outside("203.0.113.9", "api.example.com"), 443))
    once = merge(FILE, "web.yaml", recommendation).text
    twice = merge(once, "web.yaml", recommendation)
    assert twice.text == once
    assert twice.changes == ()


def test_only_the_missing_ports_of_a_peer_are_added() -> None:
    merged = merge(FILE, "web.yaml", web(edge(CART, WEB), edge(CART, WEB, 9090)))
    rules = manifests(merged.text)[0]["spec"]["ingress"]
    assert rules[2]["toPorts"] == [{"ports": [{"port": "9090", "protocol": "TCP"}]}]


SPECS = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: shop, namespace: shop}
specs:
  # the cart
  - endpointSelector: {matchLabels: {app: cart}}
    egress:
      - {}
  # the front
  - endpointSelector: {matchLabels: {app: web}}
    ingress:
      - fromEndpoints:   # the cart calls back
          - matchLabels: {app: cart}
        toPorts:
          - ports: [{port: "8080", protocol: TCP}]
"""


def test_a_rule_is_added_to_the_one_of_several_specs_that_selects_the_same_pods() -> None:
    recommendation = web(edge(DB, WEB, 9090), edge(CART, WEB))
    merged = merge(SPECS, "shop.yaml", recommendation)
    assert merged.changes == ("CiliumNetworkPolicy shop/shop: added a rule for ingress: data/db",)
    assert merged.text.startswith(SPECS)
    ((cart, front),) = [one["specs"] for one in manifests(merged.text)]
    assert cart == yaml.safe_load(SPECS)["specs"][0]
    assert [rule["toPorts"][0]["ports"][0]["port"] for rule in front["ingress"]] == ["8080", "9090"]
    assert merge(merged.text, "shop.yaml", recommendation).changes == ()


def test_a_policy_of_the_recommended_name_whose_specs_select_other_pods_is_refused() -> None:
    named = SPECS.replace("name: shop", f"name: {web(edge(DB, WEB, 9090)).policies[0].name}").replace("app: web", "app: other")
    with pytest.raises(ConfigError, match="selects other pods than the recommended policy"):
        merge(named, "shop.yaml", web(edge(DB, WEB, 9090)))


def test_a_policy_that_the_file_does_not_have_is_appended_and_the_rest_stays() -> None:
    merged = merge(FILE, "web.yaml", recommended([edge(DB, CART)], workload="cart"))
    assert merged.text.startswith(FILE)
    assert [one["metadata"]["name"] for one in manifests(merged.text)] == ["web", "other", "cart-recommended"]


def test_an_empty_file_gets_the_whole_recommendation() -> None:
    recommendation = web(edge(DB, WEB))
    merged = merge("", "web.yaml", recommendation)
    assert manifests(merged.text) == [recommendation.policies[0].manifest]
    assert merge(merged.text, "web.yaml", recommendation).changes == ()


def test_a_direction_that_was_not_observed_is_not_closed_by_a_merge() -> None:
    half = edge(WEB, CART, seen_at=frozenset())
    merged = merge(FILE, "web.yaml", web(edge(CART, WEB), half))
    spec = manifests(merged.text)[0]["spec"]
    assert spec["enableDefaultDeny"] == {"egress": False}
    assert len(spec["egress"]) == 1


def test_a_network_policy_gains_the_direction_that_it_did_not_close() -> None:
    text = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  policyTypes: [Ingress]   # for now
"""
    recommendation = web(edge(CART, WEB), edge(WEB, DB, 5432), kind=PolicyKind.KUBERNETES)
    merged = merge(text, "web.yaml", recommendation)
    spec = manifests(merged.text)[0]["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert len(spec["ingress"]) == len(spec["egress"]) == 1
    assert "# for now" in merged.text
    assert merge(merged.text, "web.yaml", recommendation).changes == ()


def test_names_are_learned_although_the_file_allows_plain_dns_already() -> None:
    dns = pod("kube-system", "dns")
    plain = web(edge(CART, WEB), edge(WEB, dns, 53, "UDP"))
    named = web(edge(CART, WEB), edge(WEB, dns, 53, "UDP"), edge(WEB, outside("203.0.113.9", "api.example.com"), 443))
    text = merge(FILE, "web.yaml", plain).text
    once = merge(text, "web.yaml", named)
    assert [rule["toPorts"][0].get("rules") for rule in manifests(once.text)[0]["spec"]["egress"]] == [
        None,
        {"dns": [{"matchPattern": "*"}]},
        None,
    ]
    assert merge(once.text, "web.yaml", named).changes == ()


def test_a_policy_whose_work_others_in_the_file_do_is_not_added() -> None:
    text = FILE.replace("      app: web\n", "      tier: front\n")
    labels = {"app": "web", "tier": "front"}
    mine = pod("shop", "web", labels=labels)
    found = recommended([edge(CART, mine)], workload="web")
    assert merge(text, "web.yaml", found).text == text
    assert merge(text, "web.yaml", recommended([edge(CART, mine), edge(DB, mine)], workload="web")).changes


def test_a_selector_written_with_the_source_of_its_labels_is_the_same() -> None:
    text = FILE.replace("      app: web\n", "      k8s:app: web\n")
    merged = merge(text, "web.yaml", web(edge(DB, WEB, 9090)))
    assert merged.changes == ("CiliumNetworkPolicy shop/web: added a rule for ingress: data/db",)


def test_a_file_with_the_line_ends_of_windows_keeps_them() -> None:
    text = FILE.replace("\n", "\r\n")
    recommendation = web(edge(DB, WEB, 9090))
    once = merge(text, "web.yaml", recommendation).text
    assert once.count("\n") == once.count("\r\n") > text.count("\n")
    assert merge(once, "web.yaml", recommendation).text == once


def test_a_hidden_peer_is_not_added_a_second_time() -> None:
    recommendation = web(edge(pod("data", "db", hidden=True), WEB, 9090))
    once = merge(FILE, "web.yaml", recommendation)
    assert once.changes
    assert merge(once.text, "web.yaml", recommendation).changes == ()


def test_what_a_deny_rule_of_the_file_denies_is_not_added_a_second_time() -> None:
    text = FILE.replace("  # people come in here\n", "  ingressDeny:\n  - fromEntities: [all]\n  # people come in here\n")
    recommendation = web(edge(DB, WEB, 9090))
    once = merge(text, "web.yaml", recommendation)
    assert merge(once.text, "web.yaml", recommendation).changes == ()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [1", "web.yaml"),
        ("a: 1\na: 2\n", "web.yaml"),
        (FILE.replace("name: web ", "name: web-recommended ").replace("app: web", "app: other"), "rename it"),
    ],
)
def test_a_file_that_cannot_be_merged_is_named_with_the_reason(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        merge(text, "web.yaml", web(edge(DB, WEB)))


def test_comments_cannot_be_broken_out_of() -> None:
    evil = pod("data", "x\nspec: {}\n---\nkind: Secret", labels={"app": "db"})
    text = as_yaml(web(edge(evil, WEB), edge(WEB, entity("host", address="10.0.0.1"), 80)))
    assert [one["kind"] for one in manifests(text)] == ["CiliumNetworkPolicy"]


def test_the_yaml_reads_back_as_the_objects_that_were_judged() -> None:
    found = recommended([edge(DB, WEB), edge(WEB, CART), edge(entity("host"), WEB), edge(DB, WEB, None, "ICMPv4", icmp_type=8)])
    assert manifests(as_yaml(found)) == [policy.manifest for policy in found.policies]
    assert "# data/db: 1,000 flows from 2026-11-01 00:00 to 2026-12-01 00:00 UTC, on 30 days" in as_yaml(found)
    assert "0 newly denied" in as_yaml(found)


def test_the_data_has_the_evidence_of_every_rule() -> None:
    data = as_data(web(edge(DB, WEB, flows=5, examples=("u1",))))
    (rule,) = data["policies"][0]["rules"]
    assert rule["path"] == "spec.ingress[0]"
    assert (rule["flows"], rule["days_seen"], rule["edges"][0]["examples"]) == (5, 30, ["u1"])
    assert data["simulation"]["newly_denied"] == []


def reformatted(text: str, offset: int, marks: bool) -> str:
    """A policy file as somebody else would have written it."""
    emitter = YAML()
    emitter.indent(mapping=2, sequence=2 + offset, offset=offset)
    emitter.explicit_start = marks
    found = io.StringIO()
    emitter.dump_all([one for one in YAML().load_all(text) if one], found)
    return found.getvalue()


@settings(max_examples=50, phases=[Phase.explicit, Phase.reuse, Phase.generate])  # shrinking whole files takes minutes
@given(traffic, traffic, st.sampled_from(list(PolicyKind)), st.sampled_from([0, 2]), st.booleans())
def test_a_merge_allows_the_new_traffic_keeps_every_line_and_is_done_once(
    old: list[ObservedEdge], new: list[ObservedEdge], kind: PolicyKind, offset: int, marks: bool
) -> None:
    before, after = recommended(old, kind=kind), recommended(new, kind=kind)
    text = reformatted(as_yaml(before), offset, marks) if before.policies else ""
    try:
        merged = merge(text, "shop.yaml", after)
    except ConfigError as error:
        assert "selects other pods" in str(error)  # noqa: PT017 - only some examples have such a name
        return
    assert merge(merged.text, "shop.yaml", after).text == merged.text
    rest = iter(merged.text.splitlines())
    changed = ("policyTypes", "- {}", "[{}]")
    lost = [line for line in text.splitlines() if not any(word in line for word in changed) and line not in rest]
    assert not lost, f"{lost[0]!r} is lost from\n{text}\nin\n{merged.text}"
    policies = compile_policies(read_documents(merged.text, "shop.yaml"))
    for policy in after.policies:
        for rule in policy.rules:
            for one in rule.draft.evidence.edges:
                assert decide(policies, rule.direction, one.connection).verdict is not Verdict.DENIED
