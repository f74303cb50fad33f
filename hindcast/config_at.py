"""`hindcast config at`: prints the configuration of a cluster as it was at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.config_history import KindsOption, NamespacesOption, RecordedOption, some
from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal
from warehouse.errors import AccessDeniedError, ConfigError

if TYPE_CHECKING:
    from warehouse.access.principals import Principal
    from warehouse.questions.door import Door
    from warehouse.records.configuration_coverage import KindCoverage


def at(
    time: Annotated[str, typer.Argument(metavar="TIME", help="A time, a date, or an age such as 90m.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: Annotated[str | None, typer.Option("--cluster", "-c", help="The cluster; optional if the lake has only one.")] = None,
    namespace: NamespacesOption = None,
    kind: KindsOption = None,
    recorded: RecordedOption = None,
    user: AsOption = None,
    group: GroupOption = None,
    file: FileOption = None,
) -> None:
    """Print the configuration that was in force at a time, as YAML that kubectl apply accepts.

    Comments at the top list what was not covered then; exit code 1 if nothing was covered.
    """
    from pipelines.configuration import kinds, manifest_yaml
    from warehouse.engine import Window
    from warehouse.questions.record_questions import Configuration, ConfigurationCoverage

    now = datetime.now(UTC)
    door, who = open_door(config_path, lake_url, "config at"), principal(user, group)
    instant = moment(time, "TIME", now=now)
    if instant > now:
        raise ConfigError(f"TIME: {instant:%Y-%m-%dT%H:%M:%SZ} is in the future")
    as_known = moment(recorded, "--recorded", now=now) if recorded else None
    wanted = [kinds.named(each) for each in kind or ()] or None
    name = cluster or _only_cluster(door, who)
    question = Configuration(
        window=Window(since=instant, until=instant + timedelta.resolution),
        tables=tuple(kinds.tables_of(wanted or manifest_yaml.APPLICABLE)),
        clusters=(name,),
        kinds=tuple(wanted or ()),
        namespaces=tuple(namespace or ()),
        recorded=as_known,
    )
    rows = door.answer(who, question).rows.to_pylist()
    if not door.scope(who).sees_cluster(name):
        raise AccessDeniedError(f"{user} may see nothing of cluster {name}")
    known = door.answer(who, ConfigurationCoverage(at=instant, clusters=(name,), recorded=as_known))
    covered = [each for each in known if wanted is None or each.kind in wanted]
    notes = coverage_notes(name, instant, [each for each in covered if each.kind in manifest_yaml.APPLICABLE])
    partial = sorted({row["kind"] for row in rows if manifest_yaml.is_partial(row["kind"])})
    if partial:
        notes.append(f"recorded only in part, so not included: {', '.join(partial)}; use hindcast config history, or SQL")
    text = "".join(f"# {line}\n" for line in [f"cluster {name} at {instant:%Y-%m-%dT%H:%M:%SZ}", *notes])
    text += "".join(manifest_yaml.documents(rows))
    if file is None:
        typer.echo(text, nl=False)
    else:
        _write(file, text)
    for line in notes:
        messages.print(line, markup=False, style="yellow" if line.startswith("not covered") else "dim")
    if not any(each.is_known for each in covered):
        raise typer.Exit(1)


def _only_cluster(door: Door, who: Principal) -> str:
    from warehouse.schema import CONFIG_COVERAGE

    names = door.clusters(who, of=CONFIG_COVERAGE)
    if len(names) != 1:
        raise ConfigError(
            "--cluster: say which one" + (f" of {', '.join(names)}" if names else "; none is recorded yet: hindcast config snapshot")
        )
    return names[0]


def coverage_notes(cluster: str, at: datetime, covered: list[KindCoverage]) -> list[str]:
    """Return lines that describe how well the configuration at a time is known."""
    if not covered or all(each.state == "never" for each in covered):
        return [f"not covered: cluster {cluster} had not been observed by then"]
    notes = []
    known = [each for each in covered if each.state == "observed" and each.before is not None]
    if known:
        before = min(each.before for each in known if each.before is not None)
        afters = [each.after for each in known]
        after = None if None in afters else max(each for each in afters if each is not None)
        until = (
            f", and next at {after:%Y-%m-%dT%H:%M:%SZ}" if after is not None else ", and not since" if at - before > timedelta(0) else ""
        )
        notes.append(f"observed at {before:%Y-%m-%dT%H:%M:%SZ}{until}; changes in between are derived from the objects themselves")
    notes += sorted({each.detail for each in known if each.detail})
    lacking: dict[str, list[str]] = {}
    for each in covered:
        if not each.is_known:
            seen = f", last seen {each.before:%Y-%m-%dT%H:%M:%SZ}" if each.before is not None else ", never seen by then"
            lacking.setdefault(each.state + seen, []).append(each.kind)
    notes += [f"not covered: {some(kinds)} ({why})" for why, kinds in lacking.items()]
    absent = [each.kind for each in covered if each.state == "absent"]
    return [*notes, f"the cluster had no such kind: {some(absent)}"] if absent else notes


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--file {file}: cannot be written: {error.strerror}") from error
