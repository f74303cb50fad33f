"""`hindcast demo`: runs everything on one machine, with a simulated fleet and two days of its history."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
import yaml
from rich.progress import BarColumn, Progress, TextColumn

from hindcast.children import Child, stop_all
from hindcast.console import messages
from hindcast.simulate import GRANTS
from warehouse import config
from warehouse.errors import ConfigError, HindcastError, LakeError
from warehouse.wording import counted

READY_SECONDS = 900.0


class DemoFailedError(HindcastError):
    """A part of the demo did not start or ended unexpectedly."""


LOOK_EVERY_SECONDS = 600.0
"""How often it is noted that the simulated configuration was looked at; without that it would soon not be judged any more."""


def demo(
    folder: Annotated[Path, typer.Option("--folder", help="Folder for the lake, configuration and logs.")] = Path("demo"),
    config_path: Annotated[
        Path | None, typer.Option("--config", help="Collect the clusters in this configuration instead of a simulated fleet.")
    ] = None,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Flows per second of the simulated fleet.")] = 60.0,
    duration: Annotated[str | None, typer.Option("--for", help="Stop after this time, e.g. 60s.")] = None,
    headless: Annotated[
        bool, typer.Option("--headless", help="For scripts: open no browser; with --for, fail unless flows arrived.")
    ] = False,
) -> None:
    """Run a simulated fleet, collectors, maintenance of the lake and the dashboard. Ctrl-C stops everything it started."""
    try:
        seconds = config.parse_duration(duration).total_seconds() if duration else None
    except ValueError as error:
        raise ConfigError(f"--for: {error}") from error
    folder = folder.absolute()
    children: list[Child] = []

    def end(_signal: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)
    stored_before = None
    try:
        stored_before = _start(folder, config_path, rate, children, headless=headless)
        _watch(children, seconds, _looks(folder) if config_path is None else lambda: None)
    except KeyboardInterrupt:
        messages.print("\nstopping …", style="dim")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a second Ctrl-C must leave nothing behind
        stop_all(children)
    if stored_before is None:
        typer.echo(f"stopped before every part was ready; the lake is in {folder / 'lake'}")
        return
    added = _flows_stored(folder) - stored_before
    typer.echo(f"stopped; {counted(added, 'flow')} collected, the lake is in {folder / 'lake'}")
    if headless and seconds is not None and added <= 0:
        raise DemoFailedError(f"no flow was collected: see {folder / 'logs'}")


def _start(folder: Path, config_path: Path | None, rate: float, children: list[Child], *, headless: bool) -> int:
    """Start every part and wait until all are ready; return the number of flows in the lake by then."""
    command = [sys.executable, "-m", "hindcast"]
    logs = folder / "logs"

    def start(name: str, *arguments: str) -> Child:
        children.append(Child(name, [*command, *arguments], logs / f"{name}.log"))
        return children[-1]

    def wait(child: Child, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not ready():
            _check(child)
            if time.monotonic() > deadline:
                raise DemoFailedError(f"{child.name} is not ready after {READY_SECONDS:.0f} s:\n{child.last_lines()}")
            time.sleep(0.1)
        messages.print(f"✓ {child.name}", style="green")

    ports = {name: _free_port() for name in ("collect", "dashboard", "airflow")}
    if config_path:
        document = yaml.safe_load(config_path.read_text(encoding="utf-8")) or {}
        settings = config.load_config(config_path)
        file = config_path.absolute()
        collect = settings.collect.listen or None
    else:
        fleet_file = folder / "fleet.json"
        fleet_file.unlink(missing_ok=True)
        fleet = start("simulate", "simulate", "--rate", str(rate), "--write-config", str(fleet_file))
        wait(fleet, fleet_file.exists)
        document = json.loads(fleet_file.read_text())
        collect = f"127.0.0.1:{ports['collect']}"
        document["collect"] = {"flush_every": "5s", "listen": collect}
        people = [grant["subject"] for grant in GRANTS]
        document["dashboard"] = {"listen": f"127.0.0.1:{ports['dashboard']}", "auth": {"decide_without_sign_in": people}}
        document |= _files(folder)
        file = folder / "hindcast.yaml"
        file.write_text(yaml.safe_dump(document, sort_keys=False))
        settings = config.load_config(file)
        _backfill(settings)
    stored = _flows_of(settings.lake)
    # Airflow takes longest to start and its first run needs the history, so it is started now and waited for last.
    airflow = f"http://127.0.0.1:{ports['airflow']}"
    scheduler = start("airflow", "airflow", "--config", str(file), "--home", str(folder / "airflow"), "--port", str(ports["airflow"]))
    if collect:
        wait(start("collect", "collect", "--config", str(file)), lambda: _answers(f"http://{collect}/readyz"))
    dashboard = f"http://{settings.dashboard.listen}"
    wait(start("dashboard", "dashboard", "--config", str(file)), lambda: _answers(f"{dashboard}/_stcore/health"))
    wait(scheduler, lambda: _answers(f"{airflow}/api/v2/version"))
    _print_suggestions(file, dashboard, airflow, simulated=config_path is None)
    if not headless and sys.stdout.isatty():
        typer.launch(dashboard)
    return stored


def _files(folder: Path) -> dict[str, Any]:
    from hindcast import demo_files

    return demo_files.write(folder)


def _backfill(settings: config.Config) -> None:
    """Store two days of history, unless the lake already has some."""
    from hindcast import demo_history
    from warehouse.lake.tables import Lake
    from warehouse.schema import FLOWS

    lake = Lake.open(settings.lake)
    if lake.files(FLOWS):
        return
    hours = int(demo_history.HISTORY.total_seconds() // 3600)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} hours · {task.fields[flows]:,} flows"),
    )
    with Progress(*columns, console=messages) as progress:
        task = progress.add_task("two days of history", total=hours + 1, flows=0)

        def show_progress(done: int, flows: int) -> None:
            progress.update(task, advance=done, flows=progress.tasks[0].fields["flows"] + flows)

        demo_history.fill(lake, settings, now=datetime.now(UTC), progress=show_progress)


def _looks(folder: Path) -> Callable[[], None]:
    """Records, at each call, that the simulated clusters' configuration was watched since the previous call."""
    from collectors.simulator.configuration import look_again
    from warehouse.lake.tables import Lake

    settings = config.load_config(folder / "hindcast.yaml")
    lake, clusters, since = Lake.open(settings.lake), [cluster.name for cluster in settings.clusters], [datetime.now(UTC)]

    def look() -> None:
        now = datetime.now(UTC)
        try:
            look_again(lake, clusters, since=since[0], until=now)
        except LakeError as error:
            messages.print(f"coverage of the configuration could not be recorded: {error}", markup=False, style="yellow")
        since[0] = now

    return look


def _watch(children: list[Child], seconds: float | None, look_again: Callable[[], None]) -> None:
    """Wait until the time is over. Raises DemoFailedError if a part ends."""
    began = looked = time.monotonic()
    while seconds is None or time.monotonic() - began < seconds:
        for child in children:
            _check(child)
        if time.monotonic() - looked > LOOK_EVERY_SECONDS:
            look_again()
            looked = time.monotonic()
        time.sleep(0.5)


def _check(child: Child) -> None:
    if not child.is_alive:
        raise DemoFailedError(f"{child.name} ended unexpectedly; the end of {child.log}:\n{child.last_lines()}")


def _print_suggestions(file: Path, dashboard: str, airflow: str, *, simulated: bool) -> None:
    from collectors.simulator.story import Story

    hindcast = f"hindcast --help · with --config {file}:"
    lines = [
        f"dashboard   {dashboard}" + (f"   users: {', '.join(str(grant['subject']) for grant in GRANTS)}" if simulated else ""),
        f"airflow     {airflow}",
        hindcast,
        "  hindcast status",
        "  hindcast flows --since 5m --follow",
        "  hindcast sql \"SELECT source_namespace, count(*) FROM flows WHERE verdict = 'DROPPED' GROUP BY 1 ORDER BY 2 DESC\"",
    ]
    if simulated:
        story = Story.before(datetime.now(UTC))
        begin, end = story.incident
        lines += [
            f"  what was dropped in the incident ({begin:%d %b %H:%M} to {end:%H:%M} UTC)?",
            f"  hindcast flows --since {begin:%Y-%m-%dT%H:%MZ} --until {end:%Y-%m-%dT%H:%MZ} --namespace cart --verdict DROPPED",
            f"  a deployment of checkout-api at {story.deployment:%d %b %H:%M} UTC changed whom it calls",
        ]
    lines.append("Ctrl-C stops everything.")
    for line in lines:
        typer.echo(line)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _flows_stored(folder: Path) -> int:
    file = folder / "hindcast.yaml"
    return _flows_of(config.load_config(file).lake) if file.exists() else 0


def _flows_of(lake: config.Lake) -> int:
    from warehouse.lake.tables import Lake
    from warehouse.schema import FLOWS

    return Lake.open(lake).rows(FLOWS)
