"""Translates the grants for a group of clusters into SQL conditions on the rows of a table: what is owned, and when. Pure.

warehouse.access.scoping builds the scans that use these conditions.
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
"""At most this many owned namespaces are recognized in DNS names, which bounds the length of the SQL."""


class Rule:
    """The grants and denials for a group of clusters, as conditions on the rows of a table."""

    def __init__(self, table: Table, decided: Sequence[Grant], until: datetime | None) -> None:
        self._table = table
        self._until = until
        self._grants = [grant for grant in decided if not grant.is_denial]
        self._denials = [grant for grant in decided if grant.is_denial]
        self.has_whole = any(grant.namespace is None for grant in self._grants)
        always = any(grant.namespace is None and grant.since is None and grant.until is None for grant in self._grants)
        self.sees_all = always and not self._denials

    def owns(self, side: str = "") -> str:
        """SQL for whether the namespace of a side (of the row, if no side is given) is owned at the row's time.

        The result is true, or else false or null. The condition is short, with exact names in a bare IN, because it is evaluated for
        every row and used to prune files.
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
        """Like `owns`, but never null."""
        return f"coalesce({self.owns(side)}, false)"

    def foreign(self, side: str, *, is_foreign_named: bool = False) -> str:
        """SQL for whether a side belongs to someone else: its namespace is not owned, or it has none but is inside the cluster.

        Pass `is_foreign_named` if a side that has a namespace is known not to be owned.
        """
        named = "true" if is_foreign_named else f"NOT {self.owned(side)}"
        return f"CASE WHEN {side}_namespace IS NOT NULL THEN {named} ELSE {self._foreign_unnamed(side)} END"

    def _foreign_unnamed(self, side: str) -> str:
        """SQL for whether a side without a namespace belongs to someone else; never true if the whole cluster is seen without denials."""
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
        """SQL prefix that is implied by `owns` and lets files be pruned; empty if `owns` allows pruning by itself."""
        if all(self._throughout(grant) == "true" and not grant.not_before for grant in self._grants):
            return ""
        named = self.names_in(column)
        return f"{named} AND " if named else ""

    def names_in(self, column: str) -> str:
        """SQL for whether a column has one of the names owned at any time; empty if the names cannot be listed."""
        names = {grant.namespace for grant in self._grants}
        if any(name is None or not is_plain(name) for name in names):
            return ""
        return f"{column} IN ({', '.join(literal(name) for name in sorted(name or '' for name in names))})"

    def whole(self) -> str:
        """SQL for whether the whole cluster is seen at the row's time."""
        given = any_of([self._throughout(grant) for grant in self._grants if grant.namespace is None])
        taken = any_of([self._ever(grant) for grant in self._denials if grant.namespace is None])
        return f"({given} AND NOT {taken})"

    def _names(self, column: str, grants: Sequence[Grant], when: Callable[[Grant], str]) -> list[str]:
        """Return conditions on name and time; exact names with the same time are combined in one IN."""
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
        """SQL for whether a row begins before a time; constant if the window ends by then."""
        return "true" if self._until is not None and moment >= self._until else f"{self._start()} < {time_literal(moment)}"

    def _throughout(self, grant: Grant) -> str:
        """SQL for whether a grant covers the whole time span of a row; for versions, which last long, an overlap is enough."""
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
        """SQL for whether a grant overlaps the time span of a row."""
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
    """SQL for whether a side is in the cluster that saw the flow: in a mesh, a namespace of the same name elsewhere is another one."""
    name = f"{side}_cluster_name"
    if name not in table.schema.names:
        return "true"
    same = [f"{name} IS NULL", f"{name} = 'default'", f"{name} = cluster"]
    if "node_name" in table.schema.names:
        # An empty text where the name is null: DuckDB fails to compare split_part of a column that is null in a whole file.
        same.append(f"coalesce({name} = split_part(coalesce(node_name, ''), '/', 1), false)")
    return any_of(same)


def time_literal(moment: datetime) -> str:
    """Return a time as an SQL literal."""
    return f"{literal(moment.isoformat())}::TIMESTAMPTZ"


def any_of(parts: Sequence[str]) -> str:
    """Return the disjunction of SQL conditions; false if there are none."""
    return "(" + (" OR ".join(parts) or "false") + ")"
