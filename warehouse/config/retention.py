"""Retention of rows, and legal holds."""

from __future__ import annotations

from datetime import timedelta
from typing import Self

from pydantic import Field, model_validator

from warehouse.config.values import Duration, Moment, Section


class RetentionOverride(Section):
    """Different retention for some clusters or namespaces. Names may contain * and ?; tables not named keep the default."""

    cluster: str = "*"
    namespace: str = "*"
    """Namespace on either side of a flow. * also covers rows without a namespace."""
    flows: Duration | None = None
    coverage: Duration | None = None
    edges_1h: Duration | None = None
    timeline_1m: Duration | None = None
    label_sets: Duration | None = None
    dns_names: Duration | None = None
    findings: Duration | None = None
    config: Duration | None = None
    others: Duration | None = None

    def time_of(self, table: str) -> timedelta | None:
        """Return the retention of a table, given its name; None if this section does not set it."""
        time: timedelta | None = getattr(self, _setting_of(table), None)
        return time


_SEPARATE = frozenset(RetentionOverride.model_fields) - {"cluster", "namespace", "others"} | {"access_log"}
"""Tables with their own retention setting; the access log belongs to the whole fleet, so it has no overrides."""
CONFIGURATION_TABLES = ("policies", "namespaces", "workloads", "services", "role_bindings", "cluster_settings", "config_coverage")
"""Tables whose retention is set by `config`."""


def _setting_of(table: str) -> str:
    """Return the name of the setting with a table's retention."""
    if table in CONFIGURATION_TABLES:
        return "config"
    return table if table in _SEPARATE else "others"


class Hold(Section):
    """A legal hold: matching rows are never deleted. Names may contain * and ?."""

    cluster: str = "*"
    namespace: str = "*"
    """Namespace on either side of a flow. Rows without a namespace are covered only by *; rows of the ledger by any name."""
    since: Moment | None = None
    """Start of the window, inclusive; unlimited by default."""
    until: Moment | None = None
    """End of the window, exclusive; unlimited by default."""
    reason: str = Field(min_length=1)
    """Why the hold exists, in words for users."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"since {self.since.isoformat()} is not before until {self.until.isoformat()}")
        return self


class Retention(Section):
    """How long rows are kept: a UTC day is deleted once its end is older than this."""

    flows: Duration = timedelta(days=30)
    coverage: Duration = timedelta(days=400)
    """The ledger; must be kept at least as long as the tables it covers."""
    edges_1h: Duration = timedelta(days=400)
    timeline_1m: Duration = timedelta(days=400)
    label_sets: Duration = timedelta(days=400)
    dns_names: Duration = timedelta(days=400)
    access_log: Duration = timedelta(days=400)
    """The record of who asked what."""
    findings: Duration = timedelta(days=3 * 365)
    config: Duration = timedelta(days=3 * 365)
    """Configuration history, counted from the end of a version; versions in force are not deleted."""
    others: Duration = timedelta(days=3 * 365)
    """All other tables that are partitioned by day."""
    overrides: tuple[RetentionOverride, ...] = ()
    """The first override that matches and sets the table's retention applies."""
    holds: tuple[Hold, ...] = ()
    vacuum_after: Duration = timedelta(days=1)
    """How long files remain after they have left the tables: running queries and --as-of with a version need them."""

    def time_of(self, table: str) -> timedelta:
        """Return how long rows of a table are kept, given its name, if no override applies."""
        time: timedelta = getattr(self, _setting_of(table))
        return time

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.vacuum_after < timedelta(hours=1):
            raise ValueError("vacuum_after must be at least an hour: files may still be in use by readers and writers")
        covered = ("flows", "edges_1h", "timeline_1m")
        sections: tuple[Retention | RetentionOverride, ...] = (self, *self.overrides)
        longest = max((getattr(section, name) or timedelta(), name) for section in sections for name in covered)
        shortest = min(section.coverage for section in sections if section.coverage is not None)
        if shortest < longest[0]:
            raise ValueError(
                f"coverage: the ledger would be kept for {shortest.days} days but {longest[1]} for {longest[0].days}; "
                "without the ledger, gaps in observation are unknown: keep it at least as long"
            )
        return self
