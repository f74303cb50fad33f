"""Findings of policy audits: as a table, JSON lines, or SARIF for code hosts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hindcast.policy_places import Places
    from pipelines.audits.finding import Finding
    from pipelines.replay.auditing import Report

_LEVELS = {"high": "error", "medium": "warning", "low": "note", "info": "note"}


def as_json(report: Report) -> str:
    """One object a line for each finding: cluster, kind, severity, namespace, subject, path, key, summary, detail."""
    return "".join(json.dumps(_row(finding), ensure_ascii=False, default=str) + "\n" for finding in report.findings)


def _row(finding: Finding) -> dict[str, Any]:
    return {
        "cluster": finding.cluster,
        "kind": finding.kind.value,
        "severity": finding.severity,
        "namespace": finding.namespace,
        "subject": finding.subject,
        "path": finding.path or None,
        "key": finding.key,
        "summary": finding.summary,
        "detail": dict(finding.detail),
    }


def as_table(report: Report) -> str:
    """A line for each finding, aligned."""
    lines = [("cluster", "kind", "severity", "summary")]
    lines += [(finding.cluster, finding.kind.value, finding.severity, finding.summary) for finding in report.findings]
    widths = [max(len(line[column]) for line in lines) for column in range(3)]
    return "".join(
        "  ".join([*(text.ljust(width) for text, width in zip(line, widths, strict=False)), line[3]]).rstrip() + "\n" for line in lines
    )


def as_sarif(report: Report, places: Places) -> str:
    """SARIF 2.1.0: one result for each finding, at the policy or workload that it is about, and at its file and line where known."""
    rules = [
        {"id": f"policy-{kind}", "shortDescription": {"text": kind.replace("_", " ")}}
        for kind in sorted({result.kind.value for result in report.results})
    ]
    tool = {"driver": {"name": "hindcast policy audit", "rules": rules}}
    results = [_result(finding, places) for finding in report.findings]
    log = {"$schema": "https://json.schemastore.org/sarif-2.1.0.json", "version": "2.1.0", "runs": [{"tool": tool, "results": results}]}
    return json.dumps(log, indent=2, ensure_ascii=False, default=str) + "\n"


def _result(finding: Finding, places: Places) -> dict[str, Any]:
    name = "/".join(part for part in (finding.cluster, finding.namespace, finding.subject) if part)
    location: dict[str, Any] = {"logicalLocations": [{"fullyQualifiedName": f"{name}#{finding.path}" if finding.path else name}]}
    kind, _, subject = finding.subject.partition("/")
    physical = places.location((finding.cluster, kind, finding.namespace or "", subject), finding.path)
    if physical is not None:
        location["physicalLocation"] = physical
    return {
        "ruleId": f"policy-{finding.kind.value}",
        "level": _LEVELS[finding.severity],
        "message": {"text": f"{finding.cluster}: {finding.summary}"},
        "locations": [location],
        "partialFingerprints": {"finding": f"{finding.cluster}/{finding.key}"},
    }
