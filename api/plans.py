"""What a GetFlows request asks for, checked."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from google.protobuf import json_format

from api import masks
from api.selecting import Wanted, wanted
from collectors.hubble_api.observer import observer_pb2

LARGEST_NUMBER = (1 << 63) - 1
_NANOSECONDS_OF_A_MICROSECOND = 1000


class RefusedRequestError(ValueError):
    """A request that cannot be answered; the message names the field, its value and what to do."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A checked request. Times are in nanoseconds since 1970, both inclusive; None means no bound."""

    number: int = 0
    """How many flows are wanted at most; 0 for all."""
    first: bool = False
    """Whether the oldest of them are wanted, rather than the newest."""
    follow: bool = False
    since: int | None = None
    until: int | None = None
    mask: masks.Mask = field(default_factory=masks.Mask)
    wanted: Wanted = field(default_factory=Wanted)
    text: str = ""
    """The request in short, as the access log records it."""

    @property
    def has_past(self) -> bool:
        """Whether recorded flows are wanted; a follow that names neither a number nor a time begins now."""
        return not self.follow or bool(self.number) or self.since is not None

    def of_additions(self) -> Plan:
        """Return the same request for flows that are recorded later: all that match, since the number is one of the past."""
        return replace(self, number=0, first=False)


def plan(request: observer_pb2.GetFlowsRequest) -> Plan:
    """Check a request and return what it asks for. Raises RefusedRequestError, and QueryLimitError for an expression."""
    if request.first and request.follow:
        raise RefusedRequestError("first cannot be used with follow: leave one of them out")
    if request.HasField("extensions"):
        raise RefusedRequestError(f"extensions: {request.extensions.type_url!r} is not known here: leave it out")
    since, until = _nanoseconds(request, "since"), _nanoseconds(request, "until")
    if since is not None and until is not None and since > until:
        raise RefusedRequestError(f"since {_text(request.since)} is after until {_text(request.until)}: exchange them")
    try:
        mask = masks.parse(request.field_mask.paths)
        selected = wanted(request.whitelist, request.blacklist)
    except ValueError as error:
        raise RefusedRequestError(str(error)) from error
    return Plan(
        number=min(request.number, LARGEST_NUMBER) if request.number < LARGEST_NUMBER else 0,
        first=request.first,
        follow=request.follow,
        since=since,
        until=until,
        mask=mask,
        wanted=selected,
        text=_short(request),
    )


def _nanoseconds(request: observer_pb2.GetFlowsRequest, name: str) -> int | None:
    if not request.HasField(name):
        return None
    moment: Any = getattr(request, name)
    if not 0 <= moment.nanos < 1_000_000_000 or not -62_135_596_800 <= moment.seconds < 253_402_300_800:
        raise RefusedRequestError(f"{name}: {moment.seconds} s and {moment.nanos} ns are not a time")
    return int(moment.seconds) * 1_000_000_000 + int(moment.nanos)


def _short(request: observer_pb2.GetFlowsRequest) -> str:
    shown = observer_pb2.GetFlowsRequest()
    shown.CopyFrom(request)
    for name in ("since", "until", "field_mask"):
        shown.ClearField(name)
    return json_format.MessageToJson(shown, indent=None, preserving_proto_field_name=True)


def _text(moment: Any) -> str:
    return str(moment.ToJsonString())
