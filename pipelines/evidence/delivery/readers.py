"""Decides whether a message may go to a target: only if everyone who reads there may see everything in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from fnmatch import fnmatchcase

from pipelines.evidence.delivery.message import Audience
from warehouse import config
from warehouse.access.principals import Grant, Principal, Scope, scope_of

_GROUP = "group:"


def refusal(target: config.Delivery, audience: Audience, grants: Iterable[Grant], *, now: datetime) -> str | None:
    """Return why a message must not go to a target; None if it may. `grants` are all those in force."""
    known = tuple(grants)
    made_with = scope_of(audience.made_for, known)
    if target.role is not None:
        if target.role == "auditor" and _may_hold_labels(made_with):
            return f"{target.name} speaks for auditors, who do not see labels, and the message was made with the rights of {audience.name}"
        return None
    for subject in target.subjects:
        if not _sees(subject, audience, made_with, known, now):
            return f"{subject}, who reads at {target.name}, may not see everything in a message made with the rights of {audience.name}"
    return None


def speaks_for_owner(target: config.Delivery, cluster: str, namespace: str, grants: Iterable[Grant], *, at: datetime) -> bool:
    """Whether every reader of a target owns a namespace at a time, and none of them sees everything."""
    known = tuple(grants)
    scopes = [scope_of(principal_of(subject), known) for subject in target.subjects]
    return bool(scopes) and all(scope.owns(cluster, namespace, at) and not scope.everything for scope in scopes)


def speaks_for(target: config.Delivery, subject: str) -> bool:
    """Whether nobody but a subject reads at a target."""
    return set(target.subjects) == {subject}


def principal_of(subject: str) -> Principal:
    """Return the principal that a subject of grants names: a user, or the members of one group."""
    if subject.startswith(_GROUP):
        return Principal(user="", groups=frozenset({subject.removeprefix(_GROUP)}))
    return Principal(user=subject)


def _sees(subject: str, audience: Audience, made_with: Scope, grants: tuple[Grant, ...], now: datetime) -> bool:
    """Whether a subject may see all of a message.

    The user for whom it was made may, and so may members of a group for which alone it was made; a user may have more groups than the
    one that a target names, whose other members must not see what the user sees.
    """
    made_for = audience.made_for
    is_that_user = subject == made_for.user and not subject.startswith(_GROUP)
    if not made_for.is_operator and (is_that_user or made_for.subjects == {subject}):
        return True
    scope = scope_of(principal_of(subject), grants)
    times = audience.times or (now,)
    if any(all(scope.owns(cluster, namespace, at) for at in times) for cluster, namespace in audience.about):
        return True
    return covers(scope, made_with)


def covers(wide: Scope, narrow: Scope) -> bool:
    """Whether a scope certainly shows everything that another one shows. An empty scope shows nothing, so nothing is known to cover it."""
    if narrow.is_empty:
        return False
    if wide.everything and (wide.reads_every_label or not _may_hold_labels(narrow)):
        return True
    if any(denial not in narrow.denials for denial in wide.denials):
        return False
    return all(any(_covers(outer, inner) for outer in wide.grants) for inner in narrow.grants)


def _may_hold_labels(scope: Scope) -> bool:
    """Whether what was made with a scope may hold labels, that is, unless all of it is seen only as an auditor."""
    return not scope.without_audits.is_empty


def _covers(outer: Grant, inner: Grant) -> bool:
    """Whether a grant covers another one, at all of its times. Patterns are compared only where it is certain what they match."""
    if outer.role == "auditor" and inner.role != "auditor":
        return False
    if outer.since is not None and (inner.since is None or inner.since < outer.since):
        return False
    if outer.until is not None and (inner.until is None or inner.until > outer.until):
        return False
    if set(outer.not_before) - set(inner.not_before):
        return False
    if not _matches(outer.cluster, inner.cluster):
        return False
    return outer.namespace is None or (inner.namespace is not None and _matches(outer.namespace, inner.namespace))


def _matches(outer: str, inner: str) -> bool:
    if outer in ("*", inner):
        return True
    return not set("*?") & set(inner) and fnmatchcase(inner, outer.replace("[", "[[]"))
