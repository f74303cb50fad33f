"""Generates a week of a large fleet directly in a lake, hundreds of thousands of flows per second, for benchmarks.

Eleven copies of the simulated company share each cluster, some much busier than others, so there are 200 namespaces. Their
live traffic, decoded as a collector would, is repeated in short runs with times, uuids, ports, latencies and lags of their
own, and some pods get new names each day. HTTP headers and the story are left out.
"""

from __future__ import annotations

import datetime as dt
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.decoding import decode
from collectors.simulator.fleet import GENERATED, NAMESPACES, build_fleet
from collectors.simulator.history import random_uuids
from collectors.simulator.traffic import EPHEMERAL_PORTS, Traffic, daily_factor
from collectors.streaming.coverage_rows import coverage_row
from warehouse import schema
from warehouse.lake.dictionaries import CodedRows, encode
from warehouse.lake.tables import Lake

COMPANIES = 11
SHARED = ("kube-system", "ingress")
"""Namespaces that all companies of a cluster share, which gives 11 x 18 + 2 = 200 namespaces."""
NODES = 20
TEMPLATE_FLOWS = 2_000
"""For each company and cluster."""
RUN_FLOWS = 10
"""Flows that are repeated together: a call, its replies, and the flows around them."""
BUSIEST = 1.1
"""Zipf's exponent of the companies' traffic."""
REDEPLOYED = 3
"""One pod in three has a new name each day."""
FLUSH_MICROSECONDS = 10_000_000
"""How often a collector flushes."""
HOUR = dt.timedelta(hours=1)
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_OWN_ADDRESS = re.compile(r"^10\.0\.")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to generate: the flows of each cluster and hour, seeded."""

    flows: int
    since: dt.datetime
    """A midnight, UTC."""
    days: int = 7
    clusters: tuple[str, ...] = ("c1", "c2", "c3", "c4", "c5")
    seed: int = 1

    def hours(self) -> list[tuple[dt.datetime, int]]:
        """Yield each hour's start and its number of flows per cluster; they add up to `flows`, up to rounding."""
        starts = [self.since + number * HOUR for number in range(24 * self.days)]
        weights = np.array([daily_factor(start) for start in starts])
        ends = np.rint(np.cumsum(weights) / weights.sum() * (self.flows // len(self.clusters))).astype(int)
        return list(zip(starts, np.diff(ends, prepend=0).tolist(), strict=True))


def generate(
    lake: Lake, plan: Plan, cluster: str, *, rows_per_file: int = 20_000, progress: Callable[[int], None] = lambda _flows: None
) -> int:
    """Store a cluster's flows, uncompacted, in the order of time, and its coverage; return the number of flows.

    Each file combines several flushes, to avoid hundreds of thousands of files. `progress` is called with each hour's flows.
    A second run would store the flows twice.
    """
    index, file_schema = plan.clusters.index(cluster), schema.FLOWS.file_schema
    templates = _templates(cluster, index, plan.seed)
    made = 0
    for day, hours in itertools.groupby(plan.hours(), key=lambda hour: hour[0].date()):
        rows = CodedRows(file_schema, [encode(_redeployed(templates, day), file_schema)])
        files = []
        for begin, count in hours:
            chance = np.random.default_rng([plan.seed, index, (begin - _EPOCH) // HOUR])
            partition = {"cluster": cluster, "date": day.isoformat()}
            for piece in _pieces(rows, begin, count, rows_per_file, chance):
                files += lake.write_file(schema.FLOWS, partition, [piece])
            made += count
            progress(count)
        lake.commit(schema.FLOWS, files, transactions={}, metadata={})
        lake.commit(schema.COVERAGE, lake.write_files(schema.COVERAGE, _ledger(cluster, day)), transactions={}, metadata={})
    return made


def namespaces_of(company: int) -> dict[str, tuple[str, tuple[str, ...]]]:
    """A company's namespaces: their names in this fleet, with team and services."""
    return {name if name in SHARED else f"{name}-{company:02d}": services for name, services in NAMESPACES.items()}


def _templates(cluster: str, index: int, seed: int) -> pa.Table:
    """Return decoded flows of every company in a cluster, the busiest company's first."""
    start = dt.datetime(2026, 3, 2, 14, tzinfo=dt.UTC)
    parts = []
    for company in range(COMPANIES):
        fleet = build_fleet(seed + 1_000 * company, (cluster,), NODES, namespaces_of(company))
        traffic = Traffic(fleet, seed + company, start, 1e9)
        messages = []
        for flow in itertools.islice(traffic.flows(), TEMPLATE_FLOWS):
            if flow.l7.HasField("http"):
                flow.l7.http.ClearField("headers")
            elif not flow.l7.ByteSize():
                flow.ClearField("l7")
            for side in ("source", "destination"):
                address = getattr(flow.IP, side)
                setattr(flow.IP, side, _OWN_ADDRESS.sub(f"10.{index * COMPANIES + company}.", address))
            messages.append(flow.SerializeToString())
        parts.append(decode.decode(messages, cluster=cluster, recorded=start, live=False).rows)
    return pa.concat_tables(parts).drop_columns(list(schema.FLOWS.partition_by))


def _redeployed(templates: pa.Table, day: dt.date) -> pa.Table:
    """Return the templates with the pod names of a day."""
    for name in ("source_pod_name", "destination_pod_name"):
        pods = templates[name].combine_chunks().dictionary_encode()
        renamed = [_pod_on(pod, day) for pod in pods.dictionary.to_pylist()]
        column = pa.DictionaryArray.from_arrays(pods.indices, pa.array(renamed, pa.string())).cast(pa.string())
        templates = templates.set_column(templates.schema.get_field_index(name), name, column)
    return templates


def _pod_on(pod: str, day: dt.date) -> str:
    if sum(pod.encode()) % REDEPLOYED:
        return pod
    stem, _, suffix = pod.rpartition("-")
    if len(suffix) < 5:
        return pod
    number = int(suffix.translate({made: digit for digit, made in GENERATED.items()}), 16)
    return f"{stem}-" + f"{(number + day.toordinal() * 7_919) % 16**5:05x}".translate(GENERATED)


def _pieces(templates: CodedRows, begin: dt.datetime, count: int, rows_per_file: int, chance: np.random.Generator) -> Iterator[pa.Table]:
    """Yield an hour's flows in the order of time, in equal pieces."""
    start = (begin - _EPOCH) // dt.timedelta(microseconds=1)
    times = start + np.sort(chance.integers(0, 3_600_000_000, count))
    busy = 1 / np.arange(1, COMPANIES + 1) ** BUSIEST
    runs = -(-count // RUN_FLOWS)
    companies = chance.choice(COMPANIES, runs, p=busy / busy.sum())
    # Squared, so that some calls are much more frequent than others.
    places = (chance.random(runs) ** 2 * (TEMPLATE_FLOWS - RUN_FLOWS)).astype(np.int64)
    picked = ((companies * TEMPLATE_FLOWS + places)[:, None] + np.arange(RUN_FLOWS)).ravel()[:count]
    shifts = np.repeat(chance.integers(0, EPHEMERAL_PORTS[1] - EPHEMERAL_PORTS[0], runs), RUN_FLOWS)[:count]
    parts = max(1, round(count / rows_per_file))
    for part in np.array_split(np.arange(count), parts):
        if len(part):
            yield _stamped(templates.take(picked[part]), times[part], shifts[part], chance)


def _stamped(rows: pa.Table, times: npt.NDArray[np.int64], shifts: npt.NDArray[np.int64], chance: np.random.Generator) -> pa.Table:
    """Return the rows with times, uuids, client ports, latencies and lags of their own."""
    count = len(times)
    recorded = (times // FLUSH_MICROSECONDS + 1) * FLUSH_MICROSECONDS + 500_000
    changed = {
        "time": pa.array(times, pa.int64()).cast(schema.TIMESTAMP),
        "time_ns": pa.array(chance.integers(0, 1000, count), pa.int16()),
        "uuid": random_uuids(count, chance),
        "recorded_lag_ms": pa.array((recorded - times) // 1_000, pa.int64()),
    }
    low, high = EPHEMERAL_PORTS
    for name in ("source_port", "destination_port"):
        ports = rows[name].combine_chunks()
        numbers = ports.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        moved = np.where(numbers >= low, low + (numbers - low + shifts) % (high - low), numbers)
        changed[name] = pa.array(moved.astype(np.int32), mask=ports.is_null().to_numpy(zero_copy_only=False))
    latencies = pa.array(chance.lognormal(15, 1, count).astype(np.int64))
    changed["l7_latency_ns"] = pc.if_else(rows["l7_latency_ns"].is_valid(), latencies, pa.scalar(None, pa.int64())).combine_chunks()
    return pa.Table.from_arrays([changed.get(name, rows[name]) for name in rows.column_names], schema=rows.schema)


def _ledger(cluster: str, day: dt.date) -> pa.Table:
    """Return coverage rows that show every node connected all day."""
    begin = dt.datetime.combine(day, dt.time(), dt.UTC)
    end = begin + 24 * HOUR
    rows = [
        coverage_row(cluster, (begin, end), f"{cluster}/worker-{node + 1:03d}", "connected", "simulated", None, None, None, end)
        for node in range(NODES)
    ]
    return pa.Table.from_pylist(rows, schema=schema.COVERAGE.schema)
