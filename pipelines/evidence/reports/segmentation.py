"""The segmentation report: what the configuration allows between zones, what policies allow, and the traffic that was observed."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from pipelines.evidence.reports import edges
from pipelines.evidence.reports.fleet import MOST_BARS, observed
from pipelines.evidence.reports.model import Bars, Figure, Report, Section, Series
from pipelines.evidence.reports.reading import Reader
from pipelines.evidence.reports.zones_by_policy import ByPolicy, Path, by_policy
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted

OTHER, OUTSIDE = config.ZONE_OTHER, config.ZONE_OUTSIDE
MOST_PATHS = 5_000


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
    policies = by_policy(reader, segmentation, found)
    return Report(
        title=f"Segmentation, {request.since:%Y-%m-%d} to {request.until:%Y-%m-%d}",
        sections=[
            _matrix(segmentation, pairs, crossed, policies, cut=cut),
            _crossed(crossed, cut=cut),
            _beyond(policies),
            _rules(segmentation, pairs),
            observed(reader),
        ],
    )


def _matrix(
    segmentation: config.Segmentation,
    pairs: Mapping[tuple[str, str], list[dict[str, Any]]],
    crossed: list[Any],
    policies: ByPolicy,
    *,
    cut: bool,
) -> Section:
    rows = []
    paths: dict[tuple[str, str], list[Path]] = defaultdict(list)
    for path in policies.paths:
        paths[path.zones].append(path)
    for source, destination in sorted({*pairs, *paths}):
        listed = pairs.get((source, destination), [])
        by_policies = _by_policies(paths[source, destination], destination, policies)
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
                **by_policies,
                "state": "crossed" if against else "open" if by_policies["beyond"] else "kept",
            }
        )
    types = dict.fromkeys(("flows", "denied", "not_allowed", "edges", "by_policies", "beyond", "uncertain"), pa.int64())
    names = ("from", "to", "allowed", "flows", "denied", "not_allowed", "edges", "by_policies", "beyond", "uncertain", "policies", "state")
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
    bad, wide = (sum(row["state"] == state for row in rows) for state in ("crossed", "open"))
    return Section(
        id="zones",
        title="Allowed against observed, between zones",
        text=(
            "What is allowed is what the configuration says in reports.segmentation. "
            f"Namespaces in no zone are {OTHER}; what has no namespace is in the zone that its name belongs to, else {OUTSIDE}.",
            "What policies allow is judged by the policy engine on the policies in force at the end of the window: connections between "
            "workloads that existed then, and from the world, on ports on which the destination was reached or that its pods name. Other "
            "ports, and what leaves the cluster, are not judged.",
            *(f"{cluster} is not judged: {why}." for cluster, why in sorted(policies.not_judged.items())),
        ),
        figures=(
            Figure(name="Pairs of zones with traffic", value=f"{len(pairs):,}"),
            Figure(name="Of these crossed against the rules", value=f"{bad:,}", tone="bad" if bad else "good"),
            Figure(name="Pairs that only policies leave open", value=f"{wide:,}", tone="attention" if wide else "good"),
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
            "policies": "Allowed by policies",
            "state": "State",
        },
        cut=cut,
        empty="No traffic between zones was recorded in this window.",
    )


def _by_policies(paths: Sequence[Path], destination: str, policies: ByPolicy) -> dict[str, Any]:
    """What the policies allow between two zones, in numbers and in words. Where not all is known, the words say so."""
    certain = [path for path in paths if path.is_certain]
    beyond, uncertain = sum(not path.is_by_rule for path in certain), len(paths) - len(certain)
    if destination not in policies.zones and not policies.not_judged:
        return {"by_policies": None, "beyond": None, "uncertain": None, "policies": "not judged"}
    words = [counted(len(certain), "connection")] if certain else [] if policies.not_judged else ["nothing"]
    words += [f"{beyond:,} of them beyond the rules"] if beyond else []
    words += [f"uncertain for {uncertain:,}"] if uncertain else []
    words += ["uncertain in clusters that are not judged"] if policies.not_judged else []
    return {"by_policies": len(certain), "beyond": beyond, "uncertain": uncertain, "policies": ", ".join(words)}


def _beyond(policies: ByPolicy) -> Section:
    """Return the section about connections that the policies allow, or may allow, though no rule between the zones does."""
    found = [path for path in policies.paths if not path.is_by_rule]
    found.sort(key=lambda path: (not path.is_certain, path.zones, path.cluster, path.source, path.destination, path.port))
    rows = [
        {
            "from_zone": path.zones[0],
            "to_zone": path.zones[1],
            "cluster": path.cluster,
            "source": path.source,
            "destination": path.destination,
            "port": f"{path.port[1]}/{path.port[0]}",
            "policies": "allowed" if path.is_certain else "uncertain",
        }
        for path in found[:MOST_PATHS]
    ]
    names = ("from_zone", "to_zone", "cluster", "source", "destination", "port", "policies")
    return Section(
        id="beyond",
        title="What policies allow though no rule between the zones does",
        text=("Whether it was used or not.",),
        rows=pa.Table.from_pylist(rows, schema=pa.schema([(name, pa.string()) for name in names])),
        names={"from_zone": "From zone", "to_zone": "To zone", "cluster": "Cluster", "source": "From", "destination": "To", "port": "Port",
               "policies": "By policies"},
        cut=len(found) > MOST_PATHS,
        shown=25,
        empty="Nothing, as far as it was judged." if not policies.not_judged else "Nothing in what was judged; not every cluster was.",
    )  # fmt: skip


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
