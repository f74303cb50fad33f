"""What became of the traffic of each cluster after a change was published there, for as long as changes are watched."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.central import store
from pipelines.central.model import Change
from pipelines.proposals import watching
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry, Proposal
from pipelines.proposals.watching import Watched
from pipelines.replay.outcomes import Change as Outcome
from warehouse.errors import ConfigError, QueryError


def seen(desk: Desk, change: Change) -> Mapping[str, Watched]:
    """Return what a change has dropped so far in each cluster that it was published to, as far as the user may see.

    Where it cannot be told, the notes say why. Raises AccessDeniedError, LakeError.
    """
    return {cluster: _seen(desk, change, cluster, entry) for cluster, entry in store.done(desk.lake, change).items()}


def _seen(desk: Desk, change: Change, cluster: str, entry: Entry) -> Watched:
    namespaces = {one.key.namespace for one in entry.objects}
    namespace = next(iter(namespaces)) if len(namespaces) == 1 else None
    applied = Proposal(id=change.id, cluster=cluster, namespace=namespace, entries=(entry,))
    until = min(desk.now, entry.time + desk.settings.proposals.watch)
    try:
        result = watching.without_change(desk, applied, desk.who, until)
    except (ConfigError, QueryError) as error:
        return watching.not_judged(entry, until, error)
    since = [edge for edge in result.edges if edge.last_seen >= entry.time]
    drops = tuple(edge for edge in since if edge.change is Outcome.NEWLY_ALLOWED)
    uncertain = tuple(edge for edge in since if edge.change is Outcome.UNCERTAIN and edge.before == "denied")
    return Watched(since=entry.time, until=until, drops=drops, unannounced=drops, uncertain=uncertain, notes=result.notes)
