"""Who may edit for many clusters, and with whose rights their API servers are asked."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipelines.blueprints import fleet
from pipelines.proposals import rules
from pipelines.proposals.desk import Desk
from warehouse import config
from warehouse.errors import AccessDeniedError, ConfigError, QueryError

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess

QUESTION = "blueprint_change"
"""Its name in the access log."""


def check(desk: Desk, clusters: Sequence[str], blueprint: str) -> list[config.Cluster]:
    """Return clusters of the configuration by name, if the user is a platform-admin of each of them.

    A refusal is recorded in the access log. Raises AccessDeniedError, ConfigError for a cluster that is not in the configuration.
    """
    chosen = [desk.cluster(name) for name in dict.fromkeys(clusters)]
    if desk.who.is_operator:
        return chosen
    foreign = [one.name for one in chosen if not may(desk, one.name)]
    if not foreign:
        return chosen
    said = f"a blueprint is changed for clusters by their platform-admins, and you are none of {', '.join(foreign)}"
    try:
        with desk.door.refusals(desk.who, QUESTION, blueprint):
            raise QueryError(said)
    except QueryError as error:
        raise AccessDeniedError(said) from error


def may(desk: Desk, cluster: str) -> bool:
    """Whether the user may edit for a cluster."""
    return desk.who.is_operator or rules.is_platform(desk.scope, cluster, desk.now)


def able(desk: Desk) -> list[str]:
    """Return the clusters that the user may edit for, and that have an API server to publish to."""
    return [one.name for one in desk.settings.clusters if may(desk, one.name) and one.proposing is not None]


def opener(desk: Desk) -> fleet.Open:
    """Return what opens API servers: as the user, by impersonation; on the command line with the credentials of `kubernetes`."""
    if desk.who.is_operator:
        return fleet.open_as_configured

    def opened(cluster: config.Cluster) -> ClusterAccess:
        api = desk.api(cluster.name)
        if api is None:
            raise ConfigError(f"cluster {cluster.name}: the configuration gives no API server, so nothing can be published to it")
        return api

    return opened


def actor(desk: Desk) -> str:
    """Return the name that is recorded: the user's, else that of the operating system's user."""
    return getpass.getuser() if desk.who.is_operator else rules.name_of(desk.who)
