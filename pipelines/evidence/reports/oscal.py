"""A report as OSCAL assessment results: machine-readable evidence with a UUID for each part that is the same whenever it is made. Pure.

Each section is an observation with its data files as evidence. Posture has a finding for each control and cluster; open drift, open
findings and traffic that crossed zones have an observation for each row.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from pipelines.evidence.reports.model import Report, Section
from warehouse.questions.exports import plain

OSCAL_VERSION = "1.1.3"
NAMESPACE = "https://hindcast.example/oscal"
SPACE = uuid.uuid5(uuid.NAMESPACE_URL, NAMESPACE)
STATES = {"pass": "satisfied", "fail": "not-satisfied", "unknown": "not-satisfied", "not_evaluated": "not-satisfied"}
"""OSCAL knows two states; what is not known to pass is not satisfied, and `reason` says which it is."""
_PROPS = ("severity", "cluster", "namespace", "kind", "subject")
"""Columns that are properties of a row's observation."""
REASONS = {"pass": "pass", "fail": "fail"}
ROWS = ("drift", "findings", "unused", "crossings")
"""Sections whose rows are observations of their own."""


def document(report: Report, described: Mapping[str, Any]) -> bytes:
    """Return the document. `described` is the manifest with the hashes of the data files."""
    asked = described["asked"]
    result = {
        "uuid": _id(described, "result"),
        "title": report.title,
        "description": " ".join(report.summary) or f"What Hindcast recorded from {asked['since']} until {asked['until']}.",
        "start": asked["since"],
        "end": asked["until"],
        "props": [_prop("known", asked["known"]), _prop("made-for", asked["for"] or "the platform"), *_coverage(described)],
        "local-definitions": {"components": _components(report, described)},
        "reviewed-controls": {"control-selections": [_controls(report)]},
        "observations": [one for section in report.sections for one in _observations(section, described)],
    }
    if findings := [one for section in report.sections if section.id == "posture" for one in _findings(section, described)]:
        result["findings"] = findings
    whole = {
        "assessment-results": {
            "uuid": described["id"],
            "metadata": {
                "title": report.title,
                "last-modified": described["made"],
                "version": described["made"],
                "oscal-version": OSCAL_VERSION,
                "props": [_prop(f"software-{name}", version) for name, version in sorted(described["software"].items())],
            },
            "import-ap": {"href": f"#{_id(described, 'plan')}"},
            "results": [result],
            "back-matter": {"resources": [_plan(described), *(_resource(described, name) for name in sorted(described["files"]))]},
        }
    }
    return (json.dumps(whole, default=plain, ensure_ascii=False, indent=1) + "\n").encode()


def _id(described: Mapping[str, Any], *parts: Any) -> str:
    return str(uuid.uuid5(SPACE, "/".join(map(str, (described["id"], *parts)))))


def _prop(name: str, value: Any) -> dict[str, str]:
    return {"name": name, "ns": NAMESPACE, "value": " ".join(str(value).split()) or "none"}


def _coverage(described: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{**_prop("observed-share", round(one["observed"], 6)), "class": one["cluster"]} for one in described["coverage"]]


def _clusters(report: Report, described: Mapping[str, Any]) -> list[str]:
    found = {one["cluster"] for one in described["coverage"]}
    for section in report.sections:
        if section.rows is not None and "cluster" in section.rows.column_names:
            found |= {name for name in section.rows["cluster"].to_pylist() if name}
    return sorted(found)


def _components(report: Report, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    fleet = {"uuid": _id(described, "component"), "type": "system", "title": "The fleet", "description": "All clusters of the report."}
    clusters = [
        {
            "uuid": _id(described, "component", name),
            "type": "network",
            "title": name,
            "description": f"The cluster {name}.",
            "status": {"state": "operational"},
        }
        for name in _clusters(report, described)
    ]
    return [fleet | {"status": {"state": "operational"}}, *clusters]


def _controls(report: Report) -> dict[str, Any]:
    names = {row["control"] for section in report.sections if section.id == "posture" for row in _rows(section)}
    return {"include-controls": [{"control-id": name} for name in sorted(names)]} if names else {"include-all": {}}


def _rows(section: Section) -> list[dict[str, Any]]:
    return section.rows.to_pylist() if section.rows is not None else []


def _observations(section: Section, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    figures = "; ".join(f"{figure.name}: {figure.value}" for figure in section.figures)
    whole = {
        "uuid": _id(described, "observation", section.id),
        "title": section.title,
        "description": " ".join([*section.text, figures, "" if _rows(section) else section.empty]).strip() or section.title,
        "props": [_prop("section", section.id), _prop("rows", len(_rows(section))), _prop("sha-256", section.hash)],
        "methods": ["EXAMINE"],
        "types": ["historic"],
        "subjects": [_subject(described)],
        "collected": described["made"],
    }
    evidence = [name for name in sorted(described["files"]) if f".{section.id}." in name]
    if evidence:
        whole["relevant-evidence"] = [
            {"href": f"#{_id(described, 'file', name)}", "description": f"All rows of {section.title}."} for name in evidence
        ]
    if section.id == "posture":
        return [whole, *(_of_control(section, described, row) for row in _rows(section))]
    if section.id in ROWS:
        return [whole, *(_of_row(section, described, place, row) for place, row in enumerate(_rows(section)))]
    return [whole]


def _subject(described: Mapping[str, Any], cluster: str | None = None) -> dict[str, str]:
    return {"subject-uuid": _id(described, "component", *([cluster] if cluster else [])), "type": "component"}


def _of_control(section: Section, described: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "uuid": _id(described, "observation", section.id, row["cluster"], row["control"]),
        "title": f"{row['control']} in {row['cluster']}",
        "description": row["detail"] or f"{row['control']}: {row['status']}; {row['failed'] or 0} of {row['checked'] or 0} fail.",
        "props": [_prop("status", row["status"]), _prop("failed", row["failed"] or 0), _prop("checked", row["checked"] or 0)],
        "methods": ["TEST"],
        "types": ["control-objective"],
        "subjects": [_subject(described, row["cluster"])],
        "collected": row["evaluated"],
    }


def _findings(section: Section, described: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "uuid": _id(described, "finding", row["cluster"], row["control"]),
            "title": f"{row['control']} in {row['cluster']}",
            "description": row["requires"] or row["control"],
            "target": {
                "type": "objective-id",
                "target-id": row["control"],
                "status": {"state": STATES.get(row["status"], "not-satisfied"), "reason": REASONS.get(row["status"], "other")},
            },
            "related-observations": [{"observation-uuid": _id(described, "observation", section.id, row["cluster"], row["control"])}],
        }
        for row in _rows(section)
    ]


def _of_row(section: Section, described: Mapping[str, Any], place: int, row: Mapping[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in row.items() if value not in (None, "")}
    found = {
        "uuid": _id(described, "observation", section.id, place),
        "title": f"{section.title} {place + 1}",
        "description": str(row.get("summary") or json.dumps(told, default=plain, ensure_ascii=False)),
        "props": [
            _prop(name.replace("_", "-"), plain(told[name])) for name in ("severity", "namespace", "kind", "subject") if name in told
        ],
        "methods": ["EXAMINE"],
        "types": ["finding"],
        "subjects": [_subject(described, row.get("cluster"))],
        "collected": row.get("since") or described["made"],
    }
    return {name: value for name, value in found.items() if value}  # OSCAL has no empty lists


def _plan(described: Mapping[str, Any]) -> dict[str, Any]:
    questions = ", ".join(sorted({query["question"] for query in described["queries"]}))
    return {
        "uuid": _id(described, "plan"),
        "title": f"The report {described['asked']['report']}",
        "description": f"Made by asking the lake, as it was known at {described['asked']['known']}: {questions}.",
    }


def _resource(described: Mapping[str, Any], name: str) -> dict[str, Any]:
    hashes = [{"algorithm": "SHA-256", "value": described["files"][name]}]
    return {"uuid": _id(described, "file", name), "title": name, "rlinks": [{"href": name, "hashes": hashes}]}
