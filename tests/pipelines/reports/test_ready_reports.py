"""The owner, segmentation, access and changes reports: what each says of a lake."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from pipelines.evidence.reports import changes, making, subjects
from pipelines.evidence.reports.asked import ReportOf
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import ConfigError

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
ZONES = {
    "zones": [{"name": "cardholder", "namespaces": ["pay", "db"]}, {"name": "bank", "names": ["*.bank.example"]}],
    "allowed": [
        {"source": "other", "destination": "cardholder", "ports": ["8080/TCP"], "reason": "shop front"},
        {"source": "other", "destination": "bank"},
    ],
}


def make(fleet: Any, name: str, who: str | None = None, **settings: Any) -> making.Made:
    configured = fleet.settings.model_copy(update={"reports": config.Reports.model_validate(settings)})
    more, source = making.settings_of(configured, name)
    subject = subjects.subject_of(configured, fleet.lake, who) if who else OPERATOR
    request = ReportOf(
        name=name, since=START + DAY, until=START + 2 * DAY, known=START + 3 * DAY, subject=subject, settings=more, source=source
    )
    return making.make(configured, fleet.lake, request, formats=("html",), stem="r", by="test", made=request.known)


def rows(made: making.Made, section: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = next(one.rows for one in made.report.sections if one.id == section and one.rows is not None).to_pylist()
    return found


def told(made: making.Made, section: str) -> str:
    return " ".join(next(one.text for one in made.report.sections if one.id == section))


def test_a_subject_without_any_grant_is_refused_and_a_bare_name_may_be_a_groups(read_fleet: Any) -> None:
    with pytest.raises(ConfigError, match="--for mallory: no grant names this user or group"):
        make(read_fleet, "owner", "mallory")
    assert make(read_fleet, "owner", "payments").manifest["asked"]["for"] == "group:payments"


def test_an_owner_reads_who_talked_to_her_and_whom_she_talked_to(read_fleet: Any) -> None:
    made = make(read_fleet, "owner", "group:payments")
    assert [(row["source"], row["destination"], row["port"], row["flows"]) for row in rows(made, "inbound")] == [
        ("shop/web", "pay/api", "8080/TCP", 40)
    ]
    assert [(row["destination"], row["port"]) for row in rows(made, "outbound")] == [
        ("db/postgres", "5432/TCP"),
        ("api.bank.example", "443/TCP"),
    ]
    assert [row["destination"] for row in rows(made, "new-edges")] == ["api.bank.example"]
    assert rows(made, "vanished-edges") == []
    assert [row["subject"] for row in rows(made, "unused")] == ["CiliumNetworkPolicy/api"]
    assert rows(made, "drops") == []  # what shop and db do is not hers


def test_an_edge_that_vanished_where_nothing_was_observed_is_called_doubtful(read_fleet: Any) -> None:
    made = make(read_fleet, "owner", "ada")
    assert [row["source"] for row in rows(made, "vanished-edges")] == ["shop/web"]
    assert "Observed only in part in this window, where an edge may just not have been seen: us 0 %." in told(made, "vanished-edges")
    assert [(row["source"], row["reason"], row["flows"]) for row in rows(made, "drops")] == [("shop/web", "Policy denied", 5)]


def test_zones_must_be_configured(read_fleet: Any) -> None:
    with pytest.raises(ConfigError, match=r"the configuration names no zones: add reports\.segmentation"):
        make(read_fleet, "segmentation")


def test_segmentation_tells_what_went_through_though_nothing_allows_it(read_fleet: Any) -> None:
    made = make(read_fleet, "segmentation", segmentation=ZONES)
    assert [(row["from"], row["to"], row["denied"], row["not_allowed"], row["state"]) for row in rows(made, "zones")] == [
        ("cardholder", "bank", 0, 3, "crossed"),
        ("other", "cardholder", 5, 0, "kept"),
    ]
    assert [(row["source"], row["destination"]) for row in rows(made, "crossings")] == [("pay/api", "api.bank.example")]
    assert [(row["to"], row["flows"]) for row in rows(made, "rules")] == [("cardholder", 40), ("bank", 0)]


def test_what_policies_allow_is_not_said_where_they_are_not_known(read_fleet: Any) -> None:
    made = make(read_fleet, "segmentation", segmentation=ZONES)
    assert [(row["policies"], row["beyond"]) for row in rows(made, "zones")] == [
        ("uncertain in clusters that are not judged", 0),
        ("uncertain in clusters that are not judged", 0),
    ]
    assert "eu is not judged: " in told(made, "zones")
    assert rows(made, "beyond") == []


@pytest.mark.parametrize(
    ("zones", "message"),
    [
        ({"zones": []}, "at least 1 item"),
        ({"zones": [{"name": "a"}, {"name": "a"}]}, "the name 'a' is taken"),
        ({"zones": [{"name": "other"}]}, "other and outside are Hindcast's own"),
        (
            {"zones": [{"name": "a"}], "allowed": [{"source": "a", "destination": "b"}]},
            "there is no zone 'b'; the zones are a, other, outside",
        ),
        ({"zones": [{"name": "a"}], "allowed": [{"source": "a", "destination": "a", "ports": ["99999"]}]}, "'99999' is not a port"),
    ],
)
def test_a_mistake_in_zones_is_named(fleet: Any, zones: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        fleet.configured(reports={"segmentation": zones})


def test_the_access_review_lists_grants_and_their_use(read_fleet: Any) -> None:
    made = make(read_fleet, "access")
    assert [(row["subject"], row["effect"]) for row in rows(made, "grants")] == [
        ("ada", "platform-admin"),
        ("audrey", "auditor"),
        ("group:payments", "namespace-owner"),
        ("nobody", "namespace-owner"),
    ]
    assert {row["questions"] for row in rows(made, "use")} == {0}
    assert [row["subject"] for row in rows(make(read_fleet, "access", "payments"), "grants")] == ["group:payments"]


def test_changes_have_the_traffic_before_and_after(read_fleet: Any) -> None:
    (change,) = rows(make(read_fleet, "changes"), "changes")
    assert (change["change"], change["name"], change["by"], change["time"]) == ("changed", "api", "paula", START + DAY + 2 * HOUR)
    assert (change["flows_before"], change["flows_after"]) == (40, 20)


def test_what_began_and_ended_is_told_once() -> None:
    key = {"cluster": "c", "kind": "K", "namespace": "n", "name": "x", "manifest": '{"spec": {"a": 1}}', "changed_by": "p", "ended_by": "q"}
    old = key | {"valid_from": START - DAY, "valid_to": START + HOUR, "ended_how": "changed"}
    new = key | {"valid_from": START + HOUR, "valid_to": START + 2 * HOUR, "ended_how": "deleted", "manifest": '{"spec": {"a": 2}}'}
    again = key | {"valid_from": START + 3 * HOUR, "valid_to": None, "ended_how": None}
    found = changes.changes([old, new, again], START, START + DAY)
    assert [(row["change"], row["what"], row["by"]) for row in found] == [
        ("changed", "spec.a", "p"),
        ("deleted", "", "q"),
        ("created, or first seen", "", "p"),
    ]
