"""A view's filter as SQL that a person can read and go on from. Pure. It is run by whoever opens it, within what they may see."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from warehouse.engine import literal
from warehouse.questions.flow_filter import FlowFilter, flow_conditions
from warehouse.questions.flow_questions import NEWEST, ORDERS, Order


def flows(wanted: FlowFilter, order: Order = NEWEST) -> str:
    """The query for the flows that match and come first in an order."""
    where, values = flow_conditions(wanted)
    return f"""SELECT "time", verdict, source_namespace, source_pod_name, destination_namespace, destination_pod_name,
    destination_port, drop_reason_desc
FROM flows
WHERE {_filled(where, values)}
ORDER BY {ORDERS[order.by]}{" DESC" if order.descending else ""} NULLS LAST
LIMIT 400"""


_ENDS = """source_namespace, source_workload_name, destination_namespace, destination_workload_name, l4_protocol,
    CASE WHEN is_reply THEN source_port ELSE destination_port END AS port"""


def edges(wanted: FlowFilter) -> str:
    """The query for who talks to whom, with flows and denied ones, as each flow names its two ends."""
    where, values = flow_conditions(wanted)
    return f"""SELECT {_ENDS},
    sum(flow_count) AS flows, coalesce(sum(flow_count) FILTER (WHERE verdict = 'DROPPED'), 0) AS denied,
    min("time") AS first_in_window, max("time") AS last_in_window
FROM flows
WHERE {_filled(where, values)}
GROUP BY ALL ORDER BY denied DESC, flows DESC
LIMIT 1000"""


def comparison(before: FlowFilter, after: FlowFilter) -> str:
    """The query for the same of two windows side by side, those that differ most first."""
    (a, a_values), (b, b_values) = flow_conditions(before), flow_conditions(after)
    in_a, in_b = _filled(a, a_values), _filled(b, b_values)
    return f"""SELECT {_ENDS},
    coalesce(sum(flow_count) FILTER (WHERE {in_a}), 0) AS flows_a,
    coalesce(sum(flow_count) FILTER (WHERE {in_b}), 0) AS flows_b,
    coalesce(sum(flow_count) FILTER (WHERE verdict = 'DROPPED' AND {in_a}), 0) AS denied_a,
    coalesce(sum(flow_count) FILTER (WHERE verdict = 'DROPPED' AND {in_b}), 0) AS denied_b
FROM flows
WHERE ({in_a}) OR ({in_b})
GROUP BY ALL ORDER BY abs(flows_b - flows_a) DESC
LIMIT 1000"""


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
