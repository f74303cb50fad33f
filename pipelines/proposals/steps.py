"""What people do with a proposal before it is applied: propose, judge again, approve, reject. Each step is recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.policy.reading import Document
from pipelines.proposals import reading, rules, store
from pipelines.proposals.desk import Desk
from pipelines.proposals.judging import Judged, judge
from pipelines.proposals.model import Entry, Event, Needs, Proposal, ProposedObject, Status
from pipelines.proposals.reading import Asked
from warehouse.errors import AccessDeniedError, ProposalError, QueryError

QUESTION = "policy_proposal"
"""Its name in the access log."""
MOST_EDGES = 2_000
LONGEST_REASON = 2_000


@dataclass(frozen=True, kw_only=True)
class Made:
    """A proposal as it was stored, and what was found about it."""

    proposal: Proposal
    judged: Judged

    @property
    def is_refused(self) -> bool:
        return self.proposal.entries[-1].event is Event.REFUSED


def propose(desk: Desk, cluster: str, asked: Sequence[Asked], reason: str = "") -> Made:
    """Make a proposal of objects of one namespace, or of the whole cluster; one that fails a check is stored as refused.

    Raises AccessDeniedError if the user may not propose it, which is recorded too; ProposalError, ConfigError, LakeError.
    """
    who = rules.name_of(desk.who)
    _check_reason(reason)
    desk.cluster(cluster)
    proposal, namespace = store.new_id(), asked[0].key.namespace
    refusals = reading.refusals(desk.scope, cluster, asked, desk.now)
    if refusals:
        named = tuple(ProposedObject(key=one.key, action="update", after=one.manifest) for one in asked)
        about = {"checks": [{"check": "ownership", "is_met": False, "text": text} for text in refusals]}
        entry = Entry(number=1, event=Event.REFUSED, time=desk.now, actor=who, detail="; ".join(refusals), about=about, objects=named)
        store.append(desk.lake, proposal, cluster, namespace, entry)
        try:
            with desk.door.refusals(desk.who, QUESTION, "; ".join(str(one.key) for one in asked)):
                raise QueryError("; ".join(refusals))
        except QueryError as error:
            raise AccessDeniedError(str(error)) from error
    judged = judge(desk, cluster, asked)
    entry = _judgement(desk, Event.PROPOSED, 1, judged, reason)
    store.append(desk.lake, proposal, cluster, namespace, entry)
    _append_edges(desk, proposal, entry, judged)
    return Made(proposal=Proposal(id=proposal, cluster=cluster, namespace=namespace, entries=(entry,)), judged=judged)


def judge_again(desk: Desk, proposal: Proposal) -> Made:
    """Check and simulate a proposal against what is in force now; approvals from before do not count any more.

    Raises ProposalError unless the user is its author and it is not finished; ConfigError, LakeError.
    """
    if not rules.is_same(proposal.author, desk.who):
        raise ProposalError(f"proposal {proposal.id} is judged again by its author, {proposal.author}, with whose sight it is simulated")
    check_status(proposal, desk, "judged again", Status.WAITING, Status.READY, Status.EXPIRED)
    asked = [Asked(key=one.key, document=None if one.after is None else Document(one.after)) for one in proposal.objects]
    if problems := reading.refusals(desk.scope, proposal.cluster, asked, desk.now):
        raise ProposalError("; ".join(problems))
    judged = judge(desk, proposal.cluster, asked)
    entry = _judgement(desk, Event.JUDGED, _next(proposal), judged, "")
    store.append(desk.lake, proposal.id, proposal.cluster, proposal.namespace, entry)
    _append_edges(desk, proposal.id, entry, judged)
    return Made(proposal=with_entry(proposal, entry), judged=judged)


def approve(desk: Desk, proposal: Proposal, comment: str = "", *, judged: str | None = None) -> Proposal:
    """Approve what was judged last, exactly: these bytes, over these versions of objects, with these findings.

    `judged` names the judgement that the user has looked at (`Proposal.judged`), if the proposal was read again since. Raises ProposalError
    if it was judged again since then, the user may not approve it, or there is nothing to approve; LakeError.
    """
    if judged is not None and judged != proposal.judged:
        raise ProposalError(
            f"proposal {proposal.id} is not as you looked at it: you approve {judged}, and it was judged again as {proposal.judged}; "
            "look at it again"
        )
    check_status(proposal, desk, "approved", Status.WAITING, Status.EXPIRED)
    if proposal.needs is Needs.NOBODY:
        raise ProposalError(f"proposal {proposal.id} has expired, and needs no approval: judge it again")
    rules.check_approver(proposal, desk.who, desk.scope, desk.now)
    about = {
        "digest": proposal.digest,
        "judgement": proposal.judgement.number,
        "expires": (desk.now + desk.settings.proposals.approval_expires).isoformat(),
    }
    return add(desk, proposal, Event.APPROVED, detail=comment, about=about)


def reject(desk: Desk, proposal: Proposal, reason: str) -> Proposal:
    """Reject a proposal, or withdraw one's own. Raises ProposalError if the user may not, LakeError."""
    check_status(proposal, desk, "rejected", Status.WAITING, Status.READY, Status.EXPIRED)
    if not reason.strip():
        raise ProposalError("say why it is rejected")
    if not rules.is_same(proposal.author, desk.who):
        rules.check_approver(proposal, desk.who, desk.scope, desk.now)
    return add(desk, proposal, Event.REJECTED, detail=reason)


def add(
    desk: Desk,
    proposal: Proposal,
    event: Event,
    *,
    detail: str | None = None,
    result: str = "noted",
    about: dict[str, Any] | None = None,
    objects: Sequence[ProposedObject] | None = None,
    actor: str | None = None,
) -> Proposal:
    """Record an event, and return the proposal with it. Raises ProposalError if somebody else was first, LakeError."""
    _check_reason(detail or "")
    entry = Entry(
        number=_next(proposal),
        event=event,
        time=desk.now,
        actor=actor or rules.name_of(desk.who),
        detail=detail or None,
        result=result,
        about=about or {},
        objects=tuple(proposal.objects if objects is None else objects),
    )
    store.append(desk.lake, proposal.id, proposal.cluster, proposal.namespace, entry)
    return with_entry(proposal, entry)


def with_entry(proposal: Proposal, entry: Entry) -> Proposal:
    """Return the proposal with one more event."""
    return Proposal(id=proposal.id, cluster=proposal.cluster, namespace=proposal.namespace, entries=(*proposal.entries, entry))


def check_status(proposal: Proposal, desk: Desk, done: str, *allowed: Status) -> None:
    """Raises ProposalError unless the proposal is in one of these states."""
    status = proposal.status(desk.now)
    if status in allowed:
        return
    why = {
        Status.WAITING: f"it waits for the approval of {proposal.needs.value}",
        Status.EXPIRED: f"its time to be applied ended {proposal.expires():%Y-%m-%d %H:%M} UTC: judge it again, and have it approved again "
        "where that is needed"
        if proposal.expires()
        else "",
        Status.READY: "it is already approved, or needs no approval",
    }.get(status, f"it is {status.value}")
    raise ProposalError(f"proposal {proposal.id} cannot be {done}: {why}")


def _judgement(desk: Desk, event: Event, number: int, judged: Judged, reason: str) -> Entry:
    if judged.refusals:
        event = Event.REFUSED
    detail = "; ".join(check.text for check in judged.refusals) or reason or None
    about = {**judged.about, "reason": reason}
    return Entry(
        number=number, event=event, time=desk.now, actor=rules.name_of(desk.who), detail=detail, about=about, objects=judged.objects
    )


def _append_edges(desk: Desk, proposal: str, entry: Entry, judged: Judged) -> None:
    if judged.result is not None:
        store.append_edges(desk.lake, proposal, entry.number, judged.result.edges, MOST_EDGES)


def _next(proposal: Proposal) -> int:
    return proposal.entries[-1].number + 1


def _check_reason(text: str) -> None:
    if len(text) > LONGEST_REASON:
        raise ProposalError(f"the reason has {len(text):,} characters; at most {LONGEST_REASON:,} are kept")
