"""`hindcast blueprint` on files: validate, compare, the library; what works without any cluster."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from hindcast.cli import app
from warehouse.errors import ConfigError, HindcastError

PAIRS = Path(__file__).parents[1] / "data" / "drift_pairs.json"
NETWORK_POLICY = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "a"}}
BLUEPRINT = {"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test runs in a folder of its own, without a configuration."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HINDCAST_CONFIG", raising=False)
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit code, standard output, and what is told beside it."""
    done = CliRunner().invoke(app, ["blueprint", *arguments])
    if isinstance(done.exception, HindcastError):
        return done.exception.exit_code, done.stdout, str(done.exception)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
    return done.exit_code, done.stdout, done.stderr


def pairs(folder: Path, document: Any) -> str:
    file = folder / "pairs.json"
    file.write_text(json.dumps(document))
    return str(file)


def policy(**spec: Any) -> dict[str, Any]:
    return {**NETWORK_POLICY, "spec": {"podSelector": {}, **spec}}


def judged(*arguments: str) -> tuple[int, dict[str, tuple[str, list[str]]], str]:
    code, out, told = run("compare", *arguments, "--output", "json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert all(set(row) == {"id", "verdict", "paths"} for row in rows)
    return code, {row["id"]: (row["verdict"], row["paths"]) for row in rows}, told


def test_the_pairs_of_a_real_api_server_come_out_as_expected() -> None:
    code, rows, _ = judged(str(PAIRS))
    assert code == 0
    assert len(rows) == 69
    assert sum(verdict == "drift" for verdict, _ in rows.values()) == 7


def test_pairs_without_an_expected_verdict_are_judged_and_drift_is_a_finding(folder: Path) -> None:
    both = ["Ingress", "Egress"]
    document = [
        {"id": "same", "applied": policy(), "live": policy(policyTypes=["Ingress"])},
        {"id": "moved", "applied": policy(policyTypes=both), "live": policy(policyTypes=both[::-1])},
    ]
    code, rows, _ = judged(pairs(folder, document))
    assert (code, rows) == (0, {"same": ("equal", []), "moved": ("order-only", ["spec.policyTypes"])})
    document.append({"id": "gone", "applied": policy(), "live": None})  # type: ignore[dict-item]
    code, rows, _ = judged(pairs(folder, document))
    assert (code, rows["gone"]) == (1, ("drift", ["$"]))


def test_a_verdict_that_is_not_the_expected_one_is_reported(folder: Path) -> None:
    code, _, told = judged(pairs(folder, {"pairs": [{"id": "x", "drift": True, "applied": policy(), "live": policy()}]}))
    assert code == 1
    assert "x: equal, expected drift" in told


def test_a_malformed_pair_is_reported_with_its_place_and_the_rest_is_judged(folder: Path) -> None:
    document = {"pairs": [{"id": "bad", "live": []}, 7, {"id": "good", "applied": policy(), "live": policy()}]}
    code, rows, told = judged(pairs(folder, document))
    assert code == 1
    assert list(rows) == ["good"]
    assert "pairs.json: pairs[0]: is not an object with applied and live" in told
    assert "pairs.json: pairs[1]" in told


@pytest.mark.parametrize("text", ["{", "7", "{}", '{"pairs": []}'])
def test_a_file_that_holds_no_pairs_is_refused(folder: Path, text: str) -> None:
    (folder / "pairs.json").write_text(text)
    code, out, told = run("compare", "pairs.json")
    assert (code, out) == (2, "")
    assert told.startswith("pairs.json: ")


def test_a_blueprint_is_validated_without_a_configuration(folder: Path) -> None:
    (folder / "base.yaml").write_text(yaml.safe_dump(BLUEPRINT))
    code, out, told = run("validate", "base.yaml")
    assert (code, out) == (0, "base.yaml: base 1.0.0 is valid\n")
    assert "no configuration" in told
    (folder / "base.yaml").write_text(yaml.safe_dump(BLUEPRINT | {"drift": "nope"}))
    code, _, told = run("validate", "base.yaml")
    assert code == 2
    assert told.startswith("base.yaml:3: drift: ")


def test_with_a_configuration_its_files_and_clusters_are_checked(folder: Path) -> None:
    (folder / "base.yaml").write_text(yaml.safe_dump(BLUEPRINT | {"clusters": {"names": ["lba"]}}))
    (folder / "hindcast.yaml").write_text(yaml.safe_dump({"blueprints": ["*.yml", "base.yaml"], "clusters": [{"name": "lab"}]}))
    code, _, told = run("validate")
    assert code == 2
    assert "*.yml: there is no such file" in told
    (folder / "hindcast.yaml").write_text(yaml.safe_dump({"blueprints": ["base.yaml"], "clusters": [{"name": "lab"}]}))
    code, _, told = run("validate")
    assert code == 2
    assert "no cluster of the configuration is named 'lba'; there are: lab" in told


def test_without_any_blueprint_the_library_is_pointed_to(folder: Path) -> None:
    (folder / "hindcast.yaml").write_text("{}")
    code, _, told = run("validate")
    assert code == 2
    assert "hindcast blueprint library" in told


def test_the_library_prints_blueprints_that_are_valid(folder: Path) -> None:
    _, listed, _ = run("library")
    names = [line.split()[0] for line in listed.splitlines()]
    assert names == ["baseline", "pci-like", "restricted"]
    for name in names:
        (folder / f"{name}.yaml").write_text(run("library", name)[1])
    assert run("validate", "*.yaml")[0] == 0
    code, _, told = run("library", "none")
    assert (code, "baseline" in told) == (2, True)


def test_templates_and_the_schema_are_printed() -> None:
    rows = [json.loads(line) for line in run("templates", "--output", "json")[1].splitlines()]
    assert {"template": "default-deny", "scope": "namespace"}.items() <= rows[2].items()
    assert json.loads(run("schema")[1])["title"] == "Hindcast blueprint"


def test_a_cluster_that_is_a_folder_of_manifests_cannot_be_published_to(folder: Path) -> None:
    (folder / "base.yaml").write_text(yaml.safe_dump(BLUEPRINT))
    cluster = {"name": "lab", "kubernetes": {"manifests": "objects"}}
    (folder / "hindcast.yaml").write_text(yaml.safe_dump({"blueprints": ["base.yaml"], "clusters": [cluster]}))
    code, _, told = run("plan")
    assert (code, "for them: lab" in told) == (0, True)
    code, _, told = run("publish", "--cluster", "lab", "--yes")
    assert (code, "has no API server" in told) == (2, True)


def test_errors_are_ours() -> None:
    assert issubclass(ConfigError, HindcastError)
    for command in ("drift", "matrix", "plan", "publish", "revert"):
        code, _, told = run(command)
        assert (code, "hindcast.yaml: there is no such file" in told) == (2, True)
