"""The distribution: its packages, the names they take, and what the lock installs from."""

from __future__ import annotations

import ast
import functools
import importlib
import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from hindcast.extras import EXTRA_OF_MODULE

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGES = PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_six_packages_are_shipped() -> None:
    assert sorted(PACKAGES) == ["api", "collectors", "dags", "dashboards", "hindcast", "pipelines", "warehouse"]


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


# Dependencies -------------------------------------------------------------------------------------------------

EXTRAS = {"api": "api", "collectors": "collectors", "pipelines": "pipelines", "dashboards": "dashboards", "dags": "airflow",
    "warehouse": "spark"}  # fmt: skip
"""The extra that each package's own third-party imports belong to; `hindcast` has to do with the base."""
SHARED_NAMESPACES = {"google": "protobuf", "airflow": "apache-airflow"}
"""Top-level names that several distributions install into, and the one whose modules are used here."""


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared(extra: str | None) -> set[str]:
    """The distributions that the base declares, and with an extra that one's, also through extras it names."""
    project = PROJECT["project"]
    listed = list(project["dependencies"]) + (project["optional-dependencies"][extra] if extra else [])
    found = set()
    for requirement in (Requirement(text) for text in listed):
        if canonical(requirement.name) == project["name"]:
            found |= {name for part in requirement.extras for name in declared(part)}
        else:
            found.add(canonical(requirement.name))
    return found


@functools.cache
def distribution_of(module: str) -> set[str]:
    """The distributions that a top-level module may come from."""
    if module in SHARED_NAMESPACES:
        return {SHARED_NAMESPACES[module]}
    return {canonical(name) for name in importlib.metadata.packages_distributions()[module]}


def imports(tree: ast.AST, *, at_start: bool) -> set[str]:
    """The top-level modules that a file imports; `at_start` leaves out what is imported inside functions."""
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
        elif not (at_start and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            found |= imports(node, at_start=at_start)
    return found


def distributions(package: str, *, at_start: bool) -> dict[str, set[str]]:
    """Each file of a package with the distributions of others that it imports."""
    found: dict[str, set[str]] = {}
    for file in sorted((ROOT / package).rglob("*.py")):
        if "node_modules" in file.parts:
            continue
        for module in imports(ast.parse(file.read_text(encoding="utf-8")), at_start=at_start):
            if module not in sys.stdlib_module_names and module not in PACKAGES:
                found.setdefault(str(file.relative_to(ROOT)), set()).update(distribution_of(module))
    return found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_imports_only_what_the_base_or_its_extra_declares(package: str) -> None:
    allowed = declared(EXTRAS.get(package))
    # A command of the front door may import, when it is run, what its own extra brings.
    at_start = package == "hindcast"
    undeclared = {file: names - allowed for file, names in distributions(package, at_start=at_start).items() if names - allowed}
    assert undeclared == {}


def test_the_extra_that_a_missing_module_belongs_to_is_known_for_every_import() -> None:
    for extra, modules in EXTRA_OF_MODULE.items():
        for module in modules:
            assert distribution_of(module) & declared(extra) - declared(None), module
    for package, extra in EXTRAS.items():
        used = {name for names in distributions(package, at_start=False).values() for name in names} - declared(None)
        named = {name for modules in EXTRA_OF_MODULE.values() for module in modules for name in distribution_of(module)}
        assert used <= named, extra
