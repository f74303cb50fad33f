"""Recommended policies are taken by a real API server and by Cilium's own agent code, which allow the traffic they were made from."""

from __future__ import annotations

import importlib.util
import json
import sys
import urllib.error
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.policy.labels import LabelSet
from pipelines.policy.settings import AgentSettings, release_of
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.observed import End, ObservedEdge
from pipelines.recommend.recommendation import Recommendation
from tests.peers import policy_comparison

pytestmark = pytest.mark.peers

BUILDERS = Path(__file__).resolve().parents[1] / "pipelines" / "recommend"
PROTOCOLS = {"TCP": 6, "UDP": 17, "SCTP": 132, "ICMPv4": 1, "ICMPv6": 58}
WORLD_SCOPE = 1 << 24
"""Identities of addresses outside of the cluster have this bit."""
PATHS = {
    PolicyKind.CILIUM: "/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies?dryRun=All",
    PolicyKind.KUBERNETES: "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies?dryRun=All",
}
ANY = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def load(name: str) -> ModuleType:
    """A builder of the recommender's tests, under the name by which the others import it."""
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, BUILDERS / f"{name}.py")
        assert spec is not None
        assert spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


builders = load("traffic")
random_traffic = load("random_traffic")
TRAFFIC = st.lists(random_traffic.edges(), min_size=8, max_size=25)
KINDS = st.sampled_from(list(PolicyKind))


@ANY
@given(edges=TRAFFIC, kind=KINDS)
def test_the_api_server_takes_every_recommended_policy(clusters: dict[str, Any], edges: list[ObservedEdge], kind: PolicyKind) -> None:
    for policy in builders.recommended(edges, kind=kind).policies:
        manifest = json.loads(json.dumps(policy.manifest))
        manifest["metadata"]["namespace"] = "default"
        try:
            clusters["one"].request("POST", PATHS[kind], manifest)
        except urllib.error.HTTPError as error:
            pytest.fail(f"{json.load(error)['message']}: {json.dumps(manifest)}")


@pytest.mark.parametrize("release", ["1.20", "1.19"])
def test_ciliums_own_engine_takes_the_policies_and_allows_the_traffic(release: str, built: Callable[[str], Path]) -> None:
    program = built("cilium-policy" if release == "1.20" else "cilium-policy-1.19")
    agent = AgentSettings(release=release_of(release))
    judged = 0
    with policy_comparison.Oracle(program) as oracle:

        @ANY
        @given(edges=TRAFFIC, kind=KINDS)
        def try_one(edges: list[ObservedEdge], kind: PolicyKind) -> None:
            nonlocal judged
            found = builders.recommended(edges, kind=kind, settings=agent)
            question = Question(found)
            if not found.policies:
                return
            answer = oracle.ask(question.value(agent))
            assert not answer["refused"], answer["refused"]
            for (edge, direction), theirs in zip(question.asked, answer["verdicts"], strict=True):
                assert not theirs.get("error"), theirs["error"]
                assert theirs["allowed"], f"{edge.text} {direction}: {json.dumps([one.manifest for one in found.policies])}"
                judged += 1

        try_one()
    assert judged > 100


class Question:
    """What the oracle is asked: the policies, and every edge of their evidence whose ends are known."""

    def __init__(self, found: Recommendation) -> None:
        self._found = found
        self._ends: dict[tuple[LabelSet, str, tuple[str, ...]], int] = {}
        self.asked = list(self._known())

    def _known(self) -> Iterator[tuple[ObservedEdge, str]]:
        uncertain = {(id(one.edge), one.direction) for one in self._found.check.uncertain}
        for rule in (rule for policy in self._found.policies for rule in policy.rules):
            for edge in rule.draft.evidence.edges:
                if (id(edge), rule.direction) not in uncertain and edge.peer(rule.direction).labels is not None:
                    yield edge, rule.direction.value

    def _number(self, end: End) -> int:
        side = end.side
        assert side.seen_as is not None
        outside = side.seen_as.is_world
        address = str(side.address or ("203.0.113.250" if not side.networks else side.networks[0][1])) if outside else ""
        names = tuple(name.rstrip(".").lower() for name in side.names or ())
        labels = side.seen_as
        if outside:  # in a cluster with both families, which the oracle is told of, the two worlds have labels of their own
            parsed = ip_address(address)
            text = address.replace(":", "-")
            cidr = f"cidr:{text}{'0' * text.endswith('-')}/{parsed.max_prefixlen}"
            others = (text for text in labels.texts if not text.startswith("reserved:world"))
            labels = LabelSet([cidr, f"reserved:world-ipv{parsed.version}", *others])
        return self._ends.setdefault((labels, address, names), (WORLD_SCOPE if outside else 0) | (1000 + len(self._ends)))

    def value(self, agent: AgentSettings) -> dict[str, Any]:
        """The question."""
        probes = []
        for edge, direction in self.asked:
            source, destination = self._number(edge.source), self._number(edge.destination)
            subject, peer = (destination, source) if direction == "ingress" else (source, destination)
            number = edge.icmp_type if edge.protocol.startswith("ICMP") else edge.port
            probe = {"subject": subject, "peer": peer, "ingress": direction == "ingress", "protocol": PROTOCOLS[edge.protocol]}
            probes.append({**probe, "port": number})
        identities = [
            {"id": number, "labels": list(labels.texts), "address": address, "names": list(names), "named_ports": []}
            for (labels, address, names), number in self._ends.items()
        ]
        options = {"policy_mode": "default", "cidr_match_mode": [], "allow_localhost": True, "host_firewall": True, "node_selectors": False}
        return {
            "cluster_name": "default",
            "any_cluster": agent.local_cluster is None,
            "settings": {**options, "ipv4": True, "ipv6": True},
            "policies": [policy.manifest for policy in self._found.policies],
            "groups": [],
            "identities": identities,
            "probes": probes,
        }
