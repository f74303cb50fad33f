"""Questions that need the flows themselves: the newest flows, a single flow, and completions for a filter being typed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from warehouse.engine import Limits
from warehouse.questions import edge_rule
from warehouse.questions.flow_filter import FlowFilter, column_refusal
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
