"""Filter conditions on flows as users write them (`src.ns=shop`, `port!=443`, `pod~^web-`), and their SQL. Pure.

A condition consists of a field, optionally a side of the flow, an operator and values. It is applied to a relation that holds
only what the principal may see, so a hidden value matches nothing. Principals and time windows do not belong here: see
warehouse.questions.door.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from warehouse.errors import QueryError

Side = Literal["either", "source", "destination"]
OPERATORS = ("!=", "!~", ">=", "<=", "=", "~")
"""The operators: none of the values, does not match the regular expression, at least, at most, any of the values, matches."""
_NEGATED = {"=": "!=", "!=": "=", "~": "!~", "!~": "~"}
_SHAPE = re.compile(
    r"^\s*(?:(src|dst|source|destination|either)\.)?([a-z0-9_]+)\s*(!=|!~|>=|<=|=|~)\s*(.*?)\s*$", re.IGNORECASE | re.DOTALL
)
_SIDES: dict[str, Side] = {"src": "source", "source": "source", "dst": "destination", "destination": "destination", "either": "either"}


@dataclass(frozen=True, kw_only=True)
class FilterField:
    """A field of a flow that can be used in a filter."""

    name: str
    doc: str
    columns: tuple[str, ...]
    """Columns of `flows`; without the `source_` or `destination_` prefix if the field has sides."""
    kind: Literal["text", "word", "number", "address", "list", "policy", "yes"] = "text"
    """How values are compared; a `word` is stored in upper case."""
    has_sides: bool = False
    other_names: tuple[str, ...] = ()


FIELDS: dict[str, FilterField] = {
    field.name: field
    for field in (
        FilterField(name="ns", doc="Namespace", columns=("namespace",), has_sides=True, other_names=("namespace",)),
        FilterField(name="workload", doc="Workload, e.g. a Deployment", columns=("workload_name",), has_sides=True, other_names=("wl",)),
        FilterField(name="pod", doc="Pod", columns=("pod_name",), has_sides=True),
        FilterField(name="ip", doc="Address, or a range such as 10.0.0.0/8", columns=("ip",), kind="address", has_sides=True),
        FilterField(name="port", doc="Port", columns=("port",), kind="number", has_sides=True),
        FilterField(name="identity", doc="Security identity", columns=("identity",), kind="number", has_sides=True),
        FilterField(name="label", doc="Label, e.g. k8s:app=web", columns=("labels",), kind="list", has_sides=True),
        FilterField(name="name", doc="DNS name of the address", columns=("names",), kind="list", has_sides=True),
        FilterField(name="service", doc="Kubernetes Service", columns=("service_name",), has_sides=True),
        FilterField(name="cluster", doc="Cluster", columns=("cluster",)),
        FilterField(name="node", doc="Node that saw the flow", columns=("node_name",)),
        FilterField(name="verdict", doc="Verdict", columns=("verdict",), kind="word"),
        FilterField(name="reason", doc="Drop reason", columns=("drop_reason_desc",), kind="word", other_names=("drop_reason",)),
        FilterField(name="direction", doc="INGRESS or EGRESS", columns=("traffic_direction",), kind="word"),
        FilterField(name="protocol", doc="TCP, UDP, ICMPv4, ...", columns=("l4_protocol",), other_names=("proto",)),
        FilterField(name="reply", doc="yes or no", columns=("is_reply",), kind="yes"),
        FilterField(name="policy", doc="Policy that Hubble named", columns=(), kind="policy"),
        FilterField(name="l7", doc="REQUEST, RESPONSE or SAMPLE", columns=("l7_type",), kind="word"),
        FilterField(name="method", doc="HTTP method", columns=("l7_http_method",), kind="word"),
        FilterField(name="url", doc="HTTP URL", columns=("l7_http_url",)),
        FilterField(name="code", doc="HTTP status", columns=("l7_http_code",), kind="number"),
        FilterField(name="dns", doc="DNS name that was queried", columns=("l7_dns_query",)),
        FilterField(name="topic", doc="Kafka topic", columns=("l7_kafka_topic",)),
        FilterField(name="flags", doc="TCP flags, e.g. flags~RST", columns=("tcp_flags",)),
        FilterField(name="event", doc="Number of Cilium's monitor event", columns=("event_type",), kind="number"),
        FilterField(name="trace", doc="Trace id", columns=("trace_id",)),
        FilterField(name="uuid", doc="Hubble's id of the flow", columns=("uuid",)),
    )
}
_NAMES = {name: field for field in FIELDS.values() for name in (field.name, *field.other_names)}
_POLICY_COLUMNS = ("egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by")


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One condition: a field of the flow compared with one or more values."""

    field: str
    operator: str
    values: tuple[str, ...]
    side: Side = "either"

    def __str__(self) -> str:
        prefix = {"either": "", "source": "src.", "destination": "dst."}[self.side]
        return f"{prefix}{self.field}{self.operator}{','.join(self.values)}"

    @property
    def is_negative(self) -> bool:
        """Whether the condition excludes matching flows."""
        return self.operator in ("!=", "!~")

    @property
    def has_sides(self) -> bool:
        """Whether the field belongs to one side of the flow, source or destination."""
        return FIELDS[self.field].has_sides

    @property
    def can_be_negated(self) -> bool:
        """Whether the operator has an opposite."""
        return self.operator in _NEGATED

    def allows(self, value: str) -> bool:
        """Return whether a single value of a text field satisfies the condition."""
        found = any(re.search(each, value) if self.operator in ("~", "!~") else each == value for each in self.values)
        return found != self.is_negative

    def negated(self) -> Condition:
        """Return the opposite condition."""
        return replace(self, operator=_NEGATED[self.operator])

    def swapped(self) -> Condition:
        """Return the same condition with source and destination exchanged."""
        side: dict[Side, Side] = {"source": "destination", "destination": "source", "either": "either"}
        return replace(self, side=side[self.side])


def parse(text: str) -> Condition:
    """Parse the short form of a condition. Raises a QueryError that says what is wrong and how to correct it."""
    found = _SHAPE.match(text)
    if not found:
        raise QueryError(
            f"{text!r} is not a filter: write a field, an operator ({' '.join(OPERATORS)}) and a value, e.g. ns=shop or port!=443"
        )
    side, name, operator, written = found.groups()
    field = _NAMES.get(name.lower())
    if field is None:
        close = difflib.get_close_matches(name.lower(), _NAMES, n=1)
        raise QueryError(
            f"{name!r} is not a filter field; " + (f"did you mean {close[0]!r}?" if close else f"the fields are {', '.join(FIELDS)}")
        )
    if side and not field.has_sides:
        raise QueryError(f"{field.name} does not have a side: write {field.name}{operator}{written}")
    whole = operator in ("~", "!~") or field.name == "url"  # these values may contain commas
    values = (written,) if whole else tuple(part.strip() for part in written.split(",") if part.strip())
    if not values or not values[0]:
        raise QueryError(f"{text!r} has no value: write {name}=something")
    condition = Condition(
        field=field.name,
        operator=operator,
        values=tuple(value.upper() if field.kind == "word" and not whole else value for value in values),
        side=_SIDES[side.lower()] if side else "either",
    )
    _check(condition, field)
    return condition


def has_operator(text: str) -> bool:
    """Whether a text looks like a condition (a field and an operator) rather than a bare value."""
    return _SHAPE.match(text) is not None


def sql(conditions: Sequence[Condition], *, match_any: bool = False, both_ways: bool = False) -> tuple[str, list[Any]]:
    """Return an SQL condition on columns of `flows`, with placeholders, and their values; `true` if there are no conditions.

    With `both_ways`, flows that match with source and destination exchanged (the return direction) are included too.
    """
    if not conditions:
        return "true", []
    ways = [conditions, [condition.swapped() for condition in conditions]] if both_ways else [conditions]
    written, values = [], []
    for way in ways:
        parts = [_one(condition) for condition in way]
        written.append("(" + (" OR " if match_any else " AND ").join(part for part, _ in parts) + ")")
        values += [value for _, given in parts for value in given]
    return "(" + " OR ".join(written) + ")", values


def _check(condition: Condition, field: FilterField) -> None:
    if condition.operator in (">=", "<=") and field.kind != "number":
        raise QueryError(f"{field.name} is not a number, so {condition.operator} cannot be used: use = or !=")
    if condition.operator in ("~", "!~"):
        if field.kind in ("number", "yes", "address"):
            raise QueryError(f"{field.name} is not text, so it cannot be matched by a regular expression: use = or !=")
        try:
            re.compile(condition.values[0])
        except re.error as error:
            raise QueryError(f"{condition.values[0]!r} is not a valid regular expression: {error}") from error
    for value in condition.values:
        if field.kind == "number":
            _check_number(value, field, may_be_range=condition.operator in ("=", "!="))
        if field.kind == "yes" and value.lower() not in ("yes", "no", "true", "false"):
            raise QueryError(f"{value!r} is not valid: {field.name} must be yes or no")
        if field.kind == "address":
            try:
                network = ipaddress.ip_network(value, strict=False)
            except ValueError as error:
                raise QueryError(f"{value!r} is neither an address nor a range such as 10.0.0.0/8") from error
            if network.version == 6 and network.prefixlen < 128:
                raise QueryError(f"{value!r}: IPv6 ranges are not supported: give a single address")


def _check_number(value: str, field: FilterField, *, may_be_range: bool) -> None:
    low, dash, high = value.partition("-")
    for number in (low, high) if dash and may_be_range else (value,):
        if not (number.isascii() and number.isdigit() and len(number) <= 10):
            raise QueryError(
                f"{value!r} is not valid: {field.name} must be a number" + (" or a range such as 8000-8100" if may_be_range else "")
            )
    if dash and int(low) > int(high):
        raise QueryError(f"the range {value!r} of {field.name} ends before it starts: write {high}-{low}")


def _one(condition: Condition) -> tuple[str, list[Any]]:
    field = FIELDS[condition.field]
    if field.kind == "policy":
        columns = list(_POLICY_COLUMNS)
    elif field.has_sides:
        sides = ("source", "destination") if condition.side == "either" else (condition.side,)
        columns = [f"{side}_{name}" for side in sides for name in field.columns]
    else:
        columns = list(field.columns)
    parts, values = [], []
    for column in columns:
        part, given = _on_column(f'"{column}"', field, condition)
        parts.append(part)
        values += given
    written = (
        f"coalesce({' OR '.join(parts)}, false)" if len(parts) == 1 else "(" + " OR ".join(f"coalesce({p}, false)" for p in parts) + ")"
    )
    return (f"NOT {written}" if condition.is_negative else written), values


def _on_column(column: str, field: FilterField, condition: Condition) -> tuple[str, list[Any]]:
    given: list[Any] = list(condition.values)
    matches = condition.operator in ("~", "!~")
    if field.kind == "number":
        if condition.operator in (">=", "<="):
            return f"{column} {condition.operator} ?", [int(given[0])]
        ranges = [value.partition("-") for value in given]
        among = " OR ".join([f"{column} BETWEEN ? AND ?"] * len(ranges))
        return f"({among})", [int(end) for low, _, high in ranges for end in (low, high or low)]
    if field.kind == "yes":
        return f"{column} = ?", [given[0].lower() in ("yes", "true")]
    if field.kind == "address":
        return _in_ranges(column, given)
    if field.kind == "list":
        return _in_list(column, given, matches=matches)
    if field.kind == "policy":
        names = f"list_transform({column}, lambda p: coalesce(p.namespace || '/', '') || coalesce(p.name, ''))"
        if matches:
            return f"array_length(list_filter({names}, lambda n: regexp_matches(n, ?))) > 0", given
        either = " OR ".join(
            ["list_contains(list_transform(" + column + ", lambda p: p.name), ?) OR list_contains(" + names + ", ?)"] * len(given)
        )
        return f"({either})", [value for value in given for _ in range(2)]
    if matches:
        return f"regexp_matches({column}, ?)", given
    return f"{column} IN ({', '.join('?' * len(given))})", given


def _in_list(column: str, given: list[Any], *, matches: bool) -> tuple[str, list[Any]]:
    if matches:
        return f"regexp_matches(array_to_string({column}, chr(10)), ?)", given
    # Labels have their source as a prefix, which users rarely type.
    wanted = [form for value in given for form in (value, f"k8s:{value}")]
    return f"list_has_any({column}, [{', '.join('?' * len(wanted))}])", wanted


def _in_ranges(column: str, given: list[Any]) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for text in given:
        network = ipaddress.ip_network(text, strict=False)
        if network.num_addresses == 1:
            parts.append(f"{column} = ?")
            values.append(str(network.network_address))
        else:
            octets = " + ".join(f"TRY_CAST(split_part({column}, '.', {place + 1}) AS BIGINT) * {256 ** (3 - place)}" for place in range(4))
            parts.append(f"({octets}) BETWEEN ? AND ?")
            values += [int(network.network_address), int(network.broadcast_address)]
    return "(" + " OR ".join(parts) + ")", values
