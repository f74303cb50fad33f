"""Writes to the table `findings`, which lists what people should look at."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

import pyarrow as pa

from warehouse.lake.tables import Lake
from warehouse.schema import FINDINGS

FLEET = "*"
"""Used as the cluster of findings that concern no single cluster."""
Severity = Literal["info", "low", "medium", "high", "critical"]


def record(
    lake: Lake,
    *,
    kind: str,
    severity: Severity,
    summary: str,
    source: str,
    cluster: str = FLEET,
    namespace: str | None = None,
    subject: str | None = None,
    detail: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> None:
    """Write one finding; see the columns of `findings`. Raises LakeError."""
    time = now or datetime.now(UTC)
    row = {
        "cluster": cluster,
        "date": time.date(),
        "time": time,
        "kind": kind,
        "severity": severity,
        "namespace": namespace,
        "subject": subject,
        "summary": summary,
        "detail": None if detail is None else json.dumps(detail, default=str, ensure_ascii=False),
        "source": source,
    }
    files = lake.write_files(FINDINGS, pa.Table.from_pylist([row], schema=FINDINGS.schema))
    lake.commit(FINDINGS, files, transactions={}, metadata={})
