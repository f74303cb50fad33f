"""A policy that is edited for many clusters becomes a change of a blueprint's file, which stays as it is written otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints import model
from pipelines.central import editing
from pipelines.central.editing import Edit, Edited
from pipelines.objects.names import Key
from warehouse import config
from warehouse.errors import ConfigError

FILE = """\
# The platform's own.
blueprint: v1
name: base
version: 1.2.9   # raise it
clusters: {names: [c1, c2]}
cluster_policies:
  - template: deny-cloud-metadata   # nobody needs it

  # Before anything else.
  - {template: dns-visibility, exclude_namespaces: [build]}
namespaces:
  - select: {names: ["shop", "cart"]}
    policies:
      # Closed first.
      - template: default-deny-ingress
      - template: manifest
        object:
          apiVersion: networking.k8s.io/v1
          kind: NetworkPolicy
          metadata: {name: web}
          spec:
            podSelector: {matchLabels: {app: web}}   # the shop's window
            ingress: []
# The end.
"""
CLUSTERS = [config.Cluster(name=name) for name in ("c1", "c2", "c3")]


def manifest(name: str = "web", namespace: str = "shop", port: int = 80, **labels: str) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": name, "namespace": namespace, "labels": labels, "resourceVersion": "7"},
            "spec": {"podSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"ports": [{"port": port}]}]},
        }
    )


def change(text: str, *, blueprint: str = "base", clusters: tuple[str, ...] = ("c1", "c2"), file: str = FILE, **more: Any) -> Edited:
    files = [model.parse(file, Path("base.yaml"))]
    edit = Edit(text=text, blueprint=blueprint, clusters=clusters, **more)
    return editing.edited(edit, files, CLUSTERS, folder=Path("blueprints"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "one policy is edited at a time, and this holds 0"),
        (manifest() + "---\n" + manifest("other"), "this holds 2"),
        ("kind: Pod\nmetadata: {name: a}\n", "an object of kind 'Pod' cannot be in a blueprint"),
        ("kind: NetworkPolicy\nspec: {}\n", "metadata.name is missing"),
        ("template: default-dney\n", "there is no template 'default-dney'"),
        ("template: default-deny-ingress\nports: [80]\n", "base.yaml:16: namespaces.0.policies.0.ports: unknown key"),
        (": [", "policy:1"),
    ],
)
def test_a_text_that_is_no_policy_of_a_blueprint_is_refused_by_line_and_reason(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        change(text, replaces=Key("NetworkPolicy", "shop", "base-default-deny-ingress") if "ports" in text else None)
    assert said in str(refused.value)


def test_clusters_that_the_blueprint_is_not_for_are_refused_and_those_left_are_named() -> None:
    with pytest.raises(ConfigError, match="blueprint base is not for c3; it is for c1, c2"):
        change(manifest(), clusters=("c1", "c3"))
    with pytest.raises(ConfigError, match="choose at least one cluster, and a blueprint"):
        change(manifest(), clusters=())
    assert change(manifest(), clusters=("c1",)).left == ("c2",)


def test_an_edited_manifest_replaces_its_entry_and_the_rest_of_the_file_stays_as_it_is_written() -> None:
    changed = change(manifest(port=81))
    assert changed.file.blueprint.version == "1.2.10"
    entry = yaml.safe_load(changed.text)["namespaces"][0]["policies"][1]
    assert entry["object"]["spec"]["ingress"] == [{"ports": [{"port": 81}]}]
    assert "namespace" not in entry["object"]["metadata"]
    head, mark = FILE.replace("1.2.9", "1.2.10"), "- template: manifest"
    assert changed.text.partition(mark)[0] == head.partition(mark)[0]
    for comment in ("# The platform's own.", "# raise it", "# nobody needs it", "# Before anything else.", "# Closed first.", "# The end."):
        assert comment in changed.text


def test_what_a_template_makes_is_edited_as_the_entry_and_what_is_written_out_as_the_object() -> None:
    files = [model.parse(FILE, Path("base.yaml"))]
    made: dict[str, Any] = yaml.safe_load(manifest("base-default-deny-ingress", **{editing.BLUEPRINT_LABEL: "base"}))
    assert editing.text_of(made, files) == ("template: default-deny-ingress\n", "base")
    written, blueprint = editing.text_of(yaml.safe_load(manifest(**{editing.BLUEPRINT_LABEL: "base", "team": "shop"})), files)
    assert blueprint == "base"
    assert yaml.safe_load(written)["metadata"] == {"name": "web", "namespace": "shop", "labels": {"team": "shop"}}
    assert editing.text_of(yaml.safe_load(manifest("own")), files)[1] is None

    text = "template: default-deny-ingress\npods: {matchLabels: {tier: front}}\n"
    changed = change(text, replaces=Key("NetworkPolicy", "shop", "base-default-deny-ingress"))
    assert yaml.safe_load(changed.text)["namespaces"][0]["policies"][0] == yaml.safe_load(text)


def test_an_entry_in_flow_style_is_changed_in_place_too() -> None:
    changed = change("template: dns-visibility\nexclude_namespaces: [build, lab]\n")
    assert yaml.safe_load(changed.text)["cluster_policies"][1]["exclude_namespaces"] == ["build", "lab"]
    assert "# nobody needs it" in changed.text


def test_a_policy_that_the_blueprint_has_not_becomes_an_entry_for_its_namespace_alone() -> None:
    changed = change(manifest("web", "pay"))  # `web` is another namespaces' entry
    rules = yaml.safe_load(changed.text)["namespaces"]
    assert rules[0] == yaml.safe_load(FILE)["namespaces"][0]
    assert (rules[1]["select"], rules[1]["policies"][0]["object"]["metadata"]) == ({"names": ["pay"]}, {"name": "web"})
    assert "# The end." in changed.text
    again = change(manifest("api", "pay"), file=changed.text)
    assert [len(rule["policies"]) for rule in yaml.safe_load(again.text)["namespaces"]] == [2, 2]
    assert change(manifest("dns", "kube-system")).file.blueprint.namespaces[1].selects("kube-system", {})


def test_a_new_blueprint_is_for_the_chosen_clusters_alone() -> None:
    changed = change(manifest(), blueprint="shop-web", clusters=("c3", "c1"), canary=("c3",))
    assert changed.before == ""
    assert changed.file.source == Path("blueprints/shop-web.yaml")
    value = yaml.safe_load(changed.text)
    assert (value["clusters"], value["canary"], value["version"]) == ({"names": ["c1", "c3"]}, ["c3"], "1.0.0")
    whole = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "all"}, "spec": {}}
    assert change(yaml.safe_dump(whole), blueprint="wide").file.blueprint.cluster_policies


def test_an_edit_that_changes_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="nothing would change"):
        change("template: default-deny-ingress\n", replaces=Key("NetworkPolicy", "shop", "base-default-deny-ingress"))


def test_a_name_that_several_entries_make_is_changed_in_the_file_itself() -> None:
    twice = FILE.replace("# The end.", "  - policies: [{template: default-deny-ingress}]")
    with pytest.raises(ConfigError, match="makes base-default-deny-ingress by several entries"):
        change("template: default-deny-ingress\nname: x\n", file=twice, replaces=Key("NetworkPolicy", "shop", "base-default-deny-ingress"))


def test_a_file_that_cannot_be_changed_in_place_is_written_anew_with_the_same_meaning() -> None:
    aliased = "blueprint: v1\nname: base\nversion: 1.2.9\nclusters: {}\nnamespaces: &all\n- policies: &p [{template: default-deny}]\n"
    changed = change(manifest("web", "pay"), file=aliased)
    assert yaml.safe_load(changed.text)["namespaces"][0] == {"policies": [{"template": "default-deny"}]}
