"""What is asked for when a report is made: everything that making it again needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from warehouse.access.principals import OPERATOR, Principal

SETTLED = timedelta(minutes=1)
"""How long before it is made a report's moment of knowledge is. A row says when it was received, but is committed seconds later: one that
was received before a report was made and committed after it would make verifying say that the report differs."""


@dataclass(frozen=True, kw_only=True)
class ReportOf:
    """A report that is asked for."""

    name: str
    """The name of the report, e.g. fleet."""
    since: datetime
    until: datetime
    """The window, [since, until)."""
    known: datetime
    """The report holds what the lake had recorded by this time."""
    subject: Principal = OPERATOR
    """The report holds nothing that this principal may not see."""
    settings: str = ""
    """What else the report needs to be made again: zones as JSON, or the YAML of a report of your own."""
    source: str = ""
    """Where the settings come from, for errors: the file of a report of your own."""

    def __post_init__(self) -> None:
        if not self.since < self.until <= self.known:
            raise ValueError("a report needs a window that starts before it ends, and ends by the time of knowledge")

    @property
    def made_for(self) -> str:
        """The subject in words: a user, or `group:NAME`."""
        return self.subject.user

    def described(self) -> dict[str, Any]:
        """Return the same as values of JSON."""
        return {
            "report": self.name,
            "since": written(self.since),
            "until": written(self.until),
            "known": written(self.known),
            "for": None if self.subject.is_operator else self.subject.user,
            "groups": sorted(self.subject.groups),
            "settings": self.settings,
            "source": self.source,
        }


def asked_again(described: Mapping[str, Any]) -> ReportOf:
    """Return what `described` told. Raises KeyError, TypeError and ValueError for anything else."""
    subject = OPERATOR if described["for"] is None else Principal(user=described["for"], groups=frozenset(described["groups"]))
    since, until, known = (datetime.fromisoformat(described[name]) for name in ("since", "until", "known"))
    settings, source = described["settings"], described["source"]
    return ReportOf(name=described["report"], since=since, until=until, known=known, subject=subject, settings=settings, source=source)


def written(moment: datetime) -> str:
    """Return a time in RFC 3339, UTC, with microseconds."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
