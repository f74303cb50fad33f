"""What became of the traffic of each cluster after a change was published there, for as long as changes are watched."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.central import store
from pipelines.central.model import Change
from pipelines.proposals import watching
from pipelines.proposals.desk import Desk
from pipelines.proposals.watching import Watched
from warehouse.errors import ConfigError, QueryError


def seen(desk: Desk, change: Change) -> Mapping[str, Watched]:
    """Return what a change has dropped so far in each cluster that it was published to, as far as the user may see.

    Where it cannot be told, the notes say why. Raises AccessDeniedError, LakeError.
    """
    found = {}
    for cluster, entry in store.done(desk.lake, change).items():
        try:
            found[cluster] = watching.watch_change(desk, cluster, entry)
        except (ConfigError, QueryError) as error:
            until = min(desk.now, entry.time + desk.settings.proposals.watch)
            found[cluster] = Watched(since=entry.time, until=until, drops=(), uncertain=(), notes=(str(error),), is_judged=False)
    return found
