"""Cases as people write them are judged, and what is wrong with a file is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from hindcast.policy import policy
from hindcast.policy_results import as_sarif
from pipelines.policy.cases import Case, CaseFile, run_file
from pipelines.policy.documents import read_values
from pipelines.policy.settings import AgentSettings
from warehouse.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
EXAMPLE = ROOT / "docs" / "examples" / "policy-cases.yaml"
TOPOLOGY = """
topology:
  pods:
    - {namespace: shop, name: web, labels: {app: web}}
    - {namespace: shop, name: db, labels: {app: db}}
"""
DENY = """
policies:
  - {kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, spec: {podSelector: {}}}
"""


def run(text: str) -> list[Case]:
    (value, lines), *_ = read_values(text, "cases.yaml")
    return list(run_file(CaseFile(value, lines, "cases.yaml"), AgentSettings()))


def test_a_probe_that_says_nothing_of_what_is_expected_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"cases.yaml:8: cases\[0\].probes\[0\]: must say what is expected"):
        run(TOPOLOGY + "cases:\n  - probes:\n      - {src: {pod: shop/web}, dst: {pod: shop/db}, port: 80}\n")


def test_a_pod_that_the_topology_does_not_have_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"cases.yaml:7: probes\[0\].src.pod: the topology has no pod 'shop/wbe'"):
        run(TOPOLOGY + "probes:\n  - {src: {pod: shop/wbe}, dst: {pod: shop/db}, port: 80, expected: denied}\n")


def test_an_entity_that_does_not_exist_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"cases.yaml:7: probes\[0\].src.entity: 'moon' is not one of"):
        run(TOPOLOGY + "probes:\n  - {src: {entity: moon}, dst: {pod: shop/db}, port: 80, expected: denied}\n")


def test_a_file_without_any_probe_is_an_error_and_never_a_success(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text("cases: []\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="there is no probe"):
        CliRunner().invoke(policy, ["test", str(cases)], catch_exceptions=False)


def test_a_file_without_cases_is_refused() -> None:
    with pytest.raises(ConfigError, match="must be a list of test cases"):
        run("kind: NetworkPolicy\nmetadata: {name: deny}\n")


def test_a_key_written_twice_is_refused_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"cases.yaml:2: the key probes is given twice"):
        run("probes: []\nprobes: []\n")


def test_a_refused_policy_that_the_case_does_not_list_is_named_with_who_refuses_it() -> None:
    (case,) = run(
        TOPOLOGY
        + "policies:\n  - {kind: CiliumNetworkPolicy, metadata: {name: bad, namespace: shop}, spec: {endpointSelector: {}, ingress: []}}\n"
        + "probes:\n  - {src: {pod: shop/web}, dst: {pod: shop/db}, port: 80, expected: allowed}\n"
    )
    assert case.results[0].passed
    (refusal,) = case.unexpected_refusals
    assert refusal.startswith("cases.yaml:7: CiliumNetworkPolicy shop/bad would be refused by the Cilium agent: spec: ")


def test_the_deciding_rule_has_its_path_and_line() -> None:
    (case,) = run(TOPOLOGY + DENY + "probes:\n  - {src: {pod: shop/web}, dst: {pod: shop/db}, port: 80, expected: denied}\n")
    (rule,) = case.results[0].answer.rules
    assert (rule.kind, rule.namespace, rule.name, rule.direction, rule.path, rule.line) == (
        "NetworkPolicy",
        "shop",
        "deny",
        "ingress",
        "spec",
        8,
    )


def test_labels_of_a_flow_stand_in_for_a_pod_that_the_topology_does_not_have() -> None:
    labels = "[k8s:app=db, k8s:io.kubernetes.pod.namespace=shop]"
    (case,) = run(
        TOPOLOGY
        + DENY
        + f"probes:\n  - {{src: {{pod: shop/web}}, dst: {{pod: shop/gone}}, dst_labels: {labels}, port: 80, expected: denied}}\n"
    )
    assert case.results[0].passed


def test_a_mismatch_exits_with_1_and_is_written_as_junit(tmp_path: Path) -> None:
    cases = tmp_path / "cases.yaml"
    cases.write_text(TOPOLOGY + "probes:\n  - {src: {pod: shop/web}, dst: {pod: shop/db}, port: 80, expected: denied}\n", encoding="utf-8")
    results = tmp_path / "results.xml"
    ran = CliRunner().invoke(policy, ["test", str(cases), "--output", "junit", "--file", str(results)])
    assert ran.exit_code == 1
    suite = ElementTree.fromstring(results.read_text(encoding="utf-8")).find("testsuite")  # noqa: S314 - written just now
    assert suite is not None
    assert suite.get("failures") == "1"


def test_sarif_names_the_line_of_each_failure() -> None:
    cases = run(TOPOLOGY + "probes:\n  - {src: {pod: shop/web}, dst: {pod: shop/db}, port: 80, expected: denied}\n")
    (finding,) = json.loads(as_sarif(cases))["runs"][0]["results"]
    assert finding["locations"][0]["physicalLocation"]["region"] == {"startLine": 7}
    assert "no policy selects shop/db for ingress" in finding["message"]["text"]


def test_the_command_writes_sarif_and_an_empty_run_where_everything_is_as_expected(tmp_path: Path) -> None:
    found = {}
    for expected in ("denied", "allowed"):
        cases = tmp_path / f"{expected}.yaml"
        text = f"probes:\n  - {{src: {{pod: shop/web}}, dst: {{pod: shop/db}}, port: 80, expected: {expected}}}\n"
        cases.write_text(TOPOLOGY + text, encoding="utf-8")
        ran = CliRunner().invoke(policy, ["test", str(cases), "--output", "sarif"])
        (run_of_it,) = json.loads(ran.stdout)["runs"]
        found[expected] = (ran.exit_code, [one["locations"][0]["physicalLocation"]["artifactLocation"] for one in run_of_it["results"]])
    assert found == {"denied": (1, [{"uri": str(tmp_path / "denied.yaml")}]), "allowed": (0, [])}


def test_policies_are_read_from_the_files_that_a_case_names(tmp_path: Path) -> None:
    (tmp_path / "policies").mkdir()
    (tmp_path / "policies" / "deny.yaml").write_text(
        "kind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec:\n  podSelector: {}\n", encoding="utf-8"
    )
    cases = tmp_path / "cases.yaml"
    cases.write_text(
        TOPOLOGY + "policy_files: [policies]\nprobes:\n  - {src: {pod: shop/web}, dst: {pod: shop/db}, port: 80, expected: denied}\n",
        encoding="utf-8",
    )
    ran = CliRunner().invoke(policy, ["test", str(cases), "--output", "json"])
    assert ran.exit_code == 0, ran.output
    row = json.loads(ran.stdout.splitlines()[0])
    assert list(row) == ["case", "probe", "ingress", "egress", "verdict", "expected", "pass", "reason", "rules"]
    assert (row["pass"], row["rules"][0]["line"]) == (True, 3)


def test_a_folder_with_templates_of_helm_and_other_files_is_read_and_they_are_counted(tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "deny.yaml").write_text("kind: NetworkPolicy\nmetadata: {name: deny, namespace: shop}\nspec: {}\n", encoding="utf-8")
    (folder / "template.yaml").write_text("{{- if .Values.deny }}\nkind: NetworkPolicy\n{{- end }}\n", encoding="utf-8")
    (folder / "values.yaml").write_text("- one\n- two\n", encoding="utf-8")
    (folder / "config.yaml").write_text("kind: ConfigMap\nmetadata: {name: x}\n", encoding="utf-8")
    cases = tmp_path / "cases.yaml"
    cases.write_text(TOPOLOGY + "probes:\n  - {src: {pod: shop/web}, dst: {pod: shop/db}, port: 80, expected: denied}\n", encoding="utf-8")
    ran = CliRunner().invoke(policy, ["test", str(cases), "--policies", str(folder)])
    assert ran.exit_code == 0, ran.output
    for text in ("1 template of Helm", "1 file without manifests", "not a policy: ConfigMap"):
        assert text in " ".join(ran.output.split())


def test_a_later_policy_of_the_same_name_replaces_the_earlier_one() -> None:
    allow = "{kind: NetworkPolicy, metadata: {name: deny, namespace: shop}, spec: {podSelector: {}, ingress: [{}]}}"
    (case,) = run(
        TOPOLOGY + DENY + f"  - {allow}\nprobes:\n  - {{src: {{pod: shop/web}}, dst: {{pod: shop/db}}, port: 80, expected: allowed}}\n"
    )
    assert case.results[0].passed


def test_the_example_of_the_documentation_passes() -> None:
    ran = CliRunner().invoke(policy, ["test", str(EXAMPLE)])
    assert ran.exit_code == 0, ran.output


def test_the_schema_names_every_field_of_the_example() -> None:
    schema = json.loads((ROOT / "docs" / "policy-cases.schema.json").read_text(encoding="utf-8"))
    (value, _), *_ = read_values(EXAMPLE.read_text(encoding="utf-8"), "example")
    assert set(value) <= set(schema["properties"])
    for case in value["cases"]:
        assert set(case) <= set(schema["$defs"]["case"]["properties"])
        for probe in case["probes"]:
            assert set(probe) <= set(schema["$defs"]["probes"]["items"]["properties"]) | set(schema["$defs"]["expectation"]["properties"])


@pytest.mark.parametrize("semantics", ["cilium", "kubernetes"])
def test_every_conformance_case_is_judged_as_expected(semantics: str) -> None:
    """114 cases with answers written by hand from the texts, and compared with three engines."""
    cases = ROOT / "tests" / "data" / "netpol_cases.json"
    ran = CliRunner().invoke(policy, ["test", str(cases), "--semantics", semantics, "--output", "json"])
    rows = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith("{")]
    assert [row for row in rows if not row["pass"]] == []
    assert (len(rows), ran.exit_code) == (959, 0)


def test_every_conformance_case_refuses_exactly_the_policies_that_the_agent_refuses() -> None:
    (value, lines), *_ = read_values((ROOT / "tests" / "data" / "netpol_cases.json").read_text(encoding="utf-8"), "netpol_cases.json")
    assert [
        case.unexpected_refusals
        for case in run_file(CaseFile(value, lines, "netpol_cases.json"), AgentSettings())
        if case.unexpected_refusals
    ] == []
