"""Applies a scope to a table: the relation holds exactly what a principal may see, at the time of each row. Pure.

Four kinds of tables are distinguished by their columns, so a new table is scoped without being named here: tables with two sides
(`source_namespace` and `destination_namespace`), tables with a `namespace`, the ledger (visible per cluster), and all others,
which are visible only to principals who see everything. Columns that would reveal a hidden side are null in the relation, and
rollup rows that then no longer differ are merged. Columns that auditors must not read are null as well.

A namespace may be owned for a limited time. Names are always compared with a plain IN, which allows pruning; times are compared
only for namespaces whose owner changed within the window. There are two scans instead of an OR over both sides, because DuckDB
does not prune for an OR.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from warehouse.access import labels, redaction, rules
from warehouse.access.owned import SIDES, Rule, is_local, time_literal
from warehouse.access.principals import Grant, Role, Scope
from warehouse.engine import Window, literal
from warehouse.schema import COVERAGE, Table

__all__ = ["BY_CLUSTER", "SIDES", "clusters_seen", "has_two_sides", "is_local", "is_shared", "visible"]
BY_CLUSTER = frozenset({COVERAGE.name})
"""Tables of which everyone who owns something in a cluster sees all rows of that cluster."""


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
    """Return the query for what a scope shows of the view with the table's name, in the window.

    `clusters` are the clusters the view may hold rows of; rows of any other are not shown. `columns` limits the columns (None for
    all): the fewer there are, the faster DuckDB plans the query. With `ends_apart` a table with two sides is read once per side,
    which is faster if row groups can be pruned by either side; otherwise it is read once.
    """
    within = _within(table, window)
    picked = [name for name in table.schema.names if columns is None or name in columns]
    if scope.everything and scope.reads_every_label:
        return f"{_select(picked, table)} {within}"
    if scope.everything and ("cluster" not in table.schema.names or not scope.without_audits.grants):
        return _for_auditors(f"{_select(picked, table)} {within}", table, None, picked)
    parts: list[str] = []
    for decided, names in _grouped(scope, table, window, clusters).items():
        here = f"cluster IN ({', '.join(literal(name) for name in names)}) AND {within}"
        rule = Rule(table, decided, window.until)
        audits = [grant for grant in decided if grant.role == "auditor"]
        if not audits:
            parts.extend(_scans(table, rule, here, peer_detail, picked, ends_apart=ends_apart))
            continue
        own = Rule(table, [grant for grant in decided if grant.role != "auditor"], window.until)
        needed = [name for name in table.schema.names if name in picked or _decides(table, name)]
        scans = _scans(table, rule, here, peer_detail, needed, ends_apart=ends_apart)
        parts.extend(_for_auditors(scan, table, own, picked) for scan in scans)
    return "\nUNION ALL\n".join(parts) or f"{_select(picked, table)} false"


def _scans(table: Table, rule: Rule, here: str, peer_detail: str, picked: Sequence[str], *, ends_apart: bool) -> list[str]:
    """Return the scans that show what a rule allows of the rows `here`."""
    select = _select(picked, table)
    if table.name in BY_CLUSTER or rule.sees_all:
        return [f"{select} {here}"]
    if has_two_sides(table):
        return (_ends_apart if ends_apart else _ends_together)(table, rule, here, peer_detail, picked)
    if "namespace" not in table.schema.names:
        return []
    scans = [f"{select} {here} AND {rule.prunes('namespace')}{rule.owns()}"]
    return [*scans, f"{select} {here} AND namespace IS NULL AND {rule.whole()}"] if rule.has_whole else scans


def _select(picked: Sequence[str], table: Table) -> str:
    return f"SELECT {', '.join(map(_quoted, picked))} FROM {table.name} WHERE"


def _decides(table: Table, name: str) -> bool:
    """Whether a rule may need a column to decide who owns a row or side."""
    return name in ("cluster", "node_name", "namespace", "valid_to", table.time_column) or name.endswith(("_namespace", "_cluster_name"))


def _for_auditors(scan: str, table: Table, own: Rule | None, picked: Sequence[str]) -> str:
    """Return a scan without labels, except for those of namespaces the auditor also owns; rollup rows are merged again."""
    columns = []
    for name in picked:
        rule, column = rules.rule_of(table, name), _quoted(name)
        if rule.reveals not in rules.WITH_LABELS:
            columns.append(column)
            continue
        without = labels.without_labels(table, name)
        owned = _owned_whole(own, table, rule.side) if own else "false"
        columns.append(f"CASE WHEN {owned} THEN {column} ELSE {without} END AS {column}")
    return _summed(f"SELECT {', '.join(columns)} FROM ({scan})", table, picked)


def _owned_whole(own: Rule, table: Table, side: rules.Side) -> str:
    """SQL for whether everything that a column is about is owned."""
    if side in SIDES:
        return own.owned(side)
    if has_two_sides(table):
        return " AND ".join(own.owned(one) for one in SIDES)
    return own.owned("") if "namespace" in table.schema.names else "false"


def _summed(scan: str, table: Table, picked: Sequence[str]) -> str:
    """Merge rollup rows that do not differ in the columns shown: their number would reveal something about hidden columns."""
    if "flows" not in picked or "flow_count" in table.schema.names or not has_two_sides(table):
        return scan
    key = [_quoted(name) for name in picked if name not in rules.SUMMED]
    sums = [
        f"{how}({_quoted(name)}){'::BIGINT' if how == 'sum' else ''} AS {_quoted(name)}"
        for name, how in rules.SUMMED.items()
        if name in picked
    ]
    columns = ", ".join(map(_quoted, picked))
    return f"SELECT {columns} FROM (SELECT {', '.join([*key, *sums])} FROM ({scan}) GROUP BY {', '.join(key) or '()'})"


def is_shared(table: Table) -> bool:
    """Whether rows of a table may be visible to principals who do not see everything."""
    columns = set(table.schema.names)
    return table.name in BY_CLUSTER or "namespace" in columns or has_two_sides(table)


def has_two_sides(table: Table) -> bool:
    """Whether a row has two namespaces, either of which may be owned."""
    return {f"{side}_namespace" for side in SIDES} <= set(table.schema.names)


def clusters_seen(scope: Scope, clusters: Iterable[str]) -> list[str]:
    """Return the clusters in which anything may be seen."""
    return sorted(cluster for cluster in set(clusters) if scope.sees_cluster(cluster))


def _grouped(scope: Scope, table: Table, window: Window, clusters: Iterable[str]) -> dict[tuple[Grant, ...], list[str]]:
    """Group clusters that have the same grants and denials in the window."""
    groups: dict[tuple[Grant, ...], list[str]] = {}
    role: Role
    for cluster in clusters_seen(scope, clusters):
        decided = []
        for grant in (*scope.grants, *scope.denials):
            if not replace(grant, namespace=None).covers(cluster, None):
                continue
            clipped = _clipped(grant, window, table.row_span)
            if clipped is not None:
                cuts = tuple(cut for cut in grant.not_before if cut[0] == cluster and not (window.since and cut[2] <= window.since))
                role = "auditor" if grant.role == "auditor" and not grant.is_denial else "namespace-owner"
                decided.append(replace(clipped, subject="", role=role, cluster="*", reason="", not_before=cuts))
        if any(not grant.is_denial for grant in decided):
            groups.setdefault(tuple(dict.fromkeys(decided)), []).append(cluster)
    return groups


def _clipped(grant: Grant, window: Window, row_span: timedelta) -> Grant | None:
    """Return a grant without bounds outside the window; None if it is not in force within the window."""
    start, end = window.since, window.until and window.until + row_span
    if (grant.until and start and grant.until <= start) or (grant.since and end and grant.since >= end):
        return None
    return replace(
        grant,
        since=None if grant.since and start and grant.since <= start else grant.since,
        until=None if grant.until and end and grant.until >= end else grant.until,
    )


def _ends_apart(table: Table, rule: Rule, here: str, peer_detail: str, picked: Sequence[str]) -> list[str]:
    """Return one scan for rows whose source is owned, and one for rows whose destination is owned but not their source."""
    scans = []
    for mine, peer in (SIDES, SIDES[::-1]):
        # Rows whose source is owned too are already in the first scan.
        once = f" AND NOT {rule.owned('source')}" if mine == "destination" else ""
        where = f"{here} AND {rule.prunes(f'{mine}_namespace')}{rule.owns(mine)}{once}"
        scans.append(_emptied(table, rule, where, peer_detail, picked, {peer: bool(once)}))
    return [*scans, *_of_neither(table, rule, here, peer_detail, picked)]


def _ends_together(table: Table, rule: Rule, here: str, peer_detail: str, picked: Sequence[str]) -> list[str]:
    """Return a single scan for rows whose source or destination is owned."""
    prunes = [rule.names_in(f"{side}_namespace") for side in SIDES]
    either = f" AND ({' OR '.join(one for one in prunes if one)})" if all(prunes) else ""
    owned = " OR ".join(rule.owned(side) for side in SIDES)
    scan = _emptied(table, rule, f"{here}{either} AND ({owned})", peer_detail, picked, dict.fromkeys(SIDES, False))
    return [scan, *_of_neither(table, rule, here, peer_detail, picked)]


def _of_neither(table: Table, rule: Rule, here: str, peer_detail: str, picked: Sequence[str]) -> list[str]:
    """Return the scan for rows without a namespace on either side, which belong to the cluster as a whole."""
    if not rule.has_whole:
        return []
    neither = " AND ".join(f"{side}_namespace IS NULL" for side in SIDES)
    return [_emptied(table, rule, f"{here} AND {neither} AND {rule.whole()}", peer_detail, picked, dict.fromkeys(SIDES, False))]


def _emptied(table: Table, rule: Rule, where: str, peer_detail: str, picked: Sequence[str], peers: Mapping[str, bool]) -> str:
    """Return a scan whose columns are null where they would reveal a side that belongs to someone else.

    `peers` maps the sides that may belong to someone else to whether a side with a namespace certainly does.
    """
    hidden = {peer: redaction.hidden_columns(table, peer, peer_detail).intersection(picked) for peer in peers}
    always = redaction.always_hidden(table, peer_detail).intersection(picked)
    if not any(hidden.values()):
        return f"{_select(picked, table)} {where}"
    columns = []
    for name, column in zip(picked, map(_quoted, picked), strict=True):
        hiding = " OR ".join(f"_not_own_{peer}" if name in always else f"_foreign_{peer}" for peer in peers if name in hidden[peer])
        columns.append(f"CASE WHEN {hiding} THEN NULL ELSE {column} END AS {column}" if hiding else column)
    flags = []
    for peer, is_foreign_named in peers.items():
        # Without a namespace there is none to hide: the expensive check is only needed for other columns.
        if hidden[peer] <= {f"{peer}_namespace"}:
            named = "true" if is_foreign_named else f"NOT {rule.owned(peer)}"
            flags.append(f"{peer}_namespace IS NOT NULL AND {named} AS _foreign_{peer}")
        else:
            flags.append(f"{rule.foreign(peer, is_foreign_named=is_foreign_named)} AS _foreign_{peer}")
        if always:
            flags.append(f"NOT {rule.owned(peer)} AS _not_own_{peer}")
    inner = f"SELECT {', '.join([*map(_quoted, picked), *flags])} FROM {table.name} WHERE {where}"
    return _summed(f"SELECT {', '.join(columns)} FROM ({inner})", table, picked)


def _within(table: Table, window: Window) -> str:
    if "valid_to" in table.schema.names:
        parts = [f"valid_from < {time_literal(window.until)}"] if window.until else []
        parts += [f"(valid_to IS NULL OR valid_to > {time_literal(window.since)})"] if window.since else []
    else:
        parts = [
            f'"{table.time_column}" {sign} {time_literal(bound)}' for sign, bound in ((">=", window.since), ("<", window.until)) if bound
        ]
    return " AND ".join(parts) or "true"


def _quoted(name: str) -> str:
    return f'"{name}"'
