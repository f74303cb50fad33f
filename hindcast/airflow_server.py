"""`hindcast airflow`: a small Airflow for one machine that runs Hindcast's DAGs.

To use an existing Airflow instead, point its DAG folder at the `dags` package and set HINDCAST_CONFIG.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from hindcast.children import Child, stop_all
from hindcast.console import ConfigOption
from warehouse import config
from warehouse.errors import ConfigError

USER = "admin"
COMPONENTS = ("scheduler", "dag-processor", "triggerer", "api-server")
POLL_SECONDS = 0.5
LOCKED_SECONDS = 120
"""How long a component waits for its turn to write to the database."""
START_SECONDS = 30.0
"""A component that ends sooner than this after the command began cannot run here, e.g. since its port is taken."""
STEADY_SECONDS = 600.0
"""A component that ran for so long is started again at once, however often it ended before."""
LONGEST_WAIT_SECONDS = 60.0


def airflow(
    config_path: ConfigOption = None,
    home: Annotated[Path, typer.Option("--home", help="Folder for Airflow's database, logs and password.")] = Path("airflow"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535, help="Loopback port of the web interface and API.")] = 8080,
) -> None:
    """Run Airflow on loopback with the DAGs that maintain the lake. Ctrl-C stops it."""
    settings = config.load_config(config_path)
    source = (config_path or Path(config.environment().get(config.ENVIRONMENT_VARIABLE) or config.DEFAULT_PATH)).absolute()
    home = home.absolute()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    program = Path(sys.executable).with_name("airflow")
    if not program.exists():
        raise ConfigError("Airflow is not installed here: pip install 'hindcast-flows[airflow]'")
    environment = _environment(home, source, port)
    typer.echo(f"airflow for {settings.lake.url} on http://127.0.0.1:{port}, user {USER}, password in {_passwords(home)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    components: list[Component] = []
    try:
        _prepare(program, environment, home)
        components.extend(Component(name, [str(program), name], home, environment) for name in COMPONENTS)
        while True:
            time.sleep(POLL_SECONDS)
            for component in components:
                component.keep_running()
    except KeyboardInterrupt:
        typer.echo("stopping")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop_all([component.child for component in components])


class Component:
    """A program of Airflow's that is started again when it ends, e.g. because its database was locked for too long.

    `airflow standalone` would run the others without it. Output goes to NAME.log in Airflow's home, that of a run that ended to
    NAME.previous.log.
    """

    def __init__(self, name: str, command: Sequence[str], home: Path, environment: Mapping[str, str]) -> None:
        self._name, self._command, self._environment = name, command, environment
        self._log = home / f"{name}.log"
        self._ended_at: float | None = None
        self._ends = 0
        self._start()

    def _start(self) -> None:
        self._began = time.monotonic()
        self.child = Child(self._name, self._command, self._log, self._environment)

    def keep_running(self) -> None:
        """Start it again if it ended: at once, and ever later if it ends again. Exits if it ended before it can have been of use."""
        if self.child.is_alive:
            return
        now = time.monotonic()
        if self._ended_at is None:
            lived = now - self._began
            if lived < START_SECONDS and not self._ends:
                typer.echo(f"airflow {self._name} ended unexpectedly; the end of {self._log}:\n{self.child.last_lines()}", err=True)
                raise typer.Exit(1)
            self._ends = self._ends + 1 if lived < STEADY_SECONDS else 1
            self._ended_at = now
            stop_all([self.child])  # processes that it started may still run
            wait, log = _wait_seconds(self._ends), self._log.with_suffix(".previous.log")
            self._log.replace(log)
            typer.echo(f"airflow {self._name} ended after {lived:.0f} s and starts again in {wait:.0f} s: {log}", err=True)
        if now >= self._ended_at + _wait_seconds(self._ends):
            self._ended_at = None
            self._start()


def _wait_seconds(ends: int) -> float:
    """Return how long to wait before a component that ended this often in a row is started again, in seconds."""
    return min(2.0 ** (ends - 1) - 1, LONGEST_WAIT_SECONDS)


def _prepare(program: Path, environment: Mapping[str, str], home: Path) -> None:
    """Create or upgrade Airflow's database. Exits with what Airflow says if it cannot be done."""
    migration = Child("db migrate", [str(program), "db", "migrate"], home / "migrate.log", environment)
    try:
        if migration.wait():
            typer.echo(f"airflow's database in {home} cannot be prepared; the end of {migration.log}:\n{migration.last_lines()}", err=True)
            raise typer.Exit(1)
    finally:
        stop_all([migration])


def _environment(home: Path, source: Path, port: int) -> dict[str, str]:
    """Return Airflow's settings: loopback, few processes, only our DAGs."""
    dags = Path(str(importlib.resources.files("dags")))
    settings = {
        "AIRFLOW_HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), config.environment().get("PATH", os.defpath)]),
        config.ENVIRONMENT_VARIABLE: str(source),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "3",
        "AIRFLOW__CORE__AUTH_MANAGER": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        # On a busy machine, a write may wait long for other processes' writes; after Airflow's own five seconds components would end.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db?timeout={LOCKED_SECONDS}",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(_passwords(home)),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": _secret(home),
        # These two always bind every interface; they only answer requests with a token signed with the secret above.
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(port + 1),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(port + 2),
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
    }
    return config.environment(**settings)


def _passwords(home: Path) -> Path:
    """Return the file with the user's password; it is created once, readable only by its owner."""
    file = home / "passwords.json"
    if not file.exists():
        _write_secret(file, json.dumps({USER: secrets.token_urlsafe(18)}))
    return file


def _secret(home: Path) -> str:
    file = home / "jwt_secret"
    if not file.exists():
        _write_secret(file, secrets.token_urlsafe(64))
    return file.read_text()


def _write_secret(file: Path, text: str) -> None:
    file.touch(mode=0o600)
    file.write_text(text)
