"""What the planned changes of policies would have done to the traffic that was recorded lately, by the policy engine.

It judges each change alone, and all of a cluster's changes together: a default deny alone denies what the allow rules beside it
let in. Edges of which only the flows themselves tell more stay uncertain here; `hindcast policy simulate` reads those.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.blueprints.planning import Change as PlannedChange
from pipelines.blueprints.planning import Plan
from pipelines.objects.names import Key
from pipelines.policy.policy_set import READERS
from pipelines.policy.reading import Document
from pipelines.policy.surroundings import CONTEXT_KINDS
from pipelines.replay import traffic
from pipelines.replay.candidates import Candidates
from pipelines.replay.in_force import History
from pipelines.replay.outcomes import CHANGES, Change
from pipelines.replay.simulation import Simulator
from pipelines.replay.traffic import Asked, Traffic
from warehouse.engine import Window


@dataclass(frozen=True, kw_only=True)
class Effect:
    """Recorded flows, by what would have become of them."""

    newly_denied: int = 0
    newly_allowed: int = 0
    uncertain: int = 0


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """What a cluster's plan would have done."""

    each: Mapping[Key, Effect] = field(default_factory=dict)
    """By policy that would be created, changed or removed: that change alone."""
    together: Effect | None = None
    """All changes together; None where nothing can be said."""
    unknown: str = ""
    """Why nothing can be said; empty if something is, or if the plan changes no policy."""


def foresee(history: History, plan: Plan, window: Window) -> Foreseen:
    """Return what a plan's changes of policies would have done to the traffic of a window with both bounds.

    Raises AccessDeniedError, QueryError, LakeError.
    """
    changes = [one for one in plan.changes if one.key.kind in READERS and one.action != "unchanged" and not one.problem]
    if not changes:
        return Foreseen()
    in_force = history.periods(window, clusters=(plan.cluster,))
    if not in_force.covered:
        return Foreseen(unknown="configuration history does not cover the last days, so it is not known which policies were in force")
    namespaces = {one.key.namespace for one in changes}
    asked = Asked(
        window=window, clusters=(plan.cluster,), namespaces=() if None in namespaces else tuple(sorted(name for name in namespaces if name))
    )
    recorded, _ = traffic.read(history, asked, in_force)
    if not recorded:
        return Foreseen(unknown="no traffic of these namespaces was recorded in the last days")
    around = [
        Document(one.manifest) for one in plan.changes if one.key.kind in CONTEXT_KINDS and one.action != "unchanged" and one.manifest
    ]
    return Foreseen(
        each={one.key: _effect(recorded, _candidates([one], around)) for one in changes},
        together=_effect(recorded, _candidates(changes, around)),
    )


def _candidates(changes: Sequence[PlannedChange], around: Sequence[Document]) -> Candidates:
    return Candidates(
        documents=(*around, *(Document(one.manifest) for one in changes if one.manifest is not None)),
        removed=frozenset((one.key.kind, one.key.namespace or "", one.key.name) for one in changes if one.manifest is None),
    )


def _effect(recorded: Sequence[Traffic], candidates: Candidates) -> Effect:
    found = dict.fromkeys(Change, 0)
    for one in recorded:
        outcomes = Simulator(one, candidates).run()
        for place, change in enumerate(CHANGES):
            found[change] += int(outcomes.flows[outcomes.change == place].sum())
    return Effect(newly_denied=found[Change.NEWLY_DENIED], newly_allowed=found[Change.NEWLY_ALLOWED], uncertain=found[Change.UNCERTAIN])
