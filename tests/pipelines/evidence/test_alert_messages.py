"""Who is told of an alert, how often, and what a silence and a restart change of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import incident
import pytest
from incident import DAY, DROPS, MINUTE, T, always, settings_of

from pipelines.evidence.rules import running
from pipelines.evidence.rules.running import Run
from warehouse.lake.tables import Lake
from warehouse.schema import ALERTS, DELIVERIES


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The lake of the incident."""
    return incident.recorded_in(tmp_path_factory.mktemp("incident"))


@pytest.fixture
def told(tmp_path: Path, lake: Lake, receiver: Any) -> Any:
    """Runs the rule about drops at a minute of the incident, each time as a new process would, and tells a webhook."""
    (tmp_path / "url").write_text(receiver.url)
    mine = incident.lake_in(tmp_path)  # state of its own, over the same flows

    def run(minutes: int, rules: list[dict[str, Any]] | None = None, **alerts: Any) -> Run:
        target = {"name": "hook", "role": "platform-admin", "webhook": {"url_file": "url"}, "tries": 1, "timeout": "5s"}
        rule = {
            "alert": "Drops",
            "expr": DROPS,
            "labels": {"severity": "high"},
            "annotations": {"summary": "{{ $value }} drops in {{ namespace }}"},
        }
        alerts = {"routes": [{"match": "severity=high", "to": ["hook"]}], "dashboard_url": "https://h.example/x", **alerts}
        settings = settings_of(tmp_path, [rule] if rules is None else rules, alerts=alerts, deliveries=[target])
        return running.run(settings, Lake.open(settings.lake), now=T + minutes * MINUTE, source="test")

    incident.covered(mine, incident.observed(T - DAY, T + DAY))
    incident.stored(mine, incident.drops(T + 20 * MINUTE, 300))
    run.lake = mine  # type: ignore[attr-defined]
    return run


def test_an_alert_is_told_once_when_it_fires_and_once_when_it_ends_across_restarts(told: Any, receiver: Any) -> None:
    for minutes in (10, 25, 25, 24, 28, 40, 40, 45):
        told(minutes)
    firing, resolved = receiver.got
    assert (firing["title"], firing["status"], firing["severity"]) == ("[firing] Drops: shop in c1", "firing", "high")
    assert firing["text"].splitlines()[:2] == ["300 drops in shop", "since 2026-11-02 12:25 UTC, value 300"]
    link = "https://h.example/x/flows?from=2026-11-02T11%3A45%3A00Z&until=2026-11-02T12%3A25%3A00Z&f=cluster%3Dc1&f=ns%3Dshop"
    assert firing["alerts"][0]["generatorURL"] == link
    assert (resolved["title"], resolved["alerts"][0]["endsAt"]) == ("[resolved] Drops: shop in c1", "2026-11-02T12:40:00+00:00")
    rows = sorted((row for row in told.lake.read(ALERTS).to_pylist() if row["alert"] != row["rule"]), key=lambda row: row["time"])
    assert [(row["state"], row["made_for"]) for row in rows] == [("firing", "operator"), ("resolved", "operator")]


def test_a_target_that_is_away_is_told_by_the_next_run(told: Any, receiver: Any) -> None:
    receiver.statuses = [503, 200]
    assert "hook (webhook): failed: 127.0.0.1 answered 503" in told(25).failures[0]
    assert (told(26).failures, told(27).failures, len(receiver.got)) == ([], [], 2)


def test_an_evaluation_that_another_run_has_done_changes_and_tells_nothing(told: Any, receiver: Any) -> None:
    assert not told(25).is_late
    assert told(25).is_late
    assert len(receiver.got) == 1


def test_a_silence_holds_messages_back_until_it_ends(told: Any, receiver: Any) -> None:
    silence = {"match": "alertname=Drops, namespace=shop", "since": "2026-11-02T12:00Z", "until": "2026-11-02T12:28Z", "reason": "deploy"}
    told(25, silences=[silence])
    assert receiver.got == []
    told(28, silences=[silence])
    assert [one["status"] for one in receiver.got] == ["firing"]


def test_alerts_that_began_together_and_end_one_after_the_other_are_each_told_to_end(told: Any, receiver: Any) -> None:
    routes = [{"to": ["hook"]}]
    for minutes, values in ((0, ("a", "b")), (5, ("b",)), (10, ()), (15, ())):
        told(minutes, rules=[always(*values)], routes=routes)
    said = [(one["status"], [alert["labels"]["x"] for alert in one["alerts"]]) for one in receiver.got]
    assert [(status, sorted(values)) for status, values in said] == [("firing", ["a", "b"]), ("resolved", ["a"]), ("resolved", ["b"])]


def test_an_alert_that_was_silent_when_others_of_its_group_were_told_is_told_afterwards(told: Any, receiver: Any) -> None:
    silence = {"match": "x=b", "since": "2026-11-02T11:00Z", "until": "2026-11-02T12:08Z", "reason": "deploy"}
    for minutes in (0, 5, 10, 15):
        told(minutes, rules=[always("a", "b")], routes=[{"to": ["hook"]}], silences=[silence])
    assert [[alert["labels"]["x"] for alert in one["alerts"]] for one in receiver.got] == [["a"], ["b"]]


def test_each_team_is_told_of_its_own_alerts_of_a_rule_and_namespace(tmp_path: Path, receiver: Any) -> None:
    fresh = incident.lake_in(tmp_path)
    incident.covered(fresh, incident.observed(T - DAY, T + DAY))
    for name in ("a", "b", "all"):
        (tmp_path / name).write_text(f"{receiver.url}/{name}")
    targets = [{"name": name, "role": "platform-admin", "webhook": {"url_file": name}, "tries": 1} for name in ("a", "b", "all")]
    routes = [*({"match": f"x={name}", "to": [name]} for name in ("a", "b")), {"to": ["all"]}]
    for minutes, values in ((0, ("a", "b")), (5, ("a", "b")), (10, ("b",))):
        settings = settings_of(tmp_path, [always(*values)], alerts={"routes": routes}, deliveries=targets)
        assert running.run(settings, fresh, now=T + minutes * MINUTE, source="test").failures == []
    said = [
        (path.rpartition("/")[2], one["status"], sorted(alert["labels"]["x"] for alert in one["alerts"]))
        for path, one in zip(receiver.paths, receiver.got, strict=True)
    ]
    assert sorted(said) == [
        ("a", "firing", ["a"]),
        ("a", "resolved", ["a"]),
        ("all", "firing", ["a", "b"]),
        ("all", "resolved", ["a"]),
        ("b", "firing", ["b"]),
    ]


def test_alertmanager_goes_on_hearing_of_what_fired_before_a_silence_and_not_of_what_begins_in_one(told: Any, receiver: Any) -> None:
    def silence(since: str, until: str) -> dict[str, str]:
        return {"match": "alertname=Always", "since": f"2026-11-02T{since}Z", "until": f"2026-11-02T{until}Z", "reason": "deploy"}

    common: dict[str, Any] = {"alertmanager": {"url": receiver.address}, "routes": [{"match": "x=none", "to": ["hook"]}]}
    told(0, rules=[always("a")], silences=[], **common)
    for minutes in (5, 10):  # the second silence begins when the first one ends
        told(minutes, rules=[always("a", "b")], silences=[silence("12:02", "12:08"), silence("12:08", "14:00")], **common)
    assert receiver.paths == ["/api/v2/alerts"] * 3
    assert [[alert["labels"]["x"] for alert in posted] for posted in receiver.got] == [["a"], ["a"], ["a"]]
    assert receiver.got[-1][0]["endsAt"] == "2026-11-02T12:30:00+00:00"


def test_an_alert_that_no_route_wants_is_not_told(told: Any, receiver: Any) -> None:
    told(25, routes=[{"match": "severity=low", "to": ["hook"]}])
    assert receiver.got == []
    assert told.lake.read(DELIVERIES).num_rows == 0


def test_an_alert_whose_rule_is_gone_ends_and_says_why(told: Any) -> None:
    told(25)
    changed = told(26, rules=[{"alert": "Other", "expr": "coverage_below()"}]).changed
    assert [(one.rule, one.state) for one in changed if one.is_of_rule] == [("g/Other", "evaluated"), ("g/Drops", "inactive")]
    (gone,) = [one for one in changed if not one.is_of_rule]
    assert (gone.state, gone.detail) == ("resolved", "the rule is in no file any more")


def test_alerts_of_built_ins_reach_the_owners_of_the_namespace_and_those_of_sql_do_not(tmp_path: Path, lake: Lake, receiver: Any) -> None:
    mine = incident.lake_in(tmp_path)
    incident.covered(mine, incident.observed(T - 29 * DAY, T + DAY))
    incident.stored(mine, incident.drops(T + 20 * MINUTE, 300))
    (tmp_path / "url").write_text(receiver.url)
    common = {"webhook": {"url_file": "url"}, "tries": 1}
    targets = [{"name": name, "subjects": [f"group:{name}"], **common} for name in ("shop", "pay")]
    rules = [{"alert": "Spike", "expr": "drops_spike(namespace='shop')"}, {"alert": "Sql", "expr": DROPS}]
    settings = settings_of(tmp_path, rules, alerts={"routes": [{"owners": True}]}, deliveries=targets)
    for minutes in (25, 26):
        running.run(settings, mine, now=T + minutes * MINUTE, source="test")
    assert [one["title"] for one in receiver.got] == ["[firing] Spike: shop in c1"]
    rows = mine.read(DELIVERIES).to_pylist()
    assert sorted((row["target"], row["title"], row["outcome"]) for row in rows) == [
        ("shop", "[firing] Spike: shop in c1", "delivered"),
        ("shop", "[firing] Sql: shop in c1", "denied"),
    ]
