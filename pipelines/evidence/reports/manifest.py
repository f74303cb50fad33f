"""The manifest of a report: what it was made from, and the hash of every part. Pure."""

from __future__ import annotations

import functools
import hashlib
import json
import platform
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any

from pipelines.evidence.reports.asked import written
from pipelines.evidence.reports.model import Report
from pipelines.evidence.reports.page import TEMPLATES
from pipelines.evidence.reports.reading import Reader

FORMAT = 1
"""Version of the manifest's form."""
SPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://hindcast.example/reports")
"""The namespace of the ids of reports and of everything in them."""


def manifest_of(
    report: Report,
    reader: Reader,
    *,
    made: datetime,
    made_by: str,
    tables: Mapping[str, int],
    formats: Sequence[str],
    files: Mapping[str, bytes],
) -> dict[str, Any]:
    """Return the manifest, without the hash of the page, which `page.render` adds."""
    asked = reader.request.described()
    return {
        "format": FORMAT,
        "id": str(uuid.uuid5(SPACE, canonical({"asked": asked, "made": written(made), "by": made_by}))),
        "title": report.title,
        "asked": asked,
        "made": written(made),
        "made_by": made_by,
        "formats": list(formats),
        "software": software(),
        "scope": reader.scope_hash,
        "tables": dict(tables),
        "coverage": coverage_of(reader),
        "queries": [noted.described() for noted in reader.noted],
        "sections": [
            {
                "id": section.id,
                "title": section.title,
                "rows": None if section.rows is None else section.rows.num_rows,
                "hash": section.hash,
            }
            for section in report.sections
        ],
        "files": hashes(files),
    }


def hashes(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file, in hexadecimal."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def coverage_of(reader: Reader) -> list[dict[str, Any]]:
    """Return how much of each cluster was observed in the report's window, and the flows known lost."""
    ledger = reader.ledger
    lost: dict[str, int] = {}
    for node in ledger.coverage:
        lost[node.cluster] = lost.get(node.cluster, 0) + node.flows_lost
    return [{"cluster": name, "observed": share, "flows_lost": lost.get(name, 0)} for name, share in sorted(ledger.shares.items())]


@functools.cache
def software() -> dict[str, str]:
    """Return the versions of what a report's content depends on; `page` stands for the templates."""
    content = b"".join(path.read_bytes() for path in (*sorted(TEMPLATES.iterdir()), *sorted(TEMPLATES.parent.glob("*.py"))))
    return {
        "hindcast": version("hindcast-flows"),
        "duckdb": version("duckdb"),
        "pyarrow": version("pyarrow"),
        "python": platform.python_version(),
        "page": hashlib.sha256(content).hexdigest()[:12],
    }


def canonical(values: Any) -> str:
    """Return values as JSON text that is the same for equal values."""
    return json.dumps(values, sort_keys=True, ensure_ascii=False, separators=(",", ":"), default=str)


def hash_of(manifest: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a manifest, in hexadecimal."""
    return hashlib.sha256(canonical(manifest).encode()).hexdigest()
