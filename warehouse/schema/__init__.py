"""The columns of all tables: name, type, unit, meaning. There is one module per group of tables. No I/O.

One definition feeds the writers, the decoder, the engine's views and docs/tables.md.
"""

from __future__ import annotations

from warehouse.schema.access import ACCESS_LOG
from warehouse.schema.alerts import ALERTS
from warehouse.schema.configuration import (
    CLUSTER_SETTINGS,
    CONFIG_COVERAGE,
    NAMESPACES,
    POLICY_VERSIONS,
    ROLE_BINDINGS,
    SERVICES,
    VERSION_TABLES,
    WORKLOADS,
)
from warehouse.schema.coverage import COVERAGE
from warehouse.schema.deliveries import DELIVERIES
from warehouse.schema.findings import ERASURES, FINDINGS
from warehouse.schema.flows import FLOWS, HEADERS, POLICIES
from warehouse.schema.model import STRINGS, TIMESTAMP, Column, Table
from warehouse.schema.posture import DRIFT, POLICY_CHANGES, POSTURE, PROPOSED_EDGES
from warehouse.schema.reports import REPORTS
from warehouse.schema.rollups import DNS_NAMES, EDGES_1H, LABEL_SETS, ROLLUPS, TIMELINE_1M
from warehouse.schema.saved_views import SAVED_VIEWS
from warehouse.schema.tokens import TOKENS

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        FLOWS,
        COVERAGE,
        *ROLLUPS,
        *VERSION_TABLES,
        CONFIG_COVERAGE,
        FINDINGS,
        DRIFT,
        POSTURE,
        POLICY_CHANGES,
        PROPOSED_EDGES,
        ACCESS_LOG,
        SAVED_VIEWS,
        TOKENS,
        DELIVERIES,
        REPORTS,
        ALERTS,
    )
}

__all__ = [
    "ACCESS_LOG",
    "ALERTS",
    "CLUSTER_SETTINGS",
    "CONFIG_COVERAGE",
    "COVERAGE",
    "DELIVERIES",
    "DNS_NAMES",
    "DRIFT",
    "EDGES_1H",
    "ERASURES",
    "FINDINGS",
    "FLOWS",
    "HEADERS",
    "LABEL_SETS",
    "NAMESPACES",
    "POLICIES",
    "POLICY_CHANGES",
    "POLICY_VERSIONS",
    "POSTURE",
    "PROPOSED_EDGES",
    "REPORTS",
    "ROLE_BINDINGS",
    "ROLLUPS",
    "SAVED_VIEWS",
    "SERVICES",
    "STRINGS",
    "TABLES",
    "TIMELINE_1M",
    "TIMESTAMP",
    "TOKENS",
    "VERSION_TABLES",
    "WORKLOADS",
    "Column",
    "Table",
]  # fmt: skip
