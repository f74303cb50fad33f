"""What holds for every recommendation, tried on random traffic."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from random_traffic import traffic, windows
from traffic import recommended

from pipelines.policy.settings import AgentSettings, Semantics, release_of
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.observed import ObservedEdge, Seen

KINDS = st.sampled_from(list(PolicyKind))
AGENTS = st.builds(
    lambda version, mode, semantics: AgentSettings(release=release_of(version), enable_policy=mode, semantics=semantics),
    st.sampled_from(["1.18", "1.19", "1.20"]),
    st.just("default"),
    st.sampled_from(list(Semantics)),
)


@settings(max_examples=150)
@given(traffic, KINDS, AGENTS, windows, st.sampled_from(["", "web"]))
def test_nothing_is_newly_denied_of_the_traffic_a_policy_was_made_from(
    edges: list[ObservedEdge], kind: PolicyKind, agent: AgentSettings, seen: Seen, workload: str
) -> None:
    found = recommended(edges, workload=workload, kind=kind, settings=agent, seen=seen)
    assert not found.check.newly_denied, found.check.newly_denied[0].reason


@settings(max_examples=80)
@given(traffic, KINDS, windows)
def test_an_uncertain_edge_lacks_labels_address_or_type_of_icmp(edges: list[ObservedEdge], kind: PolicyKind, seen: Seen) -> None:
    for one in recommended(edges, kind=kind, seen=seen).check.uncertain:
        peer = one.edge.peer(one.direction).side
        is_icmp = one.edge.protocol.startswith("ICMP")
        assert peer.seen_as is None or peer.address is None or (is_icmp and one.edge.icmp_type is None), one.reason


@settings(max_examples=80)
@given(traffic, windows)
def test_every_edge_is_in_a_rule_or_set_apart_or_its_workload_has_no_policy(edges: list[ObservedEdge], seen: Seen) -> None:
    found = recommended(edges, seen=seen)
    in_rules = {id(edge): edge for policy in found.policies for rule in policy.rules for edge in rule.draft.evidence.edges}
    in_rules |= {id(one.edge): one.edge for one in found.apart}
    flows = sum(edge.flows for edge in in_rules.values())
    if not any("no policy" in note for note in found.not_seen):
        assert flows == sum(edge.flows for edge in edges)
    else:
        assert flows <= sum(edge.flows for edge in edges)


@settings(max_examples=50)
@given(traffic, KINDS, windows, st.randoms(use_true_random=False))
def test_the_order_of_the_traffic_never_matters(edges: list[ObservedEdge], kind: PolicyKind, seen: Seen, order: object) -> None:
    first = recommended(edges, kind=kind, seen=seen)
    shuffled = list(edges)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    second = recommended(shuffled, kind=kind, seen=seen)
    assert [policy.manifest for policy in first.policies] == [policy.manifest for policy in second.policies]
    assert first.not_seen == second.not_seen
