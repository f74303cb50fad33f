"""The tables' columns: name, type, unit, meaning. One module a group of tables; it does no I/O.

One definition feeds the writers, the decoder, the engine's views and docs/tables.md.
"""

from __future__ import annotations

from warehouse.schema.access import ACCESS_LOG
from warehouse.schema.coverage import COVERAGE
from warehouse.schema.findings import FINDINGS
from warehouse.schema.flows import FLOWS, HEADERS, POLICIES
from warehouse.schema.model import STRINGS, TIMESTAMP, Column, Table
from warehouse.schema.rollups import DNS_NAMES, EDGES_1H, LABEL_SETS, ROLLUPS, TIMELINE_1M

TABLES: dict[str, Table] = {table.name: table for table in (FLOWS, COVERAGE, FINDINGS, *ROLLUPS, ACCESS_LOG)}

__all__ = [
    "ACCESS_LOG", "COVERAGE", "DNS_NAMES", "EDGES_1H", "FINDINGS", "FLOWS", "HEADERS", "LABEL_SETS", "POLICIES", "ROLLUPS", "STRINGS", "TABLES",
    "TIMELINE_1M", "TIMESTAMP", "Column", "Table",
]  # fmt: skip
