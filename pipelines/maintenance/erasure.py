"""Erasure: removes a namespace's history from flows and rollups on request, and records a finding about it.

A row is removed if either of its sides is the namespace, whoever owns the other side. Docs/retention.md describes the
consequences. Legal holds take precedence. Running it again after a crash finishes it.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evidence import findings
from pipelines.maintenance import removal
from pipelines.maintenance.engine_removal import Names, moment, one_of
from pipelines.maintenance.removal import NAMESPACE_COLUMNS, Mask, Removal, each_name
from warehouse import config
from warehouse.engine import literal
from warehouse.engines.opening import Engine
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.schema import ERASURES, TABLES, TIMESTAMP, Table
from warehouse.wording import counted

TABLE_NAMES = ("flows", "edges_1h", "timeline_1m", "label_sets", "dns_names", "proposed_edges")
"""The tables that are erased from. Findings, the ledger and configuration history describe the platform, and stay."""
BEGUN, DONE = ERASURES
"""Kinds of the findings: one before the first row is removed, so that no crash can hide it, and one when all are removed."""
SOURCE = "hindcast maintain erase"
_LABEL = "k8s:io.kubernetes.pod.namespace="
_SERVICES = ("source_service_namespace", "destination_service_namespace")
_LABELS = ("source_labels", "destination_labels")


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request to erase a namespace's history."""

    cluster: str
    namespace: str
    since: datetime | None = None
    until: datetime | None = None
    """End of the window, exclusive; the time of the request if None."""
    reason: str
    asked_by: str = ""
    """Who requested it; the operating system's user if empty."""


@dataclass(frozen=True, kw_only=True)
class Named:
    """Selects the rows of a table that name a namespace on either side, within the request's window."""

    table: Table
    request: Request

    @property
    def columns(self) -> Sequence[str]:
        """The time, and the columns that name a side's namespace."""
        wanted = (self.table.time_column, *NAMESPACE_COLUMNS, *_SERVICES, *_LABELS)
        return [name for name in wanted if name in self.table.schema.names]

    def mask(self, rows: pa.Table) -> Mask:
        """Return a mask that is True for each row that names it."""
        named = np.zeros(rows.num_rows, bool)
        for name in (*NAMESPACE_COLUMNS, *_SERVICES):
            if name in rows.column_names:
                named |= each_name(rows[name], lambda text: text == self.request.namespace, none=False)
        for name in _LABELS:
            if name in rows.column_names:
                named |= _holds_text(rows[name], _LABEL + self.request.namespace)
        return named & self._inside(rows)

    def condition(self, names: Names) -> str:
        """Return the same as SQL; see removal.Selection."""
        wanted, columns = self.request.namespace, self.table.schema.names
        named = [one_of(name, [wanted], none=False) for name in (*NAMESPACE_COLUMNS, *_SERVICES) if name in columns]
        label = literal(_LABEL + wanted)
        named += [f"coalesce(list_contains({name}, {label}), false)" for name in _LABELS if name in columns]
        parts = [f"({' OR '.join(named)})"]
        time, span = f'"{self.table.time_column}"', self.table.row_span
        if self.request.since is not None:
            parts.append(f"{time} >= {moment(self.request.since - span + timedelta(microseconds=1) if span else self.request.since)}")
        if self.request.until is not None:
            parts.append(f"{time} < {moment(self.request.until)}")
        return f"({' AND '.join(parts)})"

    def _inside(self, rows: pa.Table) -> Mask:
        begin = rows[self.table.time_column].cast(TIMESTAMP)
        inside = np.ones(rows.num_rows, bool)
        if self.request.since is not None:
            # A rollup row covers the time after its timestamp.
            span = self.table.row_span
            since = self.request.since - span + timedelta(microseconds=1) if span else self.request.since
            inside &= pc.greater_equal(begin, pa.scalar(since, TIMESTAMP)).to_numpy()
        if self.request.until is not None:
            inside &= pc.less(begin, pa.scalar(self.request.until, TIMESTAMP)).to_numpy()
        return inside


def erase(
    lake: Lake,
    request: Request,
    holds: Sequence[config.Hold],
    *,
    now: datetime,
    dry_run: bool = False,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
    on: Engine | None = None,
) -> list[Removal]:
    """Remove the rows and record the findings; return what was removed or, with `dry_run`, would be. Raises LakeError.

    `progress` is called with the number of partitions done and their total. `on` reads and writes the rows if given.
    """
    request = replace(request, until=min(request.until or now, now), asked_by=request.asked_by or getpass.getuser())
    selections = [Named(table=TABLES[name], request=request) for name in TABLE_NAMES if name in TABLES]
    planned = [(selection, found) for selection in selections for found in _find(lake, selection, holds, on)]
    if dry_run or not any(found.rows for _, found in planned):
        return [found for _, found in planned]
    _leave_finding(lake, request, BEGUN, [found for _, found in planned], now)
    done: list[Removal] = []
    for number, (selection, found) in enumerate(planned):

        def current(selection: Named = selection, found: Removal = found) -> list[Removal]:
            return [one for one in _find(lake, selection, holds, on) if (one.cluster, one.day) == (found.cluster, found.day)]

        gone = removal.remove(lake, found, selection, holds, why="erasure", again=current, on=on)
        if gone:
            done.append(gone)
        progress(number + 1, len(planned))
    # A collector may have stored more flows of the window since: they are few, and are removed the same way.
    for selection in selections:
        for found in _find(lake, selection, holds, on):
            gone = removal.remove(lake, found, selection, holds, why="erasure", again=lambda: [], on=on)
            if gone and gone.rows:
                done.append(gone)
    _leave_finding(lake, request, DONE, done, max(now, datetime.now(UTC)))
    return done


def _find(lake: Lake, selection: Named, holds: Sequence[config.Hold], on: Engine | None) -> list[Removal]:
    request = selection.request
    files = [file for file in lake.contents(selection.table) if file.partition["cluster"] == request.cluster and _in_reach(file, request)]
    return removal.find(lake, selection.table, selection, holds, files, on)


def _in_reach(file: StoredFile, request: Request) -> bool:
    day = date.fromisoformat(file.partition["date"])
    begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
    after = request.since is None or begin + timedelta(days=1) > request.since
    return after and (request.until is None or begin < request.until)


def _holds_text(lists: pa.ChunkedArray, text: str) -> Mask:
    """Return a mask that is True for each list that contains a string."""
    found = np.zeros(len(lists), bool)
    whole = lists.combine_chunks()
    hits = pc.equal(pc.list_flatten(whole), text).fill_null(False).to_numpy(zero_copy_only=False)
    found[pc.list_parent_indices(whole).to_numpy()[hits]] = True
    return found


def _leave_finding(lake: Lake, request: Request, kind: str, removals: Sequence[Removal], now: datetime) -> None:
    rows: dict[str, int] = {}
    held: dict[str, int] = {}
    for one in removals:
        rows[one.table.name] = rows.get(one.table.name, 0) + one.rows
        held[one.table.name] = held.get(one.table.name, 0) + one.held
    window = f"from {_iso_or_none(request.since) or 'the beginning'} until {_iso_or_none(request.until)}"
    count = counted(sum(rows.values()), "row") + (f", {sum(held.values()):,} more are held" if any(held.values()) else "")
    verb = "was erased" if kind == DONE else "is being erased"
    detail: dict[str, Any] = {
        "since": _iso_or_none(request.since),
        "until": _iso_or_none(request.until),
        "reason": request.reason,
        "asked_by": request.asked_by,
        "rows": rows,
        "held": held,
    }
    findings.record(
        lake,
        cluster=request.cluster,
        namespace=request.namespace,
        subject=f"namespace/{request.namespace}",
        kind=kind,
        severity="info",
        summary=f"the history of {request.namespace} {window} {verb} on request: {count}",
        detail=detail,
        source=SOURCE,
        now=now,
    )


def _iso_or_none(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")
