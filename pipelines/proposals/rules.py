"""Who may propose, approve and apply a change of policies: by ownership as it is now. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from pipelines.policy.policy_set import READERS
from pipelines.proposals.model import Needs, Proposal
from warehouse.access.principals import Principal, Scope
from warehouse.errors import ProposalError

OF_OWNERS = ("NetworkPolicy", "CiliumNetworkPolicy")
"""The kinds that owners of a namespace may change."""
OF_PLATFORM = tuple(kind for kind, (_, is_namespaced) in READERS.items() if not is_namespaced)
"""The kinds that select pods of a whole cluster, which only platform-admins may change."""
RISKY, ANOTHER, ALWAYS = "platform-when-risky", "another-owner", "always"


def is_platform(scope: Scope, cluster: str, now: datetime) -> bool:
    """Whether a principal is a platform-admin of a cluster that she may see as a whole."""
    given = any(grant.role == "platform-admin" and grant.covers(cluster, None, now) for grant in scope.grants)
    return given and scope.without_audits.sees_whole(cluster, now)


def is_owner(scope: Scope, cluster: str, namespace: str | None, now: datetime) -> bool:
    """Whether a principal may change policies of a namespace, or without one those of the whole cluster. Auditors may not."""
    if namespace is None:
        return is_platform(scope, cluster, now)
    return scope.without_audits.owns(cluster, namespace, now)


def why_not_propose(scope: Scope, cluster: str, kind: str, namespace: str | None, now: datetime) -> str | None:
    """Return why a principal may not propose to change an object; None if she may."""
    if kind in OF_PLATFORM:
        if is_platform(scope, cluster, now):
            return None
        return f"a {kind} selects pods of the whole cluster, so only a platform-admin of {cluster} may propose one"
    if kind not in OF_OWNERS:
        known = ", ".join((*OF_OWNERS, *OF_PLATFORM))
        return f"{kind or 'an object without a kind'} cannot be proposed: proposals are about {known}"
    if not is_owner(scope, cluster, namespace, now):
        return f"namespace {namespace} of cluster {cluster} is not yours now, so you may not propose to change its policies"
    return None


def needed(rule: str, risks: Iterable[str]) -> Needs:
    """Return who must approve a proposal with these risks, by the configuration's `proposals.approval`."""
    if rule == ALWAYS:
        return Needs.PLATFORM
    if rule == RISKY:
        return Needs.PLATFORM if any(risks) else Needs.NOBODY
    return Needs.ANOTHER_OWNER if rule == ANOTHER else Needs.NOBODY


def check_approver(proposal: Proposal, who: Principal, scope: Scope, now: datetime) -> None:
    """Raises ProposalError unless the principal may approve, or reject, what others proposed."""
    cluster, namespace = proposal.cluster, proposal.namespace
    if is_same(proposal.author, who):
        raise ProposalError(f"proposal {proposal.id} is your own: somebody else must approve it")
    if proposal.needs is Needs.PLATFORM and not is_platform(scope, cluster, now):
        raise ProposalError(f"proposal {proposal.id} must be approved by a platform-admin of {cluster}, which you are not")
    if not is_owner(scope, cluster, namespace, now):
        where = f"namespace {namespace} of cluster {cluster} is" if namespace else f"cluster {cluster} as a whole is"
        raise ProposalError(f"proposal {proposal.id} is not yours to decide: {where} not yours now")


def is_same(author: str, who: Principal) -> bool:
    """Whether a principal is the author of a proposal."""
    return name_of(who) == author


def name_of(who: Principal) -> str:
    """Return the name under which a principal acts; raises ProposalError if there is none, since a group is nobody in particular."""
    if who.is_operator or not who.user:
        raise ProposalError("a proposal needs a user: name one with --as, and her groups with --group, or sign in")
    return who.user
