"""The table `saved_views`: views and queries that people save under a name, for themselves or for the owners of a namespace.

What is saved is the state of a page's address or the text of a query. Opening it asks the query door anew as whoever opens
it, so a view that is shared widens nobody's sight; but its name and its filters are read by those it is shared with.
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
"""Shared with everyone who sees anything."""
LONGEST_NAME, LONGEST_STATE = 80, 20_000
MOST = 500
"""Of one person."""
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
    """The name under which someone's views are kept; empty for nobody."""
    return min(who.subjects, key=lambda subject: (subject.startswith("group:"), subject), default="")


def audiences(scope: Scope, at: datetime) -> list[str]:
    """The audiences offered to someone: the owners of each of her own namespaces, as cluster/namespace, and everyone.

    Who sees everything may share with the owners of any namespace besides (`*/cart`).
    """
    own = {_pattern(grant) for grant in scope.grants if grant.namespace is not None and grant.holds(at)}
    return [*sorted(own), EVERYONE]


def listed(lake: Lake, who: Principal, scope: Scope, *, kind: Kind, at: datetime) -> list[SavedView]:
    """Those that someone may open: her own, and those that are shared with her now; by name. Raises LakeError."""
    mine = owner_of(who)
    found = [
        view
        for view in _newest(lake)
        if view.kind == kind and (view.owner == mine or (not scope.is_empty and any(_reaches(to, scope, at) for to in view.shared_with)))
    ]
    return sorted(found, key=lambda view: (view.name.casefold(), view.id))


def save(
    lake: Lake, who: Principal, scope: Scope, *, kind: Kind, name: str, page: str, state: str, shared_with: Sequence[str] = ()
) -> SavedView:
    """Save one; of the same name and kind, one's own is replaced.

    Raises AccessDeniedError for an audience that is not one's own, QueryError for what cannot be saved, LakeError.
    """
    now, mine = datetime.now(UTC), owner_of(who)
    if scope.is_empty or not mine:
        raise AccessDeniedError("only who may see something saves views")
    _check_audiences(scope, shared_with, now)
    if len(state) > LONGEST_STATE:
        raise QueryError(f"what is to be saved has {len(state):,} characters; at most {LONGEST_STATE:,} are kept")
    own = [view for view in _newest(lake) if view.owner == mine]
    same = next((view for view in own if (view.kind, view.name) == (kind, _name(name))), None)
    if same is None and len(own) >= MOST:
        raise QueryError(f"you have saved {len(own)} views and queries, the most there can be: delete one first")
    made = SavedView(
        kind=kind,
        id=same.id if same else uuid.uuid4().hex,
        time=now,
        name=_name(name),
        page=page,
        state=state,
        owner=mine,
        shared_with=tuple(shared_with),
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
    """Rename, share or delete the one with this id; only who saved it does, or who administers all (and deletes only).

    Raises AccessDeniedError, QueryError if there is none, or the name is taken by another of one's own, LakeError.
    """
    now, views = datetime.now(UTC), _newest(lake)
    found = next((view for view in views if view.id == wanted), None)
    if found is None or not (found.owner == owner_of(who) or (scope.administers and found.shared_with)):
        raise QueryError("it is there no more: look at the list again")
    if found.owner != owner_of(who) and not deleted:
        raise AccessDeniedError(f"it is {found.owner}'s: only its owner renames and shares it")
    others = {view.name for view in views if (view.owner, view.kind) == (found.owner, found.kind) and view.id != found.id}
    if name is not None and _name(name) in others:
        raise QueryError(f"you have another one with the name {_name(name)!r}")
    if shared_with is not None:
        _check_audiences(scope, shared_with, now)
    changed = replace(
        found,
        time=max(now, found.time + timedelta(microseconds=1)),  # two clocks may differ
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
            raise AccessDeniedError(f"{audience} is not yours to share with; yours are: {', '.join(allowed)}")


def _names_a_namespace(audience: str) -> bool:
    cluster, _, namespace = audience.partition("/")
    return bool(cluster and namespace) and audience == "".join(audience.split())


def _name(name: str) -> str:
    plain = " ".join(name.split())
    if not plain or not plain.isprintable():
        raise QueryError("give it a name")
    if len(plain) > LONGEST_NAME:
        raise QueryError(f"the name has {len(plain)} characters; at most {LONGEST_NAME} are kept")
    return plain


def _pattern(grant: Grant) -> str:
    return f"{grant.cluster}/{grant.namespace}"


def _reaches(audience: str, scope: Scope, at: datetime) -> bool:
    """Whether someone of this scope owns (something of) what an audience names, now, and is denied none of it."""
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
    """Whether one of two names (with * and ?) is among what the other means."""
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
