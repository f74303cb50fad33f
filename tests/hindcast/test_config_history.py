"""`hindcast config`: from folders of manifests into a lake, and out again as history, YAML and differences."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from hindcast.cli import app

NETPOL = """\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: %s, namespace: %s}
spec: {podSelector: {}, ingress: [{ports: [{port: %d}, {port: 9}]}]}
"""
NAMESPACE = "apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n"
CLUSTER_WIDE = "apiVersion: cilium.io/v2\nkind: CiliumClusterwideNetworkPolicy\nmetadata: {name: all}\nspec: {}\n"


class Fleet:
    """Two clusters that are folders of manifests."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.config = folder, folder / "hindcast.yaml"
        names = ("c1", "c2")
        for name in names:
            (folder / name).mkdir()
        grants = [{"subject": "ada", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["shop"]}]
        document = {
            "lake": {"url": "lake"},
            "clusters": [{"name": name, "kubernetes": {"manifests": name}} for name in names],
            "ownership": {"grants": grants},
        }
        self.config.write_text(json.dumps(document))

    def write(self, name: str, *documents: str, cluster: str = "c1") -> None:
        (self.folder / cluster / name).write_text("---\n".join(documents))

    def run(self, *arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, ["config", *arguments, "--config", str(self.config)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            assert code == getattr(result.exception, "exit_code", None), result.exception
        else:
            assert result.exit_code == code, result.output
        return result

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.run(*arguments, "--output", "json", code=code).stdout.splitlines()]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path)


def now() -> str:
    return datetime.now(UTC).isoformat()


def test_before_the_first_look_nothing_is_claimed(fleet: Fleet) -> None:
    assert "which one" in str(fleet.run("at", "0s", code=2).exception)
    assert "not covered: cluster c1 had not been observed by then" in fleet.run("at", "0s", "--cluster", "c1", code=1).stdout
    assert "run hindcast config snapshot" in str(fleet.run("history", "netpol", "shop/web", code=1).exception)
    assert fleet.rows("diff", "1h", "0s") == []


def test_a_snapshot_prints_what_is_new_and_a_second_one_prints_that_nothing_is(fleet: Fleet) -> None:
    fleet.write("a.yaml", NAMESPACE % "shop", NETPOL % ("web", "shop", 80))
    first, second = fleet.rows("snapshot"), fleet.rows("snapshot")
    assert [(row["cluster"], row["state"], row["versions_began"]) for row in first] == [("c1", "observed", 2), ("c2", "observed", 0)]
    assert [(row["versions_began"], row["versions_ended"]) for row in second] == [(0, 0), (0, 0)]
    assert [row["cluster"] for row in fleet.rows("snapshot", "--cluster", "c2")] == ["c2"]


def test_mistakes_in_manifests_are_reported_and_are_a_failure_while_the_other_cluster_goes_on(fleet: Fleet) -> None:
    fleet.write("a.yaml", "kind: [")
    fleet.write("a.yaml", NETPOL % ("web", "shop", 80), cluster="c2")
    result = fleet.run("snapshot", code=1)
    assert "c1: a.yaml:1: not valid YAML" in result.stderr
    assert "c2" in result.stdout
    (fleet.folder / "c1" / "a.yaml").unlink()
    (fleet.folder / "c1").rmdir()
    assert "does not exist" in fleet.run("snapshot", code=1).stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("snapshot", "--cluster", "nope"),
        ("at", "yesterday", "--cluster", "c1"),
        ("at", "2999-01-01", "--cluster", "c1"),
        ("history", "netpolx", "a"),
        ("diff", "x", "0s"),
    ],
)
def test_wrong_arguments_are_a_usage_error(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    assert str(fleet.run(*arguments, code=2).exception)


def test_the_state_of_any_time_is_yaml_with_what_is_known_of_it_above(fleet: Fleet) -> None:
    fleet.write("a.yaml", NAMESPACE % "shop", NETPOL % ("web", "shop", 80), NETPOL % ("web", "bank", 80), CLUSTER_WIDE)
    fleet.run("snapshot")
    then = now()
    fleet.write("a.yaml", NETPOL % ("web", "shop", 443))
    fleet.run("snapshot")
    text = fleet.run("at", then, "--cluster", "c1", "--namespace", "shop").stdout
    assert text.startswith("# cluster c1 at ")
    assert "# observed at" in text
    documents = list(yaml.safe_load_all(text))
    assert [document["kind"] for document in documents] == ["Namespace", "NetworkPolicy"]
    assert documents[1]["spec"]["ingress"][0]["ports"][0]["port"] == 80
    (only,) = yaml.safe_load_all(fleet.run("at", "0s", "--cluster", "c1").stdout)
    assert only["spec"]["ingress"][0]["ports"][0]["port"] == 443
    file = fleet.folder / "out.yaml"
    assert fleet.run("at", then, "--cluster", "c1", "--kind", "ccnp", "--file", str(file)).stdout == ""
    assert yaml.safe_load(file.read_text())["metadata"]["name"] == "all"


def test_the_history_of_an_object_names_each_change_and_its_time(fleet: Fleet) -> None:
    for port in (80, 443):
        fleet.write("a.yaml", NETPOL % ("web", "shop", port), NETPOL % ("web", "bank", port))
        fleet.run("snapshot")
    (fleet.folder / "c1" / "a.yaml").unlink()
    fleet.run("snapshot")
    rows = fleet.rows("history", "netpol", "shop/web")
    assert [row["changed"] for row in rows] == [["first seen"], ["spec.ingress[0].ports[0].port"]]
    assert [row["ended_how"] for row in rows] == ["changed", "deleted"]
    assert rows[0]["valid_to"] == rows[1]["valid_from"]
    assert "no NetworkPolicy web is recorded" in str(fleet.run("history", "netpol", "web", code=1).exception)


def test_a_difference_is_an_exit_code_and_the_order_of_rules_is_none(fleet: Fleet) -> None:
    fleet.write("a.yaml", NETPOL % ("web", "shop", 80), NETPOL % ("old", "shop", 1), NETPOL % ("same", "shop", 2))
    fleet.run("snapshot")
    then = now()
    turned = (NETPOL % ("same", "shop", 2)).replace("{port: 2}, {port: 9}", "{port: 9}, {port: 2}")
    fleet.write("a.yaml", NETPOL % ("web", "shop", 443), NETPOL % ("new", "bank", 1), turned)
    fleet.run("snapshot")
    rows = fleet.rows("diff", then, "0s", code=1)
    assert [(row["how"], row["namespace"], row["name"]) for row in rows] == [
        ("added", "bank", "new"),
        ("removed", "shop", "old"),
        ("changed", "shop", "web"),
    ]
    assert rows[2]["paths"] == [{"path": "spec.ingress[0].ports[0].port", "before": "80", "after": "443"}]
    text = fleet.run("diff", then, "0s", "--full", code=1).stdout
    assert "~ NetworkPolicy shop/web" in text
    assert "spec.ingress[0].ports[0].port: 80 → 443" in text
    assert "+ kind: NetworkPolicy" in text
    assert fleet.run("diff", "0s", "0s").stdout == ""


def test_an_owner_sees_her_namespace_and_nothing_else(fleet: Fleet) -> None:
    fleet.write("a.yaml", NAMESPACE % "shop", NETPOL % ("web", "shop", 80), NETPOL % ("web", "bank", 80), CLUSTER_WIDE)
    fleet.write("a.yaml", NETPOL % ("web", "shop", 80), cluster="c2")
    fleet.run("snapshot")
    text = fleet.run("at", "0s", "--cluster", "c1", "--as", "ada").stdout
    assert [(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(text)] == [
        ("Namespace", "shop"),
        ("NetworkPolicy", "web"),
    ]
    assert "bank" not in text
    assert [row["cluster"] for row in fleet.rows("history", "netpol", "shop/web", "--as", "ada")] == ["c1"]
    assert "c2" not in fleet.run("diff", "1h", "0s", "--as", "ada", code=1).output
    fleet.run("history", "netpol", "bank/web", "--as", "ada", code=1)
    fleet.run("at", "0s", "--cluster", "c2", "--as", "ada", code=1)
    fleet.run("diff", "1h", "0s", "--as", "eve", code=1)


def test_compaction_is_printed_and_a_second_one_has_nothing_to_do(fleet: Fleet) -> None:
    for port in range(9):
        fleet.write("a.yaml", NETPOL % ("web", "shop", port + 1))
        fleet.run("snapshot", "--cluster", "c1")
    assert fleet.run("compact").stdout == "18 files became 3\n"
    assert fleet.run("compact").stdout == "0 files became 0\n"
    assert len(fleet.rows("history", "netpol", "shop/web")) == 9


def test_a_bad_file_ends_a_snapshot_with_code_1_and_its_mistakes_are_reported_to_who_sees_the_cluster_whole(fleet: Fleet) -> None:
    fleet.write("a.yaml", NETPOL % ("web", "shop", 80))
    fleet.write("b.yaml", NETPOL % ("web", "pay", 80) + "  x: [\n")
    (row,) = fleet.rows("snapshot", "--cluster", "c1", code=1)
    assert (row["state"], row["objects"], row["not_covered"]) == ("partial", 1, [])
    told = fleet.run("at", "0s", "--cluster", "c1").stdout
    assert "# 1 mistake in manifests: b.yaml:5: not valid YAML" in told
    assert "name: web" in told
    assert "b.yaml" not in fleet.run("at", "0s", "--cluster", "c1", "--as", "ada").stdout
    fleet.write("b.yaml", "a: 1\n")
    fleet.run("snapshot", "--cluster", "c1")
    assert "mistakes" not in fleet.run("at", "0s", "--cluster", "c1").stdout


def test_a_renderer_that_fails_is_reported_with_its_standard_error(fleet: Fleet) -> None:
    document = json.loads(fleet.config.read_text())
    document["clusters"][0]["kubernetes"]["render"] = ["sh", "-c", "echo no such overlay >&2; exit 3"]
    fleet.config.write_text(json.dumps(document))
    result = fleet.run("snapshot", "--cluster", "c1", code=1)
    assert "failed with exit code 3: no such overlay" in result.output.replace("\n", " ")
