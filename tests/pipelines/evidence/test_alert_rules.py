"""Alert rules over a recorded incident: each alert fires once, at the right minute, and closes; what was not seen says nothing."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from pathlib import Path
from typing import Any

import incident
import pytest
import yaml
from incident import DAY, DENIED, DROPS, MINUTE, T, always, settings_of
from typer.testing import CliRunner

from collectors.simulator import configuration, history
from collectors.simulator.fleet import build_fleet
from collectors.simulator.story import Story
from hindcast.cli import app
from pipelines.evidence.rules import reading, replaying, running
from pipelines.evidence.rules.running import Run
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import FLOWS


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    """The lake of the incident."""
    return incident.recorded_in(tmp_path_factory.mktemp("incident"))


def replayed(folder: Path, lake: Lake, rule: dict[str, Any], *, until: dt.timedelta = 90 * MINUTE, **more: Any) -> list[Any]:
    """What a rule does at every minute of the incident: (minute, state, labels without the alert's name)."""
    settings = settings_of(folder, [{"alert": "A", **rule}], lake=lake, **more)
    (loaded,) = reading.load(settings).checked()
    door = Door(lake, settings.ownership, settings.rollups)
    found = replaying.replay(settings, door, loaded, since=T, until=T + until, step=5 * MINUTE)
    return [
        ((one.time - T) // MINUTE, one.state, {name: text for name, text in one.labels.items() if name != "alertname"})
        for one in found.changed
    ]


def test_a_spike_of_drops_fires_once_when_it_is_there_and_closes(tmp_path: Path, lake: Lake) -> None:
    found = sorted(replayed(tmp_path, lake, {"expr": "drops_spike()"}), key=lambda one: (one[0], str(one[2])))
    (shop, web, *closed) = [one for one in found if one[2].get("cluster") == "c1"]
    assert (shop, web) == ((25, "firing", {"cluster": "c1", "namespace": "shop"}), (25, "firing", {"cluster": "c1", "namespace": "web"}))
    assert closed == [(35, "resolved", shop[2]), (35, "resolved", web[2])]
    assert not [one for one in replayed(tmp_path, lake, {"expr": "drops_spike(factor=40)"}) if one[2].get("cluster") == "c1"]


def test_sql_is_pending_first_and_keeps_firing_as_long_as_the_rule_says(tmp_path: Path, lake: Lake) -> None:
    rule = {"expr": DROPS, "for": "5m", "keep_firing_for": "10m", "labels": {"severity": "high"}}
    labels = {"cluster": "c1", "namespace": "shop", "severity": "high"}
    found = [one for one in replayed(tmp_path, lake, rule) if one[2].get("cluster") == "c1"]
    assert found == [(25, "pending", labels), (30, "firing", labels), (35, "firing", labels), (45, "resolved", labels)]


def test_an_alert_that_is_gone_before_it_fired_is_no_alert(tmp_path: Path, lake: Lake) -> None:
    found = replayed(tmp_path, lake, {"expr": DROPS, "for": "20m"})
    assert [one[:2] for one in found if one[2].get("cluster") == "c1"] == [(25, "pending"), (35, "inactive")]


def test_a_window_that_was_not_covered_says_nothing_and_the_rule_says_so(tmp_path: Path, lake: Lake) -> None:
    """The drops of c2 were stored, but half of their window was not observed."""
    found = [one for one in replayed(tmp_path, lake, {"expr": DROPS}) if one[2].get("cluster") != "c1"]
    assert found == [(35, "not_covered", {}), (60, "evaluated", {})]
    settings = settings_of(tmp_path, [{"alert": "A", "expr": "SELECT count(*) AS value FROM flows"}], lake=lake)
    (rule,) = reading.load(settings).checked()
    evaluation = replaying.replay(settings, Door(lake, settings.ownership), rule, since=T + 40 * MINUTE, until=T + 40 * MINUTE, step=MINUTE)
    (said,) = evaluation.changed
    assert (said.state, said.detail) == ("not_covered", "c2: 0% of 2026-11-02 12:30 to 12:40 UTC was observed, less than 90%")


@pytest.mark.parametrize(
    ("expr", "expected"),
    [
        (
            "first_seen_edge(destination='pci-*')",
            [
                (minute, state, {"cluster": "c1", "source_namespace": "dev", "destination_namespace": "pci-db"})
                for minute, state in ((35, "firing"), (45, "resolved"))
            ],
        ),
        ("first_seen_edge(source='web', destination='shop')", []),
        (
            "egress_to_new_name()",
            [
                (minute, state, {"cluster": "c1", "namespace": "dev", "name": "new.example"})
                for minute, state in ((35, "firing"), (45, "resolved"))
            ],
        ),
        ("coverage_below(share=0.8)", [(35, "firing", {"cluster": "c2"}), (60, "resolved", {"cluster": "c2"})]),
        (
            "drift_opened(severity='high')",
            [
                (
                    minute,
                    state,
                    {
                        **{"cluster": "c1", "namespace": "shop", "kind": "NetworkPolicy", "name": "web"},
                        **{"drift": "modified", "severity": "high", "blueprint": blueprint},
                    },
                )
                for minute, state, blueprint in (
                    (10, "firing", "base"),
                    (20, "firing", "strict"),
                    (40, "resolved", "base"),
                    (50, "resolved", "strict"),
                )
            ],
        ),
        ("drift_opened(severity='critical')", []),
    ],
)
def test_built_ins_fire_once_at_the_right_minute_and_close(tmp_path: Path, lake: Lake, expr: str, expected: Any) -> None:
    assert [one for one in replayed(tmp_path, lake, {"expr": expr}) if one[1] not in ("not_covered", "evaluated")] == expected


def test_a_collector_is_silent_once_nothing_was_recorded_for_long_enough(tmp_path: Path, lake: Lake) -> None:
    found = replayed(tmp_path, lake, {"expr": "collector_silent(after='12m')"}, until=dt.timedelta(hours=3))
    assert found == [(135, "firing", {"cluster": "c1"}), (135, "firing", {"cluster": "c2"})] or found[:1] == [
        (45, "firing", {"cluster": "c2"})
    ]


def test_verdicts_are_not_judged_where_the_policies_are_not_known(tmp_path: Path, lake: Lake) -> None:
    found = replayed(tmp_path, lake, {"expr": "verdicts_disagree()"}, until=5 * MINUTE)
    assert found[0][:2] == (0, "not_covered")


def test_a_rule_sees_only_what_its_subject_may_see(tmp_path: Path, lake: Lake) -> None:
    expr = DENIED
    for subject, seen in (("group:pay", set()), ("group:shop", {"shop"})):
        found = replayed(tmp_path, lake, {"expr": expr}, until=25 * MINUTE, rights={"subject": subject})
        assert {one[2]["namespace"] for one in found if one[1] == "firing"} == seen
    assert replayed(tmp_path, lake, {"expr": expr}, until=MINUTE, rights={"subject": "nobody"}) == [(0, "failed", {})]


def test_a_rule_of_a_team_carries_only_what_is_hers_and_her_name(tmp_path: Path, lake: Lake) -> None:
    """What she says of other namespaces, of clusters that she does not see, or of severity beyond hers leads nowhere."""
    forged = "SELECT 'c1' AS cluster, x AS namespace, 'critical' AS severity, 1 AS value FROM (VALUES ('shop'), ('pay')) AS known(x)"
    rights = {"subject": "group:shop"}
    common = {"cluster": "c1", "exported_severity": "critical", "owner": "group:shop"}
    found = replayed(tmp_path, lake, {"expr": forged}, until=MINUTE, rights=rights)
    assert sorted((one[2] for one in found), key=str) == [{**common, "exported_namespace": "pay"}, {**common, "namespace": "shop"}]
    rule = {"expr": "SELECT 'shop' AS namespace, 1 AS value", "labels": {"severity": "low", "team": "{{ namespace }}"}, "min_coverage": 0}
    (found,) = replayed(tmp_path, lake, rule, until=MINUTE, rights=rights)  # a namespace of this name may be another team's elsewhere
    assert found == (0, "firing", {"exported_namespace": "shop", "severity": "low", "team": "shop", "owner": "group:shop"})
    elsewhere = {"expr": "SELECT 'c9' AS cluster, 'shop' AS namespace, 1 AS value", "min_coverage": 0}
    grants = [{"subject": "group:shop", "role": "namespace-owner", "namespaces": ["shop"], "clusters": ["c1"]}]
    (found,) = replayed(tmp_path, lake, elsewhere, until=MINUTE, rights=rights, ownership={"grants": grants})
    assert found[2] == {"exported_cluster": "c9", "exported_namespace": "shop", "owner": "group:shop"}


def test_a_built_in_rule_of_a_team_does_not_speak_for_the_namespaces_of_its_peers(tmp_path: Path, lake: Lake) -> None:
    """The drops are from web to shop, and the team owns shop."""
    found = replayed(tmp_path, lake, {"expr": "drops_spike()"}, until=25 * MINUTE, rights={"subject": "group:shop"})
    fired = [one[2] for one in found if one[1] == "firing"]
    assert {labels["namespace"] for labels in fired if "namespace" in labels} == {"shop"}
    assert {labels["owner"] for labels in fired} == {"group:shop"}


def test_mistakes_of_one_team_stop_no_other_rule_and_are_told_to_it_once(tmp_path: Path, receiver: Any) -> None:
    fresh = incident.lake_in(tmp_path)
    incident.covered(fresh, incident.observed(T - DAY, T + DAY))
    (tmp_path / "url").write_text(receiver.url)
    (tmp_path / "pay-url").write_text(f"{receiver.url}/pay")
    targets = [
        {"name": "platform", "role": "platform-admin", "webhook": {"url_file": "url"}, "tries": 1},
        {"name": "pay", "subjects": ["group:pay"], "webhook": {"url_file": "pay-url"}, "tries": 1},
    ]
    sections = {"rules": [{"files": "rules.yaml"}, *({"files": f"{name}.yaml", "subject": f"group:{name}"} for name in ("shop", "pay"))]}
    good = {"alert": "Good", "expr": "SELECT 'a' AS x, 7 AS value"}

    def run(minutes: int, pay: str, shop: str = yaml.safe_dump({"groups": [{"name": "g", "rules": [good]}]})) -> Run:
        (tmp_path / "pay.yaml").write_text(pay)
        (tmp_path / "shop.yaml").write_text(shop)
        settings = settings_of(tmp_path, [good], alerts={**sections, "deliver_to": ["platform"]}, deliveries=targets)
        return running.run(settings, fresh, now=T + minutes * MINUTE, source="test")

    alone = yaml.safe_dump({"groups": [{"name": "g", "rules": [good, {"alert": "Bad", "expr": "SELEC"}, {"alert": "Worse", "fro": 1}]}]})
    live = ["g/Good", "group:pay/g/Good", "group:shop/g/Good"]
    done = run(0, alone)
    assert [one.rule for one in done.live] == live
    assert {one.rule for one in done.mistakes} == {"group:pay/g/Bad", "group:pay/g/Worse"}
    assert {one.subject for one in done.mistakes} == {"group:pay"}
    assert done.problems(of_subjects=False) == []
    assert len(done.problems(of_subjects=True)) == len(done.mistakes)
    (told,) = receiver.got
    assert (receiver.paths[0].endswith("/pay"), told["title"]) == (True, "2 alert rules of group:pay cannot be evaluated")
    assert "pay.yaml:" in told["text"]
    assert 'syntax error at or near "SELEC"' in told["text"]
    run(5, alone)
    assert len(receiver.got) == 1
    for minutes, broken in ((10, "groups: ["), (15, "groups: [{nam: g}]"), (20, "groups: [{name: g, rules: [{alert: 1}]}]")):
        done = run(minutes, broken)  # what fired before stays, since nobody knows which rules the file is to have
        assert [one.rule for one in done.live] == live
        assert [one.subject for one in done.mistakes][:1] == ["group:pay"]
    done = run(25, yaml.safe_dump({"groups": []}))
    assert [one.rule for one in done.live] == ["g/Good", "group:shop/g/Good"]
    assert not done.mistakes
    states = {one.rule: one.state for one in running.newest_states(fresh)}
    assert [name for name, state in states.items() if state == "failed"] == []


def test_teams_do_not_share_names_of_rules_and_a_mistake_of_a_team_without_deliveries_is_told_to_the_platform(
    tmp_path: Path, receiver: Any
) -> None:
    fresh = incident.lake_in(tmp_path)
    incident.covered(fresh, incident.observed(T - DAY, T + DAY))
    (tmp_path / "url").write_text(receiver.url)
    rule = {"alert": "Good", "expr": "SELECT 'a' AS x, 7 AS value"}
    file = yaml.safe_dump({"groups": [{"name": "g", "rules": [rule]}]})
    for name in ("shop", "pay"):
        (tmp_path / f"{name}.yaml").write_text(file)
    (tmp_path / "more.yaml").write_text(file)
    named = [{"files": f"{name}.yaml", "subject": "group:shop"} for name in ("shop", "more")]
    sections = {"rules": [*named, {"files": "pay.yaml", "subject": "group:pay"}, {"files": "rules.yaml"}], "deliver_to": ["platform"]}
    target = {"name": "platform", "role": "platform-admin", "webhook": {"url_file": "url"}, "tries": 1}
    settings = settings_of(tmp_path, [rule], alerts=sections, deliveries=[target])
    done = running.run(settings, fresh, now=T, source="test")
    assert [one.rule for one in done.live] == ["g/Good", "group:pay/g/Good", "group:shop/g/Good"]
    (mistake,) = done.mistakes
    said = "more.yaml:4: the rule group:shop/g/Good is defined a second time; the first is at shop.yaml:4, and is evaluated"
    assert str(mistake).replace(f"{tmp_path}/", "") == said
    assert [one["title"] for one in receiver.got] == ["1 alert rule of group:shop cannot be evaluated"]


def test_the_sql_of_the_operators_rules_reads_the_lake_and_no_other_file(tmp_path: Path, lake: Lake) -> None:
    (tmp_path / "secret.csv").write_text("a\n1\n")
    for text in (f"FROM read_csv('{tmp_path}/secret.csv')", f"WITH w AS (COPY (SELECT 1) TO '{tmp_path}/out.csv') SELECT 1 AS value"):
        done = settings_of(tmp_path, [{"alert": "A", "expr": text}], lake=lake)
        (mistake,) = reading.load(done).mistakes
        assert "Cannot access file" in str(mistake)
    assert not (tmp_path / "out.csv").exists()


def test_a_rule_that_fails_or_returns_too_much_does_not_stop_the_others(tmp_path: Path) -> None:
    fresh = incident.lake_in(tmp_path)
    incident.covered(fresh, incident.observed(T - DAY, T + DAY))
    rules = [
        {"alert": "Fails", "expr": "SELECT CAST(cluster AS INTEGER) AS value FROM coverage"},
        {"alert": "Twice", "expr": "SELECT 'a' AS x, range AS value FROM range(2)"},
        {"alert": "Many", "expr": "SELECT range::VARCHAR AS x FROM range(2000)"},
        {"alert": "Good", "expr": "SELECT 'a' AS x, 7 AS value"},
    ]
    done = running.run(settings_of(tmp_path, rules), fresh, now=T, source="test")
    failures = {one.rule.text.alert: one.failure for one in done.evaluations if one.failure}
    assert "Could not convert string 'c1'" in str(failures["Fails"])
    assert "two rows have the same labels" in str(failures["Twice"])
    assert "more than 1,000 rows" in str(failures["Many"])
    assert [(one.rule, one.state, one.value) for one in done.live] == [("g/Good", "firing", 7.0)]


def test_for_begins_anew_once_too_much_was_not_observed(tmp_path: Path, lake: Lake) -> None:
    """c2 was not observed from 12:30 to 12:50: nobody knows whether it was true all the time."""
    rule = {"expr": "SELECT 'c2' AS cluster, 1 AS value", "for": "45m"}
    found = [one[:2] for one in replayed(tmp_path, lake, rule, until=105 * MINUTE) if one[2].get("cluster") == "c2"]
    assert (found[0], *found[-2:]) == ((0, "pending"), (60, "pending"), (105, "firing"))


@pytest.mark.parametrize(
    ("minutes", "expected"),
    [((0, 5, 20), [(0, "pending"), (20, "firing")]), ((0, 5, 360, 380), [(0, "pending"), (360, "pending"), (380, "firing")])],
    ids=["missed evaluations", "a pause"],
)
def test_for_goes_on_over_missed_evaluations_and_begins_anew_after_a_pause(tmp_path: Path, minutes: Any, expected: Any) -> None:
    fresh = incident.lake_in(tmp_path)
    incident.covered(fresh, incident.observed(T - DAY, T + DAY))
    settings = settings_of(tmp_path, [always("a", **{"for": "20m"})])
    runs = [running.run(settings, fresh, now=T + minute * MINUTE, source="test") for minute in minutes]
    changed = [one for run in runs for one in run.changed if not one.is_of_rule]
    assert [((one.time - T) // MINUTE, one.state) for one in changed] == expected


def test_commands_run_list_and_replay_rules(tmp_path: Path, lake: Lake) -> None:
    settings_of(tmp_path, [{"alert": "Drops", "expr": DROPS}], lake=lake)
    common = ["--config", str(tmp_path / "hindcast.yaml"), "--output", "json"]
    until = ["--until", (T + 45 * MINUTE).isoformat()]
    done = CliRunner().invoke(app, ["alerts", "test", "Drops", "--window", "45m", "--step", "5m", *until, *common])
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["time"], row["state"]) for row in rows if row["rule"] == "g/Drops" and row["state"] in ("firing", "resolved")] == [
        ("2026-11-02T12:25:00Z", "firing"),
        ("2026-11-02T12:35:00Z", "resolved"),
    ]
    done = CliRunner().invoke(app, ["alerts", "test", "Nope", *common])
    assert "no rule is named 'Nope': there are g/Drops" in str(done.exception)
    assert CliRunner().invoke(app, ["alerts", "list", *common]).exit_code == 0


def test_verdicts_that_differ_from_the_policies_in_force_fire_and_those_that_agree_do_not(tmp_path: Path) -> None:
    now = dt.datetime.now(dt.UTC).replace(second=0, microsecond=0)
    made, fleet, story = incident.lake_in(tmp_path), build_fleet(1, clusters=("c1",)), Story.before(now)
    history.backfill(made, fleet, story, since=now - 100 * MINUTE, until=now, flows_per_second=0.5, seed=1)
    configuration.backfill(made, fleet, story, since=now - DAY, until=now)
    settings = settings_of(tmp_path, [{"alert": "A", "expr": "verdicts_disagree(share=0.0001, least=1)", "window": "1h"}])
    (rule,) = reading.load(settings).checked()
    at = now - 30 * MINUTE
    assert replaying.replay(settings, Door(made, settings.ownership), rule, since=at, until=at, step=MINUTE).changed == []
    dropped = [row for row in made.read(FLOWS, since=at - 60 * MINUTE, until=at).to_pylist() if row["drop_reason_desc"] == "POLICY_DENIED"]
    allowed = {"verdict": "FORWARDED", "drop_reason": None, "drop_reason_desc": None, "egress_denied_by": None, "ingress_denied_by": None}
    incident.append(made, FLOWS, [row | allowed | {"uuid": str(uuid.uuid4())} for row in dropped])
    (fired,) = replaying.replay(settings, Door(made, settings.ownership), rule, since=at, until=at, step=MINUTE).changed
    assert (fired.state, fired.labels["cluster"]) == ("firing", "c1")
