"""Generated SQL against an owner's own prompt: nothing of others is told, no file changes, and the next question is answered.

Run: .venv/bin/python -m benchmarks.hostile_sql [--minutes 10] [--seed 1]. Statements are put together at random from queries,
functions of the engine itself with odd arguments, hostile statements and mutations of all of them. Ends with an error at the first leak.
Prints the ratio of unanswered questions after an attack to the limit, none.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from warehouse import config
from warehouse.access import Principal
from warehouse.engine import Limits, Window
from warehouse.errors import QueryError
from warehouse.query import Door
from warehouse.schema import COVERAGE, FLOWS
from warehouse.sql_workers import WORKERS
from warehouse.tables import Lake

START = datetime(2026, 3, 2, tzinfo=UTC)
ROWS = 400
WHO = Principal(user="olga")
QUICK = Limits(seconds=2.0, rows=5_000, memory_bytes=256 * 1024**2)
HOSTILE = (
    "COPY ({query}) TO '{outside}/x.csv'", "WITH w AS (COPY ({query}) TO '{secret}') SELECT 1", "SELECT * FROM read_text('{secret}')",
    "SELECT * FROM read_parquet('{lake}/flows/**')", "ATTACH '{outside}/x.db'", "SET enable_external_access = true",
    "WITH w AS (DELETE FROM flows RETURNING uuid) SELECT * FROM w", "INSERT INTO flows SELECT * FROM flows", "DROP TABLE flows",
    "SELECT * FROM query('{query}')", "INSTALL httpfs", "EXPORT DATABASE '{outside}'", "CREATE TABLE x AS {query}", "{query}; {query}",
    "EXPLAIN ANALYZE {query}", "PREPARE p AS {query}", "PRAGMA database_list", "CALL pragma_version()", "SUMMARIZE {query}",
)  # fmt: skip
PLAIN = (
    "count",
    "min",
    "max",
    "list",
    "typeof",
    "md5",
    "hash",
    "to_json",
    "length",
    "upper",
    "first",
    "mode",
    "histogram",
    "error",
    "stats",
)
TABLES = ("flows", "coverage", "main.flows", "memory.main.flows", "duckdb_settings()", "duckdb_tables()", "information_schema.columns")
LITERALS = (
    "1", "-1", "0", "NULL", "''", "'a'", "'{secret}'", "'{lake}'", "now()", "INTERVAL 1 DAY", "[1, 2]", "{{'a': 1}}", "1e308", "true",
    "9223372036854775807", "'\\x00'::BLOB", "TIMESTAMP '2026-03-02'", "repeat('x', 100000)", "range(100000)",
)  # fmt: skip


class Writer:
    """Makes statements."""

    def __init__(self, chance: random.Random, functions: Sequence[str], places: dict[str, str]) -> None:
        self._chance, self._functions, self._places = chance, functions, places

    def statement(self) -> str:
        """The next one."""
        text = self._query(0) if self._chance.random() < 0.7 else self._chance.choice(HOSTILE).replace("{query}", self._query(1))
        for _ in range(self._chance.choice([0, 0, 0, 0, 0, 1, 3])):
            text = self._mutated(text)
        for name, value in self._places.items():
            text = text.replace("{" + name + "}", value)
        return text

    def _query(self, depth: int) -> str:
        picked = "*" if self._chance.random() < 0.3 else ", ".join(self._expression(depth) for _ in range(self._chance.randint(1, 3)))
        text = f"SELECT {picked} FROM {self._source(depth)}"
        if self._chance.random() < 0.5:
            text += (
                f" WHERE {self._expression(depth)} {self._chance.choice(['=', '<', 'IS DISTINCT FROM', 'LIKE', 'IN (1) OR true OR 1 ='])} 1"
            )
        if self._chance.random() < 0.3:
            text += f" ORDER BY {self._expression(depth + 1)}"
        if self._chance.random() < 0.2:
            text += f" UNION ALL {self._query(depth + 1)}" if depth < 2 else ""
        return text + (f" LIMIT {self._chance.choice([0, 1, 100, 100000])}" if self._chance.random() < 0.4 else "")

    def _source(self, depth: int) -> str:
        kind = self._chance.random()
        if kind < 0.2 and depth < 2:
            return f"({self._query(depth + 1)}) AS t{depth}"
        if kind < 0.25:
            return f"flows AS a, flows AS b{depth}"
        if kind < 0.3:
            return f"{self._chance.choice(self._functions)}({', '.join(self._literal() for _ in range(self._chance.randint(0, 3)))})"
        return self._chance.choice(TABLES) if kind < 0.5 else "flows"

    def _expression(self, depth: int) -> str:
        kind = self._chance.random() * (0.8 if self._chance.random() < 0.8 else 1)
        if kind < 0.35:
            return self._chance.choice(FLOWS.schema.names)
        if kind < 0.5:
            return self._literal()
        if kind < 0.65:
            return f"{self._chance.choice(PLAIN)}({self._expression(depth + 1) if depth < 3 else self._literal()})"
        if kind < 0.7 and depth < 2:
            return f"({self._query(depth + 1)})"
        if kind < 0.75:
            return f"CAST({self._expression(depth + 1)} AS {self._chance.choice(['INTEGER', 'TIMESTAMP', 'BLOB', 'JSON', 'DOUBLE[]'])})"
        arguments = ", ".join(self._expression(depth + 1) if depth < 3 else self._literal() for _ in range(self._chance.randint(0, 3)))
        return f"{self._chance.choice(self._functions)}({arguments})"

    def _literal(self) -> str:
        return self._chance.choice(LITERALS).replace("{{", "{").replace("}}", "}")

    def _mutated(self, text: str) -> str:
        at = self._chance.randrange(len(text) + 1)
        other = self._chance.choice(
            ["'", '"', ";", "--", "/*", "*/", "(", ")", "\u200b", "\x00", "$$", " UNION ", ",", "\u2028", "%", "\\"]
        )
        return self._chance.choice([text[:at] + other + text[at:], text[:at], text[at:], text[:at] + text[at : at + 9] * 2 + text[at:]])


def main() -> None:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        attack(Path(folder), given.minutes, given.seed)


def attack(folder: Path, minutes: float, seed: int) -> None:
    """Attack for so long; exits at the first thing that should not be."""
    outside = folder / "outside"
    outside.mkdir()
    secret = outside / "secret.txt"
    secret.write_text("CANARY-secret\n")
    lake = _lake(folder / "lake")
    door = Door(
        lake, config.Ownership.model_validate({"grants": [{"subject": WHO.user, "role": "namespace-owner", "namespaces": ["mine"]}]})
    )
    window, before = Window(since=START, until=START + timedelta(hours=1)), _digest(folder)
    with duckdb.connect() as connection:
        rows = connection.sql(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_name ~ '^[a-z_0-9]+$' ORDER BY 1"
        ).fetchall()
    places = {"secret": str(secret), "outside": str(outside), "lake": str(folder / "lake")}
    writer = Writer(random.Random(seed), [row[0] for row in rows], places)
    became: Counter[str] = Counter()
    deadline, unanswered = time.monotonic() + minutes * 60, 0
    while time.monotonic() < deadline:
        text = writer.statement()
        try:
            told = str(door.sql(WHO, text, window=window, limits=QUICK).rows.to_pylist())
            became["answered"] += 1
        except QueryError as error:
            told = str(error)
            became[type(error).__name__] += 1
        if re.search(r"foreign-\d|CANARY-secret", told.replace(text, "")):
            sys.exit(f"LEAK: {text!r} told {told[:500]!r}")
        if sum(became.values()) % 20 == 0:
            try:
                count = door.sql(WHO, "SELECT count(*) AS n FROM flows", window=window, limits=Limits(seconds=30)).rows["n"][0].as_py()
                unanswered += count != ROWS // 2
            except QueryError:
                unanswered += 1
            if _digest(folder) != before:
                sys.exit(f"A FILE CHANGED, at the latest by {text!r}")
    if _digest(folder) != before:
        sys.exit("A FILE CHANGED")
    WORKERS.close()
    print(f"{sum(became.values()):,} statements in {minutes:g} minutes: {dict(became)}; nothing told, no file changed")
    print(f"questions after them that were not answered rightly: {unanswered}: ratio to the limit of none {unanswered:.2f}")
    if unanswered:
        sys.exit(1)


def _lake(folder: Path) -> Lake:
    """Half of the flows are the owner's; of the other half every text says that it is foreign."""
    lake = Lake.open(config.Lake(url=str(folder)))
    texts = [name for name in FLOWS.schema.names if FLOWS.schema.field(name).type == pa.string()]
    rows = []
    for number in range(ROWS):
        word = "own" if number % 2 else "foreign"
        row = dict.fromkeys(texts, f"{word}-{number}") | {
            "cluster": "c1",
            "date": START.date(),
            "time": START + timedelta(seconds=number),
        }
        namespace = "mine" if number % 2 else "theirs"
        rows.append(row | {"source_namespace": namespace, "destination_namespace": namespace, "flow_count": 1} | _LOCAL)
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema)), transactions={}, metadata={})
    ledger = {
        "cluster": "c1",
        "date": START.date(),
        "from": START,
        "to": START + timedelta(hours=1),
        "state": "connected",
        "node_name": "n",
    }
    lake.commit(COVERAGE, lake.write_files(COVERAGE, pa.Table.from_pylist([ledger], schema=COVERAGE.schema)), transactions={}, metadata={})
    return lake


_LOCAL = {"source_cluster_name": None, "destination_cluster_name": None}


def _digest(folder: Path) -> str:
    """Of all files but the access log, which questions are noted in."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "access_log" not in path.parts:
            found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
