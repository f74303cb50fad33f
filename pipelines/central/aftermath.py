"""What became of the traffic of each cluster after a change was published there, for as long as changes are watched."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.blueprints.volume import LOOK_BACK
from pipelines.central import store
from pipelines.central.model import Change
from pipelines.policy.policy_set import READERS
from pipelines.policy.reading import Document
from pipelines.policy.surroundings import CONTEXT_KINDS
from pipelines.proposals import applying, watching
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry, Proposal
from pipelines.proposals.watching import Name, Watched
from pipelines.replay import whatif
from pipelines.replay.in_force import History
from pipelines.replay.outcomes import Change as Outcome
from pipelines.replay.whatif import WhatIf
from warehouse.engine import Window
from warehouse.errors import ConfigError, QueryError


def seen(desk: Desk, change: Change) -> Mapping[str, Watched]:
    """Return what a change has dropped so far in each cluster that it was published to, as far as the user may see.

    Where it cannot be told, the notes say why. Raises AccessDeniedError, LakeError.
    """
    return {cluster: seen_in(desk, change, cluster, entry) for cluster, entry in store.done(desk.lake, change).items()}


def seen_in(desk: Desk, change: Change, cluster: str, entry: Entry) -> Watched:
    """Return what a change has dropped so far in one cluster, where `entry` tells what was done there; otherwise as `seen`."""
    namespaces = {one.key.namespace for one in entry.objects}
    namespace = next(iter(namespaces)) if len(namespaces) == 1 else None
    applied = Proposal(id=change.id, cluster=cluster, namespace=namespace, entries=(entry,))
    until = min(desk.now, entry.time + desk.settings.proposals.watch)
    try:
        result = watching.without_change(desk, applied, desk.who, until)
        since = [edge for edge in result.edges if edge.last_seen >= entry.time]
        drops = tuple(edge for edge in since if edge.change is Outcome.NEWLY_ALLOWED)
        announced = _announced(desk, change, cluster, entry) if drops else frozenset()
    except (ConfigError, QueryError) as error:
        return watching.not_judged(entry, until, error)
    return Watched(
        since=entry.time,
        until=until,
        drops=drops,
        unannounced=tuple(edge for edge in drops if watching.name_of(edge.row()) not in announced),
        uncertain=tuple(edge for edge in since if edge.change is Outcome.UNCERTAIN and edge.before == "denied"),
        notes=result.notes,
    )


def _announced(desk: Desk, change: Change, cluster: str, entry: Entry) -> frozenset[Name]:
    """The edges of which the change's plan had said that it denies them: those of the traffic before it began.

    The plan keeps the number of their flows only, so they are worked out again; none if nothing could be said.
    """
    effect = change.plan(cluster).get("effect")
    if not effect or not effect["newly_denied"]:
        return frozenset()
    changed = [one for one in entry.objects if one.key.kind in READERS or one.key.kind in CONTEXT_KINDS]
    asked = WhatIf(
        window=Window(since=change.time - LOOK_BACK, until=change.time),
        clusters=(cluster,),
        documents=tuple(Document(applying.plain(one.after)) for one in changed if one.after is not None),
        removed=tuple((one.key.kind, one.key.namespace or "", one.key.name) for one in changed if one.after is None),
        with_examples=False,
    )
    result = whatif.simulate(History(desk.door, desk.who), asked)
    return frozenset(watching.name_of(edge.row()) for edge in result.edges if edge.change is Outcome.NEWLY_DENIED)
