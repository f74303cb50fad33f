"""Hostile SQL: nothing of others is told, nothing outside is read or written, and the next question is answered."""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import flight

from api import flight_messages, identity
from api.flight import FlightSql
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Limits, Window
from warehouse.errors import CancelledError, QueryError, QueryLimitError
from warehouse.questions.door import Door
from warehouse.questions.sql_question import OwnSql
from warehouse.sql.workers import WORKERS

CANARY = "hunter2-canary"
TENANT = "payments"
QUICK = Limits(seconds=1.0, rows=50_000, memory_bytes=256 * 1024**2)

READS = [
    "SELECT * FROM read_csv('{secret}')",
    "SELECT * FROM read_csv_auto('{secret}')",
    "SELECT content FROM read_text('{secret}')",
    "SELECT content FROM read_blob('{secret}')",
    "SELECT * FROM '{secret}'",
    'SELECT * FROM "{secret}"',
    "FROM '{secret}'",
    "SELECT * FROM sniff_csv('{secret}')",
    "SELECT * FROM glob('{folder}/*')",
    "SELECT * FROM glob('/**')",
    "SELECT * FROM read_parquet('{lake}/flows/*/*/*.parquet')",
    "SELECT * FROM parquet_scan('{lake}/flows/**')",
    "SELECT * FROM '{lake}/flows/cluster=c1/**/*.parquet'",
    "SELECT * FROM parquet_metadata('{file}')",
    "SELECT * FROM parquet_schema('{file}')",
    "SELECT * FROM parquet_file_metadata('{file}')",
    "SELECT * FROM parquet_kv_metadata('{file}')",
    "SELECT * FROM parquet_bloom_probe('{file}', 'source_namespace', 'shop')",
    "SELECT * FROM read_json('{lake}/flows/_delta_log/00000000000000000001.json')",
    "SELECT * FROM read_json_auto('/proc/self/environ')",
    "SELECT * FROM read_json_objects('{lake}/flows/_delta_log/*.json')",
    "SELECT * FROM read_ndjson('{lake}/flows/_delta_log/*.json')",
    "SELECT * FROM read_ndjson_objects('{lake}/flows/_delta_log/*.json')",
    "SELECT * FROM read_text('/proc/self/environ')",
    "SELECT * FROM read_text('/proc/self/maps')",
    "SELECT * FROM read_text('/proc/' || 1 || '/environ')",
    "SELECT * FROM read_blob('/proc/self/mem')",
    "SELECT * FROM read_text('/proc/self/fd/0')",
    "SELECT * FROM read_text('/dev/stdin')",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text(['{secret}', '{secret}'])",
    "SELECT * FROM read_csv('{secret}', allow_quoted_nulls = true, store_rejects = true)",
    "SELECT * FROM delta_scan('{lake}/flows')",
    "SELECT * FROM iceberg_scan('{lake}/flows')",
    "SELECT * FROM sqlite_scan('{secret}', 'x')",
    "SELECT * FROM postgres_scan('host=127.0.0.1', 'public', 'x')",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
    "SELECT * FROM 'https://127.0.0.1:9/x.parquet'",
    "SELECT * FROM read_parquet('s3://bucket/x.parquet')",
    "SELECT * FROM read_text('file://{secret}')",
    "SELECT * FROM read_csv('{folder}/../secret/secret.csv')",
    "SELECT (SELECT content FROM read_text('{secret}'))",
    "SELECT * FROM flows, LATERAL (SELECT content FROM read_text('{secret}'))",
    "WITH w AS (SELECT content FROM read_text('{secret}')) SELECT * FROM w",
    "SELECT * FROM query('SELECT content FROM read_text(''{secret}'')')",
    "SELECT * FROM query_table('{secret}')",
    "SELECT * FROM query_table(['flows', '{secret}'])",
    "EXPLAIN SELECT * FROM read_csv('{secret}')",
    "EXPLAIN ANALYZE SELECT * FROM read_text('{secret}')",
    "DESCRIBE SELECT * FROM '{secret}'",
    "SUMMARIZE SELECT * FROM read_text('{secret}')",
]
WRITES = [
    "COPY (SELECT 1) TO '{folder}/out.csv'",
    "COPY flows TO '{folder}/out.parquet' (FORMAT parquet)",
    "COPY flows TO '{folder}/parts' (FORMAT parquet, PARTITION_BY cluster)",
    "COPY (SELECT 1) TO '{file}' (FORMAT parquet)",
    "COPY flows FROM '{secret}'",
    "WITH w AS (COPY (SELECT 1) TO '{secret}') SELECT 1",
    "WITH w AS (COPY (SELECT 1) TO '{file}') SELECT * FROM w",
    "WITH RECURSIVE w AS (COPY (SELECT 1) TO '{secret}') SELECT 1",
    "WITH w AS MATERIALIZED (COPY (SELECT 1) TO '{secret}') SELECT * FROM flows, w",
    "SELECT * FROM (COPY (SELECT 1) TO '{secret}')",
    "SELECT (COPY (SELECT 1) TO '{secret}')",
    "EXPLAIN COPY (SELECT 1) TO '{secret}'",
    "EXPLAIN ANALYZE COPY (SELECT 1) TO '{secret}'",
    "EXPLAIN ANALYZE WITH w AS (COPY (SELECT 1) TO '{file}') SELECT * FROM w",
    "EXPORT DATABASE '{folder}/dump'",
    "IMPORT DATABASE '{folder}'",
    "INSERT INTO flows SELECT * FROM flows",
    "WITH w AS (INSERT INTO flows SELECT * FROM flows RETURNING uuid) SELECT * FROM w",
    "WITH w AS (DELETE FROM flows RETURNING uuid) SELECT * FROM w",
    "UPDATE flows SET verdict = 'x'",
    "DELETE FROM flows",
    "TRUNCATE flows",
    "MERGE INTO flows USING (SELECT 1 AS x) ON false WHEN NOT MATCHED THEN INSERT BY NAME",
    "CREATE TABLE x AS SELECT 1",
    "CREATE TEMP TABLE x AS SELECT 1",
    "CREATE VIEW x AS SELECT 1",
    "CREATE SCHEMA x",
    "CREATE SEQUENCE x",
    "CREATE TYPE x AS ENUM ('a')",
    "CREATE INDEX x ON flows(uuid)",
    "ALTER TABLE flows RENAME TO mine",
    "DROP TABLE flows",
    "COMMENT ON TABLE flows IS 'x'",
]
SETTINGS = [
    "ATTACH '{folder}/db.duckdb' AS other",
    "ATTACH ':memory:' AS other",
    "ATTACH '{lake}' AS other (TYPE delta)",
    "DETACH memory",
    "USE system",
    "INSTALL httpfs",
    "FORCE INSTALL httpfs FROM 'http://127.0.0.1:9'",
    "LOAD httpfs",
    "LOAD '{folder}/evil.duckdb_extension'",
    "UPDATE EXTENSIONS",
    "SET enable_external_access = true",
    "SET GLOBAL enable_external_access = true",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['{secret}']",
    "SET python_enable_replacements = true",
    "SET memory_limit = '100GB'",
    "SET temp_directory = '{folder}'",
    "SET log_query_path = '{folder}/log.sql'",
    "SET profiling_output = '{folder}/profile.json'",
    "SET custom_extension_repository = 'http://127.0.0.1:9'",
    "SET home_directory = '{folder}'",
    "SET VARIABLE x = 1",
    "PRAGMA enable_external_access",
    "PRAGMA enable_profiling = 'json'",
    "PRAGMA database_list",
    "PRAGMA disable_checkpoint_on_shutdown",
    "CALL enable_logging()",
    "CALL pragma_version()",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "CREATE PERSISTENT SECRET s (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "DROP SECRET s",
    "CREATE MACRO m(x) AS x",
    "CREATE MACRO t() AS TABLE SELECT content FROM read_text('{secret}')",
    "CREATE FUNCTION f(x) AS x",
    "PREPARE p AS SELECT 1",
    "EXECUTE p",
    "DEALLOCATE p",
    "BEGIN TRANSACTION",
    "CHECKPOINT",
    "FORCE CHECKPOINT",
    "VACUUM",
    "ANALYZE",
]
CATALOG = [
    "SELECT * FROM duckdb_settings()",
    "SELECT * FROM duckdb_secrets()",
    "SELECT * FROM which_secret('s3://x', 's3')",
    "SELECT * FROM duckdb_databases()",
    "SELECT * FROM duckdb_tables()",
    "SELECT * FROM duckdb_views()",
    "SELECT * FROM duckdb_columns()",
    "SELECT * FROM duckdb_functions() WHERE database_name <> 'system'",
    "SELECT * FROM duckdb_extensions()",
    "SELECT * FROM duckdb_temporary_files()",
    "SELECT * FROM duckdb_memory()",
    "SELECT * FROM duckdb_logs",
    "SELECT * FROM duckdb_external_file_cache()",
    "SELECT * FROM duckdb_prepared_statements()",
    "SELECT * FROM duckdb_variables()",
    "SELECT * FROM information_schema.tables",
    "SELECT * FROM sqlite_master",
    "SELECT * FROM pg_catalog.pg_class",
    "SELECT * FROM pragma_storage_info('flows')",
    "SELECT * FROM pragma_table_info('flows')",
    "SELECT * FROM pragma_database_size()",
    "SELECT * FROM pragma_metadata_info()",
    "SELECT * FROM pragma_user_agent()",
    "SELECT * FROM pragma_collations()",
    "SHOW ALL TABLES",
    "SELECT * FROM (SHOW ALL TABLES)",
    "SELECT getenv('HINDCAST_CANARY')",
    "SELECT getenv('PATH')",
    "SELECT current_setting('allowed_directories'), current_setting('temp_directory')",
    "SELECT getvariable('x')",
    "SELECT current_user, current_database(), version(), txid_current()",
    "SELECT * FROM sql_auto_complete('SELECT * FROM ')",
    "SELECT * FROM arrow_scan(1, 2, 3)",
    "SELECT * FROM arrow_scan(140000000000000::POINTER, 140000000000000::POINTER, 140000000000000::POINTER)",
    "SELECT * FROM arrow_scan_dumb(1::UBIGINT, 2::UBIGINT, 3::UBIGINT)",
    "SELECT * FROM pandas_scan(1)",
    "SELECT * FROM python_map_function()",
    "SELECT * FROM sql_process",
    "SELECT * FROM connection",
    "SELECT * FROM job",
    "SELECT * FROM rows",
]
SIDEWAYS = [
    "SELECT * FROM flows",
    "SELECT * FROM flows WHERE destination_pod_name IS NOT NULL OR destination_pod_name IS NULL",
    "SELECT * FROM memory.main.flows",
    "SELECT * FROM main.flows AS f LEFT JOIN flows AS g ON true LIMIT 5000",
    "WITH flows AS (SELECT * FROM flows) SELECT * FROM flows",
    "WITH flows AS (SELECT * FROM main.flows), visible AS (SELECT * FROM flows) SELECT * FROM visible",
    "WITH RECURSIVE flows AS (SELECT * FROM main.flows UNION SELECT * FROM flows) SELECT uuid FROM flows",
    "SELECT * FROM visible_flows",
    "SELECT * FROM findings",
    "SELECT * FROM coverage",
    "SELECT * FROM namespaces",
    "SELECT * FROM role_bindings",
    "SELECT * FROM access_log",
    "SELECT * FROM ownership",
    "SELECT error(destination_pod_name) FROM flows WHERE destination_pod_name IS NOT NULL",
    "SELECT CAST(destination_pod_name AS INTEGER) FROM flows",
    "SELECT CAST(summary || destination_ip AS TIMESTAMP) FROM flows",
    "SELECT 1 / (CASE WHEN count(*) > 0 THEN 0 ELSE 1 END) FROM flows WHERE destination_pod_name LIKE '%'",
    "SELECT histogram(destination_pod_name), mode(summary), min(destination_ip), max(destination_labels) FROM flows",
    "SELECT approx_top_k(destination_pod_name, 100000) FROM flows",
    "SELECT string_agg(destination_pod_name, ',' ORDER BY destination_ip) FROM flows",
    "SELECT DISTINCT ON (destination_pod_name) * FROM flows ORDER BY destination_pod_name, destination_ip DESC",
    "SELECT destination_pod_name, count(*) FROM flows GROUP BY ROLLUP (destination_pod_name, destination_ip)",
    "SELECT * FROM (PIVOT flows ON destination_namespace USING max(destination_pod_name))",
    "SELECT * FROM flows TABLESAMPLE 100%",
    "SELECT first(destination_pod_name) OVER (ORDER BY rowid), lag(summary) OVER (ORDER BY time) FROM flows",
    "SELECT rowid, * FROM flows WHERE rowid BETWEEN -1000 AND 100000",
    "SELECT COLUMNS('.*pod.*') FROM flows",
    "SELECT UNPIVOT_ME FROM (UNPIVOT (SELECT uuid, destination_pod_name FROM flows) ON destination_pod_name)",
    "SELECT stats(destination_pod_name), stats(source_namespace), stats(uuid) FROM flows LIMIT 1",
    "SELECT hash(destination_pod_name), md5(destination_ip) FROM flows",
    "SELECT f FROM flows AS f",
    "SELECT to_json(f) FROM flows AS f",
    "EXPLAIN (FORMAT json) SELECT * FROM flows WHERE uuid = 'uuid-1'",
    "EXPLAIN ANALYZE SELECT * FROM flows WHERE destination_pod_name = 'destination_pod_name~1'",
    "SUMMARIZE flows",
    "DESCRIBE flows",
    "SHOW flows",
    "TABLE flows",
    "FROM flows",
    "VALUES (1)",
]
SPELLINGS = [
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY (SELECT 1) TO '{secret}'",
    "SELECT 1;;SET lock_configuration = false",
    "SELECT 1 /* ; */ ; DROP TABLE flows -- ",
    "/* SELECT */ COPY (SELECT 1) TO '{secret}' -- SELECT",
    "\u200bCOPY (SELECT 1) TO '{secret}'",
    "\ufeffCOPY (SELECT 1) TO '{secret}'",
    "\uff33\uff25\uff2c\uff25\uff23\uff34 1",
    "S\u0415LECT 1",
    "SELECT * FROM fl\u043ews",
    "SELECT * FROM \u202eswolf",
    "SELECT\u00a0*\u00a0FROM\u00a0read_text('{secret}')",
    "SELECT * FROM read_text\u2028('{secret}')",
    "SELECT * FROM READ_TEXT('{secret}')",
    "SELECT * FROM \"read_text\"('{secret}')",
    "SELECT * FROM system.main.read_text('{secret}')",
    "SELECT * FROM read_text($${secret}$$)",
    "SELECT * FROM read_text(E'{secret}')",
    "SELECT * FROM read_text(chr(47) || 'etc' || chr(47) || 'passwd')",
    "SELECT 'a\x00b', * FROM flows",
    "SELECT ?",
    "SELECT $1, $name",
    "EXECUTE IMMEDIATE 'SELECT 1'",
    "",
    ";",
    "--",
    "SELECT",
    "\\copy flows to '{secret}'",
    ".read {secret}",
    "!ls",
    "SELECT * FROM flows WHERE uuid = '' OR 1=1 --' AND x",
]
BOMBS = [
    "SELECT count(*) FROM range(1000000000) a, range(1000000000) b",
    "SELECT list_sum(range(2000000000))",
    "SELECT list_sum(range(200000000)) FROM range(1000)",
    "SELECT repeat('x', 2000000000)",
    "SELECT length(repeat(repeat('x', 1000000), 100000))",
    "SELECT string_agg(repeat('x', 1000000), '') FROM range(100000)",
    "SELECT array_agg(a) FROM range(1000000000) t(a)",
    "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "WITH RECURSIVE r AS (SELECT 'x' AS n UNION ALL SELECT n || n FROM r) SELECT max(length(n)) FROM r",
    "SELECT unnest(range(1000000000))",
    "SELECT * FROM flows a, flows b, flows c, flows d ORDER BY random()",
    "SELECT DISTINCT a.uuid || b.uuid || c.uuid FROM flows a, flows b, flows c",
    "SELECT regexp_matches(repeat('a', 5000000), '(a*)*(a*)*b') FROM range(1000)",
    "SELECT levenshtein(repeat('a', 200000), repeat('b', 200000))",
    "SELECT list_sort(list_transform(range(100000000), lambda x: -x))",
    "SELECT sleep_ms(100000)",
    "SELECT " + "(" * 3000 + "1" + ")" * 3000,
    "SELECT " + " + ".join(["1"] * 20_000),
    "SELECT 1 WHERE " + " OR ".join(f"1 = {number}" for number in range(20_000)),
    "SELECT factorial(100000), 2 ** 100000",
    "SELECT count(*) FROM generate_series(TIMESTAMP '0001-01-01', TIMESTAMP '9999-12-31', INTERVAL 1 microsecond)",
]
DIALECT = [
    "PIVOT flows ON destination_pod_name USING count(*)",
    "SELECT * FROM (PIVOT flows ON destination_pod_name IN ('destination_pod_name~1', 'x') USING first(destination_ip))",
    "UNPIVOT flows ON COLUMNS('destination_.*name') INTO NAME n VALUE v",
    "FROM flows SELECT destination_pod_name, summary, rest",
    "SELECT * FROM flows USING SAMPLE 100 PERCENT (bernoulli)",
    "SELECT * FROM flows USING SAMPLE reservoir(100000 ROWS) REPEATABLE (1)",
    "SELECT * FROM duckdb_table_sample('flows')",
    "SELECT * FROM flows AT (VERSION => 1)",
    "SELECT * FROM flows AT (TIMESTAMP => now() - INTERVAL 1 YEAR)",
    "SELECT COLUMNS(*)::VARCHAR FROM flows",
    "SELECT COLUMNS(lambda c: c LIKE '%pod%') FROM flows",
    "SELECT struct_pack(*COLUMNS(*)) FROM flows",
    "SELECT * REPLACE (destination_pod_name AS uuid) RENAME (summary AS said) FROM flows",
    "SELECT list_transform([1], lambda x: (SELECT max(destination_pod_name) FROM flows))",
    "SELECT list_reduce(list(destination_pod_name), lambda a, b: a || b) FROM flows",
    "SELECT list_filter(list(destination_ip), lambda x: error(x)) FROM flows",
    "SELECT TRY(CAST(destination_pod_name AS INTEGER)), TRY(error(summary)) FROM flows",
    "SELECT a.*, b.* FROM flows a POSITIONAL JOIN flows b",
    "SELECT b.destination_pod_name FROM flows a ASOF JOIN flows b ON a.time >= b.time",
    "SELECT destination_pod_name COLLATE NOCASE, destination_ip COLLATE de FROM flows ORDER BY ALL",
    "SELECT uuid FROM flows ORDER BY destination_pod_name LIMIT (SELECT count(destination_pod_name) FROM flows)",
    "SELECT uuid FROM flows QUALIFY row_number() OVER (PARTITION BY destination_pod_name ORDER BY destination_ip) = 1",
    "SELECT f::VARIANT::VARCHAR, f::JSON, f::VARCHAR FROM flows f",
    "WITH main AS (FROM flows), memory AS (FROM flows) SELECT * FROM main, memory LIMIT 10",
    "SELECT flows FROM flows, (VALUES (1)) AS flows(uuid)",
    "SELECT * FROM read_duckdb('{secret}')",
    "SELECT * FROM query('FROM flows')",
    "SELECT * FROM query('FROM ' || 'read_text(''{secret}'')')",
    "SELECT * FROM query_table(['flows', 'coverage'], true)",
    "SELECT * FROM query_table(['main.flows', 'findings'])",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM flows'))",
    "FROM json_execute_serialized_sql(json_serialize_sql('SELECT content FROM read_text(''{secret}'')'))",
    "FROM json_execute_serialized_sql(json_serialize_sql('WITH w AS (CO' || 'PY flows TO ''{secret}'') SELECT 1'))",
    "FROM json_execute_serialized_sql(json_serialize_sql('FROM query_table(''access_log'')'))",
    "SELECT json_serialize_plan('FROM flows'), json_serialize_plan('SELECT content FROM read_text(''{secret}'')')",
    "PREPARE p AS SELECT * FROM flows; EXECUTE p",
    "EXECUTE p('x')",
    "CREATE OR REPLACE TEMP MACRO flows() AS TABLE SELECT content FROM read_text('{secret}')",
    "CREATE TEMP MACRO mine(a) AS (SELECT max(destination_pod_name) FROM flows)",
    "CREATE TRIGGER t AFTER INSERT ON flows FOR EACH ROW SELECT 1",
    "COPY FROM DATABASE memory TO system",
    "SET schema = 'pg_catalog'",
    "RESET ALL",
    "SELECT * FROM pg_catalog.pg_settings",
    "SELECT * FROM duckdb_log_contexts(), duckdb_connection_count(), duckdb_eviction_queues()",
    "SELECT * FROM duckdb_external_resources()",
    "SELECT * FROM create_external_resource('file')",
    "SELECT * FROM enable_logging('QueryLog', storage := 'file', storage_path := '{folder}/logs')",
    "SELECT * FROM enable_profiling('json', save_location := '{folder}/p.json')",
    "SELECT * FROM duckdb_logs_parsed('QueryLog')",
    "SELECT write_log(destination_pod_name) FROM flows",
    "SELECT * FROM truncate_duckdb_logs()",
    "SELECT * FROM disable_optimizer()",
    "SELECT setseed(0.5), random(), current_query(), current_connection_id()",
    "SELECT * FROM 'flows.parquet'",
    "SELECT * FROM told",
    "SELECT * FROM self",
    "SELECT * FROM limits",
    "\ufb02ows",
    "SELECT * FROM \ufb02ows",
    "\u017fELECT * FROM flows",
    "\uff23\uff2f\uff30\uff39 flows TO '{secret}'",
    "SELECT * FROM read_te\u212at('{secret}')",
    "SELECT * FROM \U000e0066lows",
    "SELECT U&'\\0066lows' FROM U&\"\\0066lows\"",
    "SELECT format('{:>2000000000}', 1), printf('%2000000000d', 1)",
    "SELECT lpad('x', 2000000000, 'y'), bar(1, 0, 1, 2000000000)",
    "SELECT * FROM repeat('x', 1000000000), repeat_row(1, num_rows = 1000000000)",
    "SELECT json(repeat('[', 1000000)), json_extract(repeat('[', 100000) || repeat(']', 100000), '$[0]')",
    "SELECT regexp_extract_all(repeat('a', 1000000), '(a?){1000}')",
    "WITH RECURSIVE r(n) USING KEY (n) AS (SELECT 1 UNION SELECT n + 1 FROM r) SELECT count(*) FROM r",
    "WITH " + ", ".join(f"w{n} AS (SELECT a.* FROM w{n - 1} a, w{n - 1} b)" for n in range(1, 30)).replace("w0", "flows") + " FROM w29",
    "SELECT count(*) FROM flows GROUP BY CUBE (" + ", ".join(["uuid", "verdict", "summary"] * 8) + ")",
    "SELECT " + "[" * 900 + "1" + "]" * 900,
]
HOSTILE = [*READS, *WRITES, *SETTINGS, *CATALOG, *SIDEWAYS, *SPELLINGS, *BOMBS, *DIALECT]


class Target:
    """The world under attack, and what has to stay true of it."""

    def __init__(self, world: Any, folder: Path) -> None:
        self.world = world
        self.door: Door = world.door()
        self.folder = folder
        self.secret = folder / "secret.csv"
        self.secret.write_text(f"password\n{CANARY}\n")
        self.lake = Path(world.folder) / "lake"
        self.file = next((self.lake / "flows").rglob("*.parquet"))
        self.window = Window(since=world.everything.since, until=world.everything.until)
        self.before = self.digest()
        shown = [row for flow in world.flows if (row := world.oracle.shown(TENANT, flow))]
        self.allowed = set(self.tokens(str(shown)))
        self.allowed |= {
            token
            for row in world.findings
            if world.oracle.owns(TENANT, row["cluster"], row["namespace"], row["time"])
            for token in self.tokens(str(row))
        }
        self.count = len(shown)
        assert 0 < self.count < len(world.flows) / 2

    @staticmethod
    def tokens(text: str) -> list[str]:
        """The values that the world's rows are made of; each says of which row and column it is."""
        return re.findall(r"\w+~\d+|uuid-\d+", text)

    def digest(self) -> str:
        """Of every byte that a query could have changed: the lake but its access log, and the folder outside."""
        found = hashlib.sha256()
        for path in sorted([*self.lake.rglob("*"), *self.folder.rglob("*")]):
            if path.is_file() and "access_log" not in path.parts:
                found.update(str(path).encode())
                found.update(path.read_bytes())
        return found.hexdigest()

    def attack(self, statement: str, who: Principal) -> str:
        """What is told to who asks this, rows or error."""
        text = statement
        for name, value in (("secret", self.secret), ("folder", self.folder), ("lake", self.lake), ("file", self.file)):
            text = text.replace("{" + name + "}", str(value))
        try:
            return str(self.door.answer(who, OwnSql(text=text, window=self.window, limits=QUICK)).rows.to_pylist())
        except QueryError as error:
            return str(error).replace(text, "")

    def is_alive(self, who: Principal) -> int:
        rows = self.door.answer(who, OwnSql(text="SELECT count(*) AS n FROM flows", window=self.window, limits=QUICK)).rows
        number: int = rows["n"][0].as_py()
        return number


@pytest.fixture(scope="module")
def target(world: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    patch = pytest.MonkeyPatch()
    patch.setenv("HINDCAST_CANARY", CANARY)
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").mkdir()
    target = Target(world, folder)
    yield target
    patch.undo()
    assert target.digest() == target.before


@pytest.fixture(scope="module")
def tenant() -> Principal:
    return Principal(user="paula", groups=frozenset({"payments"}))


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) >= 200


@pytest.mark.parametrize("statement", HOSTILE, ids=[f"{number}-{text[:40]!a}" for number, text in enumerate(HOSTILE)])
def test_hostile_sql_learns_nothing_about_others_and_changes_nothing(statement: str, target: Target, tenant: Principal) -> None:
    began = time.monotonic()
    told = target.attack(statement, tenant)
    assert time.monotonic() - began < 300
    assert CANARY not in told
    assert "root:" not in told
    if "{" not in statement:  # else it is told what it named
        assert str(target.folder.parent) not in told
    # What a statement names itself is no secret; anything else is.
    foreign = set(Target.tokens(told)) - target.allowed - set(Target.tokens(statement))
    # Statistics of storage show the beginning of a value, after a byte that tells its length.
    cut = {re.sub(r"^x[0-9a-f]{2}\d*", "", token) for token in foreign}
    assert not {token for token in cut if not any(allowed.startswith(token) for allowed in target.allowed)}
    assert target.is_alive(tenant) == target.count


@pytest.mark.parametrize("statement", [*WRITES, *SETTINGS, *SPELLINGS, *READS[:10], *READS[23:36], *DIALECT[25:65]])
def test_who_sees_everything_reads_the_lake_and_nothing_else_and_changes_nothing(statement: str, target: Target) -> None:
    ada = Principal(user="ada")
    told = target.attack(statement, ada)
    assert CANARY not in told
    assert "root:" not in told
    assert target.secret.read_text().endswith(f"{CANARY}\n")


def test_hostile_sql_over_flight_learns_nothing_about_others(target: Target, tenant: Principal) -> None:
    """The same statements through Flight SQL, without those that only try to exhaust the process."""
    server = FlightSql(target.door, identity.Fixed(tenant), config.ServeLimits(seconds=QUICK.seconds), "127.0.0.1:0", None)
    headers = [(f"hindcast-{name}".encode(), getattr(target.window, name).isoformat().encode()) for name in ("since", "until")]
    told = []
    with server, flight.connect(f"grpc://127.0.0.1:{server.port}") as client:
        for statement in [statement for statement in HOSTILE if statement not in BOMBS] + ["SELECT * FROM flows"]:
            ticket = flight_messages.packed(flight_messages.made("TicketStatementQuery", statement_handle=statement.encode()))
            try:
                rows = client.do_get(flight.Ticket(ticket), flight.FlightCallOptions(headers=headers)).read_all()
                told.append(str(rows.to_pylist()))
            except (pa.ArrowException, flight.FlightError) as error:
                told.append(str(error).replace(statement, ""))
            foreign = set(Target.tokens(told[-1])) - target.allowed - set(Target.tokens(statement))
            cut = {re.sub(r"^x[0-9a-f]{2}\d*", "", token) for token in foreign}
            assert not {token for token in cut if not any(allowed.startswith(token) for allowed in target.allowed)}, statement
            assert CANARY not in told[-1]
    assert len(set(Target.tokens(told[-1])) & target.allowed) > target.count


def test_the_time_a_query_takes_does_not_depend_on_hidden_rows(target: Target, tenant: Principal) -> None:
    """A question that waits where it finds a value waits for what is shown, and neither for what is hidden nor for what is nowhere."""
    world = target.world
    rows = {flow["uuid"]: (flow, shown) for flow in world.flows if (shown := world.oracle.shown(TENANT, flow))}
    hidden = next(flow["destination_pod_name"] for flow, shown in rows.values() if shown["destination_pod_name"] is None)
    shown = next(shown["destination_pod_name"] for _, shown in rows.values() if shown["destination_pod_name"] is not None)
    absent = next(flow["destination_pod_name"] for flow in world.flows if flow["uuid"] not in rows)
    taken = {}
    for what, value in (("shown", shown), ("hidden", hidden), ("absent", absent), ("nowhere", "no-such-pod")):
        waits = "CASE WHEN count(*) > 0 THEN coalesce(sleep_ms(300)::INTEGER, 0) ELSE 0 END"
        text = f"SELECT count(*) + {waits} AS n FROM flows WHERE destination_pod_name = '{value}'"
        target.attack(text, tenant)
        began = time.monotonic()
        target.attack(text.replace("300", "301"), tenant)
        taken[what] = time.monotonic() - began
    assert taken["shown"] > 0.3, taken
    assert max(taken[what] for what in ("hidden", "absent", "nowhere")) < taken["shown"], taken


def test_who_sees_everything_has_a_living_worker_afterwards(target: Target) -> None:
    assert target.is_alive(Principal(user="ada")) == len(target.world.flows)
    assert target.digest() == target.before


def test_nothing_was_written_and_the_lake_is_as_it_was(target: Target) -> None:
    assert target.digest() == target.before


def test_a_query_can_be_cancelled_and_the_next_is_answered(target: Target, tenant: Principal) -> None:
    cancelled = threading.Event()
    threading.Timer(0.5, cancelled.set).start()
    began = time.monotonic()
    with pytest.raises(CancelledError):
        target.door.answer(
            tenant,
            OwnSql(
                text="SELECT count(*) FROM range(1000000000) a, range(1000000) b WHERE a.range + b.range = -1",
                window=target.window,
                limits=Limits(seconds=600),
            ),
            cancelled=cancelled,
        )
    assert time.monotonic() - began < 300
    assert target.is_alive(tenant) == target.count


def test_a_worker_that_dies_is_replaced(target: Target, tenant: Principal) -> None:
    assert target.is_alive(tenant) == target.count
    (worker,) = [worker for (_, who), worker in WORKERS._workers.items() if who == tenant]  # type: ignore[misc]
    os.kill(worker.process, 9)
    with pytest.raises(QueryLimitError):
        target.is_alive(tenant)
    assert target.is_alive(tenant) == target.count


def test_workers_see_no_file_no_environment_and_no_network(target: Target, tenant: Principal) -> None:
    target.is_alive(tenant)
    (worker,) = [worker for (_, who), worker in WORKERS._workers.items() if who == tenant]  # type: ignore[misc]
    process = Path(f"/proc/{worker.process}")
    if not process.exists():
        pytest.skip("no /proc here")
    environment = (process / "environ").read_bytes()
    assert CANARY.encode() not in environment
    assert b"PATH=" not in environment
    opened = [str(path.readlink()) for path in (process / "fd").iterdir()]
    assert not [name for name in opened if str(target.lake) in name or str(Path.home()) in name]
    limits = (process / "limits").read_text()
    assert re.search(r"Max file size +0 +0", limits)
    assert "NoNewPrivs:\t1" in (process / "status").read_text()
