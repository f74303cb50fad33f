"""Prints what an image holds as CycloneDX 1.6: Python distributions and Debian packages, with versions and licenses.

Runs in the image, with its Python, so that it lists what is there rather than what was meant to be.
"""

from __future__ import annotations

import importlib.metadata
import json
import subprocess
from typing import Any


def python_components() -> list[dict[str, Any]]:
    """Return the installed distributions."""
    found = []
    for each in importlib.metadata.distributions():
        name, about = each.metadata["Name"], each.metadata
        entry: dict[str, Any] = {"type": "library", "name": name, "version": each.version}
        entry["purl"] = f"pkg:pypi/{name.lower().replace('_', '-')}@{each.version}"
        if about["License-Expression"]:
            entry["licenses"] = [{"expression": about["License-Expression"]}]
        found.append(entry)
    return found


def debian_components() -> list[dict[str, Any]]:
    """Return the installed packages of the system."""
    form = "${Package} ${Version} ${Architecture}\n"
    lines = subprocess.run(["dpkg-query", "-W", "-f", form], capture_output=True, text=True, check=True).stdout.splitlines()  # noqa: S603, S607
    entries = [line.split(" ") for line in lines]
    return [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:deb/debian/{name}@{version}?arch={architecture}"}
        for name, version, architecture in entries
    ]


def main() -> None:
    """Print the document; it is the same for the same contents."""
    components = sorted(python_components() + debian_components(), key=lambda each: str(each["purl"]))
    print(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}, indent=1))


if __name__ == "__main__":
    main()
