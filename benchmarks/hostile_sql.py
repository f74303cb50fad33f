"""Runs generated SQL at an owner's own prompt: it must not reveal others' data or change a file, and the next question must work.

Run: .venv/bin/python -m benchmarks.hostile_sql [--minutes 10] [--seed 1]. Statements come from benchmarks.sql_writer:
most are valid queries over all tables, the rest functions of the engine with odd arguments, hostile statements and broken ones. Ends
with an error at the first leak. Prints the ratio of unanswered questions after an attack to the limit, none.
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
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pyarrow as pa

from benchmarks.sql_writer import Writer
from warehouse import config
from warehouse.access import access_log
from warehouse.access.principals import Principal
from warehouse.engine import Limits, Window
from warehouse.errors import QueryError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import COVERAGE, FLOWS
from warehouse.sql.workers import WORKERS

START = datetime(2026, 3, 2, tzinfo=UTC)
ROWS = 400
WHO = Principal(user="olga")
QUICK = Limits(seconds=2.0, rows=5_000, memory_bytes=256 * 1024**2)


def main() -> None:
    """Attack and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        attack(Path(folder), given.minutes, given.seed)


def attack(folder: Path, minutes: float, seed: int) -> None:
    """Attack for this long; exit at the first leak or change."""
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
    reasons: Counter[str] = Counter()
    deadline, unanswered = time.monotonic() + minutes * 60, 0
    while time.monotonic() < deadline:
        text = writer.statement()
        try:
            output = str(door.answer(WHO, OwnSql(text=text, window=window, limits=QUICK)).rows.to_pylist())
            became["answered"] += 1
        except QueryError as error:
            output = str(error)
            became[type(error).__name__] += 1
            reasons[re.sub(r"[\"'`].*", "", output)[:60]] += 1
        if re.search(r"foreign-\d|CANARY-secret", output.replace(text, "")):
            sys.exit(f"LEAK: {text!r} revealed {output[:500]!r}")
        if sum(became.values()) % 20 == 0:
            try:
                count = (
                    door.answer(WHO, OwnSql(text="SELECT count(*) AS n FROM flows", window=window, limits=replace(QUICK, seconds=30)))
                    .rows["n"][0]
                    .as_py()
                )
                unanswered += count != ROWS // 2
            except QueryError:
                unanswered += 1
            if _digest(folder) != before:
                sys.exit(f"A FILE CHANGED, at the latest by {text!r}")
    if _digest(folder) != before:
        sys.exit("A FILE CHANGED")
    WORKERS.close()
    access_log.flush()
    print(f"{sum(became.values()):,} statements in {minutes:g} minutes: {dict(became)}; nothing revealed, no file changed")
    print(f"answered: {became['answered'] / sum(became.values()):.0%}; refused mostly with: {dict(reasons.most_common(8))}")
    print(f"questions after them that were not answered rightly: {unanswered}: ratio to the limit of none {unanswered:.2f}")
    if unanswered:
        sys.exit(1)


def _lake(folder: Path) -> Lake:
    """Return flows, half of them the owner's; in the other half every string says that it is foreign."""
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
    """Return a digest of all files except the access log, where questions are recorded."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "access_log" not in path.parts:
            found.update(str(path).encode() + path.read_bytes())
    return found.hexdigest()


if __name__ == "__main__":
    main()
