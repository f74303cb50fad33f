"""Findings that stay open: those that are open or accepted now, or were at any past time; and accepting and reopening them.

Finding and closing them belongs to pipelines; access control for reading belongs to the query door.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.access.principals import Principal, Scope
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.records.newest import newest
from warehouse.schema import FINDINGS

KEY = ("cluster", "key")
"""The columns that identify a finding while it is open."""
OPEN, ACCEPTED, CLOSED = "open", "acknowledged", "closed"
STANDING = (OPEN, ACCEPTED)
LONGEST = timedelta(days=366)
"""How long a finding may be accepted at most."""
LONGEST_REASON = 1000


def open_findings(
    lake: Lake, *, at: datetime | None = None, clusters: Iterable[str] | None = None, kinds: Iterable[str] | None = None
) -> pa.Table:
    """Return the findings that are open now, or were at a time, of these kinds if given, by cluster and key. Raises LakeError.

    Accepted ones are among them once their acceptance has expired.
    """
    rows = findings(lake, at=at, clusters=clusters, kinds=kinds, states=STANDING)
    return rows.filter(pc.equal(rows["state"], OPEN))


def findings(
    lake: Lake,
    *,
    at: datetime | None = None,
    clusters: Iterable[str] | None = None,
    kinds: Iterable[str] | None = None,
    states: Iterable[str] = (OPEN, ACCEPTED, CLOSED),
) -> pa.Table:
    """Return the newest row of each finding with a key, now or at a time, by cluster and key. Raises LakeError.

    `states` selects by what is stored: an acceptance that has expired is then returned as open.
    """
    rows = newest(lake, FINDINGS, KEY, at=at, clusters=clusters, state=tuple(states))
    if kinds is not None:
        rows = rows.filter(pc.is_in(rows["kind"], pa.array(list(kinds), pa.string())))
    rows = rows.filter(pc.is_valid(rows["key"])).sort_by([("cluster", "ascending"), ("key", "ascending")])
    moment = pa.scalar(at or datetime.now(UTC), FINDINGS.schema.field("expires").type)
    expired = pc.fill_null(pc.and_(pc.equal(rows["state"], ACCEPTED), pc.less_equal(rows["expires"], moment)), False)
    place = FINDINGS.schema.get_field_index("state")
    return rows.set_column(place, FINDINGS.schema.field("state"), pc.if_else(expired, OPEN, rows["state"]))


def history(lake: Lake, cluster: str, key: str) -> pa.Table:
    """Return all rows of a finding, oldest first. Raises LakeError."""
    rows = lake.read(FINDINGS, clusters=[cluster])
    return rows.filter(pc.equal(rows["key"], key)).sort_by([("time", "ascending")])


def accept(lake: Lake, who: Principal, scope: Scope, finding: Mapping[str, Any], *, reason: str, expires: datetime, by: str) -> None:
    """Accept a finding until a time. `finding` is its newest row, `by` the name of the user.

    Raises AccessDeniedError for whoever may not decide about it, QueryError without a reason or with a wrong expiry, or if the finding
    has been closed, and LakeError.
    """
    now = datetime.now(UTC)
    text = _reason(reason)
    if not text:
        raise QueryError("a finding is accepted with a reason: say why")
    if not now < expires <= now + LONGEST:
        raise QueryError(f"the acceptance must end in the future, and within {LONGEST.days} days: it ends {expires:%Y-%m-%d %H:%M %Z}")
    _put(lake, who, scope, finding, now, {"state": ACCEPTED, "reason": text, "expires": expires, "by": by})


def reopen(lake: Lake, who: Principal, scope: Scope, finding: Mapping[str, Any], *, reason: str = "", by: str) -> None:
    """End the acceptance of a finding, so that it is open again. Raises as `accept`."""
    _put(lake, who, scope, finding, datetime.now(UTC), {"state": OPEN, "reason": _reason(reason) or None, "expires": None, "by": by})


def may_decide(scope: Scope, cluster: str, namespace: str | None, at: datetime) -> bool:
    """Whether a principal may accept and reopen a finding: its namespace's owner, or who administers its cluster. Auditors only read."""
    own = scope.without_audits
    return own.sees_whole(cluster, at) if namespace is None else own.owns(cluster, namespace, at)


def _put(lake: Lake, who: Principal, scope: Scope, finding: Mapping[str, Any], now: datetime, change: Mapping[str, Any]) -> None:
    cluster, key = finding["cluster"], finding["key"]
    named = finding["summary"] or key
    if not may_decide(scope, cluster, finding["namespace"], now):
        where = f"namespace {finding['namespace']}" if finding["namespace"] else f"the whole cluster {cluster}"
        raise AccessDeniedError(f"{who.user} may not decide about findings in {where}: its owners may")
    known = [row for row in findings(lake, clusters=[cluster]).to_pylist() if row["key"] == key]
    if not known or known[0]["state"] == CLOSED:
        raise QueryError(f"it is no longer open, so there is nothing to accept or reopen: {named}")
    if change["state"] == OPEN and known[0]["state"] == OPEN:
        raise QueryError(f"it is open already: {named}")
    time = max(now, known[0]["time"] + timedelta(microseconds=1))  # clocks may differ between machines
    row = {**known[0], "time": time, "date": time.date(), **change}
    files = lake.write_files(FINDINGS, pa.Table.from_pylist([row], schema=FINDINGS.schema))
    lake.commit(FINDINGS, files, transactions={}, metadata={})


def _reason(text: str) -> str:
    plain = " ".join(text.split())
    if len(plain) > LONGEST_REASON:
        raise QueryError(f"the reason has {len(plain):,} characters; at most {LONGEST_REASON:,} are stored")
    return plain
