"""The distribution: its packages, the names they take, and what the lock installs from."""

from __future__ import annotations

import importlib
import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_six_packages_are_shipped() -> None:
    assert sorted(PACKAGES) == ["collectors", "dags", "dashboards", "hindcast", "pipelines", "warehouse"]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_shipped_package_is_imported_from_this_tree_and_says_what_it_is(name: str) -> None:
    package = importlib.import_module(name)
    assert package.__file__ is not None
    assert Path(package.__file__) == ROOT / name / "__init__.py"
    assert package.__doc__


@pytest.mark.parametrize("name", PACKAGES)
def test_no_installed_distribution_takes_the_name_of_a_package_of_ours(name: str) -> None:
    takers = set(importlib.metadata.packages_distributions().get(name, []))
    assert takers <= {PROJECT["project"]["name"]}


def test_types_lint_and_arrows_cover_the_packages_that_are_shipped() -> None:
    assert PROJECT["tool"]["mypy"]["packages"] == PACKAGES
    assert PROJECT["tool"]["importlinter"]["root_packages"] == PACKAGES


def test_the_lock_installs_from_no_address() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if "://" in line]


def test_every_requirement_of_the_lock_has_one_version_and_a_hash() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    requirements = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.lstrip().startswith("#")]
    assert requirements
    assert not [line for line in requirements if not re.match(r"[A-Za-z0-9._-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", line)]
