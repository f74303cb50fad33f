"""Questions about reports that were made: which ones, for whom, the result of verifying them, and the files of one of them.

Platform-admins get all reports; auditors get all of them without the columns that may hold labels. Anyone else gets a report only if it
was made with her own rights: for her or for one of her groups, while no denial takes anything from her, and only as long as the person
or group that it was made for may see the same of its window as when it was made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from warehouse.access.principals import Principal, scope_of
from warehouse.access.sight import Sight
from warehouse.engine import Limits, Window
from warehouse.questions.answers import Answer
from warehouse.questions.question import ALL_TIME, Question, Request, Subject
from warehouse.schema import REPORTS

LISTED = Limits(rows=1_000)
_LISTED = [name for name in REPORTS.schema.names if name not in ("manifest", "files")]


@dataclass(frozen=True, kw_only=True)
class ReportsMade(Question[Answer]):
    """Reports, newest first: the columns of `reports` of the row about making it, without its manifest and files.

    `checked` is when it was last verified, `state` the result (identical, differs; null if it never was) and `detail` what differed.
    """

    name: str = "reports"
    limits: Limits = LISTED
    window: Window = ALL_TIME
    """When they were made."""

    @property
    def subject(self) -> Subject:
        """The window."""
        return Subject(window=self.window)

    def answer(self, request: Request) -> Answer:
        """Return the reports, at most `limits.rows`."""
        sight = request.sight
        rows = sight.lake.read(REPORTS, [*_LISTED, "manifest"], since=self.window.since).sort_by("time").to_pylist()
        checked: dict[str, dict[str, Any]] = {row["id"]: row for row in rows if row["event"] != "made"}
        end = self.window.until
        made = [row for row in rows if row["event"] == "made" and (end is None or row["time"] < end)]
        reads_details = sight.scope.reads_every_label
        found = []
        for row in reversed(made):
            if _is_shown(sight, row, of_auditors=True):
                last = checked.get(row["id"])
                state = {"checked": last and last["time"], "state": last and last["event"]}
                found.append({**row, **state, "detail": last["detail"] if last and reads_details else None})
        schema = pa.schema([REPORTS.schema.field(name) for name in _LISTED])
        schema = schema.append(pa.field("checked", REPORTS.schema.field("time").type)).append(pa.field("state", pa.string()))
        listed = pa.Table.from_pylist([{name: row[name] for name in schema.names} for row in found[: self.limits.rows]], schema=schema)
        return Answer(rows=listed, cut=len(found) > self.limits.rows, window=self.window, source=REPORTS.name)


@dataclass(frozen=True, kw_only=True)
class ReportFiles(Question[bytes | None]):
    """All files of a report as a ZIP archive."""

    name: str = "report_files"
    id: str

    @property
    def subject(self) -> Subject:
        """The report's id."""
        return Subject(text=self.id)

    def answer(self, request: Request) -> bytes | None:
        """Return the archive; None if there is no such report, or none that the principal may read."""
        matching = (pc.field("id") == self.id) & (pc.field("event") == "made")
        for row in request.sight.lake.read(REPORTS, matching=matching).to_pylist():
            if _is_shown(request.sight, row, of_auditors=False):
                found: bytes = row["files"]
                return found
        return None


def _is_shown(sight: Sight, row: Mapping[str, Any], *, of_auditors: bool) -> bool:
    """Whether a principal may see that a report was made and, unless only an auditor may, its files."""
    if sight.scope.administers or (of_auditors and sight.scope.everything):
        return True
    if row["made_for"] is None:
        return False
    subject = Principal(user=row["made_for"], groups=frozenset(row["groups"] or ()))
    if not subject.subjects or not subject.subjects <= sight.principal.subjects or sight.scope.denials:
        return False
    now = scope_of(subject, sight.scope.grants).fingerprint(row["since"], row["until"], peer_detail=sight.peer_detail)
    return bool(json.loads(row["manifest"] or "{}").get("scope") == now)
