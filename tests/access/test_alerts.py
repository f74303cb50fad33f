"""Alerts and deliveries: each sees those made with rights of hers, and alerts about a namespace that was hers all the time."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

import pyarrow as pa
import pytest

from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Limits
from warehouse.errors import AccessDeniedError
from warehouse.lake.tables import Lake
from warehouse.questions.alert_questions import AlertStates, Deliveries
from warehouse.questions.door import Door
from warehouse.schema import ALERTS, DELIVERIES

NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR = dt.timedelta(hours=1)
GRANTS = (
    config.Grant(subject="ada", role="platform-admin"),
    config.Grant(subject="audrey", role="auditor"),
    config.Grant(subject="paula", role="namespace-owner", namespaces=("payments",)),
    config.Grant(subject="nina", role="namespace-owner", namespaces=("payments",), since=NOW - HOUR),
    config.Grant(subject="group:shop", role="namespace-owner", namespaces=("shop",)),
)


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Door:
    """Alerts of the operator's rules and of a team's, and what was sent of them."""
    lake = Lake.open(config.Lake(url=str(tmp_path_factory.mktemp("alerts") / "lake")))
    built_in = alert("spike", "operator", {"namespace": "payments"}, owners_from=NOW - 30 * HOUR)
    of_sql = alert("sql", "operator", {"namespace": "payments", "app": "k8s:app=web"}, detail="k8s:app=web")
    own = alert("own", "group:shop", {"namespace": "shop", "owner": "group:shop"})
    rule = {**alert("g/Spike", "operator", {}), "alert": "g/Spike", "state": "evaluated"}
    earlier = {**built_in, "time": NOW - 2 * HOUR, "state": "pending"}
    put(lake, ALERTS, [built_in, of_sql, own, rule, earlier])
    sent = {"time": NOW, "kind": "webhook", "outcome": "delivered", "tries": 1}
    put(
        lake,
        DELIVERIES,
        [
            sent | {"message": name, "target": name, "title": f"about {name}", "made_for": made_for}
            for name, made_for in (("platform", "operator"), ("team", "group:shop"))
        ],
    )
    return Door(lake, config.Ownership(grants=GRANTS))


def alert(name: str, made_for: str, labels: dict[str, str], **more: Any) -> dict[str, Any]:
    labels = {"alertname": name, "cluster": "c1", **labels}
    common = {"time": NOW, "alert": name, "rule": "g/Spike", "state": "firing", "since": NOW, "made_for": made_for}
    return common | {"labels": json.dumps(labels), "annotations": json.dumps({"summary": "k8s:app=web"}), "link": "/flows?f=x", **more}


def put(lake: Lake, table: Any, rows: list[dict[str, Any]]) -> None:
    """Write rows, each in the partition of its own time's day: an hour ago may be yesterday."""
    rows = [{"date": row["time"].date(), **row} for row in rows]
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions={}, metadata={})


SHOP = Principal(user="sam", groups=frozenset({"shop"}))


@pytest.mark.parametrize(
    ("who", "alerts", "sent"),
    [
        (Principal(user="nina"), set(), set()),  # owned it too late
        (Principal(user="paula"), {"spike"}, set()),
        (SHOP, {"own"}, {"team"}),
        (Principal(user="group:shop"), None, None),
        (Principal(user="audrey"), {"spike", "sql", "own", "g/Spike"}, {"platform", "team"}),
        (Principal(user="ada"), {"spike", "sql", "own", "g/Spike"}, {"platform", "team"}),
    ],
)
def test_each_sees_what_is_hers(door: Door, who: Principal, alerts: set[str] | None, sent: set[str] | None) -> None:
    if alerts is None:  # a user who is named like a group
        with pytest.raises(AccessDeniedError):
            door.answer(who, AlertStates())
        return
    assert set(door.answer(who, AlertStates()).rows["alert"].to_pylist()) == alerts
    assert set(door.answer(who, Deliveries()).rows["target"].to_pylist()) == sent


def test_an_auditor_reads_nothing_that_may_quote_labels(door: Door) -> None:
    rows = [*door.answer(Principal(user="audrey"), AlertStates()).rows.to_pylist()]
    rows += door.answer(Principal(user="audrey"), Deliveries()).rows.to_pylist()
    assert "k8s:app=web" not in str(rows)
    assert {row.get("title") for row in rows} == {None}
    assert "k8s:app=web" in str(door.answer(Principal(user="ada"), AlertStates()).rows.to_pylist())


def test_states_are_those_of_the_time(door: Door) -> None:
    rows = door.answer(Principal(user="ada"), AlertStates(at=NOW - HOUR)).rows.to_pylist()
    assert [(row["alert"], row["state"]) for row in rows] == [("spike", "pending")]


def test_what_is_listed_is_cut_and_says_so(door: Door) -> None:
    answer = door.answer(Principal(user="ada"), AlertStates(limits=Limits(rows=1)))
    assert (answer.rows.num_rows, answer.cut) == (1, True)
