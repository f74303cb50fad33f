"""Questions that need the flows themselves: the newest flows, flows in another order, a single flow, and completions for a filter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from warehouse.engine import EVERY_ROW, Limits
from warehouse.questions import edge_rule
from warehouse.questions.flow_filter import FlowFilter, column_refusal
from warehouse.questions.flow_spans import A_SECOND
from warehouse.questions.flow_table import MATCHING, FlowQuestion
from warehouse.questions.question import USUAL
from warehouse.schema import FLOWS

OFFERED = Limits(rows=2_000)

COMPLETED: dict[str, str] = {
    "ns": "unnest(list_distinct([source_namespace, destination_namespace]))",
    "workload": "unnest(list_distinct([source_workload_name, destination_workload_name]))",
    "port": "server_port::VARCHAR",
    "reason": "drop_reason_desc",
    "cluster": "cluster",
    "node": "node_name",
    "protocol": "l4_protocol",
    "direction": "traffic_direction",
    "name": "unnest(list_concat(source_names, destination_names))",
    "method": "l7_http_method",
    "code": "l7_http_code::VARCHAR",
    "dns": "l7_dns_query",
    "pod": "unnest(list_distinct([source_pod_name, destination_pod_name]))",
}
"""Filter fields whose values are offered as completions, and the SQL that yields them."""


def newest(wanted: FlowFilter, *, columns: Sequence[str] | None = None, limits: Limits = USUAL) -> FlowQuestion:
    """Return the newest matching flows, newest first, with the named columns of `flows`, or all columns for None."""
    names = list(columns) if columns else FLOWS.schema.names
    picked = ", ".join(f'"{name}"' for name in names)
    # Flows with the same time and no uuid are ordered by the columns shown: the order in the files could reveal hidden columns.
    sql = f'SELECT {picked} FROM {MATCHING} WHERE "time" >= ? ORDER BY "time" DESC, uuid, hash({picked})'
    return FlowQuestion(name="flows", wanted=wanted, sql=sql, newest=True, limits=limits, refusal=column_refusal(names))


def oldest_first(wanted: FlowFilter, *, columns: Sequence[str] | None = None) -> FlowQuestion:
    """Return every matching flow, oldest first, with the named columns of `flows`; for windows whose flows fit in memory."""
    names = list(columns) if columns else FLOWS.schema.names
    picked = ", ".join(f'"{name}"' for name in names)
    sql = f'SELECT {picked} FROM {MATCHING} ORDER BY "time", uuid, hash({picked})'
    return FlowQuestion(name="flows", wanted=wanted, sql=sql, limits=Limits(rows=EVERY_ROW), refusal=column_refusal(names))


def a_second(wanted: FlowFilter) -> FlowQuestion:
    """Return how many matching flows each second has: columns `second` (microseconds since 1970) and `flows`, in order."""
    return FlowQuestion(name="flows", wanted=wanted, sql=A_SECOND, limits=Limits(rows=EVERY_ROW))


def last_of_nodes(wanted: FlowFilter) -> FlowQuestion:
    """Return the last matching flow of each node: columns `cluster`, `node_name` and `last`, in order."""
    sql = f"SELECT cluster, coalesce(node_name, '') AS node_name, max(\"time\") AS last FROM {MATCHING} GROUP BY ALL ORDER BY ALL"
    return FlowQuestion(name="flows", wanted=wanted, sql=sql, limits=Limits(rows=EVERY_ROW))


ORDERS: dict[str, str] = {
    "time": '"time"',
    "latency": "l7_latency_ns",
    "flows": "flow_count",
    **{
        side: f"nullif(concat_ws('/', {side}_namespace, coalesce({side}_workload_name, {side}_pod_name, {side}_names[1], {side}_ip)), '')"
        for side in ("source", "destination")
    },
    "port": edge_rule.SERVER_PORT,
    "verdict": "verdict",
    "reason": "drop_reason_desc",
    "code": "l7_http_code",
    "cluster": "cluster",
}
"""What flows can be sorted by, and its SQL on columns of `flows`."""


@dataclass(frozen=True)
class Order:
    """An order of flows, by one of ORDERS. Written as `latency`, or `-latency` for descending."""

    by: str
    descending: bool

    def __str__(self) -> str:
        return f"{'-' if self.descending else ''}{self.by}"


NEWEST = Order("time", descending=True)


def ordered(wanted: FlowFilter, order: Order, *, columns: Sequence[str] | None = None, limits: Limits = USUAL) -> FlowQuestion:
    """Return the matching flows that come first in an order, as `newest` does; flows without a value come last, equal ones newest first.

    The order is of what the principal may see: values that are hidden count as missing.
    """
    if order == NEWEST:
        return newest(wanted, columns=columns, limits=limits)
    names = list(columns) if columns else FLOWS.schema.names
    picked = ", ".join(f'"{name}"' for name in names)
    refusal = None if order.by in ORDERS else f"flows cannot be sorted by {order.by!r}: choose one of {', '.join(ORDERS)}"
    value = ORDERS.get(order.by, "NULL")
    way = "DESC" if order.descending else "ASC"
    sql = f'SELECT {picked} FROM {MATCHING} ORDER BY {value} {way} NULLS LAST, "time" DESC, uuid, hash({picked})'
    return FlowQuestion(name="flows", wanted=wanted, sql=sql, limits=limits, refusal=refusal or column_refusal(names))


def completions(wanted: FlowFilter, *, each: int = 25, limits: Limits = OFFERED) -> FlowQuestion:
    """Return the most common values of each field in the window, as completions: columns `field`, `value`, `flows`.

    Ports are service ports, and workloads are resolved as for edges.
    """
    picked = [f"SELECT '{field}' AS field, {source} AS value, flow_count FROM asked" for field, source in COMPLETED.items()]
    needed = ("source_namespace", "destination_namespace", "source_workload_name", "destination_workload_name",
        "drop_reason_desc", "cluster", "node_name", "l4_protocol", "traffic_direction", "source_names", "destination_names",
        "l7_http_method", "l7_http_code", "l7_dns_query", "source_pod_name", "destination_pod_name")  # fmt: skip
    sql = f"""
        WITH asked AS MATERIALIZED (
            SELECT {", ".join(needed)}, {edge_rule.SERVER_PORT} AS server_port, sum(flow_count) AS flow_count FROM {MATCHING} GROUP BY ALL
        ),
        counted AS (SELECT field, value, sum(flow_count)::BIGINT AS flows FROM ({" UNION ALL ".join(picked)})
            WHERE value IS NOT NULL GROUP BY ALL)
        SELECT field, value, flows FROM counted
        QUALIFY row_number() OVER (PARTITION BY field ORDER BY flows DESC, value) <= {int(each)} ORDER BY field, flows DESC, value"""
    return FlowQuestion(name="completions", wanted=wanted, sql=sql, limits=limits, resolves_workloads=True)


def one_flow(*, cluster: str, uuid: str, at: datetime, until: datetime) -> FlowQuestion:
    """Return every column of the flow with this uuid in a window; no row if the principal may not see it."""
    names = ", ".join(f'"{name}"' for name in FLOWS.schema.names)
    wanted = FlowFilter(since=at, until=until, clusters=(cluster,))
    sql = f"SELECT {names} FROM {MATCHING} WHERE uuid = ?"
    return FlowQuestion(name="one_flow", wanted=wanted, sql=sql, values=(uuid,), limits=Limits(rows=1))
