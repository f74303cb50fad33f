"""Hubble's Observer service over the lake's history. Which flows are sent is decided in api.calls, to whom in api.identity."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc

from api import statuses
from api.calls import Call
from api.identity import Identities, NotSignedInError
from api.plans import Plan, RefusedRequestError, plan
from collectors.hubble_api.observer import observer_pb2
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError, HindcastError, LakeError, QueryError, QueryLimitError
from warehouse.questions.door import Door

T = TypeVar("T")
Context = Any
"""The context of a call on grpc's asynchronous server."""
SERVICE = "observer.Observer"
HEALTH = "hubble.server.Observer"
"""The name by which `hubble status` asks for the service's health."""
CHECKED_EVERY_SECONDS = 5.0
"""How often the credentials of an open stream are checked again."""
POLL_SECONDS = 0.5
"""How often a follower looks for new commits."""
READERS = 2
"""Threads that read the lake; calls take turns at them, batch by batch."""
_ERRORS = (HindcastError, RefusedRequestError, NotSignedInError)


@dataclass(eq=False)
class _Sending:
    """An open call: when it last got rid of a message, and whether it was cut off for not reading."""

    task: asyncio.Task[Any]
    progress: float
    is_writing: bool = False
    is_cut: bool = False


class Observer:
    """Answers the calls of Hubble's clients."""

    def __init__(self, door: Door, identities: Identities, limits: config.ServeLimits) -> None:
        self._door = door
        self._identities = identities
        self._limits = limits
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="observer")
        self._open: set[_Sending] = set()
        self._streams: Counter[Principal] = Counter()
        self.stopping = asyncio.Event()
        """Set when the server stops: calls that follow end."""

    def close(self) -> None:
        """Wait for the pieces that are being read."""
        self._pool.shutdown(cancel_futures=True)

    def handlers(self) -> grpc.GenericRpcHandler:
        """Return the service for grpc's server; calls that it does not list are Unimplemented, as at relay."""
        methods: dict[str, Any] = {
            "GetFlows": grpc.unary_stream_rpc_method_handler(self._get_flows, observer_pb2.GetFlowsRequest.FromString),
            "ServerStatus": self._unary(statuses.server_status, observer_pb2.ServerStatusRequest),
            "GetNodes": self._unary(statuses.nodes, observer_pb2.GetNodesRequest),
            "GetNamespaces": self._unary(statuses.namespaces, observer_pb2.GetNamespacesRequest),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    async def cut_stalled(self) -> None:
        """Cut off clients that do not read, until the task is cancelled."""
        limit = self._limits.stalled_after.total_seconds()
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            now = asyncio.get_running_loop().time()
            for one in self._open:
                if one.is_writing and not one.is_cut and now - one.progress > limit:
                    one.is_cut = True
                    one.task.cancel()

    def _unary(self, answer: Callable[[Door, Principal], Any], request: Any) -> Any:
        async def handle(_request: Any, context: Context) -> bytes:
            try:
                principal = await self._identities.principal(context)
                message = await self._in_thread(lambda: answer(self._door, principal))
                encoded: bytes = message.SerializeToString()
                return encoded
            except _ERRORS as error:
                await context.abort(status_of(error), str(error))
                raise

        return grpc.unary_unary_rpc_method_handler(handle, request.FromString)

    async def _get_flows(self, request: observer_pb2.GetFlowsRequest, context: Context) -> None:
        try:
            principal = await self._identities.principal(context)
            planned = plan(request)
            if self._streams[principal] >= self._limits.streams:
                raise QueryLimitError(f"{principal.user} has {self._limits.streams} calls open, which is the most: end one of them")
            self._streams[principal] += 1
            try:
                await self._send(principal, planned, context)
            finally:
                self._streams[principal] -= 1
        except _ERRORS as error:
            await context.abort(status_of(error), str(error))

    async def _send(self, principal: Principal, planned: Plan, context: Context) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in a task
        sending = _Sending(task=task, progress=loop.time())
        self._open.add(sending)
        call = Call(self._door, principal, planned, self._limits)
        try:
            if planned.follow:  # perhaps nothing is sent for a long time
                await context.send_initial_metadata(())
            async for messages in self._batches(call, principal, context, follows=planned.follow):
                sending.is_writing, sending.progress = True, loop.time()
                for message in messages:
                    await context.write(message)
                    sending.progress = loop.time()
                sending.is_writing = False
        except asyncio.CancelledError:
            if not sending.is_cut:
                raise
        finally:
            self._open.discard(sending)
            await asyncio.shield(self._in_thread(call.close))
        if sending.is_cut:  # the status waits for the client to read what was sent before
            seconds = self._limits.stalled_after.total_seconds()
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"cut off: nothing was read for {seconds:g} s")
        if planned.follow and self.stopping.is_set():
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the server is stopping")

    async def _batches(self, call: Call, principal: Principal, context: Context, *, follows: bool) -> AsyncIterator[Sequence[bytes]]:
        """Yield encoded flows: those that are recorded, then, for a follower, those of later commits.

        Raises NotSignedInError when the credentials that the call began with are no longer valid.
        """
        loop = asyncio.get_running_loop()
        checked = loop.time()
        async for messages in self._read(call.recorded()):
            if loop.time() - checked > CHECKED_EVERY_SECONDS:
                await self._still(principal, context)
                checked = loop.time()
            yield messages
        while follows and not self.stopping.is_set():
            if loop.time() - checked > CHECKED_EVERY_SECONDS:
                await self._still(principal, context)
                checked = loop.time()
            async for messages in self._read(call.appended()):
                yield messages
            try:
                await asyncio.wait_for(self.stopping.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    async def _still(self, principal: Principal, context: Context) -> None:
        """Raise NotSignedInError unless the call's credentials still name its principal."""
        if await self._identities.principal(context) != principal:
            raise NotSignedInError("the credentials of this call name someone else by now")

    async def _read(self, batches: Iterator[Sequence[bytes]]) -> AsyncIterator[Sequence[bytes]]:
        while (messages := await self._in_thread(lambda: next(batches, None))) is not None:
            yield messages

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


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
