"""Makes reports: asks the questions, writes page, data files and manifest, and records the report in the table `reports`."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.evidence.reports import access_review, changes, data_files, fleet, manifest, oscal, own, owner, page, records, segmentation
from pipelines.evidence.reports.asked import ReportOf
from pipelines.evidence.reports.model import Report
from pipelines.evidence.reports.reading import Reader
from warehouse import config
from warehouse.access import access_log
from warehouse.errors import ConfigError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import ACCESS_LOG, FLOWS, REPORTS, SAVED_VIEWS, TABLES, TOKENS

FORMATS = config.REPORT_FORMATS
"""All formats, in the order in which files are written."""
CONTENT = tuple(table for table in TABLES.values() if table not in (ACCESS_LOG, REPORTS, SAVED_VIEWS, TOKENS))
"""The tables whose versions a manifest names: not those that asking questions and making reports append to."""
BUILDERS: Mapping[str, Callable[[Reader], Report]] = {
    "fleet": fleet.report,
    "owner": owner.report,
    "segmentation": segmentation.report,
    "access": access_review.report,
    "changes": changes.report,
}
"""The reports that are ready, by name."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A report that was made: its files by name, the manifest among them."""

    report: Report
    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]

    @property
    def archive(self) -> bytes:
        """All files as a ZIP archive; the same files give the same bytes."""
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in self.files.items():
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return sink.getvalue()


def opened(described: Mapping[str, Any], archive: bytes) -> Made:
    """Return a report that was made before, from its archive: its files, without the sections."""
    with zipfile.ZipFile(io.BytesIO(archive)) as stored:
        files = {name: stored.read(name) for name in stored.namelist()}
    return Made(report=Report(title=described["title"], sections=()), manifest=described, files=files)


def build(settings: config.Config, lake: Lake, request: ReportOf) -> tuple[Report, Reader]:
    """Return the report, and the reader that noted its questions. Raises ConfigError for an unknown name, AccessDeniedError, LakeError."""
    builder = BUILDERS.get(request.name, own.report if request.source else None)
    if builder is None:
        raise unknown(request.name)
    door = Door(lake, settings.ownership, settings.rollups, purpose=f"report {request.name}")
    reader = Reader(door, request)
    return builder(reader), reader


def unknown(name: str, more: Iterable[str] = ()) -> ConfigError:
    """Return the error about a name that no report has; `more` are names besides those that are ready."""
    return ConfigError(f"there is no report {name!r}; the reports are: {', '.join((*BUILDERS, *more))}")


def settings_of(settings: config.Config, name: str) -> tuple[str, str]:
    """Return what a report needs besides window and subject, and where that comes from. Raises ConfigError for an unknown name."""
    if name == "segmentation":
        return segmentation.settings_of(settings), ""
    if name in BUILDERS:
        return "", ""
    found = own.text_of(settings, name)
    if found is None:
        raise unknown(name, own.files(settings))
    return found


def make(
    settings: config.Config, lake: Lake, request: ReportOf, *, formats: Sequence[str], stem: str, by: str, made: datetime | None = None
) -> Made:
    """Make a report without writing it anywhere; names of files begin with `stem`. Raises what `build` raises."""
    report, reader = build(settings, lake, request)
    tables = {table.name: lake.version(table) for table in (CONTENT if reader.scope.everything else (FLOWS,))}
    files = data_files.data_files(report, formats, stem)
    described = manifest.manifest_of(
        report, reader, made=made or datetime.now(UTC), made_by=by, tables=tables, formats=formats, files=files
    )
    if "oscal" in formats:
        files = {**files, f"{stem}.oscal.json": oscal.document(report, described)}
        described["files"] = manifest.hashes(files)
    return finished(report, described, files, stem)


def finished(report: Report, described: Mapping[str, Any], files: Mapping[str, bytes], stem: str) -> Made:
    """Return a report with its page, if HTML is among its formats, and its manifest, whose hashes of files are known."""
    whole = dict(described)
    pages: dict[str, bytes] = {}
    if "html" in described["formats"]:
        text = page.render(report, described)
        pages = {f"{stem}.html": text.encode()}
        whole = page.manifest_in(text) or whole
    text = manifest.canonical(whole) + "\n"
    return Made(report=report, manifest=whole, files={**pages, **files, f"{stem}.manifest.json": text.encode()})


def write(made: Made, folder: Path) -> list[Path]:
    """Write the files into a folder, each whole or not at all, the manifest last; return their paths. Raises ConfigError."""
    written: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in made.files.items():
            handle, path = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            try:
                with os.fdopen(handle, "wb") as sink:
                    sink.write(content)
                Path(path).chmod(0o600)
                Path(path).replace(folder / name)
            except BaseException:
                with contextlib.suppress(OSError):
                    Path(path).unlink()
                raise
            written.append(folder / name)
    except OSError as error:
        raise ConfigError(f"{folder}: the report cannot be written: {error.strerror or error}") from error
    return written


def record(lake: Lake, made: Made) -> None:
    """Record a report in the table `reports`, after everyone's questions for it are in the access log. Raises LakeError."""
    access_log.flush()
    records.record_made(lake, made.manifest, made.archive)
