"""Publishes a change of a blueprint to its canaries, then to the rest; stops it, and rolls it back. Each step is recorded.

What was planned is what is published: a cluster in which a change that was not planned would be made is not published to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pipelines.blueprints import fleet, publishing
from pipelines.blueprints.planning import Plan
from pipelines.central import previewing, putting_back, rights, store
from pipelines.central.model import Change, Entry, Event, Status
from pipelines.central.previewing import Preview
from pipelines.proposals.desk import Desk
from pipelines.proposals.steps import LONGEST_REASON
from warehouse.errors import ClusterError, ProposalError

_MAY_GO_ON = (Status.PLANNED, Status.CANARY, Status.FAILED)


def begin(desk: Desk, preview: Preview, canary: Sequence[str], *, reason: str = "") -> Change:
    """Publish what was planned to canary clusters; the other clusters of the plan wait until `go_on`.

    Raises AccessDeniedError unless the user is a platform-admin of all of them; ProposalError if something keeps it from being published;
    ClusterError if a canary refuses it, which is recorded; ConfigError, LakeError.
    """
    edited, clusters = preview.edited, [one.cluster for one in preview.clusters]
    rights.check(desk, clusters, edited.name)
    first = [name for name in clusters if name in canary]
    if preview.refusals:
        raise ProposalError(f"this cannot be published: {'; '.join(preview.refusals)}")
    if preview.changes_nothing:
        raise ProposalError("every chosen cluster already is as the changed file wants it: there is nothing to publish")
    if foreign := [name for name in canary if name not in clusters]:
        raise ProposalError(f"{', '.join(foreign)} is a canary, but not one of the chosen clusters: {', '.join(clusters)}")
    if not first:
        raise ProposalError(f"choose a canary among {', '.join(clusters)}: a cluster that is published to first")
    if len(reason) > LONGEST_REASON:
        raise ProposalError(f"the reason has {len(reason):,} characters; at most {LONGEST_REASON:,} are kept")
    about = {
        "file": {"source": str(edited.file.source), "text": edited.text, "before": edited.before},
        "clusters": clusters,
        "canary": first,
        "reason": reason,
        "plans": {one.cluster: in_numbers(one) for one in preview.clusters},
    }
    change = Change(id=publishing.new_run(), blueprint=edited.name, version=edited.file.blueprint.version, entries=())
    return _publish(desk, noted(desk, change, Event.BEGUN, about=about, detail=reason), first)


def go_on(desk: Desk, change: Change) -> Change:
    """Publish a change to the clusters that it was not published to, canaries first: after a failure there may be some left.

    Raises as `begin`.
    """
    if not (change.status in _MAY_GO_ON or change.is_stuck(desk.now)) or not change.rest:
        raise ProposalError(f"change {change.id} cannot go on: it is {change.status.value}")
    if change.is_at_once:
        raise ProposalError(f"change {change.id} was published without canaries: publish the blueprints again to reach the other clusters")
    if Event.ROLLING_BACK in [entry.event for entry in change.entries]:
        raise ProposalError(f"change {change.id} cannot go on, because rolling it back has begun: roll it back again, or plan a new change")
    rights.check(desk, change.clusters, change.blueprint)
    waiting = [name for name in change.canary if name in change.rest]
    return _publish(desk, change, waiting or change.rest)


def stop(desk: Desk, change: Change, reason: str) -> Change:
    """Keep a change from going on to further clusters; those that have it keep it. Raises ProposalError, AccessDeniedError, LakeError."""
    if not (change.status in _MAY_GO_ON or change.is_stuck(desk.now)):
        raise ProposalError(f"change {change.id} cannot be stopped: it is {change.status.value}")
    rights.check(desk, change.clusters, change.blueprint)
    if not reason.strip():
        raise ProposalError("say why it is stopped")
    return noted(desk, change, Event.STOPPED, detail=reason[:LONGEST_REASON])


def roll_back(desk: Desk, change: Change, *, even_if_changed: bool = False, reason: str = "") -> Change:
    """Put back what a change did in every cluster: a new object is deleted, a changed or deleted one is applied as it was.

    All objects of all clusters are tried by dry runs first. Raises ProposalError if somebody has changed one since, unless
    `even_if_changed`; ClusterError, which is recorded if something was put back before; AccessDeniedError, ConfigError, LakeError.
    """
    if change.status is Status.ROLLED_BACK or (change.status in (Status.PUBLISHING, Status.ROLLING_BACK) and not change.is_stuck(desk.now)):
        raise ProposalError(f"change {change.id} cannot be rolled back: it is {change.status.value}")
    rights.check(desk, change.clusters, change.blueprint)
    done = store.done(desk.lake, change)
    if not done:
        raise ProposalError(f"change {change.id} has changed nothing, so there is nothing to roll back")
    with putting_back.opened(desk, done) as found:
        for one in found:
            one.read(even_if_changed=even_if_changed)
        claimed = noted(desk, change, Event.ROLLING_BACK, detail=reason)
        for one in found:
            publication = one.put_back(claimed, rights.actor(desk))
            publishing.record(desk.lake, [publication])
            if publication.failure is not None:
                noted(desk, claimed, Event.FAILED, result="failed", detail=f"{one.cluster}: {publication.failure}"[:LONGEST_REASON])
                raise ClusterError(f"{one.cluster}: {publication.failure}")
    return noted(desk, claimed, Event.ROLLED_BACK, result="done", about={"clusters": list(done)}, detail=reason)


def _publish(desk: Desk, change: Change, names: Sequence[str]) -> Change:
    """Publish to some clusters, one after the other; stop at the first failure."""
    groups = {} if desk.who.is_operator else {"groups": sorted(desk.who.groups)}
    claimed = noted(desk, change, Event.PUBLISHING, about={"clusters": list(names), **groups})
    reached: list[str] = []
    problems: list[str] = []
    try:
        results = fleet.publish_fleet(
            desk.lake,
            [change.file()],
            [desk.cluster(name) for name in names],
            now=desk.now,
            actor=rights.actor(desk),
            run=change.id,
            canaries=change.canary,
            opened=rights.opener(desk),
            check=lambda plan: _not_planned(change, plan),
        )
        for plan, publication in results:
            problems = [*plan.problems, *([publication.failure] if publication is not None and publication.failure else [])]
            if not problems:
                reached.append(plan.cluster)
    finally:  # also what ends with an error of ours has come so far
        missed = [name for name in names if name not in reached]
        if missed:
            text = "; ".join(problems) or "it ended with an error"
            detail = f"{text}; not published to {', '.join(missed)}"[:LONGEST_REASON]
            claimed = noted(desk, claimed, Event.FAILED, result="failed", about={"clusters": reached}, detail=detail)
    if problems:
        raise ClusterError("; ".join(problems))
    return noted(desk, claimed, Event.PUBLISHED, result="done", about={"clusters": reached})


def _not_planned(change: Change, plan: Plan) -> str:
    """Why a plan is not what was planned; nothing if it is, or if some of it is done by now."""
    if set(previewing.digests(plan)) <= change.planned(plan.cluster):
        return ""
    return f"cluster {plan.cluster} is not as it was when the change was planned, so something else would be done: plan it again"


def in_numbers(one: previewing.ClusterPreview) -> dict[str, Any]:
    """Return the plan of a cluster as it is recorded."""
    counts = {action: sum(change.action == action for change in one.plan.changes) for action in ("create", "update", "delete")}
    together = one.foreseen.together
    effect = None if together is None else {name: getattr(together, name) for name in ("newly_denied", "newly_allowed", "uncertain")}
    return {
        **counts,
        "effect": effect,
        "unknown": one.foreseen.unknown,
        "against_guard_rails": list(one.against_rails),
        "digests": previewing.digests(one.plan),
    }


def noted(
    desk: Desk, change: Change, event: Event, *, result: str = "noted", about: dict[str, Any] | None = None, detail: str = ""
) -> Change:
    """Record an event, and return the change with it. Raises ProposalError if somebody else was first, LakeError."""
    entry = Entry(
        number=len(change.entries) + 1, event=event, time=desk.now, actor=rights.actor(desk), result=result, detail=detail or None,
        about=about or {},
    )  # fmt: skip
    return store.append(desk.lake, change, entry)


def watched(desk: Desk, change: Change, about: dict[str, Any], detail: str) -> Change:
    """Record flows that the change drops. Raises ProposalError if somebody did something with it at the same time, LakeError."""
    return noted(desk, change, Event.WATCHED, about=about, detail=detail[:LONGEST_REASON])


def handed_over(desk: Desk, change: Change, about: dict[str, Any], detail: str) -> Change:
    """Record that the changed file was handed over. Raises ProposalError if somebody else was first, LakeError."""
    return noted(desk, change, Event.HANDED_OVER, about=about, detail=detail)
