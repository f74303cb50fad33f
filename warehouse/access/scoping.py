"""A table under a scope: the relation that holds just what a principal may see, at the time of each row. Pure.

Four kinds of tables, told apart by their columns, so that one that is new is put under the rule without being named here:
two sides (`source_namespace` and `destination_namespace`), of a namespace (`namespace`), the ledger (what is known of
clusters), and all others, which only who sees everything sees. What must not be known of a side is empty in the relation.

A namespace may be owned for a time only. The names are always a plain IN, by which files are pruned; times are asked only
of rows of namespaces whose owner changed within the window. Two scans and no OR over both sides: only so DuckDB prunes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from warehouse.access import redaction
from warehouse.access.principals import Grant, Scope, glob, is_plain
from warehouse.engine import Window, literal
from warehouse.schema import COVERAGE, Table

BY_CLUSTER = frozenset({COVERAGE.name})
"""Tables that every owner of something in a cluster sees of that cluster."""
SIDES = ("source", "destination")


def visible(
    scope: Scope,
    table: Table,
    window: Window,
    clusters: Iterable[str],
    *,
    peer_detail: str = "workload",
    columns: Collection[str] | None = None,
    ends_apart: bool = True,
) -> str:
    """The query for what a scope shows of the view that is named as the table, in the window.

    `clusters` are those the view may hold rows of; rows of any other are not shown. `columns` are those it is to have, all for
    None: the fewer, the sooner DuckDB has understood it. With `ends_apart` a table with two sides is read once for each, which
    pays where row groups can be left out for either; else once.
    """
    within = _within(table, window)
    picked = [name for name in table.schema.names if columns is None or name in columns]
    select = f"SELECT {', '.join(_quoted(name) for name in picked)} FROM {table.name} WHERE"
    if scope.everything:
        return f"{select} {within}"
    parts: list[str] = []
    for decided, names in _grouped(scope, table, window, clusters).items():
        here = f"cluster IN ({', '.join(literal(name) for name in names)}) AND {within}"
        rule = _Rule(table, decided, window.until)
        if table.name in BY_CLUSTER or rule.sees_all:
            parts.append(f"{select} {here}")
        elif has_two_sides(table):
            parts.extend((_ends_apart if ends_apart else _ends_together)(table, rule, here, peer_detail, picked))
        elif "namespace" in table.schema.names:
            parts.append(f"{select} {here} AND {rule.prunes('namespace')}{rule.owns()}")
            if rule.has_whole:
                parts.append(f"{select} {here} AND namespace IS NULL AND {rule.whole()}")
    return "\nUNION ALL\n".join(parts) or f"{select} false"


def is_shared(table: Table) -> bool:
    """Whether who does not see everything may see rows of a table."""
    columns = set(table.schema.names)
    return table.name in BY_CLUSTER or "namespace" in columns or has_two_sides(table)


def has_two_sides(table: Table) -> bool:
    """Whether a row is of two namespaces, either of which may be owned."""
    return {f"{side}_namespace" for side in SIDES} <= set(table.schema.names)


def clusters_seen(scope: Scope, clusters: Iterable[str]) -> list[str]:
    """Those clusters of which anything may be seen."""
    return sorted(cluster for cluster in set(clusters) if scope.sees_cluster(cluster))


def _grouped(scope: Scope, table: Table, window: Window, clusters: Iterable[str]) -> dict[tuple[Grant, ...], list[str]]:
    """Clusters by what is decided for them in the window: the same grants and denials, whatever the cluster's name."""
    groups: dict[tuple[Grant, ...], list[str]] = {}
    for cluster in clusters_seen(scope, clusters):
        decided = []
        for grant in (*scope.grants, *scope.denials):
            if not replace(grant, namespace=None).covers(cluster, None):
                continue
            clipped = _clipped(grant, window, table.row_span)
            if clipped is not None:
                cuts = tuple(cut for cut in grant.not_before if cut[0] == cluster and not (window.since and cut[2] <= window.since))
                decided.append(replace(clipped, subject="", role="namespace-owner", cluster="*", reason="", not_before=cuts))
        if any(not grant.is_denial for grant in decided):
            groups.setdefault(tuple(dict.fromkeys(decided)), []).append(cluster)
    return groups


def _clipped(grant: Grant, window: Window, row_span: timedelta) -> Grant | None:
    """A grant without the bounds that lie outside of the window; None if it holds at no time of it."""
    start, end = window.since, window.until and window.until + row_span
    if (grant.until and start and grant.until <= start) or (grant.since and end and grant.since >= end):
        return None
    return replace(
        grant,
        since=None if grant.since and start and grant.since <= start else grant.since,
        until=None if grant.until and end and grant.until >= end else grant.until,
    )


class _Rule:
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
        given = [f"{_any(named)} AND {is_local(self._table, side)}"] if named else []
        if self.has_whole:
            whole = _any([self._throughout(grant) for grant in self._grants if grant.namespace is None])
            given.append(f"{column} IS NOT NULL AND {whole}")
        taken = self._names(column, self._denials, self._ever)
        allowed = given[0] if len(given) == 1 else _any([f"({one})" for one in given])
        return f"{allowed} AND NOT coalesce({_any(taken)}, false)" if taken else allowed

    def owned(self, side: str) -> str:
        """As `owns`, but never null."""
        return f"coalesce({self.owns(side)}, false)"

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
        given = _any([self._throughout(grant) for grant in self._grants if grant.namespace is None])
        taken = _any([self._ever(grant) for grant in self._denials if grant.namespace is None])
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
        return "true" if self._until is not None and moment >= self._until else f"{self._start()} < {_time(moment)}"

    def _throughout(self, grant: Grant) -> str:
        """Whether a grant holds for all of the time a row stands for; a row that holds for long (a version) need only touch it."""
        start = self._start()
        parts = []
        if "valid_to" in self._table.schema.names:
            if grant.until is not None:
                parts.append(f"valid_from < {_time(grant.until)}")
            if grant.since is not None:
                parts.append(f"(valid_to IS NULL OR valid_to > {_time(grant.since)})")
        else:
            if grant.since is not None:
                parts.append(f"{start} >= {_time(grant.since)}")
            if grant.until is not None:
                last = grant.until - self._table.row_span
                parts.append(f"{start} {'<=' if self._table.row_span else '<'} {_time(last)}")
        return f"({' AND '.join(parts)})" if parts else "true"

    def _ever(self, grant: Grant) -> str:
        """Whether a grant holds at any moment that a row stands for."""
        start = self._start()
        parts = []
        if grant.until is not None:
            parts.append(f"{start} < {_time(grant.until)}")
        if grant.since is not None:
            if "valid_to" in self._table.schema.names:
                parts.append(f"(valid_to IS NULL OR valid_to > {_time(grant.since)})")
            else:
                first = grant.since - self._table.row_span
                parts.append(f"{start} {'>' if self._table.row_span else '>='} {_time(first)}")
        return f"({' AND '.join(parts)})" if parts else "true"


def _ends_apart(table: Table, rule: _Rule, here: str, peer_detail: str, picked: Sequence[str]) -> list[str]:
    """The scan of what leaves owned namespaces, and that of what else arrives there."""
    scans = []
    for mine, peer in (SIDES, SIDES[::-1]):
        hidden = redaction.hidden_columns(table, peer, peer_detail).intersection(picked)
        # Of what arrives, that which leaves owned namespaces as well is in the first scan.
        once = f" AND NOT {rule.owned('source')}" if mine == "destination" else ""
        where = f"{here} AND {rule.prunes(f'{mine}_namespace')}{rule.owns(mine)}{once}"
        if not hidden:
            scans.append(f"SELECT {', '.join(map(_quoted, picked))} FROM {table.name} WHERE {where}")
            continue
        columns = ", ".join(
            f"CASE WHEN _foreign THEN NULL ELSE {column} END AS {column}" if name in hidden else column
            for name, column in zip(picked, map(_quoted, picked), strict=True)
        )
        foreign = f"{peer}_namespace IS NOT NULL" + ("" if once else f" AND NOT {rule.owned(peer)}")
        needed = ", ".join(map(_quoted, picked))
        scans.append(f"SELECT {columns} FROM (SELECT {needed}, {foreign} AS _foreign FROM {table.name} WHERE {where})")
    return [*scans, *_of_neither(table, rule, here, picked)]


def _ends_together(table: Table, rule: _Rule, here: str, peer_detail: str, picked: Sequence[str]) -> list[str]:
    """One scan of what leaves owned namespaces or arrives there."""
    hidden = {peer: redaction.hidden_columns(table, peer, peer_detail) for peer in SIDES}
    columns = []
    for name, column in zip(picked, map(_quoted, picked), strict=True):
        hiding = " OR ".join(f"_foreign_{peer}" for peer in SIDES if name in hidden[peer])
        columns.append(f"CASE WHEN {hiding} THEN NULL ELSE {column} END AS {column}" if hiding else column)
    flags = [f"{rule.owned(side)} AS _{side}, {side}_namespace IS NOT NULL AND NOT _{side} AS _foreign_{side}" for side in SIDES]
    prunes = [rule.names_in(f"{side}_namespace") for side in SIDES]
    either = f" AND ({' OR '.join(one for one in prunes if one)})" if all(prunes) else ""
    inner = f"SELECT {', '.join(map(_quoted, picked))}, {', '.join(flags)} FROM {table.name} WHERE {here}{either}"
    scan = f"SELECT {', '.join(columns)} FROM ({inner}) WHERE _source OR _destination"
    return [scan, *_of_neither(table, rule, here, picked)]


def _of_neither(table: Table, rule: _Rule, here: str, picked: Sequence[str]) -> list[str]:
    """The scan of what has no namespace on either side, which is a cluster's own."""
    if not rule.has_whole:
        return []
    neither = " AND ".join(f"{side}_namespace IS NULL" for side in SIDES)
    return [f"SELECT {', '.join(map(_quoted, picked))} FROM {table.name} WHERE {here} AND {neither} AND {rule.whole()}"]


def is_local(table: Table, side: str) -> str:
    """Whether a side is in the cluster that saw the flow: in a mesh, a namespace of that name elsewhere is another's."""
    name = f"{side}_cluster_name"
    if name not in table.schema.names:
        return "true"
    same = [f"{name} IS NULL", f"{name} = 'default'", f"{name} = cluster"]
    if "node_name" in table.schema.names:
        same.append(f"coalesce({name} = split_part(node_name, '/', 1), false)")
    return _any(same)


def _within(table: Table, window: Window) -> str:
    if "valid_to" in table.schema.names:
        parts = [f"valid_from < {_time(window.until)}"] if window.until else []
        parts += [f"(valid_to IS NULL OR valid_to > {_time(window.since)})"] if window.since else []
    else:
        parts = [f'"{table.time_column}" {sign} {_time(bound)}' for sign, bound in ((">=", window.since), ("<", window.until)) if bound]
    return " AND ".join(parts) or "true"


def _quoted(name: str) -> str:
    return f'"{name}"'


def _time(moment: datetime) -> str:
    return f"{literal(moment.isoformat())}::TIMESTAMPTZ"


def _any(parts: Sequence[str]) -> str:
    return "(" + (" OR ".join(parts) or "false") + ")"
