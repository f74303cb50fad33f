"""What must hold for every set of policies, tried on random ones."""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable
from ipaddress import ip_network
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.policy.bulk import CODES, BulkJudge, Connections
from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Connection, Direction, Side
from pipelines.policy.verdict import Decision, Verdict, decide, judge
from tests.peers import policy_comparison, policy_generator, policy_world

ORDER = {Verdict.DENIED: 0, Verdict.UNCERTAIN: 1, Verdict.ALLOWED: 2}


KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]
ANY_KIND = [*KINDS, "ClusterNetworkPolicy"]
SIDES = ("source", "destination")


def some_labels(side: Side, chooser: random.Random) -> dict[str, Any]:
    """Hide some labels of a pod; reserved labels are always known."""
    if side.seen_as is None:
        return {}
    kept = [text for text in side.seen_as.texts if text.startswith("reserved:") or chooser.random() < 0.5]
    return {"seen_as": LabelSet(kept, complete=False)}


def range_of_address(side: Side, chooser: random.Random) -> dict[str, Any]:
    """Leave of an address the range that it lies in."""
    if side.address is None:
        return {}
    bits = chooser.choice((0, 8, 12, 16, 20, 24, 28, 30, 32))
    return {"address": None, "networks": (ip_network(f"{side.address}/{bits}", strict=False),)}


def possible_names(side: Side, chooser: random.Random) -> dict[str, Any]:
    """Leave of the names of an address one that is certain; the others may have been other names."""
    if not side.names:
        return {}
    certain = chooser.choice(side.names)
    return {"names": (certain,), "possible_names": (*side.names, "another.example")}


HIDDEN: tuple[Callable[[Side, random.Random], dict[str, Any]], ...] = (
    lambda _side, _chooser: {"seen_as": None},
    lambda _side, _chooser: {"address": None},
    lambda _side, _chooser: {"names": None},
    lambda _side, _chooser: {"named_ports": None},
    some_labels,
    range_of_address,
    possible_names,
)
"""Ways of hiding what is known of an end."""
SEEDS = st.integers(min_value=0, max_value=2**31)


def verdicts(scenario: Any, manifests: list[dict[str, Any]]) -> list[Decision]:
    policies = dataclasses.replace(scenario, manifests=manifests).compile()
    return [decide(policies, probe.direction, probe.connection()) for probe in scenario.probes]


def specs_with(manifests: list[dict[str, Any]], key: str) -> list[list[Any]]:
    """The lists of rules of this name that hold at least one rule, so that their subjects are isolated already."""
    specs = [spec for manifest in manifests for spec in [manifest.get("spec"), *(manifest.get("specs") or [])]]
    return [spec[key] for spec in specs if spec and spec.get(key)]


def is_cilium(rule: dict[str, Any]) -> bool:
    """Whether a rule is written as Cilium's policies write it."""
    return not {"from", "to", "ports"} & set(rule) and bool(rule)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(["ingress", "egress"]))
def test_one_more_allow_rule_never_denies_more(seed: int, key: str) -> None:
    scenario = policy_comparison.scenario(seed, "1.20", KINDS)
    more = copy.deepcopy(scenario.manifests)
    rules = specs_with(more, key)
    if not rules:
        return
    donor = specs_with(policy_comparison.scenario(seed + 1, "1.20", KINDS).manifests, key)
    target = random.Random(seed).choice(rules)
    target.extend(rule for found in donor for rule in found if is_cilium(rule) == is_cilium(target[0]))
    refused = [len(dataclasses.replace(scenario, manifests=one).compile().refusals) for one in (scenario.manifests, more)]
    if refused[0] != refused[1]:
        return  # the rule that was added is refused, and its policy with it
    for old, new_one in zip(verdicts(scenario, scenario.manifests), verdicts(scenario, more), strict=True):
        assert ORDER[new_one.verdict] >= ORDER[old.verdict] or new_one.verdict is Verdict.UNCERTAIN, (old.reason, new_one.reason)


@settings(max_examples=60, deadline=None)
@given(SEEDS, st.sampled_from(["ingressDeny", "egressDeny"]))
def test_one_more_deny_rule_never_allows_more(seed: int, key: str) -> None:
    scenario = policy_comparison.scenario(seed, "1.20", ANY_KIND)
    maker = policy_generator.Generator(seed, release=(1, 20), dual_stack=False, node_selectors=False)
    rule = maker.cilium_rule("from" if key == "ingressDeny" else "to", allows=False, nodes=False)
    spec = {"endpointSelector": {}, key: [rule], "enableDefaultDeny": {"ingress": False, "egress": False}}
    denying = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "more"}, "spec": spec}
    for old, new in zip(verdicts(scenario, scenario.manifests), verdicts(scenario, [*scenario.manifests, denying]), strict=True):
        if old.verdict is Verdict.DENIED and not old.rules:
            continue  # since Cilium 1.20 any rule, of whatever kind, lets in the own node of an endpoint that denies without rules
        assert ORDER[new.verdict] <= ORDER[old.verdict], (old.reason, new.reason, rule)


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_the_order_of_policies_and_of_their_rules_never_matters(seed: int) -> None:
    scenario = policy_comparison.scenario(seed, "1.20", KINDS)
    other = copy.deepcopy(scenario.manifests)
    random.Random(seed).shuffle(other)
    for manifest in other:
        for spec in [manifest.get("spec"), *(manifest.get("specs") or [])]:
            for rules in (spec or {}).values():
                if isinstance(rules, list):
                    rules.reverse()
    before = [(one.verdict, {(rule.kind, rule.name) for rule in one.rules}) for one in verdicts(scenario, scenario.manifests)]
    assert [(one.verdict, {(rule.kind, rule.name) for rule in one.rules}) for one in verdicts(scenario, other)] == before


@settings(max_examples=60, deadline=None)
@given(SEEDS)
def test_a_policy_that_selects_nothing_changes_nothing(seed: int) -> None:
    scenario = policy_comparison.scenario(seed, "1.20", ANY_KIND)
    maker = policy_generator.Generator(seed + 7, release=(1, 20), dual_stack=False, node_selectors=False)
    nobody = {"matchLabels": {"no-such-label": "x"}}
    added = maker.policies(KINDS)
    for index, manifest in enumerate(added):
        manifest["metadata"]["name"] = f"nothing-{index}"
        for spec in [manifest.get("spec"), *(manifest.get("specs") or [])]:
            if spec:
                key = next(one for one in ("podSelector", "endpointSelector", "nodeSelector") if one in spec)
                spec[key] = nobody
    assert verdicts(scenario, [*scenario.manifests, *added]) == verdicts(scenario, scenario.manifests)


@settings(max_examples=40, deadline=None)
@given(SEEDS)
def test_what_is_not_known_is_uncertain_and_never_another_verdict(seed: int) -> None:
    """Without labels, addresses, names and named ports of the peer, or some of them, a verdict is the full one or uncertain."""
    scenario = policy_comparison.scenario(seed, "1.20", ANY_KIND)
    policies = scenario.compile()
    chooser = random.Random(seed)
    for probe in scenario.probes:
        whole = decide(policies, probe.direction, probe.connection())
        connection = probe.connection()
        for hide in HIDDEN:
            ends = {key: dataclasses.replace(end := getattr(connection, key), **hide(end, chooser)) for key in SIDES}
            part = decide(policies, probe.direction, dataclasses.replace(connection, **ends))
            assert part.verdict in (whole.verdict, Verdict.UNCERTAIN), (ends, whole.reason, part.reason)
            assert (part.verdict is Verdict.UNCERTAIN) == bool(part.missing)


@settings(max_examples=80, deadline=None)
@given(SEEDS, st.sampled_from(["1.18", "1.19", "1.20"]), st.booleans())
def test_many_at_once_gives_what_one_at_a_time_gives(seed: int, release: str, hide: bool) -> None:
    scenario = policy_comparison.scenario(seed, release, ANY_KIND)
    policies = scenario.compile()
    sides = [end.side() for end in scenario.ends]
    if hide:
        chooser = random.Random(seed)
        ways = [lambda _side, _chooser: {}, lambda _side, _chooser: {"subject": None}, *HIDDEN]
        sides = [dataclasses.replace(side, **chooser.choice(ways)(side, chooser)) for side in sides]
    index = {end.name: place for place, end in enumerate(scenario.ends)}
    protocols = tuple(policy_world.PROTOCOLS)
    rows = []
    for probe in scenario.probes:
        ends = (probe.peer, probe.subject) if probe.direction is Direction.INGRESS else (probe.subject, probe.peer)
        rows.append((index[ends[0].name], index[ends[1].name], protocols.index(probe.protocol), probe.port))
    source, destination, protocol, number = (np.array(column, np.int64) for column in zip(*rows, strict=True))
    found = BulkJudge(policies, sides).judge(Connections(source, destination, protocol, number, protocols))
    for place, (first, second, name, port) in enumerate(rows):
        icmp = protocols[name].startswith("ICMP")
        connection = Connection(sides[first], sides[second], protocols[name], None if icmp else port, port if icmp else None)
        one = judge(policies, connection)
        both = (one.ingress.verdict, one.egress.verdict)
        assert (CODES[found.ingress[place]], CODES[found.egress[place]]) == both, (one.reason, connection)
        assert found.layer7_undecided[place] == (one.ingress.layer7_undecided or one.egress.layer7_undecided)
