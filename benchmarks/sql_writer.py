"""Generates random statements for benchmarks.hostile_sql: most are valid queries over the tables, some hostile, some broken.

A valid query is composed from typed expressions, so that the engine runs it: nested, correlated, grouped, windowed,
pivoted, sampled, joined with itself, over CTEs with the names of tables.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import pyarrow as pa

from warehouse.schema import COVERAGE, DNS_NAMES, EDGES_1H, FINDINGS, FLOWS, TIMELINE_1M, Table

HOSTILE = (
    "COPY ({query}) TO '{outside}/x.csv'", "WITH w AS (COPY ({query}) TO '{secret}') SELECT 1", "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_parquet('{lake}/flows/**')", "ATTACH '{outside}/x.db'", "SET enable_external_access = true",
    "WITH w AS (DELETE FROM flows RETURNING uuid) SELECT * FROM w", "INSERT INTO flows SELECT * FROM flows", "DROP TABLE flows",
    "SELECT * FROM query('{query}')", "INSTALL httpfs", "EXPORT DATABASE '{outside}'", "CREATE TABLE x AS {query}", "{query}; {query}",
    "EXPLAIN ANALYZE {query}", "PREPARE p AS {query}", "PRAGMA database_list", "CALL pragma_version()",
    "FROM json_execute_serialized_sql(json_serialize_sql('{query}'))",
    "FROM enable_logging(storage := 'file', storage_path := '{outside}/l')", "CREATE MACRO flows() AS TABLE {query}",
)  # fmt: skip
TABLES: tuple[Table, ...] = (FLOWS, FLOWS, FLOWS, FLOWS, FLOWS, FLOWS, COVERAGE, EDGES_1H, TIMELINE_1M, FINDINGS, DNS_NAMES)
"""Tables that an owner may query, flows more often."""
MADE: dict[str, tuple[str, ...]] = {
    "text": (
        "upper({text})", "substr({text}, 1, 9)", "coalesce({text}, 'none')", "concat({text}, {text})",
        "regexp_replace({text}, '[0-9]', 'x')",
        "md5({text})", "array_to_string({list}, ',')", "strftime({time}, '%H:%M')", "CASE WHEN {truth} THEN {text} ELSE {text} END",
        "({number})::VARCHAR", "typeof({number})", "(SELECT max({text}) FROM {source})", "to_json({text})::VARCHAR", "reverse({text})",
        "split_part({text}, '-', 1)", "nullif({text}, {text})", "({list})[1]", "left({text}, 5) || {text}",
        "translate({text}, 'f', 'F')", "{text} COLLATE NOCASE", "printf('%s', {text})", "encode({text})::VARCHAR", "stats({text})",
    ),
    "number": (
        "length({text})", "({number} + {number})", "abs({number})", "len({list})", "epoch({time})::BIGINT", "coalesce({number}, 0)",
        "CASE WHEN {truth} THEN {number} ELSE {number} END", "(SELECT count(*) FROM {source} WHERE {truth})", "hash({text}) % 100",
        "least({number}, {number})", "TRY_CAST({text} AS BIGINT)", "strpos({text}, 'n')", "ascii({text})", "list_position({list}, {text})",
        "(SELECT sum({number}) FROM {source})", "damerau_levenshtein(left({text}, 9), left({text}, 9))", "extract('minute' FROM {time})",
    ),
    "time": ("date_trunc('minute', {time})", "{time} + INTERVAL 1 HOUR", "time_bucket(INTERVAL 5 MINUTE, {time})",
        "coalesce({time}, now())", "(SELECT min({time}) FROM {source})"),
    "truth": (
        "{text} = {text}", "{text} LIKE '%1%'", "{text} IS NULL", "{number} > {number}", "NOT ({truth})", "({truth} AND {truth})",
        "({truth} OR {truth})", "{text} IN (SELECT {text} FROM {source})", "EXISTS (FROM {source} WHERE {truth})", "{time} < now()",
        "contains({text}, 'foreign')", "starts_with({text}, 'f')", "list_has_any({list}, {list})", "{text} IS DISTINCT FROM {text}",
        "regexp_matches({text}, '^f.*[0-9]$')", "{text} > ALL (SELECT {text} FROM {source} LIMIT 3)", "{text} SIMILAR TO '.*7'",
    ),
    "list": (
        "string_split({text}, '-')", "[{text}, {text}]", "list_sort({list})", "list_transform({list}, lambda x: upper(x))",
        "list_filter({list}, lambda x: x IS NOT NULL)", "list_distinct({list})", "(SELECT list({text}) FROM {source})",
        "list_concat({list}, {list})",
    ),
}  # fmt: skip
"""Expressions by the kind of their value; a word in braces is replaced by an expression of that kind."""
PLAIN = {"text": ("'own'", "'x'", "NULL::VARCHAR"), "number": ("0", "1", "-7", "1e6::BIGINT"), "time": ("now()",),
    "truth": ("true", "random() < 0.5"), "list": ("['a']", "[]::VARCHAR[]")}  # fmt: skip
SUMS = ("count({text})", "min({text})", "max({text})", "list({text})", "mode({text})", "histogram({text})", "string_agg({text}, ',')",
    "arg_max({text}, {number})", "first({text} ORDER BY {text})", "approx_count_distinct({text})", "sum({number})",
    "count(*) FILTER ({truth})",
    "quantile_disc({text}, 0.5)", "any_value({list})", "bool_or({truth})", "approx_top_k({text}, 5)")  # fmt: skip
WINDOWS = ("row_number() OVER (ORDER BY {text})", "lag({text}) OVER (PARTITION BY {text} ORDER BY {time})", "first_value({text}) OVER w",
    "max({text}) OVER (ORDER BY {time} ROWS 3 PRECEDING)", "ntile(4) OVER (ORDER BY {number})")  # fmt: skip
ODD = ("1", "-1", "NULL", "''", "'{secret}'", "'{lake}'", "now()", "INTERVAL 1 DAY", "[1, 2]", "1e308", "true", "9223372036854775807",
    "'\\x00'::BLOB", "repeat('x', 100000)", "range(100000)")  # fmt: skip


class Writer:
    """Makes statements."""

    def __init__(self, chance: random.Random, functions: Sequence[str], places: dict[str, str]) -> None:
        """`functions` are the engine's; `places` replace words in braces."""
        self._chance, self._functions, self._places = chance, functions, places
        self._number = 0

    def statement(self) -> str:
        """Return the next statement."""
        kind = self._chance.random()
        if kind < 0.8:
            text = self._query(0)
        elif kind < 0.88:
            given = ", ".join(self._chance.choice(ODD) for _ in range(self._chance.randint(0, 3)))
            call = f"{self._chance.choice(self._functions)}({given})"
            text = f"SELECT {call} FROM flows" if self._chance.random() < 0.5 else f"SELECT * FROM {call}"
        elif kind < 0.94:
            text = self._chance.choice(HOSTILE).replace("{query}", self._query(1))
        else:
            text = self._mutated(self._query(1))
        for name, value in self._places.items():
            text = text.replace("{" + name + "}", value)
        return text

    # Queries --------------------------------------------------------------------------------------------------

    def _query(self, depth: int) -> str:
        source, scope = self._source(depth)
        kind = self._chance.random()
        if kind < 0.06:
            return f"SUMMARIZE FROM {source}"
        if kind < 0.1:
            pairs = f"SELECT {self._made('text', scope, 2)} AS a, {self._made('text', scope, 2)} AS b FROM {source} LIMIT 50"
            return f"SELECT * FROM (PIVOT ({pairs}) ON a IN ('own', 'x') USING max(b))"
        where = f" WHERE {self._made('truth', scope, depth)}" if self._chance.random() < 0.6 else ""
        sample = self._chance.choice(["", "", "", "", " USING SAMPLE 50 ROWS"])
        limit = f" LIMIT {self._chance.choice([1, 20, 1000])}" if self._chance.random() < 0.6 else ""
        if kind < 0.3:
            keys = [self._made("text", scope, 2) for _ in range(self._chance.randint(0, 2))]
            sums = [self._filled(self._chance.choice(SUMS), scope, 2) for _ in range(self._chance.randint(1, 3))]
            return f"SELECT {', '.join([*keys, *sums])} FROM {source}{where} GROUP BY {'ALL' if keys else '()'}{limit}"
        picked = [self._made(self._chance.choice(list(MADE)), scope, depth) for _ in range(self._chance.randint(1, 4))]
        named = ", ".join(f"{one} AS c{place}" for place, one in enumerate(picked))
        if kind < 0.4:
            window = self._filled(self._chance.choice(WINDOWS), scope, 2)
            return f"SELECT {named}, {window} FROM {source}{where} WINDOW w AS (ORDER BY {self._made('time', scope, 3)}){limit}"
        text = f"SELECT {self._chance.choice(['', 'DISTINCT '])}{named} FROM {source}{where}"
        if kind < 0.5 and depth < 2:
            return f"WITH flows AS (FROM main.flows), other AS ({text}{limit}) SELECT * FROM ({self._query(depth + 1)}) AS q"
        if kind < 0.58:
            return f"{text} {self._chance.choice(['UNION ALL', 'EXCEPT', 'INTERSECT'])} {text}"
        return f"{text}{sample}" if sample else f"{text} ORDER BY ALL{limit}"

    def _source(self, depth: int) -> tuple[str, tuple[tuple[str, Table], ...]]:
        """Return a source to read from, and the names that refer to rows of each table in it."""
        self._number += 1
        name, table = f"t{self._number}", self._chance.choice(TABLES)
        kind = self._chance.random()
        if kind < 0.12 and depth < 2:
            return f"(FROM {table.name} WHERE {self._made('truth', ((table.name, table),), 2)}) AS {name}", ((name, table),)
        if kind < 0.24 and table is FLOWS:
            other = f"u{self._number}"
            how = self._chance.choice(["JOIN", "LEFT JOIN", "SEMI JOIN", "ANTI JOIN"])
            scope = ((name, table), (other, table)) if how in ("JOIN", "LEFT JOIN") else ((name, table),)
            return f"flows AS {name} {how} main.flows AS {other} ON {name}.uuid = {other}.uuid", scope
        return f"{table.name} AS {name}", ((name, table),)

    # Expressions ----------------------------------------------------------------------------------------------

    def _made(self, kind: str, scope: Sequence[tuple[str, Table]], depth: int) -> str:
        """Return an expression of a kind over the rows in scope; the deeper, the simpler."""
        if depth >= 3 or self._chance.random() < 0.3 + 0.15 * depth:
            name, table = self._chance.choice(scope)
            columns = [f'{name}."{column}"' for column in _columns(table, kind)]
            return self._chance.choice(columns) if columns and self._chance.random() < 0.9 else self._chance.choice(PLAIN[kind])
        return self._filled(self._chance.choice(MADE[kind]), scope, depth + 1)

    def _filled(self, template: str, scope: Sequence[tuple[str, Table]], depth: int) -> str:
        before, bracket, within = template.partition("(")
        if "{source}" in within:
            source, inner = self._source(2)
            mostly = (*inner, *inner, *inner, *inner, *inner, *scope)  # sometimes refers to rows around the subquery
            return self._filled(before, scope, depth) + bracket + self._filled(within.replace("{source}", source), mostly, depth)
        return re.sub(r"\{(\w+)\}", lambda found: self._made(found[1], scope, depth) if found[1] in MADE else found[0], template)

    def _mutated(self, text: str) -> str:
        for _ in range(self._chance.choice([1, 1, 3])):
            at = self._chance.randrange(len(text) + 1)
            other = self._chance.choice(
                ["'", '"', ";", "--", "/*", "*/", "(", ")", "\u200b", "\x00", "$$", " UNION ", ",", "\u2028", "%", "\\"]
            )
            text = self._chance.choice([text[:at] + other + text[at:], text[:at], text[at:], text[:at] + text[at : at + 9] * 2 + text[at:]])
        return text


def _columns(table: Table, kind: str) -> list[str]:
    """Return the columns of a table whose values are of a kind."""

    def is_of(type_: pa.DataType) -> bool:
        match kind:
            case "text":
                return pa.types.is_string(type_)
            case "number":
                return pa.types.is_integer(type_)
            case "time":
                return pa.types.is_timestamp(type_)
            case "truth":
                return pa.types.is_boolean(type_)
        return pa.types.is_list(type_) and pa.types.is_string(type_.value_type)

    return [column.name for column in table.columns if is_of(column.type)]
