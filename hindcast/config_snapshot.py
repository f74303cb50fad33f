"""`hindcast config snapshot` and `compact`: record the configuration of clusters, and compact the record."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer
from rich.progress import Progress, SpinnerColumn, TextColumn

from hindcast.config_history import ClustersOption, some
from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows
from hindcast.stopping import stop_at_signals, wait_until
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.configuration.snapshot import Snapshot
    from warehouse.lake.tables import Lake

CLUSTERS_AT_ONCE = 4
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


def snapshot(
    config_path: ConfigOption = None,
    cluster: ClustersOption = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep running and record every change within seconds, until stopped.")] = False,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
) -> None:
    """Read each cluster's API server (or folder of manifests) and record what has changed. An unchanged cluster adds no versions.

    Exit code 1 if a cluster could not be read completely; what was not covered is listed, and recorded in the table config_coverage.
    """
    from pipelines.configuration.looking import look
    from warehouse.lake.tables import Lake

    settings = config.load_config(config_path)
    chosen = _configured(settings, cluster)
    lake = Lake.open(settings.lake)
    if watch:
        _watch(lake, chosen)
        return
    with Progress(SpinnerColumn(), TextColumn("{task.description}"), console=messages, transient=True) as progress:
        bars = {each.name: progress.add_task(f"{each.name}: waiting", total=None) for each in chosen}

        def show_progress(name: str, kind: str, objects: int) -> None:
            progress.update(bars[name], description=f"{name}: {kind} {objects:,}")

        with ThreadPoolExecutor(CLUSTERS_AT_ONCE) as pool:
            results = list(pool.map(lambda each: look(lake, each, progress=show_progress), chosen))
    write_rows(pa.Table.from_pylist([_summary(taken) for taken, _ in results], schema=_SUMMARY), output, file)
    for taken, mistakes in results:
        for line in mistakes:
            messages.print(f"{taken.cluster}: {line}", markup=False, style="yellow")
        for trouble in taken.troubles if not mistakes else ():
            is_absent = trouble.state == "absent"
            text = f"no such kind: {some(trouble.kinds)}" if is_absent else f"not covered: {some(trouble.kinds)}: {trouble.detail}"
            messages.print(f"{taken.cluster}: {text}", markup=False, style="dim" if is_absent else "yellow")
    if not all(taken.is_whole and not mistakes for taken, mistakes in results):
        raise typer.Exit(1)


def compact(config_path: ConfigOption = None, lake_url: LakeOption = None, cluster: ClustersOption = None) -> None:
    """Merge the many small files of configuration history into a few. Answers do not change; running it again changes nothing."""
    from hindcast.console import lake_settings
    from pipelines.configuration.care import compact_configuration
    from warehouse.lake.tables import Lake

    lake = Lake.open(lake_settings(config_path, lake_url))
    done = compact_configuration(lake, clusters=frozenset(cluster) if cluster else None)
    files = [sum(getattr(each, when) for each in done) for when in ("files_before", "files_after")]
    typer.echo(f"{counted(files[0], 'file')} became {files[1]}")


def _configured(settings: config.Config, names: list[str] | None) -> list[config.Cluster]:
    known = {each.name: each for each in settings.clusters}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"--cluster {name}: the configuration names {', '.join(known) or 'no cluster'}")
        if known[name].kubernetes is None:
            raise ConfigError(f"--cluster {name}: it has no kubernetes section in the configuration, so there is nothing to read")
    chosen = [known[name] for name in names] if names else [each for each in settings.clusters if each.kubernetes is not None]
    if not chosen:
        raise ConfigError("no cluster has a kubernetes section: add one that says where to read its configuration (docs/configuration.md)")
    return chosen


def _watch(lake: Lake, clusters: list[config.Cluster]) -> None:
    """Watch all clusters, each in a thread, until a signal arrives; an error of the lake stops all of them."""
    from pipelines.configuration.watch import ClusterWatch

    stop, failures = stop_at_signals(), list[BaseException]()

    def on_snapshot(taken: Snapshot) -> None:
        lacking = [look for look in taken.troubles if look.state != "absent"]
        state = (
            ""
            if taken.is_whole
            else "; not covered: "
            + "; ".join(some(look.kinds) + f" ({look.state})" if look.kinds else str(look.detail) for look in lacking)
        )
        written = taken.written.versions
        messages.print(
            f"{taken.cluster}: {counted(sum(taken.objects.values()), 'object')}, {counted(written, 'version')} written{state}", markup=False
        )

    def run(cluster: config.Cluster) -> None:
        try:
            ClusterWatch(lake, cluster, on_snapshot=on_snapshot).run(stop)
        except BaseException as error:
            failures.append(error)
            stop.set()

    threads = [threading.Thread(target=run, args=(cluster,)) for cluster in clusters]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads))
    if failures:
        raise failures[0]


def _summary(taken: Snapshot) -> dict[str, Any]:
    return {
        "cluster": taken.cluster,
        "state": "observed" if taken.is_whole else "partial" if taken.objects else taken.troubles[0].state,
        "objects": sum(taken.objects.values()),
        "versions_began": taken.written.began,
        "versions_ended": taken.written.ended,
        "not_covered": [kind for look in taken.troubles if look.state != "absent" for kind in look.kinds],
    }
