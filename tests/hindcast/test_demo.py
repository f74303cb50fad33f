"""The demo and the simulated fleet, started and stopped as people and scripts do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from hindcast.children import Child, stop_all
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

HINDCAST = [sys.executable, "-m", "hindcast"]


def descendants(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


def gone(processes: list[psutil.Process], *, seconds: float = 300) -> bool:
    return not psutil.wait_procs(processes, timeout=seconds)[1]


def test_a_child_that_ignores_a_request_to_stop_is_killed_with_all_it_started(tmp_path: Path) -> None:
    program = (
        "import signal, subprocess, time; signal.signal(15, signal.SIG_IGN); subprocess.Popen(['sleep', '600'], start_new_session=True)"
    )
    program += "; print('up', flush=True); time.sleep(600)"
    child = Child("stubborn", [sys.executable, "-c", program], tmp_path / "log")
    while "up" not in child.last_lines():
        time.sleep(0.05)
    started = [psutil.Process(child.pid), *descendants(child.pid)]
    assert len(started) == 2
    import hindcast.children

    hindcast.children.STOP_SECONDS, before = 0.5, hindcast.children.STOP_SECONDS
    try:
        stop_all([child])
    finally:
        hindcast.children.STOP_SECONDS = before
    assert gone(started)


def test_the_fleet_serves_what_its_configuration_says_and_ends_with_0(tmp_path: Path) -> None:
    command = [*HINDCAST, "simulate", "--clusters", "2", "--nodes", "1", "--rate", "200", "--write-config", str(tmp_path / "hindcast.yaml")]
    fleet = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert fleet.stdout is not None
        lines = iter(fleet.stdout)
        while next(lines).strip() != "ready":
            pass
        settings = config.load_config(tmp_path / "hindcast.yaml")
        assert [cluster.name for cluster in settings.clusters] == ["eu-central", "eu-west"]
        collect = [*HINDCAST, "collect", "--config", str(tmp_path / "hindcast.yaml"), "--for", "4s"]
        done = subprocess.run(collect, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr
        lake = Lake.open(settings.lake)
        assert set(lake.read(FLOWS, ["cluster"])["cluster"].to_pylist()) == {"eu-central", "eu-west"}
    finally:
        fleet.send_signal(signal.SIGINT)
        assert fleet.wait(150) == 0


@pytest.mark.parametrize("arguments", [["--ring", "100"], ["--for", "ever"]])
def test_a_fleet_that_cannot_be_is_refused(arguments: list[str]) -> None:
    assert subprocess.run([*HINDCAST, "simulate", *arguments], capture_output=True, timeout=300, check=False).returncode == 2


@pytest.mark.airflow
def test_the_demo_runs_everything_twice_in_one_folder_and_leaves_nothing_running(tmp_path: Path) -> None:
    command = [*HINDCAST, "demo", "--folder", str(tmp_path / "demo"), "--headless", "--rate", "30"]
    first = subprocess.run([*command, "--for", "15s"], capture_output=True, text=True, timeout=900, check=False)
    assert first.returncode == 0, first.stdout + first.stderr
    assert "Ctrl-C stops everything" in first.stdout
    document = yaml.safe_load((tmp_path / "demo" / "hindcast.yaml").read_text())
    assert len(document["clusters"]) == 3
    lake = Lake.open(config.Lake(url=str(tmp_path / "demo" / "lake")))
    stored = lake.read(FLOWS, ["uuid"])["uuid"].to_pylist()
    assert len(stored) == len(set(stored)) > 500_000

    second = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert second.stdout is not None
    lines = iter(second.stdout)
    while not next(lines).startswith("Ctrl-C"):
        pass
    started = descendants(second.pid)
    assert len(started) >= 4
    second.send_signal(signal.SIGINT)
    second.communicate(timeout=600)
    assert second.returncode == 0
    assert gone(started)
    stored = lake.read(FLOWS, ["uuid"])["uuid"].to_pylist()
    assert len(stored) == len(set(stored))


@pytest.mark.airflow
def test_a_demo_that_is_killed_takes_its_children_with_it(tmp_path: Path) -> None:
    demo = subprocess.Popen(
        [*HINDCAST, "demo", "--folder", str(tmp_path), "--headless"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert demo.stdout is not None
    lines = iter(demo.stdout)
    while not next(lines).startswith("Ctrl-C"):
        pass
    started = descendants(demo.pid)
    os.kill(demo.pid, signal.SIGKILL)
    demo.wait()
    assert gone(started)
