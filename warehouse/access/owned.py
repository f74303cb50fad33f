"""What grants decide for a group of clusters, as SQL conditions on the rows of a table: what is owned, and when. Pure.

Which scans these conditions go into is warehouse.access.scoping.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime

from warehouse.access import redaction
from warehouse.access.principals import Grant, glob, is_plain
from warehouse.engine import literal
from warehouse.schema import Table

SIDES = ("source", "destination")
_MOST_OWN_NAMES = 50
"""Namespaces whose DNS names are known to be the owner's own; names of more would make every question long."""


class Rule:
    """What is decided for a group of clusters, as conditions on the rows of a table."""

    def __init__(self, table: Table, decided: Sequence[Grant], until: datetime | None) -> None:
        self._table = table
        self._until = until
        self._grants = [grant for grant in decided if not grant.is_denial]
        self._denials = [grant for grant in decided if grant.is_denial]
        self.has_whole = any(grant.namespace is None for grant in self._grants)
        always = any(grant.namespace is None and grant.since is None and grant.until is None for grant in self._grants)
        self.sees_all = always and not self._denials

    def owns(self, side: str = "") -> str:
        """Whether the namespace of a side (of the row, without one) is owned at the row's time: true, or false or null if it is not.

        It is kept short, and plain names a bare IN, since it is worked out for every row, and files are pruned by it.
        """
        column = f"{side}_namespace" if side else "namespace"
        named = self._names(column, [grant for grant in self._grants if grant.namespace is not None], self._throughout)
        given = [f"{any_of(named)} AND {is_local(self._table, side)}"] if named else []
        if self.has_whole:
            whole = any_of([self._throughout(grant) for grant in self._grants if grant.namespace is None])
            given.append(f"{column} IS NOT NULL AND {whole}")
        taken = self._names(column, self._denials, self._ever)
        allowed = given[0] if len(given) == 1 else any_of([f"({one})" for one in given])
        return f"{allowed} AND NOT coalesce({any_of(taken)}, false)" if taken else allowed

    def owned(self, side: str) -> str:
        """As `owns`, but never null."""
        return f"coalesce({self.owns(side)}, false)"

    def foreign(self, side: str, *, is_foreign_named: bool = False) -> str:
        """Whether a side is someone else's: its namespace is not owned, or it has none and is in the cluster all the same.

        `is_foreign_named` says that a side with a namespace is known not to be owned.
        """
        named = "true" if is_foreign_named else f"NOT {self.owned(side)}"
        return f"CASE WHEN {side}_namespace IS NOT NULL THEN {named} ELSE {self._foreign_unnamed(side)} END"

    def _foreign_unnamed(self, side: str) -> str:
        """Whether a side without namespace is someone else's. Who sees the cluster whole, and is denied nothing, knows every side."""
        names = sorted({grant.namespace or "" for grant in self._grants if self._throughout(grant) == "true" and not grant.not_before})
        plain = [] if self._denials else [name for name in names if re.fullmatch("[a-z0-9-]+", name)][:_MOST_OWN_NAMES]
        own_names = rf"(?i)[a-z0-9_.*-]*\b({'|'.join(plain)})\.(svc|pod)\b[a-z0-9_.-]*" if plain else ""
        service = f"{side}_service_namespace"
        is_own_service = "false"
        if service in self._table.schema.names and not self._denials:
            named = self._names(service, [grant for grant in self._grants if grant.namespace is not None], self._throughout)
            is_own_service = f"coalesce({any_of(named)}, false)"
        inside = redaction.is_inside(self._table, side, own_names, is_own_service)
        if self._denials or not self.has_whole:
            return inside
        whole = any_of([self._throughout(grant) for grant in self._grants if grant.namespace is None])
        return f"({inside} AND NOT {whole})"

    def prunes(self, column: str) -> str:
        """The beginning of a condition that holds wherever `owns` does, and that files are pruned by; empty where `owns` does itself."""
        if all(self._throughout(grant) == "true" and not grant.not_before for grant in self._grants):
            return ""
        named = self.names_in(column)
        return f"{named} AND " if named else ""

    def names_in(self, column: str) -> str:
        """Whether a column has one of the names that are ever owned; empty where that cannot be listed."""
        names = {grant.namespace for grant in self._grants}
        if any(name is None or not is_plain(name) for name in names):
            return ""
        return f"{column} IN ({', '.join(literal(name) for name in sorted(name or '' for name in names))})"

    def whole(self) -> str:
        """Whether the cluster is seen whole at the row's time."""
        given = any_of([self._throughout(grant) for grant in self._grants if grant.namespace is None])
        taken = any_of([self._ever(grant) for grant in self._denials if grant.namespace is None])
        return f"({given} AND NOT {taken})"

    def _names(self, column: str, grants: Sequence[Grant], when: Callable[[Grant], str]) -> list[str]:
        """Conditions on the name and the time, plain names of the same time as one IN."""
        plain: dict[str, set[str]] = {}
        others: list[str] = []
        for grant in grants:
            time = when(grant)
            if grant.namespace is None:
                others.append(time)
            elif is_plain(grant.namespace) and not grant.not_before:
                plain.setdefault(time, set()).add(grant.namespace)
            else:
                name = f"{column} GLOB {literal(glob(grant.namespace))}"
                cuts = [f"NOT ({column} = {literal(cut[1])} AND {self._before(cut[2])})" for cut in grant.not_before]
                others.append(f"({' AND '.join([name, time, *cuts])})")
        lists = []
        for time, names in plain.items():
            listed = f"{column} IN ({', '.join(map(literal, sorted(names)))})"
            lists.append(listed if time == "true" else f"({listed} AND {time})")
        return [*lists, *others]

    def _start(self) -> str:
        return f'"{self._table.time_column}"'

    def _before(self, moment: datetime) -> str:
        """Whether a row begins before a time; said without asking the row where the window ends by then."""
        return "true" if self._until is not None and moment >= self._until else f"{self._start()} < {time_literal(moment)}"

    def _throughout(self, grant: Grant) -> str:
        """Whether a grant holds for all of the time a row stands for; a row that holds for long (a version) need only touch it."""
        start = self._start()
        parts = []
        if "valid_to" in self._table.schema.names:
            if grant.until is not None:
                parts.append(f"valid_from < {time_literal(grant.until)}")
            if grant.since is not None:
                parts.append(f"(valid_to IS NULL OR valid_to > {time_literal(grant.since)})")
        else:
            if grant.since is not None:
                parts.append(f"{start} >= {time_literal(grant.since)}")
            if grant.until is not None:
                last = grant.until - self._table.row_span
                parts.append(f"{start} {'<=' if self._table.row_span else '<'} {time_literal(last)}")
        return f"({' AND '.join(parts)})" if parts else "true"

    def _ever(self, grant: Grant) -> str:
        """Whether a grant holds at any moment that a row stands for."""
        start = self._start()
        parts = []
        if grant.until is not None:
            parts.append(f"{start} < {time_literal(grant.until)}")
        if grant.since is not None:
            if "valid_to" in self._table.schema.names:
                parts.append(f"(valid_to IS NULL OR valid_to > {time_literal(grant.since)})")
            else:
                first = grant.since - self._table.row_span
                parts.append(f"{start} {'>' if self._table.row_span else '>='} {time_literal(first)}")
        return f"({' AND '.join(parts)})" if parts else "true"


def is_local(table: Table, side: str) -> str:
    """Whether a side is in the cluster that saw the flow: in a mesh, a namespace of that name elsewhere is another's."""
    name = f"{side}_cluster_name"
    if name not in table.schema.names:
        return "true"
    same = [f"{name} IS NULL", f"{name} = 'default'", f"{name} = cluster"]
    if "node_name" in table.schema.names:
        same.append(f"coalesce({name} = split_part(node_name, '/', 1), false)")
    return any_of(same)


def time_literal(moment: datetime) -> str:
    """A moment in SQL."""
    return f"{literal(moment.isoformat())}::TIMESTAMPTZ"


def any_of(parts: Sequence[str]) -> str:
    """Whether one of several conditions holds; false for none."""
    return "(" + (" OR ".join(parts) or "false") + ")"
