"""Rule files: each mistake is named with its file and line, and what is right is read."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from typer.testing import CliRunner

from hindcast.cli import app
from pipelines.evidence.rules import calls, links, reading
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.questions import conditions

SQL = "SELECT cluster, source_namespace AS namespace, count(*) AS value FROM flows GROUP BY ALL"


def mistakes(folder: Path, rule: str, *, subject: str | None = None) -> str:
    """What is wrong with a rule, whose first line is the fourth of the file."""
    (folder / "r.yaml").write_text("groups:\n  - name: g\n    rules:\n      - " + rule.replace("\n", "\n        "))
    rules, found = reading.read(folder / "r.yaml", subject=subject)
    assert not (rules and found)
    return "\n".join(map(str, found)).replace(f"{folder}/", "")


@pytest.mark.parametrize(
    ("rule", "mistake"),
    [
        ("alert: A", "r.yaml:4: groups.0.rules.0.expr: Field required"),
        ("alert: A b\nexpr: coverage_below()", "r.yaml:4: groups.0.rules.0.alert: String should match pattern"),
        ("alert: A\nexpr: coverage_below()\nfro: 5m", "r.yaml:6: groups.0.rules.0.fro: unknown key; did you mean 'for'?"),
        ("alert: A\nexpr: coverage_below()\nfor: 5", "r.yaml:6: groups.0.rules.0.for: 5 is not a duration"),
        ("alert: A\nexpr: coverage_below()\nwindow: 10s", "r.yaml:4: groups.0.rules.0: window: from 1m to 31d"),
        ("alert: A\nexpr: SELEC 1", 'r.yaml:5: g/A: syntax error at or near "SELEC"'),
        ("alert: A\nexpr: SELECT 1 FROM flowz", "r.yaml:5: g/A: Table with name flowz does not exist!"),
        ("alert: A\nexpr: SELECT nope FROM flows", "r.yaml:5: g/A: "),
        ("alert: A\nexpr: DELETE FROM flows", "r.yaml:5: g/A: only queries are allowed; this is DELETE"),
        ("alert: A\nexpr: SELECT 1; SELECT 2", "r.yaml:5: g/A: give one statement, not 2"),
        ("alert: A\nexpr: SELECT * FROM read_text('/etc/passwd')", "r.yaml:5: g/A: "),
        ("alert: A\nexpr: SELECT count(*) FROM flows WHERE time > now()", "r.yaml:5: g/A: now is the time of the clock"),
        ("alert: A\nexpr: SELECT verdict AS value FROM flows", "r.yaml:5: g/A: the column value must be a number, not string"),
        ("alert: A\nexpr: SELECT count(*) FROM flows", "r.yaml:5: g/A: the column 'count_star()' needs a name"),
        ("alert: A\nexpr: SELECT verdict AS alertname FROM flows", "r.yaml:5: g/A: the column alertname would replace"),
        ("alert: A\nexpr: drops_spik()", "r.yaml:5: g/A: there is no built-in drops_spik(); did you mean drops_spike?"),
        ("alert: A\nexpr: drops_spike(facto=3)", "r.yaml:5: g/A: drops_spike() has no argument facto; did you mean factor?"),
        ("alert: A\nexpr: drops_spike(factor=0.5)", "r.yaml:5: g/A: drops_spike(factor=...): Input should be greater than 1"),
        ("alert: A\nexpr: drops_spike(3)", 'r.yaml:5: g/A: drops_spike(...) takes named arguments, such as drops_spike(factor="...")'),
        ("alert: A\nexpr: drops_spike(factor=open('x'))", "r.yaml:5: g/A: drops_spike(...) takes named arguments"),
        ("alert: A\nexpr: coverage_below()\nlabels:\n  bad-name: x", "r.yaml:7: g/A: 'bad-name' cannot be the name of a label"),
        *(
            (f"alert: A\nexpr: {expr}\nlabels:\n  {name}: x", f"r.yaml:7: g/A: the label {name} is set by Hindcast")
            for expr in ("coverage_below()", SQL)
            for name in ("alertname", "cluster", "namespace", "owner")
        ),
        ("alert: A\nexpr: drift_opened()\nlabels:\n  kind: x", "r.yaml:7: g/A: the label kind is set by Hindcast"),
        ("alert: A\nexpr: drift_opened()\nlabels:\n  severity: low", "r.yaml:7: g/A: the severity is that of what was evaluated"),
        ("alert: A\nexpr: SELECT verdict AS owner FROM flows", "r.yaml:5: g/A: the column owner would replace"),
        ("alert: A\nexpr: SELECT list_sum(range(200000000)) AS value", "r.yaml:5: g/A: the query needs more than 256 MiB"),
        (f"alert: A\nexpr: {SQL}\nannotations:\n  summary: '{{{{ nope }}}}'", "r.yaml:7: g/A: the template names nope, which is no column"),
        (f"alert: A\nexpr: {SQL}\nlabels:\n  a: '{{{{ $labels.pod }}}}'", "r.yaml:7: g/A: the template names pod, which is no column"),
        (f"alert: A\nexpr: {SQL}\nlabels:\n  a: '{{{{ 1 + 1 }}}}'", "r.yaml:7: g/A: {{ 1 + 1 }} is not the name of a column"),
    ],
)
def test_each_mistake_names_file_and_line(tmp_path: Path, rule: str, mistake: str) -> None:
    assert mistakes(tmp_path, rule).startswith(mistake)


def test_rules_of_a_subject_have_the_severities_that_the_configuration_allows(tmp_path: Path) -> None:
    rule = "alert: A\nexpr: coverage_below()\nlabels:\n  severity: critical"
    assert mistakes(tmp_path, rule) == ""
    (tmp_path / "r.yaml").write_text("groups: [{name: g, rules: [{alert: A, expr: coverage_below(), labels: {severity: critical}}]}]")
    for severities, wrong in ((None, 1), (["critical"], 0)):
        section = {"files": "r.yaml", "subject": "group:shop"} | ({} if severities is None else {"severities": severities})
        found = reading.load(config.parse_config(json.dumps({"alerts": {"rules": [section]}}), source=tmp_path / "hindcast.yaml"))
        assert len(found.mistakes) == wrong
        assert not wrong or "the severities info, low, medium, warning" in str(found.mistakes[0])


def test_a_file_that_is_missing_no_yaml_or_no_mapping_is_a_mistake(tmp_path: Path) -> None:
    for text, mistake in (
        (None, "cannot be read"),
        ("a: [", ":1: not valid YAML"),
        ("- a", ":1: must be a mapping"),
        ("groups: x", ":1: groups"),
    ):
        if text is not None:
            (tmp_path / "r.yaml").write_text(text)
        rules, (found,) = reading.read(tmp_path / "r.yaml")
        assert mistake in str(found)
        assert not rules


def test_all_mistakes_of_a_file_are_named_at_once_and_rules_that_are_right_are_read(tmp_path: Path) -> None:
    rules = [{"alert": name, "expr": expr} for name, expr in (("A", SQL), ("B", "SELEC"), ("C", "nope()"), ("A", SQL))]
    (tmp_path / "r.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": rules}]}))
    found, wrong = reading.read(tmp_path / "r.yaml")
    assert [rule.name for rule in found] == ["g/A"]
    assert sorted(one.text.splitlines()[0] for one in wrong) == [
        "g/A is defined twice; the first is evaluated",
        'g/B: syntax error at or near "SELEC"',
        f"g/C: there is no built-in nope(); there are {', '.join(calls.CALLS)}",
    ]


def test_a_file_cannot_take_more_rights_than_the_configuration_gives_it(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("groups:\n  - name: g\n    subject: root\n    rules: [{alert: A, expr: coverage_below()}]\n")
    _, (wrong,) = reading.read(tmp_path / "r.yaml", subject="group:shop")
    assert "r.yaml:3: the configuration evaluates this file as group:shop, so the group cannot be evaluated as root" in str(wrong)
    (rule,), _ = reading.read(tmp_path / "r.yaml")
    assert rule.subject == "root"


def test_rules_of_all_files_are_loaded_and_a_name_is_there_once(tmp_path: Path) -> None:
    rule = {"groups": [{"name": "g", "rules": [{"alert": "A", "expr": SQL}]}]}
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(yaml.safe_dump(rule))
    for files, wrong in (("*.yaml", "the rule g/A is defined a second time"), ("missing-*", "no file is named")):
        document = {"alerts": {"rules": [{"files": files}]}}
        with pytest.raises(ConfigError, match=wrong):
            reading.load(config.parse_config(json.dumps(document), source=tmp_path / "hindcast.yaml")).checked()


def test_the_command_ends_with_one_if_there_are_mistakes(tmp_path: Path) -> None:
    mistakes(tmp_path, "alert: A\nexpr: SELEC 1")
    done = CliRunner().invoke(app, ["alerts", "check", str(tmp_path / "r.yaml")])
    assert (done.exit_code, f"{tmp_path}/r.yaml:5: g/A: syntax error" in done.output) == (1, True)
    mistakes(
        tmp_path,
        f"alert: A\nexpr: {SQL}\nlabels: {{severity: high}}\nannotations: {{summary: '{{{{ $labels.namespace }}}}: {{{{ $value }}}}'}}",
    )
    done = CliRunner().invoke(app, ["alerts", "check", str(tmp_path / "r.yaml")])
    assert (done.exit_code, done.output) == (0, f"{tmp_path}/r.yaml: 1 rule\n")


def test_the_examples_are_right() -> None:
    rules, mistakes = reading.read(Path(__file__).parents[3] / "docs" / "examples" / "alerts.yaml")
    assert not mistakes
    assert {type(rule.call) for rule in rules if rule.call} == set(calls.CALLS.values())


def test_links_lead_to_pages_with_filters_that_can_be_read() -> None:
    rules, _ = reading.read(Path(__file__).parents[3] / "docs" / "examples" / "alerts.yaml")
    at = dt.datetime(2026, 11, 2, 12, tzinfo=dt.UTC)
    for rule in rules:
        link = urlsplit(links.view("https://h.example/x/", rule, dict.fromkeys(rule.label_columns, "web"), at, at))
        assert (Path(__file__).parents[3] / "dashboards" / "views" / f"{link.path.removeprefix('/x/')}.py").exists()
        state = parse_qs(link.query)
        assert state["from"][0] < state["until"][0] == "2026-11-02T12:00:00Z"
        assert all(conditions.parse(text).values == ("web",) for text in state.get("f", []))
    assert links.view(None, rules[0], {}, at, at) == ""
