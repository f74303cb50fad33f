"""What goes into the images: the locked parts that are chosen are those that an installation of the extras needs."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
EXTRAS = "collectors,pipelines,dashboards,api"


def locked(*arguments: str) -> str:
    command = [sys.executable, str(ROOT / "deploy" / "image" / "locked.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def chosen(*arguments: str) -> set[str]:
    return {line.split("==")[0].lower() for line in locked(*arguments).splitlines() if re.match(r"[A-Za-z0-9]", line)}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(name: str, extras: set[str]) -> set[tuple[str, frozenset[str]]]:
    """What an installed distribution needs here, with some of its extras."""
    found = [Requirement(text) for text in importlib.metadata.requires(name) or []]
    environments = [{"extra": extra} for extra in extras or {""}]
    needed = [one for one in found if one.marker is None or any(one.marker.evaluate(each) for each in environments)]
    return {(canonical(one.name), frozenset(one.extras)) for one in needed}


def closure(extras: set[str]) -> set[str]:
    """The distributions that an installation of these extras of ours consists of, as installed here."""
    seen: set[tuple[str, frozenset[str]]] = set()
    ahead = requirements("hindcast-flows", extras)
    while ahead:
        seen |= ahead
        ahead = {more for name, wanted in ahead for more in requirements(name, set(wanted))} - seen
    return {name for name, _ in seen} - {"hindcast-flows"}


def test_everything_that_an_installation_needs_is_chosen_with_its_hashes_and_airflow_is_not() -> None:
    names = {canonical(name) for name in chosen(EXTRAS)}
    assert closure(set(EXTRAS.split(","))) - names == set()
    assert not {name for name in names if "airflow" in name or name in ("pytest", "mypy", "ruff")}
    parts = re.split(r"^(?=[A-Za-z0-9])", locked(EXTRAS), flags=re.MULTILINE)[1:]
    assert [part for part in parts if "--hash=sha256:" not in part] == []


def test_the_image_with_airflow_adds_what_the_other_lacks_and_repeats_nothing() -> None:
    first, more = chosen(EXTRAS), chosen("airflow", "--without", EXTRAS)
    assert not first & more
    assert closure({"airflow", *EXTRAS.split(",")}) - {canonical(name) for name in first | more} == set()
