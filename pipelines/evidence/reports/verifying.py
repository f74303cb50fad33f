"""Verifies a report: checks its files against its manifest, makes it again as the lake was known then, and says what differs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.evidence.reports import data_files, making, manifest, oscal, page, records, removed
from pipelines.evidence.reports.asked import ReportOf, asked_again
from pipelines.evidence.reports.model import Report
from pipelines.evidence.reports.reading import Reader
from warehouse import config
from warehouse.errors import AccessDeniedError, ConfigError
from warehouse.lake.tables import Lake
from warehouse.wording import counted

SUFFIX, OSCAL = ".manifest.json", ".oscal.json"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What verifying a report said."""

    manifest: Mapping[str, Any]
    differences: tuple[str, ...]
    """What differs, in sentences; empty if the report is identical."""
    notes: tuple[str, ...] = ()
    """What else is worth knowing."""
    is_recorded: bool = True
    """Whether the lake recorded this very manifest when the report was made. If not, nothing was made again, and the verdict is about a
    file of unknown origin: it must not be recorded under the id that the file names."""

    @property
    def is_identical(self) -> bool:
        """Whether the report says what the lake says, and no part of it was changed."""
        return not self.differences


def verify(settings: config.Config, lake: Lake, file: Path) -> Verdict:
    """Verify a report, given its page or its manifest. Raises ConfigError if the file is no report, LakeError.

    Makes nothing again unless the lake recorded this very manifest when the report was made.
    """
    described, stem = read_manifest(file)
    # What an unknown manifest asks for may be anyone's SQL with anyone's rights, so it is not made again.
    recorded = records.recorded_hash(lake, str(described["id"]))
    if recorded is None:
        return Verdict(manifest=described, differences=("the lake has no record that this report was made",), is_recorded=False)
    if recorded != manifest.hash_of(described):
        changed = "the manifest is not the one that was recorded when the report was made"
        return Verdict(manifest=described, differences=(changed,), is_recorded=False)
    differences = _files_changed(file.parent, stem, described)
    notes: list[str] = []
    request = asked_again(described["asked"])
    try:
        report, reader = making.build(settings, lake, request)
    except AccessDeniedError:
        differences.append(f"{request.made_for} may see nothing any more, so the report cannot be made again")
        return Verdict(manifest=described, differences=tuple(differences), notes=tuple(notes))
    found = _content_differences(described, report, reader)
    if found:
        found += removed.since(lake, request, described, reader.scope)
    elif manifest.software() != described["software"]:
        notes.append(f"made by {_software(described)}; compared with {_software({'software': manifest.software()})}")
    else:
        found = _other_files(described, report, stem, file.parent)
    return Verdict(manifest=described, differences=(*differences, *found), notes=tuple(notes))


def read_manifest(file: Path) -> tuple[dict[str, Any], str]:
    """Return the manifest of a report, and the stem of its files. Raises ConfigError if there is none or it is not complete."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if file.name.endswith(SUFFIX):
        stem, described = file.name.removesuffix(SUFFIX), _parsed(text)
    else:
        stem, described = file.stem, page.manifest_in(text)
    needed = ("format", "id", "asked", "made", "files", "sections", "software", "formats", "scope", "coverage", "tables", "title")
    if described is None or any(name not in described for name in needed):
        raise ConfigError(f"{file}: has no manifest of a report: give the HTML page of a report, or its {SUFFIX}")
    if described["format"] != manifest.FORMAT:
        raise ConfigError(f"{file}: its manifest has form {described['format']}; this version reads {manifest.FORMAT}")
    try:
        asked_again(described["asked"])
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{file}: its manifest does not say what was asked for: {error}") from error
    return described, stem


def _parsed(text: str) -> dict[str, Any] | None:
    try:
        found = json.loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _files_changed(folder: Path, stem: str, described: Mapping[str, Any]) -> list[str]:
    """Return what does not match the manifest among the files beside it."""
    found = []
    for name, wanted in sorted(described["files"].items()):
        path = folder / Path(name).name
        try:
            is_same = hashlib.sha256(path.read_bytes()).hexdigest() == wanted
        except OSError:
            found.append(f"{name} is missing")
            continue
        if not is_same:
            found.append(f"{name} was changed after it was made")
    if "html" in described["formats"]:
        name = f"{stem}.html"
        try:
            text = (folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            found.append(f"{name} is missing")
        else:
            if page.hash_without_manifest(text) != described.get("page") or page.manifest_in(text) != described:
                found.append(f"{name} was changed after it was made")
    beside = _parsed_file(folder / f"{stem}{SUFFIX}")
    if beside is not None and beside != described:
        found.append(f"{stem}{SUFFIX} is not the manifest in the page")
    return found


def _parsed_file(path: Path) -> dict[str, Any] | None:
    try:
        return _parsed(path.read_text(encoding="utf-8")) or {}
    except OSError:
        return None
    except UnicodeDecodeError:
        return {}


def _content_differences(described: Mapping[str, Any], report: Report, reader: Reader) -> list[str]:
    """Return how the report, made again, differs from what the manifest says of the first one."""
    found = []
    if reader.scope_hash != described["scope"]:
        found.append(f"what {reader.request.made_for} may see of the window is not what it was when the report was made")
    if manifest.coverage_of(reader) != described["coverage"]:
        found.append("coverage: the ledger of the window is not what it was")
    again = {section.id: section for section in report.sections}
    for before in described["sections"]:
        section = again.pop(before["id"], None)
        if section is None:
            found.append(f"section {before['title']}: this version does not make it")
        elif section.hash != before["hash"]:
            now = None if section.rows is None else section.rows.num_rows
            counts = f"{counted(before['rows'], 'row')} then, {now} now" if before["rows"] != now else "as many rows, with other values"
            found.append(f"section {before['title']}: {counts}")
    found += [f"section {section.title}: it was not in the report" for section in again.values()]
    return found


def _other_files(described: Mapping[str, Any], report: Report, stem: str, folder: Path) -> list[str]:
    """Return the files that the same software would write otherwise, though the content is the same: the page's words, say."""
    made_stem = _stem(described, report) or stem
    files = data_files.data_files(report, described["formats"], made_stem)
    if "oscal" in described["formats"]:
        before = dict(described) | {"files": {name: hash_ for name, hash_ in described["files"].items() if not name.endswith(OSCAL)}}
        files[f"{made_stem}{OSCAL}"] = oscal.document(report, before)
    found = [
        f"{name} is not what the lake's content gives"
        for name, content in files.items()
        if hashlib.sha256(content).hexdigest() != described["files"].get(name)
    ]
    if "html" in described["formats"]:
        before = {name: value for name, value in described.items() if name != "page"}
        again = page.render(report, before).encode()
        if (folder / f"{stem}.html").is_file() and again != (folder / f"{stem}.html").read_bytes():
            found.append(f"{stem}.html is not what the lake's content gives")
    return found


def _stem(described: Mapping[str, Any], report: Report) -> str | None:
    """Return the stem that the names of a report's files were made with; None without files."""
    endings = [OSCAL, *(f".{section.id}.{form}" for section in report.sections for form in data_files.FORMS), ".json"]
    for name in described["files"]:
        for ending in endings:
            if name.endswith(ending):
                return str(name.removesuffix(ending))
    return None


def _software(described: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(described["software"].items()))


def summary(verdict: Verdict, request: ReportOf) -> str:
    """Return the verdict in one line."""
    state = "identical" if verdict.is_identical else "differs"
    return f"{state}: {verdict.manifest['title']}, as the lake knew it at {request.known:%Y-%m-%d %H:%M:%S} UTC"
