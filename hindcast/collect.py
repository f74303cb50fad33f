"""`hindcast collect`: streams flows from every cluster's Hubble into the lake until it is stopped."""

from __future__ import annotations

import contextlib
import logging
import os
import resource
import sys
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption
from hindcast.stopping import stop_at_signals, wait_until
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from collectors.sharing.members import Board

STOP_SECONDS = 9.0


def collect(
    config_path: ConfigOption = None,
    duration: Annotated[str | None, typer.Option("--for", help="Stop after this time, e.g. 60s or 10m.")] = None,
    merge: Annotated[bool, typer.Option("--merge/--no-merge", help="Merge small files every half minute.")] = True,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log debug messages.")] = False,
) -> None:
    """Collect the flows of every cluster in the configuration. SIGTERM and Ctrl-C store the flows received so far, then stop."""
    from collectors.streaming.collect import Collector
    from collectors.streaming.health import HealthServer
    from pipelines.maintenance import maintainer

    settings = config.load_config(config_path)
    _allow_many_files()
    try:
        seconds = config.parse_duration(duration).total_seconds() if duration else None
    except ValueError as error:
        raise ConfigError(f"--for: {error}") from error
    _log_to_stderr(verbose=verbose)
    collector = Collector(settings, _board(settings))
    server = HealthServer(settings.collect.listen, healthy=collector.healthy, ready=collector.ready) if settings.collect.listen else None
    stop = stop_at_signals()
    failure: list[BaseException] = []

    def work() -> None:
        try:
            collector.run(stop)
        except BaseException as error:
            failure.append(error)
        finally:
            stop.set()

    # The collector runs in a separate thread, so that a lake that hangs cannot prevent the process from ending in time.
    worker = threading.Thread(target=work, name="collector", daemon=True)
    worker.start()
    if merge:
        maintainer.beside(settings, stop)
    wait_until(stop.is_set, seconds)
    problem = collector.ready()
    stop.set()
    worker.join(STOP_SECONDS)
    if server:
        server.close()
    if failure:
        raise failure[0]
    if worker.is_alive():
        typer.echo("the lake did not answer in time; flows that were not stored will be read from Hubble's rings again", err=True)
        sys.stdout.flush()
        os._exit(1)  # the interpreter's own end may crash while a thread is still in native code
    typer.echo(f"{counted(collector.flows_stored, 'flow')} stored")
    if seconds is not None and not collector.flows_stored and problem:
        typer.echo(f"hindcast: {problem}", err=True)
        raise typer.Exit(1)


def _allow_many_files() -> None:
    """Let this process have as many open files as the system allows: each stream takes about eight, and the usual limit is 1,024."""
    with contextlib.suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _board(settings: config.Config) -> Board | None:
    """Return where collectors give signs of life, if not in the lake."""
    if settings.collect.leases.kubernetes is None:
        return None
    from pipelines.leases import LeaseBoard  # brings the client of Kubernetes, which others need not load

    return LeaseBoard(settings.collect.leases.kubernetes)


def _log_to_stderr(*, verbose: bool) -> None:
    """Log JSON lines to standard error, or colored text on a terminal."""
    import structlog

    person = sys.stderr.isatty()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG if verbose else logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
