"""Checks, before it runs, that a user's statement only reads.

Running it belongs to warehouse.engine. Even a SELECT may write (`WITH w AS (COPY ...)`), so the plan is checked, not the text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import duckdb

from warehouse.engine import Limits, explain, within
from warehouse.errors import QueryError

_WRITES = re.compile(r"COPY|EXPORT|INSERT|UPDATE|DELETE|MERGE|CREATE|DROP|ALTER|ATTACH")
"""Matches the name of an operator that writes."""
_RUNS_OTHERS = ("JSON_EXECUTE_SERIALIZED_SQL",)
"""Functions that run another statement, which does not appear in the plan."""
_BEGINS = ("SELECT", "FROM", "WITH", "VALUES", "TABLE")
_OF_EXPLAIN = ("EXPLAIN", "ANALYZE", "ANALYSE", "FORMAT", "JSON", "TEXT", "TREE", "GRAPHVIZ", "HTML", "(", ")", ",")


def check_is_query(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raise QueryError unless `sql` is exactly one statement, either a query or an EXPLAIN."""
    try:
        sql.encode("utf-8")
    except UnicodeEncodeError as error:
        raise QueryError(f"character {error.start + 1} of the SQL, {sql[error.start]!a}, is an unpaired surrogate: remove it") from error
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise explain(error, Limits()) from error
    if len(statements) != 1:
        raise QueryError(f"give one statement, not {len(statements)}")
    kind = statements[0].type.name
    if kind == "MULTI":
        raise QueryError("a PIVOT must list the values that become columns: PIVOT ... ON column IN (value, ...)")
    if kind not in ("SELECT", "EXPLAIN"):
        raise QueryError(f"only queries are allowed; this is {kind}: use --output and --file to write results elsewhere")


def check_writes_nothing(connection: duckdb.DuckDBPyConnection, sql: str, limits: Limits) -> None:
    """Raise QueryError if the statement would write to a table or a file, or run another statement. Its views must exist."""
    query = _explained(sql)
    if query is None:
        raise QueryError(
            "EXPLAIN ANALYZE runs the statement, so only queries are allowed: the statement must begin with SELECT, FROM or WITH"
        )
    with within(connection, limits):  # planning evaluates constants, which may take long
        ((_, plan),) = connection.execute(f"EXPLAIN (FORMAT json) {query}").fetchall()
    for name in _operators(json.loads(plan)):
        if _WRITES.search(name) or name in _RUNS_OTHERS:
            raise QueryError(f"only queries are allowed; this one writes ({name}): use --output and --file to write results elsewhere")


def _explained(sql: str) -> str | None:
    """Return the query that a statement runs: the statement itself or the one it explains; None if that is not a query."""
    words = [(place, sql[place:]) for place, kind in duckdb.tokenize(sql) if kind is not duckdb.token_type.comment]
    if not words or not re.match(r"EXPLAIN\b", words[0][1], re.IGNORECASE):
        return sql
    for place, rest in words:
        word = (re.match(r"\w+|.", rest, re.DOTALL) or [""])[0].upper()
        if word in _BEGINS:
            return sql[place:]
        if word not in _OF_EXPLAIN:
            return None
    return None


def _operators(nodes: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the names of a plan's operators, and of the table functions that they scan."""
    for node in nodes:
        yield str(node.get("name", "")).strip().upper()
        yield str(node.get("extra_info", {}).get("Function", "")).strip().upper()
        yield from _operators(node.get("children", []))
