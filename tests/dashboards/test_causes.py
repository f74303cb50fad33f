"""From a drop to what caused it: the policies in force at its time, the last change to them, and back."""

import datetime as dt
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from collectors.simulator import configuration
from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import Story
from dashboards.history import causes
from dashboards.history.changes import Change
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.questions import conditions

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]
NOON = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)


def version(kind: str, spec: dict[str, Any], **more: Any) -> dict[str, Any]:
    manifest = json.dumps({"kind": kind, "spec": spec})
    return {"cluster": "c1", "kind": kind, "namespace": "cart", "name": "closed", "manifest": manifest, **more}


def drop(direction: str = "INGRESS", **more: Any) -> dict[str, Any]:
    row = {"time": NOON, "cluster": "c1", "verdict": "DROPPED", "traffic_direction": direction}
    for side, namespace, app in (("source", "shop", "web"), ("destination", "cart", "db")):
        row |= {f"{side}_namespace": namespace, f"{side}_labels": [f"k8s:app={app}", "reserved:none"]}
    return row | more


DEFAULT_DENY = version("NetworkPolicy", {"podSelector": {}, "policyTypes": ["Ingress"]})


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (DEFAULT_DENY, {"ingress"}),
        (version("NetworkPolicy", {"podSelector": {}}), {"ingress"}),
        (version("NetworkPolicy", {"podSelector": {}, "egress": [{}]}), {"ingress", "egress"}),
        (version("CiliumNetworkPolicy", {"endpointSelector": {}, "egress": []}), {"egress"}),
        (version("CiliumNetworkPolicy", {"endpointSelector": {}, "ingressDeny": [{}]}), {"ingress"}),
        (version("CiliumNetworkPolicy", {"endpointSelector": {}, "ingress": [{}], "enableDefaultDeny": {"ingress": False}}), set()),
        (version("CiliumClusterwideNetworkPolicy", {"nodeSelector": {}, "ingress": [{}]}), set()),
        (version("ConfigMap", {}), set()),
    ],
)
def test_a_policy_isolates_the_directions_that_it_is_about(policy: dict[str, Any], expected: set[str]) -> None:
    assert {reach.direction for reach in causes.reaches(policy)} == expected


@pytest.mark.parametrize(
    ("selector", "is_selected"),
    [
        ({}, True),
        ({"matchLabels": {"app": "db"}}, True),
        ({"matchLabels": {"k8s:app": "db", "k8s:io.kubernetes.pod.namespace": "cart"}}, True),
        ({"matchLabels": {"app": "api"}}, False),
        ({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "api"]}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["db"]}]}, False),
        ({"matchExpressions": [{"key": "legacy", "operator": "DoesNotExist"}]}, True),
        ({"matchExpressions": [{"key": "app", "operator": "Odd"}]}, False),
    ],
)
def test_a_drop_is_decided_by_the_policies_that_select_its_end(selector: dict[str, Any], is_selected: bool) -> None:
    policy = version("NetworkPolicy", {"podSelector": selector})
    assert bool(causes.deciding(drop(), [policy])) is is_selected
    assert not causes.deciding(drop("EGRESS"), [policy]), "it says nothing of what leaves"
    assert not causes.deciding(drop(), [policy | {"cluster": "c2"}])
    assert not causes.deciding(drop(destination_namespace=None), [policy])


def test_the_last_change_is_the_newest_before_the_drop() -> None:
    other = version("NetworkPolicy", {"podSelector": {"matchLabels": {"app": "api"}}})
    late, right, early = (Change(at=NOON + MINUTE * n, after=DEFAULT_DENY, before=None, clusters=("c1",)) for n in (1, -2, -9))
    beside = Change(at=NOON - MINUTE, after=other, before=None, clusters=("c1",))
    assert causes.last_change(drop(), [late, beside, right, early]) is right
    assert causes.last_change(drop(), [late, beside]) is None


def test_a_deleted_policy_can_be_the_last_change() -> None:
    gone = Change(at=NOON - MINUTE, after=None, before=DEFAULT_DENY, clusters=("c1",))
    assert causes.last_change(drop(), [gone]) is gone


@pytest.mark.parametrize(
    "selector",
    [
        {},
        {"matchLabels": {"app": "db", "tier": "x"}},
        {"matchExpressions": [{"key": "app", "operator": "In", "values": ["a", "b"]}]},
        {"matchExpressions": [{"key": "app.io/x", "operator": "Exists"}, {"key": "b", "operator": "NotIn", "values": ["c"]}]},
    ],
)
def test_what_a_default_deny_denied_is_found_by_filters_that_can_be_written(selector: dict[str, Any]) -> None:
    (reach,) = causes.reaches(version("NetworkPolicy", {"podSelector": selector}))
    found = reach.conditions()
    assert found
    assert [conditions.parse(str(condition)) for condition in found] == found
    assert str(found[0]) == "dst.ns=cart"
    assert str(found[-1]) == "direction=INGRESS"


def test_a_selector_that_filters_cannot_express_gives_none() -> None:
    (reach,) = causes.reaches(version("NetworkPolicy", {"podSelector": {"matchExpressions": [{"key": "a", "operator": "Odd"}]}}))
    assert reach.conditions() is None


def incident(story: Story) -> dict[str, str]:
    begin, end = story.incident
    return {"from_": f"{begin:%Y-%m-%dT%H:%MZ}", "until": f"{end:%Y-%m-%dT%H:%MZ}"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Story]:
    """A lake with the hour of the incident and a day and a half of one cluster's configuration."""
    now = dt.datetime.now(dt.UTC)
    folder, story = tmp_path_factory.mktemp("causes"), Story.before(now)
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    fleet, hour = build_fleet(1, clusters=("c1",)), story.incident[0].replace(minute=0)
    backfill(lake, fleet, story, since=hour, until=hour + dt.timedelta(hours=1), flows_per_second=12.0, seed=1)
    configuration.backfill(lake, fleet, story, since=now - dt.timedelta(hours=36), until=now)
    return folder / "lake", story


@pytest.fixture
def story(folder: Path, made: tuple[Path, Story], configure: Callable[..., None]) -> Story:
    """What happened in the lake that the pages look at."""
    grants = [{"subject": "ada", "role": "platform-admin"}, {"subject": "sam", "role": "namespace-owner", "namespaces": ["storefront"]}]
    configure(folder, lake={"url": str(made[0])}, ownership={"grants": grants})
    return made[1]


def test_a_policys_page_finds_what_its_default_deny_denied(story: Story, look: Look) -> None:
    app = look("policies", user="ada", last="1d", object="c1|NetworkPolicy|cart|baseline-default-deny-ingress")
    links = {link.proto.label: str(link.proto.query_string) for link in app.get("page_link")}
    assert "dst.ns%3Dcart" in links["What it denied by default (ingress)"]
    assert "verdict=DROPPED" in links["What it denied by default (ingress)"]


def test_a_drop_of_the_address_names_the_change_before_it_and_the_policies_in_force(story: Story, look: Look, said: Said) -> None:
    during = incident(story)
    rows = look("flows", user="ada", verdict="DROPPED", f=["dst.ns=cart"], cols="Time,uuid", **during).dataframe[-1].value
    app = look("flows", user="ada", verdict="DROPPED", f=["dst.ns=cart"], flow=str(rows["uuid"].iloc[-1]), **during)
    assert "dropped **after cart/cart-ingress was changed by" in said(app)
    assert "cart/cart-ingress (ingress)" in [link.proto.label for link in app.get("page_link")]


def test_an_owner_of_the_other_side_sees_that_the_policies_belong_to_someone_else(story: Story, look: Look, said: Said) -> None:
    narrow: dict[str, Any] = {"verdict": "DROPPED", "f": ["dst.ns!=storefront"], **incident(story)}
    rows = look("flows", user="sam", cols="Time,uuid,traffic_direction", **narrow).dataframe[-1].value
    inbound = rows[rows["traffic_direction"] == "INGRESS"]
    text = said(look("flows", user="sam", flow=str(inbound["uuid"].iloc[0]), **narrow))
    assert "decide too; they are hidden: not yours" in text
    assert "was changed by" not in text


def test_what_wants_attention_names_the_change_before_a_denial(story: Story, look: Look, said: Said) -> None:
    assert "; after cart/cart-ingress was changed by" in said(look("overview", user="ada", **incident(story)))
