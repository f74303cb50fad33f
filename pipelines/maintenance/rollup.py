"""Rollups: sums up closed hours of flows into edges_1h, timeline_1m, label_sets and dns_names. Scheduling does not belong here.

warehouse.questions.rollup_sql defines the sums, warehouse.questions.rollup_notes which flows a stored hour represents. An hour whose
flows have changed since is done again; a second run finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import reduce
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.maintenance import elsewhere
from pipelines.maintenance.compaction_plan import GRACE
from warehouse import config, engine, table_views
from warehouse.engine import Limits
from warehouse.engines.opening import Engine
from warehouse.errors import CommitConflictError
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.questions import edge_rule, rollup_notes, rollup_sql
from warehouse.questions.rollup_notes import HOUR, SEALED
from warehouse.schema import DNS_NAMES, EDGES_1H, FLOWS, LABEL_SETS, TIMELINE_1M, Table

ORDER = (LABEL_SETS, DNS_NAMES, TIMELINE_1M, EDGES_1H)
"""The order in which tables are committed: an hour is done when the last table has it."""
BATCH_ROWS = 4_000_000
"""Flows that are summed up at once: the overhead of each query is about the cost of 50,000 flows."""
LIMITS = Limits(seconds=3600, rows=1_000_000_000, memory_bytes=3 * 1024**3 // 2)
SORTED_BY = {
    EDGES_1H.name: (
        "source_namespace", "destination_namespace", "source_workload_name", "destination_workload_name", "destination_port", "hour",
    ),
    TIMELINE_1M.name: ("source_namespace", "destination_namespace", "verdict", "drop_reason_desc", "minute"),
    LABEL_SETS.name: ("id", "hour"),
    DNS_NAMES.name: ("source_namespace", "name", "ip", "hour"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Task:
    """Hours of one cluster's day to be rolled up together."""

    cluster: str
    day: datetime
    """Start of the day, UTC."""
    hours: tuple[tuple[datetime, tuple[StoredFile, ...]], ...]
    """Start of each hour, and the files that may contain its flows."""

    @property
    def partition(self) -> dict[str, str]:
        """The partition in the tables of rollups."""
        return {"cluster": self.cluster, "date": f"{self.day:%Y-%m-%d}"}

    @property
    def guard(self) -> str:
        """The guard of the partition, so that only one process replaces its files at a time."""
        return f"rollup:{self.cluster}/{self.day:%Y-%m-%d}"


@dataclass(frozen=True, kw_only=True)
class Done:
    """The result of a task."""

    hours: int
    flows: int
    """The number of flows summed up."""
    rows: Mapping[str, int]
    """The number of rows written, by table."""


def plan(lake: Lake, *, now: datetime, clusters: frozenset[str] | None = None, hour: datetime | None = None) -> list[Task]:
    """Return the closed hours whose flows have no rollup or an outdated one, oldest day first. Raises LakeError."""
    rolled: dict[tuple[str, datetime], str] = {}
    for file in lake.contents(EDGES_1H):
        rolled |= {(file.partition["cluster"], begin): note for begin, note in rollup_notes.notes(file).items()}
    tasks: dict[tuple[str, datetime], list[tuple[datetime, tuple[StoredFile, ...]]]] = {}
    for (cluster, begin), files in rollup_notes.by_hour(lake.contents(FLOWS)).items():
        if (clusters is not None and cluster not in clusters) or hour not in (None, begin) or begin + HOUR + GRACE > now:
            continue
        if rolled.get((cluster, begin)) not in (SEALED, rollup_notes.note(files)):
            tasks.setdefault((cluster, begin.replace(hour=0)), []).append((begin, tuple(files)))
    found = [Task(cluster=cluster, day=day, hours=tuple(sorted(hours))) for (cluster, day), hours in tasks.items()]
    return sorted(found, key=lambda task: (task.day, task.cluster))


def clusters_to_roll_up(lake: Lake, *, now: datetime) -> list[str]:
    """Return the names of the clusters that have closed hours to roll up. Raises LakeError."""
    return sorted({task.cluster for task in plan(lake, now=now)})


def roll_up(lake: Lake, task: Task, settings: config.Rollups, *, on: Engine | None = None) -> Done | None:
    """Do a task; return None if another process did it meanwhile. Stored rows of the day's other hours stay. Raises LakeError.

    `on` computes the sums if given, or else, and if it fails, the embedded engine; they are committed here in any case.
    """
    made = elsewhere.tried(on, lambda there: _made(lake, task, settings, there), lambda: _made(lake, task, settings, None))
    notes = {begin: rollup_notes.note(files) for begin, files in task.hours}
    counts = {}
    try:
        for table in ORDER:
            new = pa.concat_tables(made[table.name])
            counts[table.name] = new.num_rows
            _put(lake, table, task.partition, new, notes, task.guard)
    except CommitConflictError:
        return None
    return Done(hours=len(task.hours), flows=sum(pc.sum(rows["flows"]).as_py() or 0 for rows in made[TIMELINE_1M.name]), rows=counts)


def roll_up_closed_hours(
    lake: Lake,
    settings: config.Rollups,
    *,
    now: datetime,
    clusters: frozenset[str] | None = None,
    hour: datetime | None = None,
    progress: Callable[[Task, Done | None], None] = lambda _task, _done: None,
    on: Engine | None = None,
) -> list[Done]:
    """Roll up what is due, and yield the result of each task; on an engine elsewhere if given. Raises LakeError."""
    done = []
    for task in plan(lake, now=now, clusters=clusters, hour=hour):
        result = roll_up(lake, task, settings, on=on)
        progress(task, result)
        if result:
            done.append(result)
    return done


def seal(lake: Lake, cluster: str, day: datetime) -> None:
    """Freeze the stored rollups of a day, whatever happens to its flows. Raises LakeError, CommitConflictError.

    Retention calls this before it removes part of a day's flows: otherwise their rollup would be recomputed from the rest.
    It is not needed for a day all of whose flows are removed.
    """
    partition = {"cluster": cluster, "date": f"{day:%Y-%m-%d}"}
    for table in ORDER:
        notes = {begin: note for file in _stored(lake, table, partition) for begin, note in rollup_notes.notes(file).items()}
        if set(notes.values()) - {SEALED}:
            _put(lake, table, partition, None, dict.fromkeys(notes, SEALED), f"rollup:{cluster}/{day:%Y-%m-%d}")


def _made(lake: Lake, task: Task, settings: config.Rollups, on: Engine | None) -> dict[str, list[pa.Table]]:
    """Compute the rollup rows of a task, by table; an engine elsewhere computes all hours at once."""
    made: dict[str, list[pa.Table]] = {table.name: [] for table in ORDER}
    for hours in _batches(task) if on is None else [dict(task.hours)]:
        with engine.connect(LIMITS) if on is None else on.connect() as connection:
            for name, rows in _sums(connection, lake, task, hours, settings).items():
                made[name].append(rows)
    return made


def _batches(task: Task) -> Iterator[dict[datetime, tuple[StoredFile, ...]]]:
    """Batch the task's hours up to BATCH_ROWS rows; hours that share all their files, as in a compacted day, stay together."""
    alike: dict[tuple[str, ...], dict[datetime, tuple[StoredFile, ...]]] = {}
    for begin, files in task.hours:
        alike.setdefault(tuple(sorted(file.path for file in files)), {})[begin] = files
    batch: dict[datetime, tuple[StoredFile, ...]] = {}
    rows = 0
    for hours in alike.values():
        more = sum(file.rows for file in next(iter(hours.values())))
        if batch and rows + more > BATCH_ROWS:
            yield batch
            batch, rows = {}, 0
        batch |= hours
        rows += more
    yield batch


def _sums(
    connection: Any, lake: Lake, task: Task, hours: Mapping[datetime, tuple[StoredFile, ...]], settings: config.Rollups
) -> dict[str, pa.Table]:
    """Compute the rollup rows of some hours."""
    paths = sorted({file.path for files in hours.values() for file in files})
    within = " OR ".join(f"(\"time\" >= '{begin.isoformat()}' AND \"time\" < '{(begin + HOUR).isoformat()}')" for begin in hours)
    table_views.add_view_of_files(connection, lake, FLOWS, [f"{lake.address(FLOWS)}/{path}" for path in paths], "flows_of_files")
    connection.execute(f"CREATE TEMP VIEW flows AS SELECT * FROM flows_of_files WHERE {within}")
    parts, pods = rollup_sql.edge_parts("flows", labels=True), edge_rule.pods_seen("flows")
    edges = rollup_sql.edges(connection, parts, pods, settings, lake=lake)
    queries = {
        EDGES_1H: edges,
        LABEL_SETS: rollup_sql.label_sets(),
        TIMELINE_1M: rollup_sql.timeline("flows"),
        DNS_NAMES: rollup_sql.dns_names("flows"),
    }
    return {table.name: _fitting(table, engine.run(connection, query, (), LIMITS)[0], task.partition) for table, query in queries.items()}


def _put(lake: Lake, table: Table, partition: Mapping[str, str], new: pa.Table | None, notes: Mapping[datetime, str], guard: str) -> None:
    """Replace the rows of some hours of a day; without new rows all stay, and only the notes of the hours change."""
    old = _stored(lake, table, partition)
    other_notes: dict[datetime, str] = {}
    rows = [] if new is None else [new]
    for file in old:
        other_notes |= rollup_notes.notes(file)
        stay = lake.dataset(table, [f"{lake.address(table)}/{file.path}"]).to_table()
        if new is not None:
            time, type_ = stay[table.time_column], table.schema.field(table.time_column).type
            inside = [
                pc.and_(pc.greater_equal(time, pa.scalar(begin, type_)), pc.less(time, pa.scalar(begin + HOUR, type_))) for begin in notes
            ]
            stay = stay.filter(pc.invert(reduce(pc.or_, inside)))
        rows.append(stay.select(table.schema.names).cast(table.schema))
    ordered = pa.concat_tables(rows).sort_by([(name, "ascending") for name in SORTED_BY[table.name]])
    prefix = rollup_notes.prefix({begin.hour: note for begin, note in {**other_notes, **notes}.items()})
    written = lake.write_files(table, ordered, prefix=prefix)
    if old or written:
        lake.replace(table, old, written, guard=guard, whole=dict(partition), data_change=new is not None)


def _stored(lake: Lake, table: Table, partition: Mapping[str, str]) -> list[StoredFile]:
    return [file for file in lake.contents(table) if file.partition == partition]


def _fitting(table: Table, rows: pa.Table, partition: Mapping[str, str]) -> pa.Table:
    """Return the rows with their partition's columns, in the table's order and types."""
    day = datetime.fromisoformat(partition["date"]).date()
    for name, value in (("cluster", pa.scalar(partition["cluster"])), ("date", pa.scalar(day, pa.date32()))):
        column = pa.array([value.as_py()] * rows.num_rows, value.type)
        place = rows.schema.get_field_index(name)
        rows = rows.append_column(name, column) if place < 0 else rows.set_column(place, name, column)
    return rows.select(table.schema.names).cast(table.schema)
