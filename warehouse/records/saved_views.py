"""The table `saved_views`: views and queries that users save under a name, for themselves or for the owners of a namespace.

A saved view holds the state of a page's address or the text of a query. Opening it runs the query as the user who opens it, so
sharing a view does not give anyone more access; but its name and filters are visible to those it is shared with.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatchcase
from typing import Literal

import pyarrow as pa

from warehouse.access.principals import Grant, Principal, Scope
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.schema import SAVED_VIEWS

EVERYONE = "*"
"""Audience: everyone who may see anything."""
LONGEST_NAME, LONGEST_STATE = 80, 20_000
MOST = 500
"""The most views and queries that one user may save."""
Kind = Literal["view", "query"]


@dataclass(frozen=True, kw_only=True)
class SavedView:
    """One view or query; see the table's columns."""

    kind: Kind
    id: str
    time: datetime
    name: str
    page: str
    state: str
    owner: str
    shared_with: tuple[str, ...] = ()
    deleted: bool = False


def owner_of(who: Principal) -> str:
    """Return the name under which a principal's views are stored; empty if the principal has no name."""
    return min(who.subjects, key=lambda subject: (subject.startswith("group:"), subject), default="")


def audiences(scope: Scope, at: datetime) -> list[str]:
    """Return the audiences that a user may share with: the owners of each of their namespaces (cluster/namespace), and everyone.

    A user who sees everything may also share with the owners of any namespace (`*/cart`).
    """
    own = {_pattern(grant) for grant in scope.grants if grant.namespace is not None and grant.holds(at)}
    return [*sorted(own), EVERYONE]


def listed(lake: Lake, who: Principal, scope: Scope, *, kind: Kind, at: datetime) -> list[SavedView]:
    """Return the views that a user may open, by name: their own, and those shared with them now. Raises LakeError."""
    mine = owner_of(who)
    found = [
        view
        for view in _newest(lake)
        if view.kind == kind and (view.owner == mine or (not scope.is_empty and any(_reaches(to, scope, at) for to in view.shared_with)))
    ]
    return sorted(found, key=lambda view: (view.name.casefold(), view.id))


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A view or query to be saved; the fields are those of `SavedView`."""

    kind: Kind
    name: str
    page: str
    state: str
    shared_with: Sequence[str] = ()


def save(lake: Lake, who: Principal, scope: Scope, draft: Draft) -> SavedView:
    """Save a view or query; replaces the user's own one of the same name and kind.

    Raises AccessDeniedError for an audience that the user may not share with, QueryError if it cannot be saved, LakeError.
    """
    now, mine = datetime.now(UTC), owner_of(who)
    if scope.is_empty or not mine:
        raise AccessDeniedError("only users who may see something can save views")
    _check_audiences(scope, draft.shared_with, now)
    if len(draft.state) > LONGEST_STATE:
        raise QueryError(f"the view or query has {len(draft.state):,} characters; at most {LONGEST_STATE:,} can be saved")
    name = _name(draft.name)
    own = [view for view in _newest(lake) if view.owner == mine]
    same = next((view for view in own if (view.kind, view.name) == (draft.kind, name)), None)
    if same is None and len(own) >= MOST:
        raise QueryError(f"you have saved {len(own)} views and queries, which is the maximum: delete one first")
    made = SavedView(
        kind=draft.kind,
        id=same.id if same else uuid.uuid4().hex,
        time=now,
        name=name,
        page=draft.page,
        state=draft.state,
        owner=mine,
        shared_with=tuple(draft.shared_with),
    )
    _append(lake, made)
    return made


def change(
    lake: Lake,
    who: Principal,
    scope: Scope,
    wanted: str,
    *,
    name: str | None = None,
    shared_with: Sequence[str] | None = None,
    deleted: bool = False,
) -> SavedView:
    """Rename, share or delete the view with this id. Only its owner may do so; administrators may delete shared ones.

    Raises AccessDeniedError, LakeError, and QueryError if the view does not exist or its owner already uses the name.
    """
    now, views = datetime.now(UTC), _newest(lake)
    found = next((view for view in views if view.id == wanted), None)
    if found is None or not (found.owner == owner_of(who) or (scope.administers and found.shared_with)):
        raise QueryError("it no longer exists: reload the list")
    if found.owner != owner_of(who) and not deleted:
        raise AccessDeniedError(f"it belongs to {found.owner}: only its owner can rename or share it")
    others = {view.name for view in views if (view.owner, view.kind) == (found.owner, found.kind) and view.id != found.id}
    if name is not None and _name(name) in others:
        raise QueryError(f"you already have another one named {_name(name)!r}")
    if shared_with is not None:
        _check_audiences(scope, shared_with, now)
    changed = replace(
        found,
        time=max(now, found.time + timedelta(microseconds=1)),  # clocks may differ between machines
        name=found.name if name is None else _name(name),
        shared_with=found.shared_with if shared_with is None else tuple(shared_with),
        deleted=deleted,
    )
    _append(lake, changed)
    return changed


def _check_audiences(scope: Scope, shared_with: Sequence[str], now: datetime) -> None:
    allowed = audiences(scope, now)
    for audience in shared_with:
        if audience not in allowed and not (scope.everything and _names_a_namespace(audience)):
            raise AccessDeniedError(f"you cannot share with {audience}; you can share with: {', '.join(allowed)}")


def _names_a_namespace(audience: str) -> bool:
    cluster, _, namespace = audience.partition("/")
    return bool(cluster and namespace) and audience == "".join(audience.split())


def _name(name: str) -> str:
    plain = " ".join(name.split())
    if not plain or not plain.isprintable():
        raise QueryError("enter a name")
    if len(plain) > LONGEST_NAME:
        raise QueryError(f"the name has {len(plain)} characters; at most {LONGEST_NAME} are allowed")
    return plain


def _pattern(grant: Grant) -> str:
    return f"{grant.cluster}/{grant.namespace}"


def _reaches(audience: str, scope: Scope, at: datetime) -> bool:
    """Whether the scope now owns something in an audience and is denied none of it."""
    if audience == EVERYONE:
        return True
    cluster, _, namespace = audience.partition("/")
    denied = any(
        denial.holds(at) and _meet(denial.cluster, cluster) and (denial.namespace is None or _meet(denial.namespace, namespace))
        for denial in scope.denials
    )
    return not denied and any(
        grant.holds(at) and _meet(grant.cluster, cluster) and (grant.namespace is None or _meet(grant.namespace, namespace))
        for grant in scope.grants
    )


def _meet(one: str, other: str) -> bool:
    """Whether one of two name patterns (with * and ?) matches the other."""
    return fnmatchcase(one, other.replace("[", "[[]")) or fnmatchcase(other, one.replace("[", "[[]"))


def _newest(lake: Lake) -> list[SavedView]:
    newest: dict[str, SavedView] = {}
    for row in lake.read(SAVED_VIEWS).to_pylist():
        view = SavedView(**row | {"shared_with": tuple(row["shared_with"] or ())})
        if view.id not in newest or (newest[view.id].time, newest[view.id].deleted) <= (view.time, view.deleted):
            newest[view.id] = view
    return [view for view in newest.values() if not view.deleted]


def _append(lake: Lake, view: SavedView) -> None:
    rows = pa.Table.from_pylist([asdict(view) | {"shared_with": list(view.shared_with)}], schema=SAVED_VIEWS.schema)
    lake.commit(SAVED_VIEWS, lake.write_files(SAVED_VIEWS, rows), transactions={}, metadata={})
