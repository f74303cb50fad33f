"""Rules that nothing needs or that are too wide: what is said of a rule holds for every connection."""

from __future__ import annotations

import copy
import dataclasses
import random

from audited_fleet import TCP_80, WEB, ccnp, cnp, compiled, np_
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.audits.finding import Audited, Kind, Policies
from pipelines.audits.needless import needless_rules
from pipelines.audits.wide import wide_rules
from pipelines.policy.model import Action, Rule
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.reading import Document
from pipelines.policy.verdict import decide
from tests.peers import policy_comparison

KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ClusterNetworkPolicy"]


def needless(*documents: Document) -> tuple[Audited, Audited]:
    return needless_rules("c1", *compiled(*documents))


def test_without_policies_nothing_is_found() -> None:
    for audited in (*needless(), *wide_rules("c1", *compiled())):
        assert (audited.findings, audited.checked, audited.not_evaluated) == ((), 0, "")


def test_a_rule_within_another_one_is_redundant_and_of_two_equal_rules_one_stays() -> None:
    wide = cnp("wide", {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}]})
    narrow = cnp("narrow", {"endpointSelector": WEB, "ingress": [{"fromEndpoints": [WEB], "toPorts": TCP_80}]})
    same = cnp("zz-same", {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}]})
    shadowed, redundant = needless(wide, narrow, same)
    assert not shadowed.findings
    assert {(one.namespace, one.subject) for one in redundant.findings} == {
        ("shop", "CiliumNetworkPolicy/narrow"),
        ("shop", "CiliumNetworkPolicy/zz-same"),
    }
    assert "is not needed: CiliumNetworkPolicy shop/wide spec.ingress[0] allows everything" in redundant.findings[0].summary


def test_a_rule_that_alone_isolates_is_not_redundant() -> None:
    wide = cnp("wide", {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}], "enableDefaultDeny": {"ingress": False}})
    narrow = cnp("narrow", {"endpointSelector": WEB, "ingress": [{"fromEndpoints": [WEB]}]})
    assert not any(one.findings for one in needless(wide, narrow))


def test_a_rule_of_another_namespace_makes_nothing_redundant() -> None:
    rule = {"endpointSelector": WEB, "ingress": [{"fromEntities": ["all"]}]}
    assert not any(one.findings for one in needless(cnp("a", rule), cnp("b", rule, namespace="other")))


def test_an_allow_rule_below_a_deny_of_everything_it_matches_can_never_decide() -> None:
    deny = ccnp("deny", {"endpointSelector": {}, "ingressDeny": [{"fromEntities": ["world"]}]})
    allow = cnp("allow", {"endpointSelector": WEB, "ingress": [{"fromEntities": ["world"], "toPorts": TCP_80}]})
    shadowed, redundant = needless(deny, allow)
    assert [one.subject for one in shadowed.findings] == ["CiliumNetworkPolicy/allow"]
    assert not redundant.findings


def test_a_key_stays_the_same_when_rules_are_reordered_and_changes_with_the_rule() -> None:
    first, second = {"fromEntities": ["world"], "toPorts": TCP_80}, {"fromEntities": ["all"]}
    found = []
    for rules in ([first, second], [second, first], [{**first, "fromEntities": ["cluster"]}, second]):
        _, redundant = needless(cnp("p", {"endpointSelector": WEB, "ingress": rules}))
        found.append({one.key for one in redundant.findings})
    assert found[0] == found[1]
    assert len(found[0]) == 1
    assert found[2] != found[0]


def wide(*documents: Document) -> dict[Kind, list[tuple[str, str]]]:
    return {one.kind: [(found.subject, found.severity) for found in one.findings] for one in wide_rules("c1", *compiled(*documents))}


def test_rules_for_everyone_and_for_every_address_are_found_in_every_way_of_writing_them() -> None:
    found = wide(
        np_("np", {"podSelector": {}, "ingress": [{}]}),
        np_("np-zero", {"podSelector": {}, "ingress": [{"from": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]}}]}]}),
        cnp("all", {"endpointSelector": {}, "ingress": [{"fromEntities": ["all"], "toPorts": TCP_80}]}),
        cnp("six", {"endpointSelector": {}, "egress": [{"toCIDR": ["::/0"]}]}),
        cnp("own", {"endpointSelector": {}, "ingress": [{"fromEndpoints": [{}]}]}),
    )
    assert found[Kind.ALLOW_ALL] == [("NetworkPolicy/np", "high"), ("CiliumNetworkPolicy/all", "medium")]
    assert found[Kind.EVERY_ADDRESS] == [("NetworkPolicy/np-zero", "high"), ("CiliumNetworkPolicy/six", "high")]


def test_egress_to_the_world_is_found_unless_it_is_by_name() -> None:
    found = wide(
        cnp("world", {"endpointSelector": {}, "egress": [{"toEntities": ["world"], "toPorts": TCP_80}]}),
        cnp("name", {"endpointSelector": {}, "egress": [{"toFQDNs": [{"matchName": "api.example"}]}]}),
        cnp("range", {"endpointSelector": {}, "egress": [{"toCIDR": ["203.0.113.0/24"]}]}),
        cnp("deny", {"endpointSelector": {}, "egressDeny": [{"toEntities": ["world"]}]}),
    )
    assert found[Kind.WORLD_WITHOUT_NAMES] == [("CiliumNetworkPolicy/world", "low")]


@settings(max_examples=150, deadline=None)
@given(st.integers(min_value=0, max_value=2**31), st.sampled_from(["1.18", "1.19", "1.20"]))
def test_without_a_redundant_rule_and_with_a_shadowed_one_emptied_every_verdict_is_the_same(seed: int, release: str) -> None:
    scenario = policy_comparison.scenario(seed, release, KINDS)
    again = copy.deepcopy(scenario.manifests)
    for index, manifest in enumerate(again):
        manifest["metadata"]["name"] = f"again-{index}"
        for spec in [manifest.get("spec"), *(manifest.get("specs") or [])]:
            for key in ("podSelector", "endpointSelector"):
                if spec and key in spec and random.Random(seed + index).random() < 0.5:
                    spec[key] = {}
    scenario = dataclasses.replace(scenario, manifests=[*scenario.manifests, *again])
    policies = scenario.compile()
    shadowed, redundant = needless_rules("default", policies, Policies([Document(one) for one in scenario.manifests]))
    places = {(one.subject, one.path): one.kind for one in (*shadowed.findings, *redundant.findings)}
    if not places:
        return
    kept: list[Rule] = []
    for rule in policies.rules:
        kind = places.get((f"{rule.origin.kind}/{rule.origin.name}", rule.origin.path))
        if kind is Kind.SHADOWED_RULE:
            kept.append(dataclasses.replace(rule, peers=(), ports=(), action=Action.ALLOW))
        elif kind is None:
            kept.append(rule)
    left = PolicySet(policies.settings, tuple(kept), surroundings=policies.surroundings)
    for probe in scenario.probes:
        whole = decide(policies, probe.direction, probe.connection())
        assert decide(left, probe.direction, probe.connection()).verdict is whole.verdict, (whole.reason, places)
