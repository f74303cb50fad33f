"""Hindcast's policy engine and the engines of Cilium's releases answer the same, on random policies and probes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.peers import policy_comparison, policy_text_comparison

pytestmark = pytest.mark.peers

PROBES = 20_000
RELEASES = {"1.20": "cilium-policy", "1.19": "cilium-policy-1.19"}
TIERED = ["ClusterNetworkPolicy", "ClusterNetworkPolicy", "NetworkPolicy", "CiliumNetworkPolicy"]

DECIDED = (
    "podSelector",
    "namespaceSelector",
    "ipBlock",
    "except",
    "endPort",
    "named port",
    "fromEndpoints",
    "toEndpoints",
    "fromCIDR",
    "toCIDRSet",
    "cidrGroupRef",
    "cidrGroupSelector",
    "fromEntities",
    "toEntities",
    "toFQDNs",
    "icmps",
    "http",
    "dns",
)
"""Constructs that must have decided a verdict in a run, so that one which is never tried is seen."""


SEED = 20261129


@pytest.mark.parametrize("release", list(RELEASES))
def test_ciliums_own_engine_agrees_on_random_probes(
    release: str, built: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    program = built(RELEASES[release])
    report = policy_comparison.run(program, release, PROBES, SEED)
    with capsys.disabled():
        print(f"\nCilium {release}: {report.summary()}")
    assert not report.disagreements, "\n".join(one.text for one in report.disagreements)
    assert report.probes >= PROBES
    assert not [word for word in DECIDED if not report.constructs[word]]


def test_ciliums_own_engine_agrees_on_random_tiers(built: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    program = built(RELEASES["1.20"])
    report = policy_comparison.run(program, "1.20", PROBES, SEED, TIERED)
    with capsys.disabled():
        print(f"\nCilium 1.20 with tiers: {report.summary()}")
    assert not report.disagreements, "\n".join(one.text for one in report.disagreements)
    assert {"ClusterNetworkPolicy allowed by rule", "ClusterNetworkPolicy denied by rule", "networks"} <= set(report.constructs)


def test_the_engine_of_the_texts_agrees_on_random_probes(built: Callable[[str], Path], capsys: pytest.CaptureFixture[str]) -> None:
    program = built("kube-network-policies-engine")
    report = policy_text_comparison.run(program, PROBES, SEED)
    with capsys.disabled():
        print(f"\nkube-network-policies: {report.summary()}")
    assert not report.disagreements, "\n".join(one.text for one in report.disagreements)
    assert set(report.known) <= set(policy_text_comparison.KNOWN_DIFFERENCES)
    decided = {"ClusterNetworkPolicy allowed by rule", "ClusterNetworkPolicy denied by rule", "ipBlock", "named port"}
    assert decided <= set(report.constructs)
