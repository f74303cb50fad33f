"""A view's filter as SQL that a person can read and go on from. Pure. It is run by whoever opens it, within what they may see."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from warehouse.engine import literal
from warehouse.questions.flow_filter import FlowFilter, flow_conditions


def flows(wanted: FlowFilter) -> str:
    """The query for the newest flows that match."""
    where, values = flow_conditions(wanted)
    return f"""SELECT "time", verdict, source_namespace, source_pod_name, destination_namespace, destination_pod_name,
    destination_port, drop_reason_desc
FROM flows
WHERE {_filled(where, values)}
ORDER BY "time" DESC
LIMIT 400"""


def _filled(condition: str, values: list[Any]) -> str:
    """The condition with its placeholders replaced by literals."""
    parts = condition.split("?")
    written = parts[0]
    for value, rest in zip(values, parts[1:], strict=True):
        written += _literal(value) + rest
    return written.replace(" AND true", "")


def _literal(value: Any) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMPTZ {literal(value.isoformat(sep=' '))}"
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else literal(str(value))
