"""Field masks of GetFlows: which columns of `flows` a mask needs, and whether those columns give just the fields it names. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from collectors.hubble_api.flow import flow_pb2
from warehouse.schema import FLOWS

_OURS = frozenset({"cluster", "date", "flow_count", "recorded_lag_ms", "clock_skew"})
"""Columns that hold nothing of a flow message."""
ALL = tuple(name for name in FLOWS.schema.names if name not in _OURS)
"""The columns that a whole flow is rebuilt from."""
ALWAYS = ("time", "time_ns")
"""Columns that are read whatever the mask, because answers are in the order of time."""


@dataclass(frozen=True, kw_only=True)
class Mask:
    """A field mask and the columns that are read for it."""

    paths: tuple[str, ...] = ()
    """The fields that are wanted; empty for all."""
    columns: tuple[str, ...] = ALL
    """The columns that hold them, and the time."""
    is_exact: bool = True
    """Whether the columns hold nothing but the fields that are wanted, apart from the time and `rest`."""

    @property
    def hidden(self) -> frozenset[str]:
        """The columns that are read but not wanted."""
        return frozenset() if not self.paths or _wants("time", self.paths) else frozenset(ALWAYS)

    def apply(self, flow: flow_pb2.Flow) -> flow_pb2.Flow:
        """Return a flow with the wanted fields only."""
        if not self.paths:
            return flow
        masked = flow_pb2.Flow()
        FieldMask(paths=self.paths).MergeMessage(flow, masked)
        return masked


def parse(paths: Sequence[str]) -> Mask:
    """Return the mask with these paths; raises ValueError if one is not a field of a flow."""
    if not paths:
        return Mask()
    flow: Any = flow_pb2.Flow.DESCRIPTOR
    for path in paths:
        if not FieldMask(paths=[path]).IsValidForDescriptor(flow):
            raise ValueError(f"invalid fieldmask: {path!r} is not a field of a flow")
    columns = {column.name for column in FLOWS.columns if column.field and _wants_any(_fields(column.name, column.field), paths)}
    columns |= {"rest", *ALWAYS}
    l4 = [path for path in paths if path.startswith("l4.")]
    if l4:
        columns |= {"l4_protocol", "source_port", "destination_port", "tcp_flags", "icmp_type", "icmp_code"}
    return Mask(paths=tuple(paths), columns=tuple(name for name in ALL if name in columns), is_exact=not l4)


def _fields(name: str, field: str) -> tuple[str, ...]:
    """Return the fields that a column holds a part of."""
    if "[" in field:  # the first of a list of workloads
        return (field.partition("[")[0],)
    if "*" in field or name in ("tcp_flags", "l4_protocol"):
        return ("l4",)
    return (field,)


def _wants_any(fields: Iterable[str], paths: Sequence[str]) -> bool:
    return any(_wants(field, paths) for field in fields)


def _wants(field: str, paths: Sequence[str]) -> bool:
    """Whether a mask names a field, a message around it, or a part of it."""
    return any(field == path or field.startswith(f"{path}.") or path.startswith(f"{field}.") for path in paths)
