"""Prints the parts of requirements.lock that some extras need, with their hashes, so that an image holds these and no others.

    python3 deploy/image/locked.py collectors,dashboards [--without EXTRAS]

The lock says for every distribution what it came in through (`# via`); a part is kept if that leads to a dependency of the
project itself, or of one of the extras. Only the standard library is used.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def parts(lock: str) -> dict[str, str]:
    """Return the parts of the lock by the distribution's name; the versions for different Pythons are one part."""
    found: dict[str, str] = {}
    for part in re.split(r"^(?=[A-Za-z0-9])", lock, flags=re.MULTILINE)[1:]:
        name = re.split(r"[=\[ ]", part, maxsplit=1)[0].lower()
        found[name] = found.get(name, "") + part
    return found


def through(part: str) -> set[str]:
    """Return the distributions that a part came in through."""
    comments = re.sub(r"\(.*?\)", "", " ".join(re.findall(r"^ +# *(?:via)?(.*)$", part, flags=re.MULTILINE)))
    return {name.lower() for name in re.findall(r"[A-Za-z0-9][A-Za-z0-9._-]*", comments)}


def direct(project: dict[str, object], extras: list[str]) -> set[str]:
    """Return the names that the project and these extras depend on, and those of extras that they include."""
    optional: dict[str, list[str]] = project["optional-dependencies"]  # type: ignore[assignment]
    wanted: list[str] = [*project["dependencies"], *(line for extra in extras for line in optional[extra])]  # type: ignore[misc]
    names: set[str] = set()
    for line in wanted:
        included = re.match(rf"{project['name']}\[(.*?)\]", line)
        if included:
            names |= direct(project, included[1].split(","))
        else:
            names.add(re.split(r"[^A-Za-z0-9._-]", line, maxsplit=1)[0].lower())
    return names


def needed(extras: list[str]) -> dict[str, str]:
    """Return the parts that these extras need. Raises KeyError for an extra that does not exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    locked = parts((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    kept = direct(project, extras) & set(locked)
    while more := {name for name, part in locked.items() if name not in kept and through(part) & kept}:
        kept |= more
    return {name: part for name, part in locked.items() if name in kept}


def main() -> None:
    """Print them."""
    parser = argparse.ArgumentParser(description="Print the parts of requirements.lock that some extras need.")
    parser.add_argument("extras", help="names with commas between them")
    parser.add_argument("--without", default="", help="leave out what these extras need")
    asked = parser.parse_args()
    left_out = needed(asked.without.split(",")) if asked.without else {}
    print("".join(part for name, part in needed(asked.extras.split(",")).items() if name not in left_out), end="")


if __name__ == "__main__":
    main()
