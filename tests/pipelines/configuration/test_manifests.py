"""A folder of manifests is a source like an API server; what is wrong in it names file and line and harms nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration import looking, manifests
from warehouse import config
from warehouse.errors import ClusterError, ConfigError
from warehouse.records.configuration_coverage import coverage_at

NETPOL = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: NAME, namespace: shop}
spec: {podSelector: {}}
"""


def netpol(name: str) -> str:
    return NETPOL.replace("NAME", name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "gitops"
    made.mkdir()
    return made


def cluster(folder: Path) -> config.Cluster:
    return config.Cluster(name="c1", kubernetes=config.Kubernetes(manifests=folder))


def test_an_empty_folder_holds_nothing_and_one_that_is_not_there_is_an_error(folder: Path) -> None:
    assert manifests.read_folder(folder).objects == {}
    with pytest.raises(ConfigError, match="does not exist"):
        manifests.read_folder(folder / "nowhere")


def test_bad_yaml_names_file_and_line_and_the_other_files_count(folder: Path) -> None:
    (folder / "a.yaml").write_text(f"{netpol('first')}---\nkind: [NetworkPolicy\nmetadata: {{}}\n")
    (folder / "sub").mkdir()
    (folder / "sub" / "b.yml").write_text(netpol("second"))
    (folder / "c.json").write_bytes(b"\xff\xfe")
    found = manifests.read_folder(folder)
    assert [key[2] for key in found.objects] == ["first", "second"]
    assert [f"{each.file}:{each.line}" for each in found.mistakes] == ["a.yaml:7", "c.json:1"]


def test_an_object_that_stands_twice_names_both_places_and_is_not_recorded(folder: Path) -> None:
    (folder / "a.yaml").write_text(netpol("web") + "---\n" + netpol("other"))
    (folder / "b.yaml").write_text("\n" + netpol("web"))
    found = manifests.read_folder(folder)
    assert [key[2] for key in found.objects] == ["other"]
    (mistake,) = found.mistakes
    assert str(mistake) == "b.yaml:2: NetworkPolicy web is also defined in a.yaml:1: keep one; neither is recorded"


def test_lists_are_taken_apart_and_other_documents_are_left_alone(folder: Path) -> None:
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}, "spec": {}}
    wrong_group = {**policy, "apiVersion": "crd.projectcalico.org/v1"}
    nameless = {**policy, "metadata": None}
    (folder / "list.json").write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, wrong_group, nameless]}))
    (folder / "values.yaml").write_text("replicas: 3\n---\n---\n- a\n")
    (folder / ".hidden.yaml").write_text("{")
    (folder / ".git").mkdir()
    (folder / ".git" / "x.yaml").write_text("{")
    (folder / "README.md").write_text("{")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "aHVudGVyMg=="}}
    (folder / "secret.json").write_text(json.dumps(secret))
    found = manifests.read_folder(folder)
    assert list(found.objects) == [("NetworkPolicy", "default", "web")]
    assert [str(each) for each in found.mistakes] == ["list.json:1: NetworkPolicy without metadata.name"]
    assert found.left_alone == 4


@pytest.mark.parametrize("metadata", ["{name: web, labels: 7}", "{name: web, annotations: [a]}", "{name: {a: b}}"])
def test_an_object_of_a_wrong_form_is_a_mistake_and_no_crash(folder: Path, metadata: str) -> None:
    (folder / "a.yaml").write_text(f"apiVersion: apps/v1\nkind: Deployment\nmetadata: {metadata}\nspec: {{template: []}}\n")
    found = manifests.read_folder(folder)
    assert not found.objects
    assert [each.line for each in found.mistakes] == [1]


def test_a_second_look_writes_no_version_and_a_removed_file_ends_its_objects(history: Any, folder: Path) -> None:
    (folder / "a.yaml").write_text(netpol("web"))
    (folder / "b.yaml").write_text(netpol("other"))
    assert manifests.take(history.lake, cluster(folder))[0].written.began == 2
    assert manifests.take(history.lake, cluster(folder))[0].written.versions == 0
    (folder / "b.yaml").unlink()
    assert manifests.take(history.lake, cluster(folder))[0].written.ended == 1
    assert [row["name"] for row in history.at(datetime.now(UTC))] == ["web"]


def test_while_a_file_cannot_be_read_only_what_was_last_seen_in_it_stays_and_the_ledger_names_the_file(history: Any, folder: Path) -> None:
    (folder / "a.yaml").write_text(netpol("web"))
    (folder / "b.yaml").write_text(netpol("other"))
    manifests.take(history.lake, cluster(folder))
    (folder / "b.yaml").write_text("{")
    (folder / "c.yaml").write_text(netpol("new"))
    (folder / "a.yaml").unlink()
    taken, mistakes = manifests.take(history.lake, cluster(folder))
    assert not taken.is_whole
    assert len(mistakes) == 1
    assert [row["name"] for row in history.at(datetime.now(UTC))] == ["new", "other"]
    covered = coverage_at(history.lake, datetime.now(UTC))
    assert {each.state for each in covered} == {"observed"}
    assert all("b.yaml:1: not valid YAML" in (each.detail or "") and "1 object last seen" in (each.detail or "") for each in covered)


def test_an_object_that_stands_twice_keeps_the_version_it_had(history: Any, folder: Path) -> None:
    (folder / "a.yaml").write_text(netpol("web"))
    manifests.take(history.lake, cluster(folder))
    (folder / "b.yaml").write_text(netpol("web").replace("{podSelector: {}}", "{podSelector: {}, ingress: [{}]}"))
    taken, _ = manifests.take(history.lake, cluster(folder))
    assert taken.written.versions == 0
    assert [row["name"] for row in history.at(datetime.now(UTC))] == ["web"]


def test_a_folder_that_is_gone_is_not_covered_and_ends_nothing(history: Any, folder: Path) -> None:
    (folder / "a.yaml").write_text(netpol("web"))
    manifests.take(history.lake, cluster(folder))
    with pytest.raises(ConfigError):
        manifests.take(history.lake, cluster(folder / "gone"))
    assert len(history.at(datetime.now(UTC))) == 1
    assert {each.state for each in coverage_at(history.lake, datetime.now(UTC) + timedelta(seconds=1))} == {"unreachable"}


def test_a_scheduler_gets_what_is_not_covered_after_the_rest_was_recorded(history: Any, folder: Path) -> None:
    (folder / "a.yaml").write_text(netpol("web"))
    assert looking.look_and_insist(history.lake, cluster(folder)) == 1
    (folder / "b.yaml").write_text(netpol("new"))
    (folder / "c.yaml").write_text(netpol("cut") + "  ingress: [{")
    with pytest.raises(ClusterError, match=r"not read completely: .*c.yaml:5"):
        looking.look_and_insist(history.lake, cluster(folder))
    assert len(history.at(datetime.now(UTC))) == 2
    with pytest.raises(ClusterError, match="does not exist"):
        looking.look_and_insist(history.lake, cluster(folder / "gone"))
