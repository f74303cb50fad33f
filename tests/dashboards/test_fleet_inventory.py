"""The page of policies across clusters, and the page of proposals, without a browser: what is said, to whom."""

import copy
import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from streamlit.testing.v1 import AppTest

from dashboards.whatif import draft
from pipelines.replay import inventory
from warehouse import config
from warehouse.access.labels import HIDDEN
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS, POLICY_VERSIONS, Table

POLICY = {
    "apiVersion": "networking.k8s.io/v1",
    "kind": "NetworkPolicy",
    "metadata": {"name": "web", "namespace": "cart"},
    "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"ports": [{"port": 80}]}]},
}


def store(folder: Path, table: Table, *rows: dict[str, Any]) -> None:
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(list(rows), schema=table.schema)), transactions={}, metadata={})


@pytest.fixture
def fleet(folder: Path) -> Path:
    """Three clusters with a policy of cart, which one of them has otherwise, and one of payments."""
    begin = dt.datetime.now(dt.UTC) - dt.timedelta(days=1)
    other = copy.deepcopy(POLICY)
    other["spec"]["ingress"][0]["ports"][0]["port"] = 81  # type: ignore[index]
    foreign = {**POLICY, "metadata": {"name": "secret-plan", "namespace": "payments"}}
    rows = [
        {
            "cluster": cluster, "kind": manifest["kind"], **manifest["metadata"],
            "valid_from": begin, "recorded": begin, "hash": cluster, "manifest": json.dumps(manifest), "source": "snapshot",
            "valid_from_source": "snapshot",
        }
        for cluster, manifest in (("c1", POLICY), ("c2", POLICY), ("c3", other), ("c1", foreign))
    ]  # fmt: skip
    store(folder, POLICY_VERSIONS, *rows)
    flow = {"cluster": "c1", "date": begin.date(), "time": begin, "uuid": "u", "flow_count": 1, "verdict": "FORWARDED"}
    store(folder, FLOWS, flow | {"source_namespace": "cart", "destination_namespace": "cart"})
    return folder


def test_the_same_policy_in_three_clusters_is_one_row_that_says_where_it_differs(
    fleet: Path, look: Callable[..., AppTest], said: Callable[[AppTest], str]
) -> None:
    page = look("policies", user="ada", show="fleet", object="NetworkPolicy|cart|web")
    table = page.dataframe[0].value
    row = table[table["Name"] == "web"].iloc[0]
    assert (row["Clusters"], list(row["State"]), row["Where it differs"]) == (3, ["≠ differs"], "spec.ingress[0].ports[0].port")
    assert row["Decides"] == "ingress: allows by 1 rule, denies all other"
    text = said(page)
    assert "As most have it, in **c1, c2**" in text
    assert "Differs in **c3**" in text


def test_what_a_policy_decides_cannot_be_told_without_its_labels() -> None:
    hidden = copy.deepcopy(POLICY)
    hidden["spec"]["podSelector"] = HIDDEN  # type: ignore[index]
    assert inventory.decides(hidden) == "cannot be told without its labels, which are not shown to auditors"
    assert inventory.decides(POLICY) == "ingress: allows by 1 rule, denies all other"


def test_editing_for_many_clusters_is_for_platform_admins_of_clusters_with_an_api_server(
    fleet: Path, look: Callable[..., AppTest], said: Callable[[AppTest], str], configure: Callable[..., None]
) -> None:
    opened = {"show": "edit", "object": "NetworkPolicy|cart|web", "in": "c1"}
    assert "Not yours to edit" in said(look("policies", user="ada", **opened))
    configure(fleet, clusters=[{"name": name, "kubernetes": {"kubeconfig": f"{name}.yaml"}} for name in ("c1", "c2")])
    assert "Not yours to edit" in said(look("policies", user="group:checkout", **opened))
    page = look("policies", user="ada", **opened)
    assert "Nothing planned yet" in said(page)
    assert [choice.label for choice in page.multiselect][-2:] == ["Clusters", "Canary"]


def test_a_plan_that_cannot_be_made_says_why_and_a_cluster_that_cannot_be_asked_keeps_it_from_being_published(
    fleet: Path, look: Callable[..., AppTest], said: Callable[[AppTest], str], configure: Callable[..., None]
) -> None:
    configure(fleet, clusters=[{"name": name, "kubernetes": {"kubeconfig": f"{name}.yaml"}} for name in ("c1", "c2")])
    opened = {"user": "ada", "show": "edit", "object": "NetworkPolicy|cart|web", "in": "c1", "blueprint": "cart-web"}
    page = look("policies", **opened, policy=draft.encoded("kind: Pod\nmetadata: {name: a}\n", {}))
    assert "cannot be in a blueprint" in page.error[0].value
    page = look("policies", **opened, policy=draft.encoded(json.dumps(POLICY), {}))
    assert "c1.yaml does not exist" in page.error[0].value
    assert "Choose a canary" not in said(page)


def test_changes_of_blueprints_say_when_there_is_none(fleet: Path, look: Callable[..., AppTest], said: Callable[[AppTest], str]) -> None:
    assert "No change of a blueprint" in said(look("policies", user="ada", show="changes"))
    assert "No such change" in said(look("policies", user="group:checkout", show="changes", change="x"))


def test_an_owner_sees_the_inventory_of_her_own_namespaces(fleet: Path, look: Callable[..., AppTest]) -> None:
    page = look("policies", user="group:checkout", show="fleet")
    assert list(page.dataframe[0].value["Name"]) == ["web"]


def test_proposals_say_when_there_is_none_and_deny_who_owns_nothing(
    fleet: Path, look: Callable[..., AppTest], said: Callable[[AppTest], str]
) -> None:
    assert "No proposal" in said(look("proposals", user="paula"))
    assert "No such proposal" in said(look("proposals", user="paula", proposal="x"))
    assert "Nothing here is yours" in said(look("proposals", user="zoe"))
