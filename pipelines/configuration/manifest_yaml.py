"""Versions as YAML that `kubectl apply` takes. Pure.

What was recorded is the object without what the API server manages; for another cluster, or a later time, what the
server had given to it must go, too: addresses of Services and ports on nodes. Kinds of which only a part is recorded
(workloads, nodes, Hindcast's own) cannot be applied and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from pipelines.configuration.kinds import BY_NAME, KINDS

APPLICABLE = frozenset(kind.name for kind in KINDS if kind.applies)
"""The kinds whose manifests are whole."""
_ORDER = {kind.name: index for index, kind in enumerate(KINDS)}
_GIVEN_TO_SERVICES = ("clusterIP", "clusterIPs", "healthCheckNodePort")
_Dumper: type[Any] = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the C one is ten times as fast


def documents(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """One YAML document for each version that can be applied, namespaces first. Rows are those of a version table."""
    chosen = [row for row in rows if row["kind"] in APPLICABLE]
    for row in sorted(chosen, key=lambda row: (_ORDER[row["kind"]], row["namespace"] or "", row["name"])):
        yield "---\n" + yaml.dump(
            applicable(json.loads(row["manifest"])), Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
        )


def applicable(manifest: dict[str, Any]) -> dict[str, Any]:
    """A recorded manifest without what another cluster would have to give anew; in the order people write it."""
    first: dict[str, Any] = {name: manifest[name] for name in ("apiVersion", "kind", "metadata") if name in manifest}
    value = {**first, **manifest}
    if value["kind"] == "Service":
        spec = dict(value.get("spec") or {})
        for name in _GIVEN_TO_SERVICES:
            if spec.get(name) not in ("None", ["None"]):  # a headless Service is what somebody decided
                spec.pop(name, None)
        spec["ports"] = [{name: port[name] for name in port if name != "nodePort"} for port in spec.get("ports") or []]
        if not spec["ports"]:
            del spec["ports"]
        value["spec"] = spec
    return value


def is_partial(kind: str) -> bool:
    """Whether only a part of objects of this kind is recorded."""
    return kind not in BY_NAME or not BY_NAME[kind].applies
