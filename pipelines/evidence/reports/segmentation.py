"""The segmentation report: what the configuration allows between zones against the traffic that was observed between them."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from pipelines.evidence.reports import edges
from pipelines.evidence.reports.fleet import MOST_BARS, observed
from pipelines.evidence.reports.model import Bars, Figure, Report, Section, Series
from pipelines.evidence.reports.reading import Reader
from warehouse import config
from warehouse.errors import ConfigError

OTHER, OUTSIDE = config.ZONE_OTHER, config.ZONE_OUTSIDE


def settings_of(settings: config.Config) -> str:
    """Return the zones of the configuration as the JSON that makes the report. Raises ConfigError if it names none."""
    segmentation = settings.reports.segmentation
    if segmentation is None:
        raise ConfigError("the configuration names no zones: add reports.segmentation with zones and what is allowed between them")
    return json.dumps(segmentation.model_dump(mode="json"), sort_keys=True, ensure_ascii=False)


def report(reader: Reader) -> Report:
    """Return the report. Raises AccessDeniedError, QueryError, LakeError."""
    request = reader.request
    try:
        segmentation = config.Segmentation.model_validate_json(request.settings)
    except ValueError as error:
        raise ConfigError(f"the zones of the report cannot be read: {error}") from error
    found, cut = edges.edges(reader, reader.flows())
    pairs: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for row in found:
        ends = (segmentation.zone_of(row["cluster"], row[f"{side}_namespace"], row[f"{side}_name"]) for side in ("source", "destination"))
        source, destination = ends
        if source != destination:
            pairs[source, destination].append(row)
    crossed = [
        (source, destination, row)
        for (source, destination), rows in sorted(pairs.items())
        for row in rows
        if row["flows"] > row["denied"] and not segmentation.allows(source, destination, row["port"], row["protocol"])
    ]
    return Report(
        title=f"Segmentation, {request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}",
        sections=[
            _matrix(segmentation, pairs, crossed, cut=cut),
            _crossed(crossed, cut=cut),
            _rules(segmentation, pairs),
            observed(reader),
        ],
    )


def _matrix(
    segmentation: config.Segmentation, pairs: Mapping[tuple[str, str], list[dict[str, Any]]], crossed: list[Any], *, cut: bool
) -> Section:
    rows = []
    for (source, destination), listed in sorted(pairs.items()):
        flows, denied = (sum(row[name] for row in listed) for name in ("flows", "denied"))
        against = sum(row["flows"] - row["denied"] for a, b, row in crossed if (a, b) == (source, destination))
        allowed = segmentation.between(source, destination)
        rows.append(
            {
                "from": source,
                "to": destination,
                "allowed": "; ".join(rule.in_words() for rule in allowed) or "nothing",
                "flows": flows,
                "denied": denied,
                "not_allowed": against,
                "edges": len(listed),
                "state": "crossed" if against else "kept",
            }
        )
    types = dict.fromkeys(("flows", "denied", "not_allowed", "edges"), pa.int64())
    names = ("from", "to", "allowed", "flows", "denied", "not_allowed", "edges", "state")
    top = sorted(rows, key=lambda row: (-row["flows"], row["from"], row["to"]))[:MOST_BARS]
    chart = Bars(
        title="Flows between zones",
        names=tuple(f"{row['from']} → {row['to']}" for row in top),
        series=(
            Series(
                name="Allowed and not denied",
                values=tuple(row["flows"] - row["denied"] - row["not_allowed"] for row in top),
                tone="forwarded",
            ),
            Series(name="Went through though nothing allows it", values=tuple(row["not_allowed"] for row in top), tone="audit"),
            Series(name="Denied", values=tuple(row["denied"] for row in top), tone="dropped"),
        ),
    )
    bad = sum(row["state"] == "crossed" for row in rows)
    return Section(
        id="zones",
        title="Allowed against observed, between zones",
        text=(
            "What is allowed is what the configuration says in reports.segmentation; what policies allow is not judged here. "
            f"Namespaces in no zone are {OTHER}; what has no namespace is in the zone that its name belongs to, else {OUTSIDE}.",
        ),
        figures=(
            Figure(name="Pairs of zones with traffic", value=f"{len(rows):,}"),
            Figure(name="Of these crossed against the rules", value=f"{bad:,}", tone="bad" if bad else "good"),
        ),
        chart=chart if top else None,
        rows=pa.Table.from_pylist(rows, schema=pa.schema([(name, types.get(name, pa.string())) for name in names])),
        names={
            "from": "From",
            "to": "To",
            "allowed": "Allowed",
            "flows": "Flows",
            "denied": "Denied",
            "not_allowed": "Went through, not allowed",
            "state": "State",
        },
        cut=cut,
        empty="No traffic between zones was recorded in this window.",
    )


def _crossed(crossed: list[tuple[str, str, dict[str, Any]]], *, cut: bool) -> Section:
    listed = edges.table([row for _, _, row in crossed])
    for place, side in enumerate(("from_zone", "to_zone")):
        listed = listed.add_column(place, side, pa.array([entry[place] for entry in crossed], pa.string()))
    return Section(
        id="crossings",
        title="Traffic that went through though nothing allows it",
        rows=listed,
        names={"from_zone": "From zone", "to_zone": "To zone", **edges.NAMES},
        cut=cut,
        empty="None was recorded in this window.",
    )


def _rules(segmentation: config.Segmentation, pairs: Mapping[tuple[str, str], list[dict[str, Any]]]) -> Section:
    rows = []
    for rule in segmentation.allowed:
        used = [
            row
            for row in pairs.get((rule.source, rule.destination), [])
            if row["flows"] > row["denied"] and rule.covers(row["port"], row["protocol"])
        ]
        rows.append(
            {
                "from": rule.source,
                "to": rule.destination,
                "ports": ", ".join(rule.ports) or "any",
                "reason": rule.reason,
                "flows": sum(row["flows"] - row["denied"] for row in used),
                "edges": len(used),
            }
        )
    schema = pa.schema(
        [(name, pa.int64() if name in ("flows", "edges") else pa.string()) for name in ("from", "to", "ports", "reason", "flows", "edges")]
    )
    return Section(
        id="rules",
        title="What is allowed, and whether it was used",
        rows=pa.Table.from_pylist(rows, schema=schema),
        names={"from": "From", "to": "To", "ports": "Ports", "reason": "Reason", "flows": "Flows", "edges": "Edges"},
        empty="The configuration allows nothing between zones.",
        shown=100,
    )
