"""Counts the recorded traffic of the namespaces of a plan, to show what its policy changes may affect. It predicts nothing."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from warehouse import engine, table_views
from warehouse.engine import Limits, Window
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

LOOK_BACK = timedelta(days=7)
_LIMITS = Limits(seconds=600, rows=1_000_000)


def flows_by_namespace(lake: Lake, cluster: str, namespaces: Collection[str], *, until: datetime) -> dict[str, int]:
    """Count recorded flows from or to each namespace in the seven days before `until`; one within a namespace counts once.

    Raises LakeError, QueryError.
    """
    if not namespaces:
        return {}
    since = until - LOOK_BACK
    marks = ", ".join("?" * len(namespaces))
    where = 'cluster = ? AND "time" >= ? AND "time" < ?'
    # Two scans: an OR over two columns prunes nothing.
    sql = f"""
        SELECT namespace, sum(flows)::BIGINT AS flows FROM (
            SELECT source_namespace AS namespace, sum(flow_count) AS flows FROM flows
            WHERE {where} AND source_namespace IN ({marks}) GROUP BY 1
            UNION ALL
            SELECT destination_namespace, sum(flow_count) FROM flows
            WHERE {where} AND destination_namespace IN ({marks}) AND source_namespace IS DISTINCT FROM destination_namespace GROUP BY 1
        ) GROUP BY 1"""
    values = [cluster, since, until, *namespaces]
    with engine.connect(_LIMITS) as connection:
        table_views.add_view(connection, lake, FLOWS, Window(since=since, until=until), [cluster])
        rows, _ = engine.run(connection, sql, [*values, *values], _LIMITS)
    counted = {row["namespace"]: int(row["flows"]) for row in rows.to_pylist()}
    return {namespace: counted.get(namespace, 0) for namespace in namespaces}
