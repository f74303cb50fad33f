"""The built wheel, installed as people do: with each extra into a fresh environment, where the command runs and a query answers."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from warehouse import config

ROOT = Path(__file__).resolve().parents[1]
UV = Path(sys.executable).with_name("uv")
SECONDS = 900.0
"""For one program: on an empty cache Airflow's hundred packages are downloaded first."""
LAKE = "lake"
IMPORT_ALL = """
import importlib, importlib.util, pkgutil, sys
optional = () if importlib.util.find_spec("pyspark") else tuple(f"warehouse.engines.{name}" for name in ("client", "dialect", "spark"))
for package in sys.argv[1:]:
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not module.name.endswith("__main__") and module.name not in optional:
            importlib.import_module(module.name)
"""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.installs,
    pytest.mark.skipif(not UV.exists(), reason="installs with uv, which cannot be installed here"),
]


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """What a program prints; fails the test with all of its output if it fails."""
    ended = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=config.environment(**environment),
        check=False,
    )
    assert ended.returncode == 0, f"{command}:\n{ended.stdout}\n{ended.stderr}"
    return ended.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution as it is built from this tree."""
    folder = tmp_path_factory.mktemp("wheel")
    run(UV, "build", "--wheel", "--out-dir", folder, ROOT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def constraints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The versions of the lock, so that what is installed is what is tested."""
    file = tmp_path_factory.mktemp("constraints") / "constraints.txt"
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pinned = [line.rstrip("\\ ") for line in lines if "==" in line and not line.startswith((" ", "#"))]
    file.write_text("\n".join(pinned))
    return file


@pytest.mark.parametrize(
    ("extra", "packages", "commands"),
    [
        ("", ["warehouse", "pipelines.maintenance"], [["maintain", "compact", "--lake", LAKE]]),
        ("collectors", ["warehouse", "collectors"], [["collect", "--help"]]),
        ("pipelines", ["warehouse", "pipelines"], [["config", "snapshot", "--help"]]),
        ("dashboards", ["warehouse", "dashboards.access", "dashboards.charting"], [["dashboard", "--help"]]),
        ("airflow", ["warehouse", "pipelines", "dags"], [["airflow", "--help"]]),
    ],
    ids=lambda value: (value or "base") if isinstance(value, str) else "",
)
def test_the_wheel_runs_and_answers_in_a_fresh_environment(
    wheel: Path, constraints: Path, tmp_path: Path, extra: str, packages: list[str], commands: list[list[str]]
) -> None:
    environment = tmp_path / "venv"
    run(UV, "venv", "--python", sys.executable, environment, folder=tmp_path)
    wanted = f"hindcast-flows[{extra}] @ {wheel.as_uri()}" if extra else f"hindcast-flows @ {wheel.as_uri()}"
    run(UV, "pip", "install", "--python", environment / "bin" / "python", "--constraint", constraints, wanted, folder=tmp_path)
    home = {"AIRFLOW_HOME": str(tmp_path / "airflow"), "PYTHONPATH": ""}
    hindcast = environment / "bin" / "hindcast"
    run(environment / "bin" / "python", "-c", IMPORT_ALL, *packages, folder=tmp_path, **home)
    assert "hindcast" in run(hindcast, "--help", folder=tmp_path)
    answer = run(hindcast, "sql", "--lake", LAKE, "--output", "json", "SELECT count(*) AS flows FROM flows", folder=tmp_path)
    assert json.loads(answer) == {"flows": 0}
    for command in commands:
        run(hindcast, *command, folder=tmp_path)
    shutil.rmtree(environment)  # up to 900 MB


def test_a_command_whose_extra_is_missing_says_what_to_install(wheel: Path, constraints: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run(UV, "venv", "--python", sys.executable, environment, folder=tmp_path)
    run(UV, "pip", "install", "--python", environment / "bin" / "python", "--constraint", constraints, wheel, folder=tmp_path)
    ended = subprocess.run(
        [environment / "bin" / "hindcast", "simulate", "--write-config", "h.yaml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=SECONDS, env=config.environment(PYTHONPATH=""), check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "pip install 'hindcast-flows[collectors]'" in ended.stderr
    assert "Traceback" not in ended.stderr
