"""The data files beside a report's page: rows of its sections as CSV and Parquet, and the whole report as JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, get_args

from pipelines.evidence.reports.model import Report, Section
from warehouse.questions import exports
from warehouse.questions.exports import Form

FORMS = get_args(Form)


def data_files(report: Report, forms: Collection[str], stem: str) -> dict[str, bytes]:
    """Return the files by name, for those of `forms` that are data: `<stem>.<section>.csv`, `<stem>.<section>.parquet`, `<stem>.json`."""
    files: dict[str, bytes] = {}
    for section in report.sections:
        if section.rows is None:
            continue
        if "csv" in forms:
            files[f"{stem}.{section.id}.csv"] = exports.encode(section.rows, "csv", is_cut=section.cut)
        if "parquet" in forms:
            files[f"{stem}.{section.id}.parquet"] = exports.encode(section.rows, "parquet", is_cut=section.cut)
    if "json" in forms:
        whole = {"title": report.title, "summary": report.summary, "sections": [_described(section) for section in report.sections]}
        files[f"{stem}.json"] = (json.dumps(whole, default=exports.plain, ensure_ascii=False, indent=1) + "\n").encode()
    return files


def _described(section: Section) -> dict[str, Any]:
    return {
        "id": section.id,
        "title": section.title,
        "text": section.text,
        "figures": {figure.name: figure.value for figure in section.figures},
        "rows": None if section.rows is None else section.rows.to_pylist(),
        "cut": section.cut,
    }
