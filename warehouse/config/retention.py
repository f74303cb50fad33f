"""How long rows are kept, what holds keep, and who is told of failures."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from warehouse.config.values import Duration, Moment, Section, read_secret


class KeptOtherwise(Section):
    """Other times for some clusters or namespaces. Names may hold * and ?; tables not named keep their time."""

    cluster: str = "*"
    namespace: str = "*"
    """Of either side of a flow. With * all that the clusters have is meant, also what has no namespace."""
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
        """What is said of a table, by its name; None for nothing."""
        time: timedelta | None = getattr(self, _kept_as(table), None)
        return time


_KEPT = frozenset(KeptOtherwise.model_fields) - {"cluster", "namespace", "others"} | {"access_log"}
"""The tables that have times of their own; the access log is the whole fleet's, so no override speaks of it."""
CONFIGURATION_TABLES = ("policies", "namespaces", "workloads", "services", "role_bindings", "cluster_settings", "config_coverage")
"""The tables whose time is that of `config`."""


def _kept_as(table: str) -> str:
    """Where the time of a table is said."""
    if table in CONFIGURATION_TABLES:
        return "config"
    return table if table in _KEPT else "others"


class Hold(Section):
    """A legal hold: what is not deleted, whatever else says so. Names may hold * and ?."""

    cluster: str = "*"
    namespace: str = "*"
    """Of either side of a flow. Rows without any namespace are held by * alone, the ledger's by any."""
    since: Moment | None = None
    """Start of the window, inclusive; the beginning of history when absent."""
    until: Moment | None = None
    """End of the window, exclusive; never ends when absent."""
    reason: str = Field(min_length=1)
    """Why, for whoever finds it."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.since and self.until and self.since >= self.until:
            raise ValueError(f"since {self.since.isoformat()} is not before until {self.until.isoformat()}")
        return self


class Retention(Section):
    """How long rows are kept: a whole UTC day goes when its end is older than this."""

    flows: Duration = timedelta(days=30)
    coverage: Duration = timedelta(days=400)
    """The ledger; as long as whatever it speaks of."""
    edges_1h: Duration = timedelta(days=400)
    timeline_1m: Duration = timedelta(days=400)
    label_sets: Duration = timedelta(days=400)
    dns_names: Duration = timedelta(days=400)
    access_log: Duration = timedelta(days=400)
    """Who looked at what."""
    findings: Duration = timedelta(days=3 * 365)
    config: Duration = timedelta(days=3 * 365)
    """Configuration history, from the end of a version on; what is in force stays."""
    others: Duration = timedelta(days=3 * 365)
    """Any other table whose rows belong to a day."""
    overrides: tuple[KeptOtherwise, ...] = ()
    """The first that matches and names the table holds."""
    holds: tuple[Hold, ...] = ()
    vacuum_after: Duration = timedelta(days=1)
    """How long files stay that left the tables: readers that began before need them, and --as-of with a version."""

    def time_of(self, table: str) -> timedelta:
        """How long rows of a table are kept, by its name, where no override says otherwise."""
        time: timedelta = getattr(self, _kept_as(table))
        return time

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.vacuum_after < timedelta(hours=1):
            raise ValueError("vacuum_after: less than an hour could take files from under a reader or a writer")
        spoken_of = ("flows", "edges_1h", "timeline_1m")
        sections: tuple[Retention | KeptOtherwise, ...] = (self, *self.overrides)
        longest = max((getattr(section, name) or timedelta(), name) for section in sections for name in spoken_of)
        shortest = min(section.coverage for section in sections if section.coverage is not None)
        if shortest < longest[0]:
            raise ValueError(
                f"coverage: the ledger would be kept for {shortest.days} days and {longest[1]} for {longest[0].days}; "
                "without it nobody can tell what was not seen: keep it as long"
            )
        return self


class Alerts(Section):
    """Who is told, besides the table `findings`, when a pipeline fails or is late."""

    webhook_file: Path | None = None
    """File that holds the address messages are posted to, as JSON with a `text`; the address is a secret."""
    webhook_env: str | None = None
    """Environment variable that holds it."""
    timeout: Duration = timedelta(seconds=10)

    @model_validator(mode="after")
    def _one_address(self) -> Self:
        if self.webhook_file is not None and self.webhook_env is not None:
            raise ValueError("give webhook_file or webhook_env, not both")
        return self

    def webhook_url(self) -> str | None:
        """The address, None if there is none. Raises ConfigError if it cannot be read."""
        if self.webhook_file is None and self.webhook_env is None:
            return None
        return read_secret(self.webhook_file, self.webhook_env)
