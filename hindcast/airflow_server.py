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
from pathlib import Path
from typing import Annotated

import typer

from hindcast.children import Child, stop_all
from hindcast.console import ConfigOption
from warehouse import config
from warehouse.errors import ConfigError

USER = "admin"


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
    typer.echo(f"airflow for {settings.lake.url} on http://127.0.0.1:{port}, user {USER}, password in {_passwords(home)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # `airflow standalone` leaves child processes running when it is terminated, so it runs in a session of its own, ended as a whole.
    child = Child("airflow", [str(program), "standalone"], home / "airflow.log", _environment(home, source, port))
    try:
        while child.is_alive:
            time.sleep(0.5)
        typer.echo(f"airflow ended unexpectedly; the end of {child.log}:\n{child.last_lines()}", err=True)
        raise typer.Exit(1)
    except KeyboardInterrupt:
        typer.echo("stopping")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        stop_all([child])


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
