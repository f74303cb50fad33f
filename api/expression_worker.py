"""The process that evaluates filters with CEL expressions: api.expressions starts and ends it.

An expression is a stranger's: it may take long, or build texts of any size. So the process has little memory, may open nothing, and
is killed when it does not answer in time. It reads and evaluates as Cilium's own filter does.
"""

from __future__ import annotations

import functools
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cel_expr_python import cel
from google.protobuf import descriptor_pool

from api.expressions import DECIDED, LENGTH, REFUSED, received, send
from collectors.filtering.filters import Match, compile_filters
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from warehouse.sql import confinement

MEMORY_BYTES = 512 * 1024**2
_VARIABLE = "_flow"
_ZONES = Path("/usr/share/zoneinfo")


@functools.cache
def _environment() -> cel.Env:
    return cel.NewEnv(descriptor_pool.Default(), variables={_VARIABLE: cel.Type("flow.Flow")}, container="flow")


def expressions(values: Sequence[Any]) -> Match:
    """Return the test that one of these expressions holds. Raises ValueError if one is not an expression that is true or false."""
    compiled = [_compiled(str(text)) for text in values]

    def match(flow: flow_pb2.Flow) -> bool:
        given = {_VARIABLE: flow}
        for one in compiled:
            found = one.eval(data=given)
            if found.type() != cel.Type.BOOL:  # it failed, as with a division by zero: Cilium does not try the next one either
                return False
            if found.value():
                return True
        return False

    return match


def _compiled(text: str) -> cel.Expression:
    try:
        found = _environment().compile(text)
    except RuntimeError as error:
        raise ValueError(f"{text!r} is not a CEL expression: {error}") from error
    if found.return_type() != cel.Type.BOOL or _may_be_null(text):
        raise ValueError(f"{text!r} is not true or false, as an expression must be: compare it with something")
    return found


def _may_be_null(text: str) -> bool:
    """Whether an expression that gives a boolean may give null as well, as `_flow.is_reply`; the library does not tell them apart."""
    try:
        _environment().compile(f"(\n{text}\n) == null")
    except RuntimeError:
        return False
    return True


def answer(filters: bytes, flows: bytes) -> bytes:
    """Return the answer to an encoded GetFlowsRequest with filters and encoded flows, each after its length."""
    request = observer_pb2.GetFlowsRequest.FromString(filters)
    try:
        matches = compile_filters(request.whitelist, request.blacklist, expressions=expressions)
    except ValueError as error:
        return REFUSED + str(error).encode()
    return DECIDED + bytes(matches(flow_pb2.Flow.FromString(encoded)) for encoded in _each(flows))


def _each(flows: bytes) -> Iterator[bytes]:
    place = 0
    while place < len(flows):
        (length,) = LENGTH.unpack_from(flows, place)
        place += LENGTH.size + length
        yield flows[place - length : place]


def main() -> None:
    """Answer until the connection ends."""
    connection = socket.socket(fileno=sys.stdin.fileno())
    answer(observer_pb2.GetFlowsRequest(whitelist=[flow_pb2.FlowFilter()]).SerializeToString(), b"")
    expressions(["true"])
    confinement.limit(MEMORY_BYTES)
    confinement.shut_in((_ZONES,))
    while True:
        try:
            filters, flows = received(connection), received(connection)
        except EOFError:
            return
        send(connection, answer(filters, flows))


if __name__ == "__main__":
    main()
