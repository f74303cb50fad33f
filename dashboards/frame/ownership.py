"""What the person who looks owns, for pages that mark it. What may be seen is decided below every question, not here."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase

from dashboards.visit import Visit


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
