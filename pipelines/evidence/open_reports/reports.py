"""Makes the reports of one cluster: one for each namespace that something is open in, and one for the whole cluster. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from pipelines.evidence.open_reports import results
from pipelines.evidence.open_reports.results import SOURCE, Result, Row
from pipelines.objects.canonical import Manifest

API = "openreports.io/v1alpha1"
NAME = "hindcast"
"""The name of every report."""
MANAGED_BY = {"app.kubernetes.io/managed-by": "hindcast"}
LEFT_OUT = "hindcast/left-out"
"""The annotation that says how many results are not in a report, because it would be too large."""
MOST_RESULTS = 1_000
MOST_BYTES = 900_000
"""Of the results of one report, as JSON: an API server stores about 1.5 MB."""
STALE_AFTER = timedelta(days=2)
"""Drift that was compared so long ago is no longer said to be all there is."""
_OUTCOMES = ("pass", "fail", "warn", "error", "skip")
_RANKS = {"critical": 0, "high": 1, "medium": 2, "low": 3, "info": 4}


def of_cluster(
    findings: Sequence[Row],
    drift: Sequence[Row],
    *,
    evaluated: datetime | None,
    is_audited: bool,
    now: datetime,
    dashboard_url: str | None = None,
) -> list[Manifest]:
    """Return the reports of one cluster, that of the whole cluster first; it is made even if it has no result.

    Args:
        findings: its rows of `findings` that are open or accepted.
        drift: its open rows of `drift`.
        evaluated: when it was last compared with blueprints; None for never.
        is_audited: whether an audit has ever recorded anything.
        now: the time, UTC.
        dashboard_url: address of the dashboard, for links.
    """
    placed: dict[str | None, list[Result]] = {None: _unknown(evaluated, is_audited, now)}
    for row in findings:
        placed.setdefault(row["namespace"], []).append(results.of_finding(row, dashboard_url))
    for row in drift:
        placed.setdefault(row["namespace"], []).append(results.of_drift(row, dashboard_url))
    return [_report(namespace, placed[namespace]) for namespace in sorted(placed, key=lambda name: name or "")]


def _unknown(evaluated: datetime | None, is_audited: bool, now: datetime) -> list[Result]:
    """What these reports do not know: without it, a report without results would look like a cluster without findings."""
    found = []
    if not is_audited:
        text = "no audit of policies has recorded anything yet: either none has run, or none has found anything"
        found.append(results.not_evaluated("audits", text))
    if evaluated is None:
        found.append(results.not_evaluated("drift", "the cluster was never compared with blueprints, so no drift is known"))
    elif now - evaluated > STALE_AFTER:
        text = f"the cluster was last compared with blueprints at {evaluated:%Y-%m-%d %H:%M} UTC: newer drift is not known"
        found.append(results.not_evaluated("drift", text, result="error"))
    return found


def _report(namespace: str | None, found: Sequence[Result]) -> Manifest:
    ordered = sorted(found, key=_rank)
    kept = _cut(ordered)
    metadata: dict[str, object] = {"name": NAME, "labels": dict(MANAGED_BY)}
    if namespace is not None:
        metadata["namespace"] = namespace
    if len(kept) < len(ordered):
        metadata["annotations"] = {LEFT_OUT: str(len(ordered) - len(kept))}
    report: Manifest = {
        "apiVersion": API,
        "kind": "ClusterReport" if namespace is None else "Report",
        "metadata": metadata,
        "source": SOURCE,
        "configuration": {"limits": {"maxResults": MOST_RESULTS}},
        "summary": summary(ordered),
        "results": kept,
    }
    if namespace is not None:
        report["scope"] = {"apiVersion": "v1", "kind": "Namespace", "name": namespace}
    return report


def summary(found: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """Count results by outcome; those that a report has no room for are counted too."""
    return {outcome: sum(one["result"] == outcome for one in found) for outcome in _OUTCOMES}


def _rank(one: Result) -> tuple[object, ...]:
    """Most severe first, so that what is left out is what matters least; the rest makes the order always the same."""
    order = ("fail", "error", "warn", "skip", "pass").index(one["result"])
    return order, _RANKS.get(one.get("severity", ""), 9), one["policy"], one["rule"], one.get("properties", {}).get("id", "")


def _cut(ordered: Sequence[Result]) -> list[Result]:
    kept, size = [], 0
    for one in ordered[:MOST_RESULTS]:
        size += len(json.dumps(one, ensure_ascii=False).encode()) + 1
        if size > MOST_BYTES:
            break
        kept.append(one)
    return kept
