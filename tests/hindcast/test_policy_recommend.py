"""`hindcast policy recommend` on a lake with a simulated cluster's traffic, as people run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.policy.documents import read_documents
from pipelines.policy.policy_set import compile_policies


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, record_minutes: Any) -> Path:
    """A configuration and a lake with the traffic of the last minutes."""
    folder = tmp_path_factory.mktemp("recommend")
    grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]}]
    (folder / "hindcast.yaml").write_text(json.dumps({"ownership": {"grants": grants}}))
    record_minutes(folder, "eu-central", 3000)
    return folder


@pytest.fixture(scope="module")
def run(run_policy: Any) -> Any:
    """Runs the command in a folder."""
    return lambda folder, *arguments: run_policy(folder, "recommend", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name either a NAMESPACE or --workload"),
        (["payments", "--workload", "payments/x"], "name either a NAMESPACE or --workload"),
        (["--workload", "payments"], "--workload: 'payments' is not written as NAMESPACE/NAME"),
        (["nowhere"], "no traffic of a namespace 'nowhere'"),
        (["payments", "--cluster", "c9"], "no traffic of a namespace 'payments' was recorded in c9"),
        (["payments", "--since", "soon"], "--since: 'soon'"),
        (["payments", "--merge", "x.yaml", "--output", "json"], "--merge writes YAML"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_do(run: Any, arguments: list[str], words: str, folder: Path) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_the_policies_are_printed_with_their_evidence_and_their_simulation(run: Any, folder: Path) -> None:
    done = run(folder, "payments")
    assert done.returncode == 0
    assert "0 newly denied" in done.stdout
    assert "daily and weekly and monthly jobs may not have run" in done.stdout
    names = [one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout) if one]
    assert "payments-api-recommended" in names
    assert not compile_policies(read_documents(done.stdout, "stdout")).refusals
    assert run(folder, "payments", "--until", "1m").stdout.count("kind: CiliumNetworkPolicy") == len(names)


def test_json_has_every_rule_with_its_flows(run: Any, folder: Path) -> None:
    done = run(folder, "--workload", "payments/payments-api", "--kind", "kubernetes", "--output", "json")
    data = json.loads(done.stdout)
    assert data["cluster"] == "eu-central"
    assert [policy["manifest"]["kind"] for policy in data["policies"]] == ["NetworkPolicy"]
    assert all(rule["flows"] > 0 for policy in data["policies"] for rule in policy["rules"])
    assert data["simulation"]["newly_denied"] == []


def test_a_merge_writes_the_file_and_a_second_one_leaves_it(run: Any, folder: Path) -> None:
    file = folder / "shop.yaml"
    file.write_text("# ours\nkind: ConfigMap\napiVersion: v1\nmetadata: {name: x}\n")
    first = run(folder, "payments", "--until", "1m", "--merge", "shop.yaml")
    assert first.returncode == 0
    assert "shop.yaml: added CiliumNetworkPolicy payments/payments-api-recommended" in first.stderr
    text = file.read_text()
    assert text.startswith("# ours\n")
    second = run(folder, "payments", "--until", "1m", "--merge", "shop.yaml")
    assert file.read_text() == text
    assert "nothing was added" in second.stderr


def test_an_owner_gets_no_labels_of_peers_that_are_not_hers(run: Any, folder: Path) -> None:
    mine, all_of_it = run(folder, "payments", "--as", "paula"), run(folder, "payments")
    assert mine.returncode == 0
    assert "app.kubernetes.io/name: coredns" in all_of_it.stdout
    assert "app.kubernetes.io/name: coredns" not in mine.stdout
    assert "k8s:io.kubernetes.pod.namespace: kube-system" in mine.stdout
    assert run(folder, "payments", "--as", "eve").returncode == 1


def test_a_namespace_that_is_only_a_peer_of_hers_gets_no_recommendation(run: Any, folder: Path) -> None:
    done = run(folder, "kube-system", "--as", "paula")
    assert done.returncode == 1
    assert "policies of namespace kube-system cannot be recommended: it is not yours" in done.stderr
    assert done.stdout == ""
