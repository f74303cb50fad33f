"""What the person who looks owns, for pages that mark it. What may be seen is decided below every question, not here."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path

from dashboards.visit import Visit
from warehouse import config
from warehouse.config import documents
from warehouse.errors import ConfigError


def owned(visit: Visit) -> Callable[[str], bool]:
    """A function that says whether a namespace is the principal's own now, in at least one cluster."""
    scope, now = visit.door.scope(visit.who), datetime.now(UTC)
    given = [grant.namespace or "*" for grant in scope.grants if grant.holds(now)]
    denied = [denial.namespace or "*" for denial in scope.denials if denial.holds(now) and denial.cluster == "*"]

    def owns(namespace: str) -> bool:
        return _matches(namespace, given) and not _matches(namespace, denied)

    return owns


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern.replace("[", "[[]")) for pattern in patterns)


_REASON = re.compile(r"^ownership[.](grants|sources)\[(\d+)\](?:: (.*))?$", re.DOTALL)


def in_words(reason: str) -> str:
    """A grant's reason as a sentence: `ownership.grants[2]` becomes `granted to you in the configuration, line 31`."""
    found = _REASON.match(reason)
    if not found:
        return reason
    part, number, more = found[1], int(found[2]), found[3]
    line = _line(part, number)
    where = f"line {line}" if line else f"{part} number {number + 1}"
    how = "granted to you in the configuration" if part == "grants" else "read from the clusters, as the configuration asks"
    return f"{how}, {where}" + (f": {more}" if more else "")


def _line(part: str, number: int) -> int | None:
    """The line of the configuration file where an entry of `ownership` stands; None where the file cannot be read."""
    source = config.source_path()
    try:
        place = _document(source, source.stat().st_mtime_ns).where(("ownership", part, number))
    except (ConfigError, OSError):
        return None
    line = place.rpartition(":")[2]
    return int(line) if line.isdigit() else None


@lru_cache(maxsize=4)
def _document(source: Path, changed_ns: int) -> documents.Document:
    """The configuration file as it was at a change; every page names the lines of all grants, and parsing takes long for a long file."""
    return documents.read_document(source)
