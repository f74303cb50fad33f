"""Writes and reads the table `reports`. Who may see which row belongs to warehouse.questions.report_questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.evidence.reports import manifest
from pipelines.evidence.reports.asked import asked_again
from warehouse.lake.tables import Lake
from warehouse.schema import REPORTS


def record_made(lake: Lake, described: Mapping[str, Any], archive: bytes) -> None:
    """Append the row about a report that was made. Raises LakeError."""
    made = datetime.fromisoformat(described["made"])
    _append(lake, _row(described, made, "made", described["made_by"]) | {"manifest": manifest.canonical(described), "files": archive})


def record_verified(lake: Lake, described: Mapping[str, Any], differences: Sequence[str], *, by: str, now: datetime | None = None) -> None:
    """Append the row about verifying a report. Raises LakeError."""
    event = "differs" if differences else "identical"
    _append(lake, _row(described, now or datetime.now(UTC), event, by) | {"detail": "\n".join(differences) or None})


def recorded_hash(lake: Lake, id_: str) -> str | None:
    """Return the hash of the manifest that a report had when it was made; None if the lake has no record of it. Raises LakeError."""
    matching = (pc.field("id") == id_) & (pc.field("event") == "made")
    found = lake.read(REPORTS, ["manifest_hash"], matching=matching)["manifest_hash"].to_pylist()
    return found[0] if found else None


def made_by(lake: Lake, by: str, made_for: str | None, *, since: datetime) -> list[dict[str, Any]]:
    """Return the rows about reports that `by` made for a subject since a time, oldest first. Raises LakeError."""
    subject = pc.field("made_for").is_null() if made_for is None else pc.field("made_for") == made_for
    matching = (pc.field("event") == "made") & (pc.field("made_by") == by) & subject
    rows: list[dict[str, Any]] = lake.read(REPORTS, since=since, matching=matching).sort_by("time").to_pylist()
    return rows


def _row(described: Mapping[str, Any], time: datetime, event: str, by: str) -> dict[str, Any]:
    request = asked_again(described["asked"])
    return {
        "date": time.date(),
        "time": time,
        "id": described["id"],
        "event": event,
        "report": request.name,
        "title": described["title"],
        "made_by": by,
        "made_for": described["asked"]["for"],
        "groups": described["asked"]["groups"],
        "since": request.since,
        "until": request.until,
        "known": request.known,
        "formats": described["formats"],
        "manifest_hash": manifest.hash_of(described),
    }


def _append(lake: Lake, row: Mapping[str, Any]) -> None:
    files = lake.write_files(REPORTS, pa.Table.from_pylist([row], schema=REPORTS.schema))
    lake.commit(REPORTS, files, transactions={}, metadata={})
