"""Turns connections that were read from flows into traffic that the engine judges. What is the same in many rows is read once. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.policy.layer7 import DnsQuery, HttpRequest
from pipelines.replay.ends import End, known_labels, known_names, valid_address
from pipelines.replay.grouping import Ints, grouped
from pipelines.replay.in_force import Period
from pipelines.replay.requests import request_of
from pipelines.replay.traffic import Traffic, as_microseconds, codes, microseconds, numbers, recorded_of, sides_of

_HOUR_US = 3_600_000_000
_OF_END = ("cluster_name", "namespace", "workload_name", "entity", "dns_name", "ip", "labels", "names")
_OF_REQUEST = ("l7_http_method", "l7_http_url", "l7_http_headers", "l7_dns_query")


class Wanted(Protocol):
    """Tells which connections are looked at."""

    def has(self, hour: int, source: End, destination: End, protocol: str, number: int) -> bool:
        """Whether a connection in an hour is; the number is the port, or the type of ICMP."""


def traffic_of(cluster: str, periods: tuple[Period, ...], rows: pa.Table, wanted: Wanted, *, sees_labels: bool) -> tuple[Traffic, set[int]]:
    """Return the connections that are looked at, and the hours that have any; `rows` are those of `replay_questions.connections`."""
    kinds, directions = recorded_of(rows)
    first, last = microseconds(rows["first_seen"]), microseconds(rows["last_seen"])
    starts = np.array([as_microseconds(period.since) for period in periods], np.int64)
    hour = first // _HOUR_US * _HOUR_US
    ends, (source, destination) = _ends(cluster, rows, sees_labels=sees_labels)
    protocols, protocol, number = _ports(rows)
    requests, request = _requests(rows)
    looked_at = [hour, source, destination, protocol, number]
    ones, place = grouped(looked_at)
    chosen = np.array(
        [wanted.has(int(hour[one]), ends[source[one]], ends[destination[one]], protocols[protocol[one]], int(number[one])) for one in ones],
        bool,
    )
    places = np.flatnonzero((kinds >= 0) & chosen[place]) if len(ones) else np.zeros(0, np.int64)
    period = np.maximum(np.searchsorted(starts, first, "right") - 1, 0).astype(np.int64)
    key = [column[places] for column in (*looked_at, period, request)]
    firsts, of = grouped(key)
    hour, source, destination, protocol, number, period, request = (column[firsts] for column in key)
    flows = np.zeros((len(firsts), 3, 3), np.int64)
    np.add.at(flows, (of, directions[places], kinds[places]), np.asarray(rows["flows"].to_numpy())[places])
    first_seen, last_seen = np.full(len(firsts), np.iinfo(np.int64).max), np.zeros(len(firsts), np.int64)
    np.minimum.at(first_seen, of, first[places])
    np.maximum.at(last_seen, of, last[places])
    used, sides = np.unique(np.concatenate([source, destination]), return_inverse=True)
    named = [ends[one] for one in used.tolist()]
    made = Traffic(
        cluster=cluster,
        periods=periods,
        ends=tuple(named),
        sides=tuple(sides_of(periods, named)),
        source=sides[: len(source)],
        destination=sides[len(source) :],
        protocol=protocol,
        protocols=tuple(protocols),
        number=number,
        since=hour,
        first_period=period,
        last_period=period,
        flows=flows,
        first_seen=first_seen,
        last_seen=last_seen,
        requests=tuple(requests[one] for one in request.tolist()),
        not_judged=0,
    )
    return made, set(np.unique(first // _HOUR_US * _HOUR_US).tolist())


def _ends(cluster: str, rows: pa.Table, *, sees_labels: bool) -> tuple[list[End], list[Ints]]:
    """Return the distinct ends, and for each side the place of each row's end among them."""
    found: dict[End, int] = {}
    sides = []
    for side in ("source", "destination"):
        ones, place = _distinct(rows, [f"{side}_{name}" for name in _OF_END])
        of_ones = [found.setdefault(_end(cluster, side, row, sees_labels=sees_labels), len(found)) for row in ones]
        sides.append(np.array(of_ones, np.int64)[place])
    return list(found), sides


def _ports(rows: pa.Table) -> tuple[list[str], Ints, Ints]:
    """Return the protocols, and for each row the place of its own and its port, or type of ICMP; -1 for a port that is not known."""
    values, protocol = codes(rows["l4_protocol"])
    protocols = [value or "" for value in values]
    is_icmp = np.array([name.startswith("ICMP") for name in protocols], bool)[protocol]
    number = np.where(is_icmp, numbers(rows["icmp_type"]), numbers(rows["destination_port"], missing=-1))
    return protocols, protocol, number.astype(np.int64)


def _requests(rows: pa.Table) -> tuple[list[HttpRequest | DnsQuery | None], Ints]:
    """Return the distinct requests, and for each row the place of its own."""
    ones, place = _distinct(rows, _OF_REQUEST)
    found: dict[str, int] = {}
    requests: list[HttpRequest | DnsQuery | None] = []
    of_ones = []
    for row in ones:
        request = request_of(row, all_headers=False)
        number = found.setdefault(repr(request), len(found))
        if number == len(requests):
            requests.append(request)
        of_ones.append(number)
    return requests, np.array(of_ones, np.int64)[place]


def _distinct(rows: pa.Table, columns: Sequence[str]) -> tuple[list[Mapping[str, Any]], Ints]:
    """Return the distinct rows of some columns, and for each row its place among them."""
    first, place = grouped([codes(_plain(rows[name]))[1] for name in columns])
    return rows.select(list(columns)).take(pa.array(first)).to_pylist(), place


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column with a text for each list, different for different lists."""
    if not pa.types.is_nested(column.type):
        return column
    if pa.types.is_string(column.type.value_type):
        return pc.binary_join(column, "\n")
    return pa.chunked_array([pa.array([None if value is None else repr(value) for value in column.to_pylist()], pa.string())])


def _end(cluster: str, side: str, row: Mapping[str, Any], *, sees_labels: bool) -> End:
    labels = row[f"{side}_labels"]
    return End(
        cluster=cluster,
        cluster_name=row[f"{side}_cluster_name"],
        namespace=row[f"{side}_namespace"],
        workload=row[f"{side}_workload_name"],
        entity=row[f"{side}_entity"],
        dns_name=row[f"{side}_dns_name"],
        address=valid_address(row[f"{side}_ip"]),
        labels=known_labels(labels),
        names=known_names(row[f"{side}_names"]),
        is_hidden=not labels and not sees_labels,
    )
