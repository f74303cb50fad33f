"""A command imports what it needs itself, so that it starts fast; and the list of commands says what each says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from hindcast.cli import app
from hindcast.lazy import Deferred

HEAVY = ("airflow", "deltalake", "duckdb", "grpc", "kubernetes", "numpy", "pandas", "ptars", "pyarrow", "streamlit", "yaml")
RUN = """
import json, sys
sys.argv[0] = "hindcast"
from hindcast.cli import main
try:
    main()
except SystemExit as ended:
    if ended.code:
        raise
print(json.dumps([name for name, module in sys.modules.items() if module is not None]), file=sys.stderr)
"""


def imported(*arguments: str) -> set[str]:
    """The modules that a command has imported when it ends."""
    ended = subprocess.run([sys.executable, "-c", RUN, *arguments], capture_output=True, text=True, check=True)
    found: set[str] = {name.partition(".")[0] for name in json.loads(ended.stderr.splitlines()[-1])}
    return found


def deferred(command: Any, name: str = "") -> Iterator[tuple[str, Deferred]]:
    """Every command that stands in a list."""
    for part, below in getattr(command, "commands", {}).items():
        if isinstance(below, Deferred):
            yield f"{name} {part}".strip(), below
            yield from deferred(below.command(), f"{name} {part}".strip())


@pytest.mark.parametrize("arguments", [["--help"], ["config", "--help"]])
def test_the_lists_of_commands_import_nothing_heavy(arguments: list[str]) -> None:
    assert not imported(*arguments) & set(HEAVY)


def test_config_at_imports_no_program_that_it_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "manifests").mkdir()
    (tmp_path / "manifests" / "a.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    configuration = tmp_path / "hindcast.yaml"
    configuration.write_text(json.dumps({"lake": {"url": "lake"}, "clusters": [{"name": "c1", "kubernetes": {"manifests": "manifests"}}]}))
    assert CliRunner().invoke(app, ["config", "snapshot", "--config", str(configuration)]).exit_code == 0
    found = imported("config", "at", datetime.now(UTC).isoformat(), "--config", str(configuration))
    assert not found & {"airflow", "collectors", "dashboards", "grpc", "kubernetes", "pandas", "ptars", "streamlit"}


def test_the_lists_say_of_each_command_what_it_says_first() -> None:
    listed = dict(deferred(typer.main.get_command(app)))
    assert {"check", "config at", "config diff", "sql"} <= listed.keys()
    for name, entry in listed.items():
        said = " ".join((entry.command().help or "").split())
        assert said.startswith(entry.help or "?"), name


def test_a_command_that_does_not_exist_is_a_usage_error_that_names_the_nearest() -> None:
    result = CliRunner().invoke(app, ["config", "histroy"])
    assert result.exit_code == 2
    assert "history" in result.output
