"""The small Airflow: programs of it that end are started again, and what they said is kept."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
import typer

from hindcast import airflow_server, children
from hindcast.airflow_server import Component
from hindcast.children import stop_all
from warehouse import config

STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
RUNS = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', {STUBBORN!r}], stdout=subprocess.PIPE)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def component(tmp_path: Path) -> Iterator[Component]:
    """A program that runs until it is killed, with a child that SIGTERM does not end."""
    made = Component("scheduler", [sys.executable, "-c", RUNS], tmp_path, config.environment())
    yield made
    stop_all([made.child])


def until(reached: Callable[[], bool]) -> None:
    """Wait for a condition."""
    while not reached():
        time.sleep(0.02)


def test_a_program_that_cannot_run_here_ends_the_command_with_what_it_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    component = Component(
        "api-server", [sys.executable, "-c", "raise SystemExit('the port 8080 is taken')"], tmp_path, config.environment()
    )
    until(lambda: not component.child.is_alive)
    with pytest.raises(typer.Exit):
        component.keep_running()
    assert "airflow api-server ended unexpectedly" in (said := capsys.readouterr().err)
    assert "the port 8080 is taken" in said


def test_a_program_that_is_killed_takes_its_children_with_it_and_starts_again_with_its_output_kept(
    component: Component, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_server, "START_SECONDS", 0.0)
    monkeypatch.setattr(children, "STOP_SECONDS", 0.1)
    component.keep_running()
    first, log = component.child.pid, tmp_path / "scheduler.log"
    until(lambda: log.read_text().endswith("\n"))
    orphan = psutil.Process(int(log.read_text()))
    psutil.Process(first).kill()
    until(lambda: not component.child.is_alive)
    component.keep_running()
    assert component.child.pid != first
    assert component.child.is_alive
    psutil.wait_procs([orphan])
    assert (tmp_path / "scheduler.previous.log").read_text().strip() == str(orphan.pid)
    assert "airflow scheduler ended after" in capsys.readouterr().err


def test_what_ends_again_and_again_is_started_ever_later_up_to_a_minute() -> None:
    waits = [airflow_server._wait_seconds(ends) for ends in range(1, 10)]
    assert waits == sorted(waits)
    assert (waits[0], waits[1], waits[-1]) == (0.0, 1.0, 60.0)
