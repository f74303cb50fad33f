"""The page of a report: one HTML file with everything in it. The same report and manifest always give the same bytes. Pure.

The manifest is embedded in the page, with the hash of the page as it is without it (`hash_without_manifest`).
"""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa

from pipelines.evidence.reports import drawing, words
from pipelines.evidence.reports.model import Report, Section
from warehouse.questions.exports import plain
from warehouse.wording import counted

TEMPLATES = Path(__file__).parent / "templates"
LONG = 24
"""A column with a word of more characters may break its words; one of sentences that are longer needs some width."""
SHORT = 12
"""A column whose values have no spaces and no more characters is never broken into lines."""
_ENDS = re.compile(r"(?<=[/.:@])(?=\w)|(?<=[a-z])(?=[A-Z])")
"""Where a name may be broken into lines."""
_MANIFEST = re.compile(r'(<script type="application/json" id="hindcast-manifest">)(.*?)(</script>)', re.DOTALL)


def render(report: Report, manifest: Mapping[str, Any]) -> str:
    """Return the page. `manifest` must not have the hash of the page yet; the page has it."""
    page = _template().render(
        report=report,
        sections=[_section(section, manifest) for section in report.sections],
        manifest=manifest,
        facts=_facts(manifest),
        style=(TEMPLATES / "report.css").read_text(encoding="utf-8"),
        manifest_text="",
    )
    return with_manifest(page, {**manifest, "page": hash_without_manifest(page)})


def with_manifest(page: str, manifest: Mapping[str, Any]) -> str:
    """Return the page with the manifest in it. Characters that could end the element are escaped."""
    text = json.dumps(manifest, ensure_ascii=False, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")
    return _MANIFEST.sub(lambda found: found[1] + text + found[3], page)


def manifest_in(page: str) -> dict[str, Any] | None:
    """Return the manifest that a page embeds; None if there is none that can be read."""
    found = _MANIFEST.search(page)
    try:
        manifest = json.loads(found[2]) if found else None
    except ValueError:
        return None
    return manifest if isinstance(manifest, dict) else None


def hash_without_manifest(page: str) -> str:
    """Return the SHA-256 of a page without its manifest, in hexadecimal."""
    return hashlib.sha256(_MANIFEST.sub(lambda found: found[1] + found[3], page).encode()).hexdigest()


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined, keep_trailing_newline=True
    )
    return environment.get_template("report.html")


def _section(section: Section, manifest: Mapping[str, Any]) -> dict[str, Any]:
    chart = None
    if section.chart is not None:
        named = [(series.name, series.tone) for series in section.chart.series] if len(section.chart.series) > 1 else []
        chart = {"title": section.chart.title, "key": named, "svg": drawing.svg(section.chart, f"chart-{section.id}")}
    return {
        "id": section.id,
        "title": section.title,
        "text": section.text,
        "figures": section.figures,
        "chart": chart,
        "table": None if section.rows is None else _table(section, section.rows, manifest),
        "empty": section.empty,
    }


def _table(section: Section, rows: pa.Table, manifest: Mapping[str, Any]) -> dict[str, Any]:
    names = section.names or {name: name for name in rows.column_names}
    kinds = {name: _kind(rows.schema.field(name).type) for name in names}
    shown = rows.select(list(names)).slice(0, section.shown).to_pylist()
    left, more = rows.num_rows - len(shown), []
    if left > 0:
        beside = any(f".{section.id}." in name for name in manifest["files"])
        more.append(
            f"{counted(left, 'more row')} {'in' if beside else 'are in'} the data files" + (" beside this page." if beside else ".")
        )
    if section.cut:
        more.append(f"There were more than {counted(rows.num_rows, 'row')}: the others are left out.")
    for name in names:
        kinds[name] = kinds[name] or _kind_of_text([_cell(row[name]) for row in shown])
    return {
        "headings": [(heading, kinds[name]) for name, heading in names.items()],
        "rows": [[(_parts(_cell(row[name]), kinds[name]), kinds[name]) for name in names] for row in shown],
        "more": " ".join(more),
    }


def _kind(type_: pa.DataType) -> str:
    if pa.types.is_integer(type_) or pa.types.is_floating(type_) or pa.types.is_decimal(type_):
        return "number"
    return "time" if pa.types.is_timestamp(type_) else ""


def _kind_of_text(cells: Sequence[str]) -> str:
    """Return how a column of texts is laid out."""
    words_of = [cell.split() for cell in cells]
    if any(len(word) > LONG for found in words_of for word in found):
        return "long"
    if any(len(found) > 1 for found in words_of):
        return "text" if max(map(len, cells)) > LONG else ""
    return "word" if max(map(len, cells), default=0) <= SHORT else ""


def _parts(cell: str, kind: str) -> list[str]:
    """Return the parts of a cell that are not broken: of a time, its day and its time of day; of other texts, the parts of names."""
    return cell.split(" ") if kind == "time" else [cell] if kind in ("number", "word") else _ENDS.split(cell)


def _cell(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int() | float():
            return f"{value:,}" if isinstance(value, int) else f"{value:,.3g}"
        case datetime():
            return f"{value:%Y-%m-%d %H:%M:%S}"
        case list():
            return ", ".join(_cell(one) for one in value)
        case dict():
            return json.dumps(value, default=plain, ensure_ascii=False)
        case _:
            return str(plain(value))


def _facts(manifest: Mapping[str, Any]) -> dict[str, Any]:
    asked = manifest["asked"]
    since, until, known, made = (
        datetime.fromisoformat(text) for text in (asked["since"], asked["until"], asked["known"], manifest["made"])
    )
    shares = ", ".join(f"{one['cluster']} {words.share(one['observed'])}" for one in manifest["coverage"])
    software = manifest["software"]
    return {
        "window": f"{since:%Y-%m-%d %H:%M} to {until:%Y-%m-%d %H:%M} UTC",
        "made_for": asked["for"] or "the platform",
        "made": words.moment(made),
        "known": f"{known:%Y-%m-%d %H:%M:%S} UTC",
        "observed": shares or "nothing was expected to be observed",
        "software": ", ".join(f"{name} {version}" for name, version in sorted(software.items())),
        "tables": ", ".join(f"{name} {version}" for name, version in sorted(manifest["tables"].items())) or "none",
        "hashes": [*sorted(manifest["files"].items()), *(("section " + one["id"], one["hash"]) for one in manifest["sections"])],
    }
