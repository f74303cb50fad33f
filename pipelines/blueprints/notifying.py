"""Drift that is new is told: a finding for each, and one message to the configured webhook for all of an evaluation.

Neither the lake nor the webhook being away keeps the other from being told; what could not be told is given back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from pipelines.evidence import alerts
from warehouse import config
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake
from warehouse.schema import FINDINGS

KIND = "drift"
NAMED = 5
"""How many drifts a message names; the rest is counted."""
_WORST = ("critical", "high", "medium", "low")


def tell_opened(settings: config.Config, lake: Lake, opened: Sequence[Mapping[str, Any]], *, now: datetime, source: str) -> list[str]:
    """Tell of rows of drift that have opened; gives what could not be done, as sentences."""
    if not opened:
        return []
    failures = []
    try:
        rows = pa.Table.from_pylist([_finding(row, now, source) for row in opened], schema=FINDINGS.schema)
        lake.commit(FINDINGS, lake.write_files(FINDINGS, rows), transactions={}, metadata={})
    except HindcastError as error:
        failures.append(f"the findings were not written: {error}")
    try:
        url = settings.alerts.webhook_url()
        if url:
            alerts.post(url, _message(opened, source), settings)
    except HindcastError as error:
        failures.append(f"the webhook was not told: {error}")
    return failures


def _finding(row: Mapping[str, Any], now: datetime, source: str) -> dict[str, Any]:
    detail = {name: row[name] for name in ("drift", "blueprint", "changed_by", "paths", "flows")}
    return {
        "cluster": row["cluster"],
        "date": now.date(),
        "time": now,
        "kind": KIND,
        "severity": row["severity"],
        "namespace": row["namespace"],
        "subject": f"{row['kind']}/{row['name']}" if row["name"] else row["kind"],
        "summary": row["summary"],
        "detail": json.dumps(detail | {"since": row["since"].isoformat()}, ensure_ascii=False),
        "source": source,
    }


def _message(opened: Sequence[Mapping[str, Any]], source: str) -> dict[str, Any]:
    worst = sorted(opened, key=lambda row: (_WORST.index(row["severity"]), row["cluster"], row["summary"]))
    clusters = sorted({row["cluster"] for row in opened})
    lines = [f"Hindcast: {len(opened)} new drifts in {', '.join(clusters[:NAMED])}" + (" and more" if len(clusters) > NAMED else "")]
    lines += [f"{row['cluster']}: {row['severity']}: {row['summary']}" for row in worst[:NAMED]]
    lines += [f"and {len(worst) - NAMED} more"] if len(worst) > NAMED else []
    return {"text": "\n".join(lines), "kind": KIND, "severity": worst[0]["severity"], "subject": ", ".join(clusters), "source": source}
