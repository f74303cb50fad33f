"""Blueprints as files: every mistake with its line, the library that ships, the schema for editors."""

import datetime as dt
import json
from pathlib import Path
from textwrap import dedent

import jsonschema
import pytest
import yaml

from pipelines.blueprints import model
from pipelines.blueprints.checking import check
from pipelines.blueprints.templates import all_templates
from warehouse import config
from warehouse.access.ownership import grants_of
from warehouse.errors import ConfigError

ROOT = Path(__file__).parents[3]
LIBRARY = ROOT / "pipelines" / "blueprints" / "library"
NOW = dt.datetime(2026, 6, 1, tzinfo=dt.UTC)
HEAD = "blueprint: v1\nname: base\nversion: 1.0.0\nclusters: {}\n"
CLUSTERS = (config.Cluster(name="prod-1", labels={"env": "prod"}), config.Cluster(name="lab"))


def written(folder: Path, text: str, name: str = "b.yaml") -> Path:
    file = folder / name
    file.write_text(dedent(text))
    return file


def mistakes_of(folder: Path, text: str) -> list[str]:
    file = written(folder, text)
    with pytest.raises(ConfigError) as error:
        model.load([file])
    return [line.removeprefix(f"{folder}/") for line in str(error.value).splitlines()]


@pytest.mark.parametrize(
    ("text", "mistake"),
    [
        ("cilium: {versoin: '>1'}", "b.yaml:5: cilium.versoin: unknown key; did you mean 'version'?"),
        ("cilium: {version: 1.x}", "b.yaml:5: cilium.version: '1.x' is not a version range"),
        ("drift: revrt", "b.yaml:5: drift: Input should be 'notify', 'block' or 'revert' (got 'revrt')"),
        ("drift: block", "b.yaml:1: drift: block and block.accounts must be set together"),
        (
            "cluster_policies:\n- template: deny-cloud-metdata",
            "b.yaml:6: cluster_policies.0: unknown template 'deny-cloud-metdata'; did you mean 'deny-cloud-metadata'?",
        ),
        ("cluster_policies:\n- template: allow-dns", "b.yaml:6: cluster_policies.0: unknown template 'allow-dns'; known here: "),
        ("namespaces:\n- policies:\n  - {name: x}", "b.yaml:7: namespaces.0.policies.0: the key 'template' is missing"),
        (
            "namespaces:\n- policies:\n  - template: allow-dns\n    prot: 53",
            "b.yaml:8: namespaces.0.policies.0.prot: unknown key; did you mean 'port'?",
        ),
        (
            "namespaces:\n- policies:\n  - template: allow-to-cidrs\n    cidrs:\n    - 10.0.0.0/8\n    - 10.0.0.1/8",
            "b.yaml:10: namespaces.0.policies.0.cidrs.1: '10.0.0.1/8' is not a CIDR",
        ),
        (
            "namespaces:\n- policies:\n  - template: manifest\n    object: {kind: Secret}",
            "b.yaml:7: namespaces.0.policies.0: kind 'Secret' is not allowed here",
        ),
        ("namespaces:\n- select: {}", "b.yaml:6: namespaces.0: has neither policies nor locked: true"),
        (
            "namespaces:\n- policies: [{template: allow-dns}, {template: allow-dns}]",
            "b.yaml:1: namespaces.0.policies: two entries make the NetworkPolicy 'BLUEPRINT-allow-dns'",
        ),
        (
            "exceptions:\n- {namespace: a, policies: [x], granted_by: ada, reason: r, expires: soon}",
            "b.yaml:6: exceptions.0.expires: 'soon' is neither a date",
        ),
        ("exceptions:\n- {namespace: a, policies: [x], granted_by: ada, reason: r}", "b.yaml:6: exceptions.0.expires: Field required"),
        ("name: other", "b.yaml:5: the key 'name' is given twice"),
        ("drift: [", "b.yaml:5: not valid YAML"),
    ],
)
def test_each_mistake_is_reported_with_its_file_and_line(tmp_path: Path, text: str, mistake: str) -> None:
    assert mistakes_of(tmp_path, HEAD + text)[0].startswith(mistake)


def test_all_mistakes_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    written(tmp_path, HEAD + "x: 1\ny: 2", "one.yaml")
    written(tmp_path, "- a list", "two.yaml")
    with pytest.raises(ConfigError) as error:
        model.load([tmp_path / "*.yaml", tmp_path / "none.yaml"])
    assert [line.removeprefix(f"{tmp_path}/").split(": ")[0] for line in str(error.value).splitlines()] == [
        "one.yaml:5",
        "one.yaml:6",
        "two.yaml:1",
        f"{tmp_path}/none.yaml".removeprefix(f"{tmp_path}/"),
    ]


def test_two_files_with_one_name_are_refused(tmp_path: Path) -> None:
    written(tmp_path, HEAD, "one.yaml")
    written(tmp_path, HEAD, "two.yaml")
    with pytest.raises(ConfigError, match=r"two.yaml:2: the name 'base' is also used by .*one.yaml"):
        model.load([tmp_path / "*.yaml"])


def test_a_cluster_that_the_configuration_does_not_have_is_a_mistake_with_its_line(tmp_path: Path) -> None:
    text = HEAD.replace("clusters: {}", "clusters:\n  names: [lab, prod-9]") + "canary: [nowhere]"
    found = check(model.load([written(tmp_path, text)]), CLUSTERS, (), now=NOW)
    assert [mistake.removeprefix(f"{tmp_path}/") for mistake in found.mistakes] == [
        "b.yaml:5: no cluster of the configuration is named 'prod-9'; there are: prod-1, lab",
        "b.yaml:6: no cluster of the configuration is named 'nowhere'; there are: prod-1, lab",
    ]


def test_only_owners_grant_exceptions_and_expired_ones_are_warned_of(tmp_path: Path) -> None:
    exceptions = """exceptions:
- {namespace: shop, policies: ["*"], granted_by: "group:shop", reason: r, expires: 2026-12-31}
- {namespace: pay, policies: ["*"], granted_by: "group:shop", reason: r, expires: 2026-12-31}
- {namespace: "shop*", policies: ["*"], granted_by: "group:shop", reason: r, expires: 2026-12-31}
- {namespace: "*", policies: ["*"], granted_by: root, reason: r, expires: 2026-05-31}
"""
    ownership = config.Ownership(
        grants=(
            config.Grant(subject="group:shop", role="namespace-owner", namespaces=("shop",)),
            config.Grant(subject="root", role="platform-admin"),
            config.Grant(subject="eve", role="auditor"),
        )
    )
    found = check(model.load([written(tmp_path, HEAD + exceptions)]), CLUSTERS, grants_of(ownership), now=NOW)
    assert [mistake.removeprefix(f"{tmp_path}/").split(": ")[0] for mistake in found.mistakes] == ["b.yaml:7", "b.yaml:8"]
    assert [warning.removeprefix(f"{tmp_path}/").split(": ")[0] for warning in found.warnings] == ["b.yaml:9"]
    found = check(model.load([tmp_path / "b.yaml"]), CLUSTERS, grants_of(ownership), grants_are_whole=False, now=NOW)
    assert not found.mistakes
    assert len(found.warnings) == 3


def test_two_blueprints_that_disagree_are_refused_and_both_named(tmp_path: Path) -> None:
    written(tmp_path, HEAD + "cilium: {settings: {enable-policy: default}}", "one.yaml")
    written(tmp_path, HEAD.replace("base", "strict") + "cilium: {settings: {enable-policy: always}}", "two.yaml")
    found = check(model.load([tmp_path / "*.yaml"]), CLUSTERS, (), now=NOW)
    assert len(found.mistakes) == 2
    for part in ("prod-1", "base", "one.yaml", "strict", "two.yaml", "enable-policy", "'default'", "'always'"):
        assert part in found.mistakes[0]


def test_settings_may_be_written_as_yaml_values_and_are_text(tmp_path: Path) -> None:
    (file,) = model.load([written(tmp_path, HEAD + "cilium: {settings: {policy-audit-mode: false, cluster-id: 1}}")])
    assert file.blueprint.cilium.settings == {"policy-audit-mode": "false", "cluster-id": "1"}


def test_a_date_means_until_its_end(tmp_path: Path) -> None:
    text = HEAD + "exceptions:\n- {namespace: a, policies: [x], granted_by: ada, reason: r, expires: 2026-06-01}"
    (file,) = model.load([written(tmp_path, text)])
    (waiver,) = file.blueprint.exceptions
    assert waiver.covers("c", "a", ["x"], now=dt.datetime(2026, 6, 1, 23, 59, tzinfo=dt.UTC))
    assert not waiver.covers("c", "a", ["x"], now=dt.datetime(2026, 6, 2, tzinfo=dt.UTC))


def test_the_published_schema_is_the_models_and_takes_the_library(tmp_path: Path) -> None:
    published = json.loads((ROOT / "docs" / "blueprint.schema.json").read_text())
    assert published == json.loads(json.dumps(model.json_schema())), "run `make docs`"
    for file in LIBRARY.glob("*.yaml"):
        jsonschema.validate(yaml.safe_load(file.read_text()), published)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(HEAD + "drfit: notify"), published)


def test_every_ready_blueprint_is_valid_and_says_what_it_protects_from() -> None:
    files = model.load([LIBRARY / "*.yaml"])
    assert {file.blueprint.name for file in files} == {"baseline", "restricted", "pci-like"}
    for file in files:
        text = file.source.read_text()
        assert "Protects from" in text
        assert "Does not protect from" in text


def test_every_template_is_in_the_page_and_says_what_it_is_for() -> None:
    page = (ROOT / "docs" / "blueprints.md").read_text()
    for name, template in all_templates().items():
        assert f"| `{name}` |" in page
        assert template.__doc__
