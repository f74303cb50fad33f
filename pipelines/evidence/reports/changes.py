"""The changes report: configuration changes of the window, with the traffic of the hour before and the hour after each."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from pipelines.configuration.differences import compare_manifests
from pipelines.evidence.reports import words
from pipelines.evidence.reports.fleet import bars, observed
from pipelines.evidence.reports.model import Figure, Report, Section
from pipelines.evidence.reports.reading import LIMITS, Reader
from warehouse.questions import count_questions
from warehouse.questions.flow_filter import bucket_width
from warehouse.questions.record_questions import Configuration
from warehouse.schema import CLUSTER_SETTINGS, NAMESPACES, POLICY_VERSIONS

TABLES = (POLICY_VERSIONS, NAMESPACES, CLUSTER_SETTINGS)
"""The tables of configuration whose changes are told: what decides on traffic, and who owns it."""
HOUR = timedelta(hours=1)
PARTS = 2_016
"""Into how many parts of time the window is cut, so that a week is counted in steps of five minutes."""
MOST_PATHS = 6
_Counts = dict[datetime, tuple[int, int]]


def report(reader: Reader) -> Report:
    """Return the report. Raises AccessDeniedError, QueryError, LakeError."""
    request = reader.request
    title = f"Configuration changes, {request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}"
    return Report(title=title, sections=[*sections(reader), observed(reader)])


def sections(reader: Reader) -> list[Section]:
    """Return the section about changes, with their traffic."""
    request = reader.request
    answer = reader.ask(Configuration(window=reader.window, tables=TABLES, recorded=request.known))
    found = changes(answer.rows.to_pylist(), request.since, request.until)
    traffic, width = _traffic(reader, found)
    rows = [row | _affected(row, traffic, width) for row in found]
    names = ("time", "cluster", "kind", "namespace", "name", "change", "by", "what", *_TRAFFIC)
    types = {"time": pa.timestamp("us", "UTC"), **dict.fromkeys(_TRAFFIC, pa.int64())}
    schema = pa.schema([(name, types.get(name, pa.string())) for name in names])
    counts = Counter(row["kind"] for row in rows)
    listed = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [
        Section(
            id="changes",
            title="Changes",
            text=(
                f"Traffic is that of the namespace (of the whole cluster for an object without one) in the hour before and the hour after, "
                f"counted in steps of {words.span(width)} without the step of the change. It is what happened around the change; "
                "other causes may have played a part.",
            ),
            figures=(
                Figure(name="Changes", value=f"{len(rows):,}"),
                Figure(name="Followed by more denials", value=f"{sum(row['denied_after'] > row['denied_before'] for row in rows):,}"),
            ),
            chart=bars("Changes by kind", listed, unit="changes", tone="redirected"),
            rows=pa.Table.from_pylist(rows, schema=schema),
            names={
                "time": "Time (UTC)",
                "cluster": "Cluster",
                "kind": "Kind",
                "namespace": "Namespace",
                "name": "Name",
                "change": "Change",
                "by": "By",
                "what": "What",
                "flows_before": "Flows before",
                "flows_after": "after",
                "denied_before": "Denied before",
                "denied_after": "after",
            },
            empty="No change was recorded in this window, or configuration was not recorded: see config_coverage.",
        )
    ]


_TRAFFIC = ("flows_before", "flows_after", "denied_before", "denied_after")


def changes(versions: Sequence[Mapping[str, Any]], since: datetime, until: datetime) -> list[dict[str, Any]]:
    """Return what began, changed or ended in [since, until) among versions that are in order of object and time."""
    by_object: dict[tuple[Any, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for row in versions:
        by_object[row["cluster"], row["kind"], row["namespace"], row["name"]].append(row)
    found = []
    for (cluster, kind, namespace, name), listed in by_object.items():
        ordered = sorted(listed, key=lambda row: row["valid_from"])
        for place, row in enumerate(ordered):
            before = ordered[place - 1] if place and ordered[place - 1]["valid_to"] == row["valid_from"] else None
            after = ordered[place + 1] if place + 1 < len(ordered) else None
            told = {"cluster": cluster, "kind": kind, "namespace": namespace, "name": name}
            if since <= row["valid_from"] < until:
                change, what = _began(before, row)
                found.append(told | {"time": row["valid_from"], "change": change, "by": row["changed_by"], "what": what})
            ended = row["valid_to"]
            if ended is not None and since <= ended < until and (after is None or after["valid_from"] != ended):
                found.append(told | {"time": ended, "change": "deleted", "by": row["ended_by"], "what": ""})
    found.sort(key=lambda row: (row["time"], *(str(row[name] or "") for name in ("cluster", "kind", "namespace", "name", "change"))))
    return found


def _began(before: Mapping[str, Any] | None, row: Mapping[str, Any]) -> tuple[str, str]:
    if before is None:
        return "created, or first seen", ""
    if before["manifest"] is None or row["manifest"] is None:  # auditors read no manifests
        return "changed", ""
    paths = [each.path for each in compare_manifests(json.loads(before["manifest"]), json.loads(row["manifest"]))]
    more = f" and {len(paths) - MOST_PATHS} more" if len(paths) > MOST_PATHS else ""
    return "recreated" if before["ended_how"] == "recreated" else "changed", ", ".join(paths[:MOST_PATHS]) + more


def _traffic(reader: Reader, found: Iterable[Mapping[str, Any]]) -> tuple[dict[tuple[str, str | None], _Counts], timedelta]:
    """Return flows and denials by time for each namespace with a change, and for each cluster (None) with one of the whole cluster."""
    wanted = reader.flows()
    wanted = replace(wanted, since=wanted.since - HOUR, until=min(wanted.until + HOUR, reader.request.known))
    width = max(timedelta(minutes=1), bucket_width(wanted, PARTS))
    of = {(row["cluster"], _namespace(row)) for row in found}
    whole = {cluster for cluster, namespace in of if namespace is None}
    counts: dict[tuple[str, str | None], _Counts] = defaultdict(dict)
    if not of:
        return counts, width
    names = () if whole else tuple(sorted({namespace for _, namespace in of if namespace is not None}))
    answer = reader.ask(count_questions.namespaces(replace(wanted, namespaces=names), buckets=PARTS, limits=LIMITS, of_moments=True))
    for row in answer.rows.to_pylist():
        for key in ((row["cluster"], row["namespace"]), (row["cluster"], None)):
            if key in of:
                flows, denied = counts[key].get(row["start"], (0, 0))
                counts[key][row["start"]] = flows + row["flows"], denied + row["denied"]
    return counts, width


def _namespace(row: Mapping[str, Any]) -> str | None:
    named: str | None = row["name"] if row["kind"] == "Namespace" else row["namespace"]
    return None if row["kind"] == "ConfigMap" else named


def _affected(row: Mapping[str, Any], traffic: Mapping[tuple[str, str | None], _Counts], width: timedelta) -> dict[str, int]:
    at, counts = row["time"], traffic.get((row["cluster"], _namespace(row)), {})
    before = [both for start, both in counts.items() if at - HOUR <= start and start + width <= at]
    after = [both for start, both in counts.items() if at <= start < at + HOUR]
    sums = [sum(both[place] for both in part) for place in (0, 1) for part in (before, after)]
    return dict(zip(_TRAFFIC, sums, strict=True))
