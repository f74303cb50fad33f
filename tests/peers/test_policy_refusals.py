"""A real API server, with Cilium's CRDs, refuses the policies that Hindcast says it refuses, and takes the others."""

from __future__ import annotations

import json
import urllib.error
from typing import Any

import pytest

from pipelines.policy.policy_set import compile_policies
from pipelines.policy.reading import Document
from pipelines.policy.refusals import API_SERVER
from tests.peers import policy_generator, policy_mutations

pytestmark = pytest.mark.peers

POLICIES = 1_500
SEED = 5_000
PATHS = {
    "NetworkPolicy": "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies",
    "CiliumNetworkPolicy": "/apis/cilium.io/v2/namespaces/default/ciliumnetworkpolicies",
    "CiliumClusterwideNetworkPolicy": "/apis/cilium.io/v2/ciliumclusterwidenetworkpolicies",
}


def refusal_of(cluster: Any, manifest: dict[str, Any]) -> str | None:
    """Why the API server refuses a policy; None when it would take it. Nothing is stored."""
    try:
        cluster.request("POST", f"{PATHS[manifest['kind']]}?dryRun=All", manifest)
    except urllib.error.HTTPError as error:
        if error.code not in (400, 422):
            raise
        return str(json.load(error)["message"])
    return None


def test_the_api_server_refuses_what_hindcast_says_it_refuses(
    clusters: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    refused, wrong = 0, []
    for seed in range(SEED, SEED + POLICIES):
        maker = policy_generator.Generator(seed, release=(1, 20), dual_stack=True, node_selectors=False)
        (manifest, *_) = maker.policies(list(PATHS))
        if "namespace" in manifest["metadata"]:
            manifest["metadata"]["namespace"] = "default"
        manifest = policy_mutations.mutated(manifest, seed)
        theirs = refusal_of(clusters["one"], manifest)
        refusals = compile_policies([Document(manifest)]).refusals
        refused += theirs is not None
        if (theirs and not refusals) or (not theirs and refusals and refusals[0].by == API_SERVER):
            wrong.append(f"seed {seed}: theirs: {theirs}; ours: {refusals[0] if refusals else 'taken'}\n  {json.dumps(manifest)}")
    with capsys.disabled():
        print(f"\nAPI server: {POLICIES} policies, {refused} refused, {len(wrong)} disagreements")
    assert not wrong, "\n".join(wrong[:20])
