"""What acting on a proposal needs: the configuration, the lake, who acts, and the API server of a cluster as that user."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from warehouse import config
from warehouse.access.principals import Principal, Scope
from warehouse.errors import ConfigError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess

PATIENCE_SECONDS = 5.0
"""How long an API server that does not answer is asked again: somebody waits for the answer."""


@dataclass(frozen=True, kw_only=True)
class Desk:
    """One user acting on proposals."""

    settings: config.Config
    lake: Lake
    door: Door
    who: Principal

    @property
    def now(self) -> datetime:
        """The time, UTC."""
        return datetime.now(UTC)

    @property
    def scope(self) -> Scope:
        """What the user may see and change now. Raises LakeError."""
        return self.door.scope(self.who)

    def cluster(self, name: str) -> config.Cluster:
        """Return a cluster of the configuration. Raises ConfigError if it has none of this name."""
        found = next((one for one in self.settings.clusters if one.name == name), None)
        if found is None:
            there = ", ".join(one.name for one in self.settings.clusters) or "none"
            raise ConfigError(f"no cluster of the configuration is named {name!r}; there are: {there}")
        return found

    def api(self, cluster: str, *, user: str | None = None, groups: tuple[str, ...] | None = None) -> ClusterAccess | None:
        """Return the API server of a cluster, asked as this user (or as another one), or None if the configuration names none.

        Raises ConfigError if the credentials cannot be used, or the user's name cannot be impersonated.
        """
        access = self.cluster(cluster).proposing
        if access is None:
            return None
        try:
            from pipelines.cluster_access import ClusterAccess, Impersonated
        except ModuleNotFoundError as error:  # the dashboard is installed without it
            raise ConfigError(f"asking cluster {cluster} needs the extra pipelines: pip install 'hindcast-flows[pipelines]'") from error
        names = self.settings.proposals
        as_groups = sorted(self.who.groups) if groups is None else groups
        impersonated = Impersonated(
            user=names.user.replace("{user}", user or self.who.user),
            groups=tuple(names.group.replace("{group}", group) for group in as_groups),
        )
        return ClusterAccess(access, cluster=cluster, patience_seconds=PATIENCE_SECONDS, impersonated=impersonated)
