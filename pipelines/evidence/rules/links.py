"""Links to the view of the dashboard that shows an alert. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from urllib.parse import urlencode

from pipelines.evidence.rules import calls
from pipelines.evidence.rules.model import Rule

_MARGIN = timedelta(minutes=30)
_PAGES: dict[type[calls.Call], str] = {
    calls.CoverageBelow: "coverage",
    calls.CollectorSilent: "coverage",
    calls.DriftOpened: "posture",
    calls.FirstSeenEdge: "map",
    calls.VerdictsDisagree: "policies",
}
_CONDITIONS = {
    "cluster": "cluster",
    "namespace": "ns",
    "source_namespace": "src.ns",
    "destination_namespace": "dst.ns",
    "name": "name",
    "verdict": "verdict",
}
"""Conditions of the filter bar by label."""


def view(base: str | None, rule: Rule, labels: Mapping[str, str], since: datetime, until: datetime) -> str:
    """Return the address of the page with the alert's window and filters; nothing without the dashboard's address.

    With an empty one it is the page within the dashboard.
    """
    if base is None:
        return ""
    page = _PAGES.get(type(rule.call), "flows") if rule.call is not None else "flows"
    parts = [("from", _written(since - rule.text.window - _MARGIN)), ("until", _written(until))]
    if page in ("flows", "map"):
        wanted = [name for name in _CONDITIONS if name in labels and (name != "name" or isinstance(rule.call, calls.EgressToNewName))]
        parts += [("f", f"{_CONDITIONS[name]}={labels[name]}") for name in wanted]
    if isinstance(rule.call, calls.DropsSpike):
        parts.append(("verdict", "DROPPED"))
    return f"{base.rstrip('/')}/{page}?{urlencode(parts)}"


def _written(moment: datetime) -> str:
    return moment.replace(microsecond=0).isoformat().replace("+00:00", "Z")
