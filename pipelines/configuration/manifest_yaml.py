"""Writes versions as YAML that `kubectl apply` accepts. It does no I/O.

A recorded object already lacks what the API server manages. To apply it to another cluster, or at a later time, the values
that the server assigned must be removed too: cluster IPs of Services and node ports. Kinds that are only partly recorded
(workloads, nodes, Hindcast's own) cannot be applied and are omitted.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import yaml

from pipelines.configuration.kinds import BY_NAME, KINDS

APPLICABLE = frozenset(kind.name for kind in KINDS if kind.applies)
"""The kinds whose manifests are complete."""
_ORDER = {kind.name: index for index, kind in enumerate(KINDS)}
_GIVEN_TO_SERVICES = ("clusterIP", "clusterIPs", "healthCheckNodePort")
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*")
_NOT_TEXTS = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def documents(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    """Return a YAML document for each version that can be applied, namespaces first. Rows are those of a version table."""
    chosen = [row for row in rows if row["kind"] in APPLICABLE]
    for row in sorted(chosen, key=lambda row: (_ORDER[row["kind"]], row["namespace"] or "", row["name"])):
        lines = ["---\n"]
        _block(applicable(json.loads(row["manifest"])), "", lines, "")
        yield "".join(lines)


def applicable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded manifest without the values another cluster must assign itself, in the key order people write."""
    first: dict[str, Any] = {name: manifest[name] for name in ("apiVersion", "kind", "metadata") if name in manifest}
    value = {**first, **manifest}
    if value["kind"] == "Service":
        spec = dict(value.get("spec") or {})
        for name in _GIVEN_TO_SERVICES:
            if spec.get(name) not in ("None", ["None"]):  # a headless Service is a user's decision
                spec.pop(name, None)
        spec["ports"] = [{name: port[name] for name in port if name != "nodePort"} for port in spec.get("ports") or []]
        if not spec["ports"]:
            del spec["ports"]
        value["spec"] = spec
    return value


def is_partial(kind: str) -> bool:
    """Return whether objects of this kind are only partly recorded."""
    return kind not in BY_NAME or not BY_NAME[kind].applies


# PyYAML's C emitter needs more than a second for a cluster's 5,000 policies; this code needs a fifth of that.
def _block(value: Any, indent: str, lines: list[str], first: str) -> None:
    """Append a non-empty JSON object or array in block style; the first line begins with `first`, the others with `indent`."""
    start = first
    if isinstance(value, dict):
        for name, item in value.items():
            if isinstance(item, dict | list) and item:
                lines.append(f"{start}{_text(name)}:\n")
                below = indent if isinstance(item, list) else indent + "  "
                _block(item, below, lines, below)
            else:
                lines.append(f"{start}{_text(name)}: {_scalar(item)}\n")
            start = indent
        return
    for item in value:
        if isinstance(item, dict | list) and item:
            _block(item, indent + "  ", lines, start + "- ")
        else:
            lines.append(f"{start}- {_scalar(item)}\n")
        start = indent


def _scalar(item: Any) -> str:
    return _text(item) if isinstance(item, str) else _number(item)


def _number(value: Any) -> str:
    """Write a number, true, false or null. YAML 1.1 readers take 1e+16 for a string, but 1.0e+16 for a number."""
    text = json.dumps(value)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if "e" in text else text


@functools.lru_cache(maxsize=10_000)
def _text(text: str) -> str:
    """Write a string, unquoted where no YAML reader takes it for another type. A printable JSON string is also a YAML string."""
    if _PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXTS:
        return text
    if text.isprintable() or text.replace("\n", "").isprintable():
        return json.dumps(text, ensure_ascii=False)
    return str(yaml.safe_dump(text, default_style='"', width=2**31)).rstrip("\n")
