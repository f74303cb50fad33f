"""Writes to the table `findings`, which lists what people should look at.

`record` writes a finding that happened, such as an erasure. `keep` records the findings of audits, which open, stay and close.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from pipelines.audits.finding import Audited, Finding
from warehouse.errors import CommitConflictError
from warehouse.lake.tables import Lake
from warehouse.records import findings as stored
from warehouse.schema import FINDINGS

FLEET = "*"
"""Used as the cluster of findings that concern no single cluster."""
AUDITS = "policy_audits"
"""Audits commit under this name, with their time as version: an audit of an earlier time than the last one is refused."""
Severity = Literal["info", "low", "medium", "high", "critical"]
_RANKS = {"info": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}
_UNDECIDED = {"by": None, "reason": None, "expires": None}


def record(
    lake: Lake,
    *,
    kind: str,
    severity: Severity,
    summary: str,
    source: str,
    cluster: str = FLEET,
    namespace: str | None = None,
    subject: str | None = None,
    detail: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> None:
    """Write one finding; see the columns of `findings`. Raises LakeError."""
    time = now or datetime.now(UTC)
    row = {
        "cluster": cluster,
        "date": time.date(),
        "time": time,
        "kind": kind,
        "severity": severity,
        "namespace": namespace,
        "subject": subject,
        "summary": summary,
        "detail": None if detail is None else json.dumps(detail, default=str, ensure_ascii=False),
        "source": source,
    }
    files = lake.write_files(FINDINGS, pa.Table.from_pylist([row], schema=FINDINGS.schema))
    lake.commit(FINDINGS, files, transactions={}, metadata={})


def changes(results: Sequence[Audited], before: Sequence[Mapping[str, Any]], *, now: datetime, source: str) -> list[dict[str, Any]]:
    """Return the rows to append: findings that are new or have changed, and those that are gone. `before` are the open and accepted rows.

    A finding that stays open keeps its `since`, and one that is accepted stays so until its acceptance has expired or it gets more severe.
    What an audit could not evaluate stays as it was.
    """
    opened = {(row["cluster"], row["key"]): row for row in before}
    rows: list[dict[str, Any]] = []
    for result in results:
        if result.not_evaluated:
            continue
        found = {finding.key: finding for finding in result.findings}
        for key, finding in found.items():
            known = opened.get((result.cluster, key))
            is_same = known is not None and (known["severity"], known["summary"]) == (finding.severity, finding.summary)
            if known is None or not is_same or _has_expired(known):
                rows.append(_row(finding, now, known, source))
        for (cluster, key), known in opened.items():
            if cluster == result.cluster and known["kind"] == result.kind and key not in found and key not in result.undecided:
                rows.append({**known, **_UNDECIDED, "time": now, "date": now.date(), "state": stored.CLOSED, "source": source})
    return rows


def _has_expired(known: Mapping[str, Any]) -> bool:
    """Whether an acceptance has expired: such a finding is read as open, and still has the end of its acceptance."""
    return known["state"] == stored.OPEN and known["expires"] is not None


def _row(finding: Finding, now: datetime, known: Mapping[str, Any] | None, source: str) -> dict[str, Any]:
    stays = known is not None and known["state"] == stored.ACCEPTED and _RANKS[finding.severity] <= _RANKS.get(known["severity"], 0)
    decided = {name: known[name] for name in ("state", *_UNDECIDED)} if stays and known is not None else {"state": stored.OPEN}
    return {
        "cluster": finding.cluster,
        "date": now.date(),
        "time": now,
        "kind": finding.kind.value,
        "severity": finding.severity,
        "namespace": finding.namespace,
        "subject": finding.subject,
        "summary": finding.summary,
        "detail": json.dumps(dict(finding.detail), default=str, ensure_ascii=False, sort_keys=True),
        "source": source,
        "key": finding.key,
        "since": known["since"] if known is not None else now,
        **decided,
    }


@dataclass(frozen=True, kw_only=True)
class Kept:
    """How many findings opened, changed and closed."""

    opened: int = 0
    changed: int = 0
    closed: int = 0


def keep(lake: Lake, results: Sequence[Audited], *, now: datetime, source: str, configured: Collection[str] | None = None) -> Kept:
    """Record the findings of audits. A second run writes nothing where nothing changed.

    `configured` names every cluster of the configuration: findings of audits of all others are closed, since those clusters are no
    longer audited; None leaves them unchanged. Raises CommitConflictError if an audit of a later time is recorded, LakeError for any
    other failure.
    """
    recorded = lake.transaction_version(FINDINGS, AUDITS)
    if recorded is not None and recorded > int(now.timestamp() * 1_000_000):
        raise CommitConflictError("an audit of a later time is recorded already")
    kinds = {result.kind.value for result in results}
    clusters = None if configured is not None else sorted({result.cluster for result in results})
    before = stored.findings(lake, at=now, clusters=clusters, kinds=kinds, states=stored.STANDING).to_pylist()
    rows = changes(results, before, now=now, source=source)
    if configured is not None:
        why = "; closed because the cluster is not in the configuration any more"
        gone = [row for row in before if row["cluster"] not in configured]
        rows += [
            {**row, **_UNDECIDED, "time": now, "date": now.date(), "state": stored.CLOSED, "summary": row["summary"] + why} for row in gone
        ]
    if rows:
        files = lake.write_files(FINDINGS, pa.Table.from_pylist(rows, schema=FINDINGS.schema))
        lake.commit(FINDINGS, files, transactions={AUDITS: int(now.timestamp() * 1_000_000)}, metadata={})
    known = {(row["cluster"], row["key"]) for row in before}
    opened = sum(row["state"] == "open" and (row["cluster"], row["key"]) not in known for row in rows)
    closed = sum(row["state"] == "closed" for row in rows)
    return Kept(opened=opened, changed=len(rows) - opened - closed, closed=closed)
