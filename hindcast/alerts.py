"""`hindcast alerts`: checks, runs and replays alert rules, and lists their alerts."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipelines.evidence.rules.model import Rule
    from pipelines.evidence.rules.running import Run
    from pipelines.evidence.rules.states import AlertState

alerts = typer.Typer(no_args_is_help=True, add_completion=False, help="Alert rules: check, run and replay them; list alerts.")
_COLUMNS = ("time", "state", "rule", "labels", "value", "since", "detail")


@alerts.command(epilog="Example: hindcast alerts check alerts/*.yaml")
def check(files: Annotated[list[Path], typer.Argument(help="Rule files.", metavar="FILE...")]) -> None:
    """Check rule files: each mistake is printed with file and line. Ends with 1 if there are any. Needs no lake and no configuration."""
    from pipelines.evidence.rules import reading

    mistakes: list[str] = []
    for file in files:
        rules, wrong = reading.read(file)
        mistakes += map(str, wrong)
        if not wrong:
            typer.echo(f"{file}: {counted(len(rules), 'rule')}")
    for mistake in mistakes:
        typer.echo(mistake)
    if mistakes:
        raise typer.Exit(1)


@alerts.command(epilog="Example: hindcast alerts run --config hindcast.yaml")
def run(config_path: ConfigOption = None, output: OutputOption = Format.TABLE, file: FileOption = None) -> None:
    """Evaluate all rules of the configuration once, and send their alerts. The DAG alert_rules does the same every five minutes.

    Prints the alerts that are pending or firing. A rule with a mistake is named, its owner is told, and all others are evaluated.
    Ends with 1 if a rule could not be evaluated or something could not be sent.
    """
    from pipelines.evidence.rules import running
    from warehouse.lake.tables import Lake

    settings = _with_rules(config_path)
    done = running.run(settings, Lake.open(settings.lake), now=datetime.now(UTC), source="hindcast alerts run")
    _write(done.live, output, file)
    if _say(done):
        raise typer.Exit(1)


@alerts.command("list", epilog="Example: hindcast alerts list --all --output json")
def list_(
    config_path: ConfigOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Also alerts that have ended, and rules that can be evaluated again.")] = False,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """List alerts that are pending or firing, and rules that cannot be evaluated."""
    from pipelines.evidence.rules import running
    from pipelines.evidence.rules.states import LIVE
    from warehouse.lake.tables import Lake

    settings = config.load_config(config_path)
    states = running.newest_states(Lake.open(settings.lake))
    shown = [one for one in states if everything or one.state in (*LIVE, "not_covered", "failed")]
    _write(sorted(shown, key=lambda one: (one.rule, one.alert)), output, file)


@alerts.command(epilog="Example: hindcast alerts test traffic/DropsSpike --window 30d --step 5m")
def test(
    rule: Annotated[str, typer.Argument(help="Name of the rule: its alert, or group/alert.")],
    config_path: ConfigOption = None,
    rules_file: Annotated[Path | None, typer.Option("--rules", help="A rule file, instead of those of the configuration.")] = None,
    window: Annotated[str, typer.Option("--window", help="How much history is replayed.")] = "7d",
    until: Annotated[str | None, typer.Option("--until", help="Age or time at which it ends; now by default.")] = None,
    step: Annotated[str, typer.Option("--step", help="Time between two evaluations; the DAG's is 5m.")] = "5m",
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Replay a rule over recorded history, and show when it would have been pending, fired and ended.

    Nothing is stored and nothing is sent. What arrived late is known now, so a replay may see more than the runs did.
    """
    from rich.progress import Progress

    from hindcast.query_options import moment
    from pipelines.evidence.rules import replaying
    from warehouse.lake.tables import Lake
    from warehouse.questions.door import Door

    settings = config.load_config(config_path)
    chosen = _chosen(settings, rules_file, rule)
    now = datetime.now(UTC)
    end = moment(until, "--until", now=now) if until else now - settings.alerts.lag
    length, every = _duration(window, "--window"), _duration(step, "--step")
    if every < timedelta(minutes=1):
        raise ConfigError(f"--step: {step!r} is less than a minute, the least time between two evaluations")
    door = Door(Lake.open(settings.lake), settings.ownership, settings.rollups, purpose="hindcast alerts test")
    with Progress(console=messages, transient=True) as progress:
        task = progress.add_task(f"replaying {chosen.name}", total=None)
        found = replaying.replay(
            settings,
            door,
            chosen,
            since=end - length,
            until=end,
            step=every,
            progress=lambda done, of: progress.update(task, completed=done, total=of),
        )
    _write(found.changed, output, file)
    fired = sum(one.state == "firing" and one.fired == one.time for one in found.changed)
    messages.print(f"{counted(fired, 'alert')} would have fired in {found.evaluations:,} evaluations", markup=False, style="dim")
    if found.silent:
        messages.print(f"{found.silent:,} evaluations say nothing about some or all clusters: see the rows of the rule", style="yellow")


def _with_rules(config_path: Path | None) -> config.Config:
    settings = config.load_config(config_path)
    if not settings.alerts.rules:
        raise ConfigError("the configuration names no rule files: add alerts.rules, a list such as [{files: alerts/*.yaml}]")
    return settings


def _chosen(settings: config.Config, file: Path | None, name: str) -> Rule:
    from pipelines.evidence.rules import reading

    if file is not None:
        rules, mistakes = reading.read(file)
    else:
        loaded = reading.load(settings)
        rules, mistakes = list(loaded.rules), list(loaded.mistakes)
    found = [rule for rule in rules if name in (rule.name, rule.short_name, rule.text.alert)]
    if not found and mistakes:
        raise ConfigError("\n".join(map(str, mistakes)))
    if len(found) != 1:
        known = ", ".join(rule.name for rule in (found or rules)) or "none"
        raise ConfigError(f"{'several rules are' if found else 'no rule is'} named {name!r}: there are {known}")
    return found[0]


def _duration(text: str, option: str) -> timedelta:
    try:
        return config.parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from error


def _write(states: Sequence[AlertState], output: Format, file: Path | None) -> None:
    import pyarrow as pa

    from warehouse.schema import ALERTS

    schema = pa.schema([ALERTS.schema.field(name) for name in _COLUMNS])
    rows = [
        {**{name: getattr(one, name) for name in _COLUMNS}, "labels": json.dumps(dict(one.labels), ensure_ascii=False, sort_keys=True)}
        for one in states
    ]
    write_rows(pa.Table.from_pylist(rows, schema=schema), output, file)


def _say(done: Run) -> bool:
    """Print what a run found; whether something went wrong."""
    problems = [*done.problems(of_subjects=False), *done.problems(of_subjects=True)]
    silent = [f"{one.rule.name}: {name}: {why}" for one in done.evaluations for name, why in one.not_covered.items()]
    for line in (*problems, *done.failures):
        messages.print(line, markup=False, style="red")
    for line in silent:
        messages.print(f"not evaluated: {line}", markup=False, style="yellow")
    late = "; another run has evaluated this time already" if done.is_late else ""
    firing = sum(one.state == "firing" for one in done.live)
    wrong = f", {counted(len(problems), 'problem')} with rules" if problems else ""
    counts = f"{counted(firing, 'alert')} firing, {len(done.live) - firing} pending{wrong}{late}"
    text = f"{counted(len(done.evaluations), 'rule')} at {done.at:%Y-%m-%d %H:%M} UTC: {counts}"
    messages.print(text, markup=False, style="dim")
    return bool(problems or done.failures)
