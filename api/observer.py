"""Hubble's Observer service over the lake's history. Which flows are sent is decided in api.history, to whom in api.identity."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import grpc

from api.history import History
from api.identity import Identities, NotSignedInError
from api.plans import Plan, RefusedRequestError, plan
from collectors.hubble_api.observer import observer_pb2
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError, HindcastError, LakeError, QueryError, QueryLimitError
from warehouse.questions import flow_spans
from warehouse.questions.door import Door, Reading
from warehouse.questions.question import Subject
from warehouse.schema import FLOWS

T = TypeVar("T")
Context = Any
"""The context of a call on grpc's asynchronous server."""
SERVICE = "observer.Observer"
HEALTH = "hubble.server.Observer"
"""The name by which `hubble status` asks for the service's health."""
POLL_SECONDS = 0.5
"""How often a follower looks for new commits."""
READERS = 2
"""Threads that read the lake; calls take turns at them, piece by piece."""


class Observer:
    """Answers the calls of Hubble's clients."""

    def __init__(self, door: Door, identities: Identities, limits: config.ServeLimits) -> None:
        self._door = door
        self._identities = identities
        self._limits = limits
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="observer")
        self.stopping = asyncio.Event()
        """Set when the server stops: calls that follow end."""

    def close(self) -> None:
        """Wait for the pieces that are being read."""
        self._pool.shutdown(cancel_futures=True)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the service for grpc's server; calls that it does not list are Unimplemented, as at relay."""
        methods: dict[str, Any] = {
            "GetFlows": grpc.unary_stream_rpc_method_handler(self._get_flows, observer_pb2.GetFlowsRequest.FromString),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def _get_flows(self, request: observer_pb2.GetFlowsRequest, context: Context) -> None:
        try:
            principal = await self._identities.principal(context)
            async for messages in self._batches(principal, plan(request)):
                for message in messages:
                    await context.write(message)
        except (HindcastError, RefusedRequestError, NotSignedInError) as error:
            await context.abort(status_of(error), str(error))

    async def _batches(self, principal: Principal, planned: Plan) -> AsyncIterator[Sequence[bytes]]:
        """Yield encoded flows: those that are recorded, then, for a follower, those of later commits."""
        call = _Call(self._door, principal, planned)
        try:
            async for messages in self._read(call.recorded()):
                yield messages
            while planned.follow and not self.stopping.is_set():
                async for messages in self._read(call.appended()):
                    yield messages
                await asyncio.wait([asyncio.ensure_future(self.stopping.wait())], timeout=POLL_SECONDS)
        finally:
            await asyncio.shield(self._in_thread(call.close))

    async def _read(self, pieces: Iterator[Sequence[bytes]]) -> AsyncIterator[Sequence[bytes]]:
        while (messages := await self._in_thread(lambda: next(pieces, None))) is not None:
            yield messages

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


class _Call:
    """One GetFlows: reads the lake up to a version, then what later versions add. Nothing is sent twice, and nothing is left out."""

    def __init__(self, door: Door, principal: Principal, planned: Plan) -> None:
        self._door = door
        self._plan = planned
        since, until = (None if bound is None else flow_spans.moment(bound // 1000) for bound in (planned.since, planned.until))
        self._entry = door.reading(principal, "GetFlows", Subject(window=Window(since=since, until=until)))
        self._reading: Reading | None = None
        self._version = 0

    def recorded(self) -> Iterator[Sequence[bytes]]:
        """Yield what the lake holds now."""
        self._reading = self._entry.__enter__()
        lake = self._door.lake.pinned(FLOWS)
        self._version = lake.version(FLOWS)
        if self._plan.has_past:
            yield from self._counted(History(self._reading, lake, self._plan))

    def appended(self) -> Iterator[Sequence[bytes]]:
        """Yield what was added since the last call."""
        assert self._reading is not None  # noqa: S101 - recorded() comes first
        lake, self._version = self._door.lake.appended(FLOWS, self._version)
        yield from self._counted(History(self._reading, lake, self._plan.of_additions()))

    def close(self) -> None:
        """End the entry in the access log."""
        if self._reading is not None:
            self._entry.__exit__(None, None, None)

    def _counted(self, history: History) -> Iterator[Sequence[bytes]]:
        assert self._reading is not None  # noqa: S101
        for piece in history.pieces():
            self._reading.rows += len(piece.messages)
            yield piece.messages


def status_of(error: Exception) -> grpc.StatusCode:
    """Return the status that tells a caller of an error."""
    if isinstance(error, NotSignedInError):
        return grpc.StatusCode.UNAUTHENTICATED
    if isinstance(error, AccessDeniedError):
        return grpc.StatusCode.PERMISSION_DENIED
    if isinstance(error, QueryLimitError):
        return grpc.StatusCode.RESOURCE_EXHAUSTED
    if isinstance(error, QueryError | RefusedRequestError):
        return grpc.StatusCode.INVALID_ARGUMENT
    return grpc.StatusCode.UNAVAILABLE if isinstance(error, LakeError) else grpc.StatusCode.INTERNAL
