"""Hubble's filters as SQL conditions on columns of `flows`, as far as SQL decides exactly as Hubble does. Pure.

A condition may let through more flows than its filter, never fewer; `is_exact` says whether it lets through just those. Flows with a
`rest` are always let through: a column may hold only a part of what such a flow has.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from collectors.filtering import matching
from collectors.hubble_api.flow import flow_pb2
from warehouse.questions.flow_spans import Scan
from warehouse.schema import FLOWS

SIDES = ("source", "destination")
_PORTS = "l4_protocol IN ('TCP', 'UDP', 'SCTP')"


@dataclass(frozen=True, kw_only=True)
class Condition:
    """A condition, and the columns it uses."""

    where: str = "true"
    values: tuple[Any, ...] = ()
    columns: frozenset[str] = frozenset()
    is_exact: bool = True
    pinned: frozenset[tuple[str, str]] = field(default_factory=frozenset)
    """The sides whose namespace it fixes, each with a namespace that it may be, so that row groups of others need not be read."""


_ANY = Condition(is_exact=False)


def of_filter(wanted: flow_pb2.FlowFilter) -> Condition:
    """Return the condition of one filter: all of its fields hold."""
    parts = [_of_field(descriptor.name, values) for descriptor, values in wanted.ListFields()]
    return Condition(
        where=" AND ".join(f"coalesce({part.where}, false)" for part in parts if part.where != "true") or "true",
        values=tuple(value for part in parts for value in part.values),
        columns=frozenset().union(*(part.columns for part in parts)),
        is_exact=all(part.is_exact for part in parts),
        pinned=frozenset().union(*(part.pinned for part in parts)),
    )


def scans(allowed: Sequence[Condition], refused: Sequence[Condition]) -> tuple[Scan, ...]:
    """Return mutually exclusive conditions for flows that match some of `allowed` (any, if empty) and none of `refused`.

    Filters that fix the namespace of the same side share a scan, because DuckDB prunes nothing for an OR over two columns.
    """
    exact = [one for one in refused if one.is_exact]
    if not allowed and not exact:
        return (Scan(),)
    without, taken = _none_of(exact)
    groups: list[list[Condition]] = [[], [], []]
    for one in allowed or (Condition(),):
        sides = {side for side, _ in one.pinned}
        place = next((number for number, side in enumerate(SIDES) if side in sides), 2)
        groups[place].append(one)
    if groups[2]:  # it reads everything anyway
        groups = [[*groups[0], *groups[1], *groups[2]]]
    made: list[Scan] = []
    before: list[Condition] = []
    for number, group in enumerate(groups):
        if not group:
            continue
        earlier, values = _none_of(before)
        where = f"({' OR '.join(one.where for one in group)}) AND {without} AND {earlier} AND rest IS NULL"
        namespaces = _namespaces(group, SIDES[number]) if number < len(SIDES) else frozenset()
        if len(namespaces) == 1:  # said by itself, DuckDB applies it while it reads, and decodes the other columns of few rows
            where = f"{SIDES[number]}_namespace = ? AND {where}"
        made.append(Scan(where=where, values=(*(namespaces if len(namespaces) == 1 else ()), *_values(group), *taken, *values)))
        before += group
    return (*made, Scan(where="rest IS NOT NULL"))


def _namespaces(group: Sequence[Condition], side: str) -> frozenset[str]:
    """Return the namespaces that flows of a scan have on a side; none if they may have any."""
    of_each = [frozenset(name for pinned, name in one.pinned if pinned == side) for one in group]
    return frozenset().union(*of_each) if all(of_each) else frozenset()


def _none_of(conditions: Sequence[Condition]) -> tuple[str, tuple[Any, ...]]:
    where = " AND ".join(f"NOT coalesce({one.where}, false)" for one in conditions) or "true"
    return where, _values(conditions)


def _values(conditions: Iterable[Condition]) -> tuple[Any, ...]:
    return tuple(value for one in conditions for value in one.values)


def _of_field(name: str, values: Sequence[Any]) -> Condition:
    side, _, part = name.partition("_")
    if side in SIDES and part in _OF_SIDE:
        return _OF_SIDE[part](side, values)
    build = _OF_FLOW.get(name)
    return build(values) if build else _ANY


def _either(
    parts: Sequence[str], given: Sequence[Any], *columns: str, is_exact: bool = True, pinned: Iterable[tuple[str, str]] = ()
) -> Condition:
    where = f"({' OR '.join(f'coalesce({part}, false)' for part in parts)})"
    return Condition(where=where, values=tuple(given), columns=frozenset(columns), is_exact=is_exact, pinned=frozenset(pinned))


def _among(column: str, values: Sequence[Any]) -> Condition:
    marks = ", ".join("?" * len(values))
    return Condition(where=f"{_or_zero(column)} IN ({marks})", values=tuple(values), columns=frozenset({column}))


def _or_zero(column: str) -> str:
    """SQL for a column's value as protobuf has it, where null is an empty text or zero."""
    kind = FLOWS.schema.field(column).type
    return f"coalesce({column}, {chr(39) * 2 if pa.types.is_string(kind) else 0})"


def _names(column: str, kind: Any, values: Sequence[int], *, zero: str | None = None) -> Condition:
    """Numbers of an enum, whose names the column has; a flow with zero has null, or the name `zero`."""
    known = {kind.Name(number) if number in kind.values() else str(number) for number in values if number}
    parts, given = [], sorted(known)
    if known:
        parts.append(f"{column} IN ({', '.join('?' * len(known))})")
    if 0 in values and zero != "":
        parts.append(f"{column} IS NULL" if zero is None else f"{column} = '{zero}'")
    return _either(parts or ["false"], given, column)


def _namespaced(side: str, values: Sequence[str], namespace: str, name: str, *, pins: bool) -> Condition:
    """`namespace/prefix`, as matching.namespace_and_prefix reads it."""
    parts, given = [], []
    namespaces = set[str]()
    for value in values:
        wanted, prefix = matching.namespace_and_prefix(value)
        namespaces.add(wanted)
        if wanted:
            parts.append(f"{namespace} = ? AND starts_with(coalesce({name}, ''), ?)")
            given += [wanted, prefix]
        else:
            parts.append(f"({namespace} IS NOT NULL OR {name} IS NOT NULL) AND starts_with(coalesce({name}, ''), ?)")
            given.append(prefix)
    pinned = {(side, one) for one in namespaces} if pins and all(namespaces) else set()
    return _either([f"({part})" for part in parts], given, namespace, name, pinned=pinned)


def _addresses(column: str, values: Sequence[str]) -> Condition:
    """Addresses of IPv4, which Hubble writes in one way only; ranges and IPv6 are left to the flow."""
    plain = []
    for value in values:
        try:
            plain.append(str(ipaddress.IPv4Address(value)))
        except ValueError:
            return _ANY
    return _among(column, plain)


def _workloads(side: str, values: Sequence[flow_pb2.Workload]) -> Condition:
    kind, name = f"{side}_workload_kind", f"{side}_workload_name"
    parts, given = [], []
    for value in values:
        wanted = [(kind, value.kind), (name, value.name)]
        parts.append("(" + " AND ".join([f"({kind} IS NOT NULL OR {name} IS NOT NULL)", *(f"{c} = ?" for c, v in wanted if v)]) + ")")
        given += [v for _, v in wanted if v]
    return _either(parts, given, kind, name)


def _numbers(column: str, values: Sequence[int]) -> Condition:
    """Numbers, where a flow with zero has null; those too large for the column are in `rest`."""
    small = [value for value in values if value <= 2**31 - 1]
    return _among(column, small) if small else _ANY


def _ports(side: str, values: Sequence[str]) -> Condition:
    column = f"{side}_port"
    where = f"({_PORTS} AND coalesce({column}, 0) IN ({', '.join('?' * len(values))}))"
    return Condition(where=where, values=tuple(int(value) for value in values), columns=frozenset({column, "l4_protocol"}))


def _event_types(values: Sequence[flow_pb2.EventTypeFilter]) -> Condition:
    parts, given = [], []
    for value in values:
        parts.append("coalesce(event_type, 0) = ?" + (" AND coalesce(event_sub_type, 0) = ?" if value.match_sub_type else ""))
        given += [value.type, *([value.sub_type] if value.match_sub_type else [])]
    return _either([f"({part})" for part in parts], given, "event_type", "event_sub_type")


def _replies(values: Sequence[bool]) -> Condition:
    return _either(["coalesce(is_reply, false) = ?" for _ in values], list(values), "is_reply")


_OF_SIDE: dict[str, Callable[[str, Sequence[Any]], Condition]] = {
    "ip": lambda side, values: _addresses(f"{side}_ip", values),
    "pod": lambda side, values: _namespaced(side, values, f"{side}_namespace", f"{side}_pod_name", pins=True),
    "service": lambda side, values: _namespaced(side, values, f"{side}_service_namespace", f"{side}_service_name", pins=False),
    "workload": _workloads,
    "cluster_name": lambda side, values: _among(f"{side}_cluster_name", list(values)),
    "identity": lambda side, values: _numbers(f"{side}_identity", values),
    "port": _ports,
}
_OF_FLOW: dict[str, Callable[[Sequence[Any]], Condition]] = {
    "uuid": lambda values: _among("uuid", list(values)),
    "traffic_direction": lambda values: _names("traffic_direction", flow_pb2.TrafficDirection, values),
    "verdict": lambda values: _names("verdict", flow_pb2.Verdict, values, zero="VERDICT_UNKNOWN"),
    "drop_reason_desc": lambda values: _names("drop_reason_desc", flow_pb2.DropReason, values, zero=""),
    "event_type": _event_types,
    "reply": _replies,
    "trace_id": lambda values: _among("trace_id", list(values)),
    "ip_version": lambda values: _names("ip_version", flow_pb2.IPVersion, values),
}
