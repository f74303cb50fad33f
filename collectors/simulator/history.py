"""Generates days of the simulated company's history directly in the lake, in seconds.

Some thousand flows of the live traffic are decoded as a collector would; runs of them are repeated with times,
uuids and client ports of their own. So history and live traffic tell the same story, column by column.
"""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.decoding import decode
from collectors.simulator.fleet import Fleet
from collectors.simulator.story import Phase, Story
from collectors.simulator.traffic import EPHEMERAL_PORTS, Traffic, daily_factor
from collectors.streaming.coverage_rows import coverage_row
from warehouse import schema
from warehouse.lake.tables import Lake

HOUR = dt.timedelta(hours=1)
TEMPLATE_FLOWS = 4_000
RUN_FLOWS = 40
"""Flows that are repeated together: a call, its replies, and the flows around them."""
_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)
_DASHES = (8, 13, 18, 23)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def app_id(cluster: str) -> str:
    """Return the transaction name under which hours of history are stored, so that none is stored twice."""
    return f"simulate:{cluster}"


def backfill(
    lake: Lake,
    fleet: Fleet,
    story: Story,
    *,
    since: dt.datetime,
    until: dt.datetime,
    flows_per_second: float,
    seed: int,
    progress: Callable[[int, int], None] = lambda _hours, _flows: None,
) -> int:
    """Store the fleet's flows and coverage from `since` (a full hour) to `until`; return the number of flows.

    `flows_per_second` is each cluster's rate at the busiest hour. An hour that was stored before is left unchanged.
    `progress` is called with hours and flows as they are stored. One node has a gap of ten minutes, which the ledger records.
    """
    templates = _Templates(fleet, story, seed)
    gap = _gap(fleet, since, until)
    flows = 0
    for begin in _hours(since, until):
        end = min(begin + HOUR, until)
        number = (begin - _EPOCH) // HOUR
        rows, ledger, transactions = [], [], {}
        for cluster in fleet.clusters:
            if (lake.transaction_version(schema.FLOWS, app_id(cluster)) or 0) >= number:
                continue
            chance = np.random.default_rng([seed, number, fleet.clusters.index(cluster)])
            hour = pa.concat_tables(_pieces(templates, cluster, begin, end, flows_per_second, chance))
            if gap[0].startswith(cluster):
                hour = _without(hour, gap)
            rows.append(hour)
            ledger += _ledger(hour, fleet, cluster, (begin, end), gap)
            transactions[app_id(cluster)] = number
        if transactions:
            lake.commit(schema.FLOWS, lake.write_files(schema.FLOWS, pa.concat_tables(rows)), transactions=transactions, metadata={})
            covered = pa.Table.from_pylist(ledger, schema=schema.COVERAGE.schema)
            lake.commit(schema.COVERAGE, lake.write_files(schema.COVERAGE, covered), transactions=transactions, metadata={})
        stored = sum(hour.num_rows for hour in rows)
        flows += stored
        progress(1, stored)
    return flows


class _Templates:
    """Return decoded flows of a cluster in a phase of the story, with dictionary-encoded strings."""

    def __init__(self, fleet: Fleet, story: Story, seed: int) -> None:
        self._fleet, self._story, self._seed = fleet, story, seed
        self._made: dict[tuple[str, Phase], pa.Table] = {}

    def phase(self, moment: dt.datetime) -> Phase:
        return self._story.phase(int(moment.timestamp()) * 1_000_000_000)

    def changes(self, begin: dt.datetime, end: dt.datetime) -> list[dt.datetime]:
        return [begin, *(moment for moment in self._story.changes() if begin < moment < end), end]

    def get(self, cluster: str, moment: dt.datetime) -> pa.Table:
        key = cluster, self.phase(moment)
        if key not in self._made:
            traffic = Traffic(self._fleet, self._seed, moment, 1e9, key[1], clusters=(cluster,))
            messages = [flow.SerializeToString() for flow in itertools.islice(traffic.flows(), TEMPLATE_FLOWS)]
            rows = decode.decode(messages, cluster=cluster, recorded=moment, live=False).rows
            self._made[key] = pa.table(
                {
                    field.name: pc.dictionary_encode(rows[field.name]) if pa.types.is_string(field.type) else rows[field.name]
                    for field in rows.schema
                    if field.name != "uuid"
                }
            )
        return self._made[key]


def _pieces(
    templates: _Templates, cluster: str, begin: dt.datetime, end: dt.datetime, flows_per_second: float, chance: np.random.Generator
) -> Iterator[pa.Table]:
    """Yield the flows of an hour, one piece for each phase in it."""
    for first, last in itertools.pairwise(templates.changes(begin, end)):
        count = int((last - first).total_seconds() * flows_per_second * daily_factor(first))
        span = (last - first) // dt.timedelta(microseconds=1)
        times = np.sort(chance.integers(0, max(1, span), count)) + (first - _EPOCH) // dt.timedelta(microseconds=1)
        template = templates.get(cluster, first)
        starts = chance.integers(0, template.num_rows - RUN_FLOWS, count // RUN_FLOWS + 1)
        picked = (starts[:, None] + np.arange(RUN_FLOWS)).ravel()[:count]
        yield _restamped(template.take(pa.array(picked)), times, picked, chance)


def _restamped(rows: pa.Table, times: npt.NDArray[np.int64], picked: npt.NDArray[np.int64], chance: np.random.Generator) -> pa.Table:
    """Return the rows with times, uuids and client ports of their own."""
    count = len(times)
    time = pa.array(times, pa.int64()).cast(schema.TIMESTAMP)
    lags = chance.integers(200, 12_000, count)
    changed = {
        "time": time,
        "time_ns": pa.array(chance.integers(0, 1000, count), pa.int16()),
        "date": time.cast(pa.date32(), safe=False),
        "uuid": random_uuids(count, chance),
        "recorded_lag_ms": pa.array(lags, pa.int64()),
    }
    # One shift per repetition keeps the ports of a call and its replies equal.
    shift = np.repeat(chance.integers(0, EPHEMERAL_PORTS[1] - EPHEMERAL_PORTS[0], count // RUN_FLOWS + 1), RUN_FLOWS)[:count]
    for name in ("source_port", "destination_port"):
        ports = rows[name].combine_chunks()
        numbers = ports.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        low, high = EPHEMERAL_PORTS
        moved = np.where(numbers >= low, low + (numbers - low + shift) % (high - low), numbers)
        changed[name] = pa.array(moved.astype(np.int32), mask=ports.is_null().to_numpy(zero_copy_only=False))
    columns = [changed[field.name] if field.name in changed else rows[field.name] for field in schema.FLOWS.schema]
    return pa.Table.from_arrays(columns, names=schema.FLOWS.schema.names).cast(schema.FLOWS.schema)


def random_uuids(count: int, chance: np.random.Generator) -> pa.Array:
    """Return random version 4 uuids as text."""
    raw = chance.integers(0, 256, (count, 16), dtype=np.uint8)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.empty((count, 32), np.uint8)
    digits[:, 0::2], digits[:, 1::2] = _HEX[raw >> 4], _HEX[raw & 15]
    text = np.full((count, 36), ord("-"), np.uint8)
    text[:, [place for place in range(36) if place not in _DASHES]] = digits
    offsets = np.arange(0, 36 * count + 1, 36, dtype=np.int32)
    return pa.StringArray.from_buffers(count, pa.py_buffer(offsets), pa.py_buffer(text.tobytes()))


Gap = tuple[str, dt.datetime, dt.datetime]


def _gap(fleet: Fleet, since: dt.datetime, until: dt.datetime) -> Gap:
    """A node, and the ten minutes that are missing for it."""
    begin = since + (until - since) // 3
    return fleet.nodes[-1], begin, begin + dt.timedelta(minutes=10)


def _without(rows: pa.Table, gap: Gap) -> pa.Table:
    node, begin, end = gap
    within = pc.and_(
        pc.greater_equal(rows["time"], pa.scalar(begin, schema.TIMESTAMP)), pc.less(rows["time"], pa.scalar(end, schema.TIMESTAMP))
    )
    return rows.filter(pc.invert(pc.and_(within, pc.equal(rows["node_name"], node))))


def _ledger(rows: pa.Table, fleet: Fleet, cluster: str, span: tuple[dt.datetime, dt.datetime], gap: Gap) -> list[dict[str, object]]:
    """Return the hour's rows of `coverage`: one per node, or three for the node with the gap."""
    groups = rows.group_by("node_name").aggregate([("time", "count")])
    counts = dict(zip(groups["node_name"].to_pylist(), groups["time_count"].to_pylist(), strict=True))
    begin, end = span
    ledger = []
    for node in fleet.nodes:
        if not node.startswith(f"{cluster}/"):
            continue
        pieces = [(begin, end, "connected")]
        if node == gap[0] and gap[1] < end and gap[2] > begin:
            inside = max(begin, gap[1]), min(end, gap[2])
            pieces = [(begin, inside[0], "connected"), (*inside, "gap"), (inside[1], end, "connected")]
        for first, last, state in pieces:
            if first < last:
                received = counts.get(node, 0) * (last - first) // (end - begin) if state == "connected" else None
                detail = "the simulated ring no longer held these minutes" if state == "gap" else None
                ledger.append(coverage_row(cluster, (first, last), node, state, "simulated", received, None, detail, end))
    return ledger


def _hours(since: dt.datetime, until: dt.datetime) -> Iterator[dt.datetime]:
    while since < until:
        yield since
        since += HOUR
