"""`hindcast config`: records the network configuration of clusters, and shows it as it was at any time."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from hindcast.asking import AsOption, GroupOption, moment, principal
from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from warehouse import config
from warehouse.errors import AccessDeniedError, ConfigError, HindcastError

if TYPE_CHECKING:
    from pipelines.configuration.differences import ObjectChange, Row
    from pipelines.configuration.snapshot import Snapshot
    from warehouse.access import Scope
    from warehouse.config_coverage import KindCoverage
    from warehouse.tables import Lake

CLUSTERS_AT_ONCE = 4
_LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)

config_history = typer.Typer(no_args_is_help=True, help="Record the clusters' network configuration; look at it as it was at any time.")

ClustersOption = Annotated[list[str] | None, typer.Option("--cluster", "-c", help="Only this cluster; may be given again.")]
NamespacesOption = Annotated[list[str] | None, typer.Option("--namespace", "-n", help="Only this namespace; may be given again.")]
KindsOption = Annotated[list[str] | None, typer.Option("--kind", "-k", help="Only this kind, e.g. cnp; may be given again.")]
RecordedOption = Annotated[
    str | None, typer.Option("--recorded", help="As the lake knew it at this time: what it learned later is left out.")
]


@config_history.callback()
def _commands() -> None:
    """Record the clusters' network configuration; look at it as it was at any time."""


@config_history.command("snapshot", epilog="Example: hindcast config snapshot --cluster prod-eu-1 --watch")
def snapshot(
    config_path: ConfigOption = None,
    cluster: ClustersOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and record every change within seconds, until it is stopped.")] = False,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Look at each cluster's API server (or folder of manifests) and record what is new. An unchanged cluster adds no version.

    Exit code 1 if a cluster could not be read whole: what was not covered is listed, and is in the table config_coverage.
    """
    from pipelines.configuration.looking import look
    from warehouse.tables import Lake

    settings = config.load_config(config_path)
    chosen = _configured(settings, cluster)
    lake = Lake.open(settings.lake)
    if watch:
        _watch(lake, chosen)
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=messages, transient=True) as progress:
        bars = {each.name: progress.add_task(f"{each.name}: waiting", total=None) for each in chosen}

        def tell(name: str, kind: str, objects: int) -> None:
            progress.update(bars[name], description=f"{name}: {kind} {objects:,}")

        with ThreadPoolExecutor(CLUSTERS_AT_ONCE) as pool:
            results = list(pool.map(lambda each: look(lake, each, progress=tell), chosen))
    write_rows(pa.Table.from_pylist([_summary(taken) for taken, _ in results], schema=_SUMMARY), output, file)
    for taken, mistakes in results:
        for line in mistakes:
            messages.print(f"{taken.cluster}: {line}", markup=False, style="yellow")
        for trouble in taken.troubles if not mistakes else ():
            is_absent = trouble.state == "absent"
            text = f"no such kind: {_some(trouble.kinds)}" if is_absent else f"not covered: {_some(trouble.kinds)}: {trouble.detail}"
            messages.print(f"{taken.cluster}: {text}", markup=False, style="dim" if is_absent else "yellow")
    if not all(taken.is_whole and not mistakes for taken, mistakes in results):
        raise typer.Exit(1)


@config_history.command("history", epilog="Example: hindcast config history cnp shop/web --cluster prod-eu-1")
def history(
    kind: Annotated[str, typer.Argument(help="Kind, e.g. CiliumNetworkPolicy or cnp.")],
    name: Annotated[str, typer.Argument(help="NAMESPACE/NAME, or NAME of an object of the whole cluster.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: ClustersOption = None,
    since: Annotated[str | None, typer.Option("--since", help="Only versions in force since then: an age or a time.")] = None,
    recorded: RecordedOption = None,
    user: AsOption = None,
    group: GroupOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Every version of an object: when it was in force, who made it, and what changed."""
    from pipelines.configuration import kinds
    from pipelines.configuration.differences import compare_manifests
    from warehouse import versions

    now = datetime.now(UTC)
    lake, scope = _open(config_path, lake_url, user, group)
    kind_name = kinds.named(kind)
    namespace, _, short = name.rpartition("/") if kind_name != "Namespace" else (name, "", name)
    begin = moment(since, "--since", now=now) if since else _LONG_AGO
    found = versions.between(
        lake,
        begin,
        now + timedelta(days=1),
        tables=[kinds.TABLE_OF[kind_name]],
        clusters=cluster or None,
        kinds=[kind_name],
        names=[short],
        recorded=moment(recorded, "--recorded", now=now) if recorded else None,
    )
    rows = [row for row in _visible(found, scope) if (row["namespace"] or "") == namespace]
    if not rows:
        raise _NotThereError(f"no {kind_name} {name} is recorded" + (f" of cluster {', '.join(cluster)}" if cluster else "") + _hint(lake))
    told = []
    before: Row | None = None
    for row in rows:
        same = before is not None and before["cluster"] == row["cluster"]
        changes = list(compare_manifests(json.loads(before["manifest"]), json.loads(row["manifest"]))) if same and before else []
        told.append(
            {
                **{column: row[column] for column in _HISTORY.names if column in row},
                "hash": row["hash"][:12],
                "changed": [change.path for change in changes] if same else ["first seen"],
            }
        )
        before = row
    write_rows(pa.Table.from_pylist(told, schema=_HISTORY), output, file)


@config_history.command(
    "at", epilog="Example: hindcast config at 2026-03-02T14:00Z --cluster prod-eu-1 --namespace shop | kubectl diff -f -"
)
def at(
    time: Annotated[str, typer.Argument(metavar="TIME", help="A time, a date, or an age such as 90m.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: Annotated[str | None, typer.Option("--cluster", "-c", help="The cluster; may be left out if the lake has one only.")] = None,
    namespace: NamespacesOption = None,
    kind: KindsOption = None,
    recorded: RecordedOption = None,
    user: AsOption = None,
    group: GroupOption = None,
    file: FileOption = None,
) -> None:
    """The configuration that was in force at a time, as YAML that kubectl apply takes.

    What was not covered then stands in comments above it; exit code 1 if nothing was.
    """
    from pipelines.configuration import kinds, manifest_yaml
    from warehouse import versions
    from warehouse.config_coverage import coverage_at

    now = datetime.now(UTC)
    lake, scope = _open(config_path, lake_url, user, group)
    instant = moment(time, "TIME", now=now)
    if instant > now:
        raise ConfigError(f"TIME: {instant:%Y-%m-%dT%H:%M:%SZ} is yet to come")
    as_known = moment(recorded, "--recorded", now=now) if recorded else None
    wanted = [kinds.named(each) for each in kind or ()] or None
    name = cluster or _only_cluster(lake)
    if not scope.sees_cluster(name):
        raise AccessDeniedError(f"{user} may see nothing of cluster {name}")
    tables = kinds.tables_of(wanted or manifest_yaml.APPLICABLE)
    found = versions.in_force(lake, instant, tables=tables, clusters=[name], kinds=wanted, namespaces=namespace or None, recorded=as_known)
    rows = _visible(found, scope, instant)
    covered = [each for each in coverage_at(lake, instant, clusters=[name], recorded=as_known) if wanted is None or each.kind in wanted]
    notes = _coverage_notes(name, instant, [each for each in covered if each.kind in manifest_yaml.APPLICABLE])
    partial = sorted({row["kind"] for row in rows if manifest_yaml.is_partial(row["kind"])})
    if partial:
        notes.append(f"recorded only in part, so not below: {', '.join(partial)}; see hindcast config history, or SQL")
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


@config_history.command("diff", epilog="Example: hindcast config diff 7d 0s --cluster prod-eu-1 --namespace shop")
def diff(
    time1: Annotated[str, typer.Argument(metavar="T1", help="The earlier time: a time, a date, or an age such as 7d.")],
    time2: Annotated[str, typer.Argument(metavar="T2", help="The later time, e.g. 0s for now.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    cluster: ClustersOption = None,
    namespace: NamespacesOption = None,
    kind: KindsOption = None,
    full: Annotated[bool, typer.Option("--full", help="Show added and removed objects whole.")] = False,
    user: AsOption = None,
    group: GroupOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """What differs in the configuration between two times, in meaning: the order of rules, peers and ports is none.

    Exit code 1 if something differs.
    """
    from pipelines.configuration import kinds
    from pipelines.configuration.differences import compare_states
    from warehouse import versions
    from warehouse.config_coverage import coverage_at

    now = datetime.now(UTC)
    lake, scope = _open(config_path, lake_url, user, group)
    times = [moment(text, option, now=now) for text, option in ((time1, "T1"), (time2, "T2"))]
    wanted = [kinds.named(each) for each in kind or ()] or None
    states = [
        _visible(
            versions.in_force(
                lake,
                instant,
                tables=kinds.tables_of(wanted or kinds.TABLE_OF),
                clusters=cluster or None,
                kinds=wanted,
                namespaces=namespace or None,
            ),
            scope,
            instant,
        )
        for instant in times
    ]
    changes = compare_states(*states)
    for instant in times:
        for name in sorted({each for each in _clusters(lake) if (not cluster or each in cluster) and scope.sees_cluster(each)}):
            covered = [each for each in coverage_at(lake, instant, clusters=[name]) if wanted is None or each.kind in wanted]
            for line in _coverage_notes(name, instant, covered):
                if line.startswith("not covered"):
                    messages.print(f"{name} at {instant:%Y-%m-%dT%H:%M:%SZ}: {line}", markup=False, style="yellow")
    if output is Format.TABLE and file is None:
        _print_changes(changes, full=full)
    else:
        write_rows(pa.Table.from_pylist([_change_row(change) for change in changes], schema=_CHANGES), output, file)
    if changes:
        raise typer.Exit(1)


@config_history.command("compact", epilog="Example: hindcast config compact --cluster prod-eu-1")
def compact(config_path: ConfigOption = None, lake_url: LakeOption = None, cluster: ClustersOption = None) -> None:
    """Turn the many small files of configuration history into few. Answers stay the same; running it again changes nothing."""
    from hindcast.console import lake_settings
    from pipelines.configuration.care import compact_configuration
    from warehouse.tables import Lake

    lake = Lake.open(lake_settings(config_path, lake_url))
    done = compact_configuration(lake, clusters=frozenset(cluster) if cluster else None)
    files = [sum(getattr(each, when) for each in done) for when in ("files_before", "files_after")]
    typer.echo(f"{files[0]} files became {files[1]}")


class _NotThereError(HindcastError):
    """Nothing is recorded of what was asked for."""


_TIME = pa.timestamp("us", tz="UTC")
_SUMMARY = pa.schema(
    [
        ("cluster", pa.string()),
        ("state", pa.string()),
        ("objects", pa.int64()),
        ("versions_began", pa.int64()),
        ("versions_ended", pa.int64()),
        ("not_covered", pa.list_(pa.string())),
    ]
)
_HISTORY = pa.schema(
    [
        ("cluster", pa.string()),
        ("valid_from", _TIME),
        ("valid_to", _TIME),
        ("valid_from_source", pa.string()),
        ("changed_by", pa.string()),
        ("ended_how", pa.string()),
        ("ended_by", pa.string()),
        ("changed", pa.list_(pa.string())),
        ("hash", pa.string()),
        ("uid", pa.string()),
        ("recorded", _TIME),
    ]
)
_CHANGES = pa.schema(
    [
        ("how", pa.string()),
        ("cluster", pa.string()),
        ("kind", pa.string()),
        ("namespace", pa.string()),
        ("name", pa.string()),
        ("recreated", pa.bool_()),
        ("at", _TIME),
        ("by", pa.string()),
        (
            "paths",
            pa.list_(pa.struct([("path", pa.string()), ("before", pa.string()), ("after", pa.string())])),
        ),
    ]
)


def _configured(settings: config.Config, names: list[str] | None) -> list[config.Cluster]:
    known = {each.name: each for each in settings.clusters}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"--cluster {name}: the configuration names {', '.join(known) or 'no cluster'}")
        if known[name].kubernetes is None:
            raise ConfigError(f"--cluster {name}: its configuration has no kubernetes, so there is nothing to read")
    chosen = [known[name] for name in names] if names else [each for each in settings.clusters if each.kubernetes is not None]
    if not chosen:
        raise ConfigError("no cluster has a kubernetes section: say where its configuration is read from (docs/configuration.md)")
    return chosen


def _watch(lake: Lake, clusters: list[config.Cluster]) -> None:
    """Watch all of them, a thread each, until a signal comes; an error of the lake ends all."""
    from pipelines.configuration.watch import ClusterWatch

    stop, failures = threading.Event(), list[BaseException]()

    def told(taken: Snapshot) -> None:
        state = (
            ""
            if taken.is_whole
            else "; not covered: " + "; ".join(f"{_some(look.kinds)} ({look.state})" for look in taken.troubles if look.state != "absent")
        )
        written = taken.written.versions
        messages.print(f"{taken.cluster}: {sum(taken.objects.values()):,} objects, {written:,} versions written{state}", markup=False)

    def run(cluster: config.Cluster) -> None:
        try:
            ClusterWatch(lake, cluster, told=told).run(stop)
        except BaseException as error:
            failures.append(error)
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    threads = [threading.Thread(target=run, args=(cluster,)) for cluster in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def _open(config_path: Path | None, lake_url: str | None, user: str | None, groups: list[str] | None) -> tuple[Lake, Scope]:
    """The lake, and what the principal may see of it. Raises AccessDeniedError if that is nothing."""
    from hindcast.console import lake_settings
    from warehouse.query import Door
    from warehouse.tables import Lake

    settings = config.Config() if lake_url and not config_path else config.load_config(config_path)
    lake = Lake.open(lake_settings(config_path, lake_url))
    scope = Door(lake, settings.ownership, settings.rollups, purpose="hindcast config").scope(principal(user, groups))
    if scope.is_empty:
        raise AccessDeniedError(f"{user} owns no namespace here: ask for a grant in the configuration's ownership.grants")
    return lake, scope


def _visible(rows: pa.Table, scope: Scope, at: datetime | None = None) -> list[Row]:
    """The versions a principal may see: those of namespaces that are its own at a time (None: at some time of the version);
    what is of the whole cluster only with the whole cluster."""
    return [row for row in rows.to_pylist() if scope.everything or any(_is_seen(row, scope, each) for each in _moments(row, scope, at))]


def _is_seen(row: Row, scope: Scope, at: datetime) -> bool:
    if row["namespace"] is None:
        return scope.sees_whole(row["cluster"], at)
    return scope.owns(row["cluster"], row["namespace"], at)


def _moments(row: Row, scope: Scope, at: datetime | None) -> list[datetime]:
    """The moments at which ownership may begin within a version."""
    if at is not None:
        return [at]
    begins = [row["valid_from"], *(grant.since for grant in scope.grants if grant.since), *(d.until for d in scope.denials if d.until)]
    return [each for each in begins if each >= row["valid_from"] and (row["valid_to"] is None or each < row["valid_to"])]


def _clusters(lake: Lake) -> list[str]:
    from warehouse.schema import CONFIG_COVERAGE

    return sorted({file.partition["cluster"] for file in lake.contents(CONFIG_COVERAGE)})


def _only_cluster(lake: Lake) -> str:
    names = _clusters(lake)
    if len(names) != 1:
        raise ConfigError(
            "--cluster: say which one" + (f" of {', '.join(names)}" if names else "; none is recorded yet: hindcast config snapshot")
        )
    return names[0]


def _hint(lake: Lake) -> str:
    names = _clusters(lake)
    return "" if names else ": no cluster was looked at yet, run hindcast config snapshot"


def _coverage_notes(cluster: str, at: datetime, covered: list[KindCoverage]) -> list[str]:
    """What has to be known to trust the state at a time, a line each."""
    if not covered or all(each.state == "never" for each in covered):
        return [f"not covered: cluster {cluster} was not looked at until then"]
    notes = []
    known = [each for each in covered if each.state == "observed" and each.before is not None]
    if known:
        before = min(each.before for each in known if each.before is not None)
        afters = [each.after for each in known]
        after = None if None in afters else max(each for each in afters if each is not None)
        until = (
            f", and next at {after:%Y-%m-%dT%H:%M:%SZ}" if after is not None else ", and not since" if at - before > timedelta(0) else ""
        )
        notes.append(f"observed at {before:%Y-%m-%dT%H:%M:%SZ}{until}; what changed in between is told by the objects themselves")
    lacking: dict[str, list[str]] = {}
    for each in covered:
        if not each.is_known:
            seen = f", last seen {each.before:%Y-%m-%dT%H:%M:%SZ}" if each.before is not None else ", never seen until then"
            lacking.setdefault(each.state + seen, []).append(each.kind)
    notes += [f"not covered: {_some(kinds)} ({why})" for why, kinds in lacking.items()]
    absent = [each.kind for each in covered if each.state == "absent"]
    return [*notes, f"the cluster had no such kind: {_some(absent)}"] if absent else notes


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")


def _summary(taken: Snapshot) -> dict[str, Any]:
    return {
        "cluster": taken.cluster,
        "state": "observed" if taken.is_whole else "partial" if taken.objects else taken.troubles[0].state,
        "objects": sum(taken.objects.values()),
        "versions_began": taken.written.began,
        "versions_ended": taken.written.ended,
        "not_covered": [kind for look in taken.troubles if look.state != "absent" for kind in look.kinds],
    }


def _change_row(change: ObjectChange) -> dict[str, Any]:
    paths = [{"path": each.path, "before": each.before, "after": each.after} for each in change.paths]
    return {**{name: getattr(change, name) for name in _CHANGES.names if name != "paths"}, "paths": paths}


def _print_changes(changes: Sequence[ObjectChange], *, full: bool) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False, soft_wrap=True)
    signs = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}
    for change in changes:
        sign, colour = signs[change.how]
        place = f"{change.namespace}/{change.name}" if change.namespace and change.kind != "Namespace" else change.name
        how = "deleted and made anew" if change.recreated else change.how
        when = f" {change.at:%Y-%m-%dT%H:%M:%SZ}" if change.at is not None else ""
        who = f" by {change.by}" if change.by else ""
        console.print(
            Text(f"{sign} {change.kind} {place}", style=f"bold {colour}") + Text(f"  {change.cluster}: {how}{when}{who}", style="dim")
        )
        for each in change.paths:
            line = Text(f"    {each.path}: ")
            if each.before is not None:
                line.append(each.before, style="red")
            if each.before is not None and each.after is not None:
                line.append(" → ")
            elif each.after is None:
                line.append(" (gone)", style="dim")
            if each.after is not None:
                line.append(each.after, style="green")
            console.print(line)
        if full and change.how != "changed":
            _print_whole(console, change, sign, colour)
    counts = ", ".join(f"{sum(each.how == how for each in changes)} {how}" for how in signs)
    messages.print(counts if changes else "nothing differs", style="dim")


def _print_whole(console: Any, change: ObjectChange, sign: str, colour: str) -> None:
    import yaml
    from rich.text import Text

    from pipelines.configuration.manifest_yaml import applicable

    manifest = applicable(json.loads(change.after or change.before or "{}"))
    for line in yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True).splitlines():
        console.print(Text(f"    {sign} {line}", style=colour))


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--file {file}: cannot be written: {error.strerror}") from error
