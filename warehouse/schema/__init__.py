"""The tables' columns: name, type, unit, meaning. One module a group of tables; it does no I/O.

One definition feeds the writers, the decoder, the engine's views and docs/tables.md.
"""

from __future__ import annotations

from warehouse.schema.access import ACCESS_LOG
from warehouse.schema.coverage import COVERAGE
from warehouse.schema.findings import FINDINGS
from warehouse.schema.flows import FLOWS, HEADERS, POLICIES
from warehouse.schema.model import STRINGS, TIMESTAMP, Column, Table

TABLES: dict[str, Table] = {table.name: table for table in (FLOWS, COVERAGE, FINDINGS, ACCESS_LOG)}

__all__ = ["ACCESS_LOG", "COVERAGE", "FINDINGS", "FLOWS", "HEADERS", "POLICIES", "STRINGS", "TABLES", "TIMESTAMP", "Column", "Table"]
