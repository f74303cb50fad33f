"""Hubble's Observer service over the lake's history. Which flows are sent is decided in api.calls, to whom in api.identity."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from grpclib.const import Cardinality, Handler, Status
from grpclib.exceptions import GRPCError

from api import statuses, streams
from api.calls import Call
from api.frames import Batch
from api.identity import Caller, Identities, NotSignedInError
from api.plans import Plan, RefusedRequestError, plan
from api.streams import Stream
from collectors.hubble_api.observer import observer_pb2
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError, HindcastError, LakeError, QueryError, QueryLimitError
from warehouse.questions.door import Door

T = TypeVar("T")
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


@dataclass(frozen=True)
class _Call:
    """A call of GetFlows: its stream, and who makes it."""

    stream: Stream
    caller: Caller
    principal: Principal


@dataclass(eq=False)
class _Sending:
    """An open call: when its client last took something, and why it was cut off."""

    task: asyncio.Task[Any]
    progress: float
    is_writing: bool = False
    cut: GRPCError | None = None

    def cut_off(self, status: Status, message: str) -> None:
        """End the call with a status, unless it was cut off before."""
        if self.cut is None:
            self.cut = GRPCError(status, message)
            self.task.cancel()


class Observer:
    """Answers the calls of Hubble's clients."""

    def __init__(self, door: Door, identities: Identities, limits: config.ServeLimits) -> None:
        self._door = door
        self._identities = identities
        self._limits = limits
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="observer")
        self._ahead = ThreadPoolExecutor(READERS, thread_name_prefix="observer-ahead")
        self._open: set[_Sending] = set()
        self._streams: Counter[Principal] = Counter()
        self.stopping = asyncio.Event()
        """Set when the server stops: calls that follow end."""

    def close(self) -> None:
        """Wait for the pieces that are being read."""
        self._pool.shutdown(cancel_futures=True)
        self._ahead.shutdown(cancel_futures=True)

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, let open ones end for a moment, then end them with UNAVAILABLE."""
        self.stopping.set()
        if self._open:
            await asyncio.wait({one.task for one in self._open}, timeout=grace_seconds)
        for one in self._open:
            one.cut_off(Status.UNAVAILABLE, "the server is stopping")

    def __mapping__(self) -> dict[str, Handler]:
        """Return the service's methods, as grpclib asks for them; others are Unimplemented, as at relay."""
        unary: dict[str, Callable[[Door, Principal], Any]] = {
            "ServerStatus": statuses.server_status,
            "GetNodes": statuses.nodes,
            "GetNamespaces": statuses.namespaces,
        }
        found = {f"/{SERVICE}/{name}": self._unary(name, answer) for name, answer in unary.items()}
        flows = Handler(self._get_flows, Cardinality.UNARY_STREAM, observer_pb2.GetFlowsRequest, observer_pb2.GetFlowsResponse)
        return {**found, f"/{SERVICE}/GetFlows": flows}

    async def cut_stalled(self) -> None:
        """Cut off clients that do not read, until the task is cancelled."""
        limit = self._limits.stalled_after.total_seconds()
        while True:
            await asyncio.sleep(min(1.0, limit / 4))
            now = asyncio.get_running_loop().time()
            for one in self._open:
                if one.is_writing and now - one.progress > limit:
                    one.cut_off(Status.RESOURCE_EXHAUSTED, f"cut off: nothing was read for {limit:g} s")

    def _unary(self, name: str, answer: Callable[[Door, Principal], Any]) -> Handler:
        async def handle(stream: Stream) -> None:
            with _statuses():
                principal = await self._identities.principal(caller_of(stream))
                await streams.request(stream, kinds[0])
                await stream.send_message(await self._in_thread(lambda: answer(self._door, principal)))

        kinds = getattr(observer_pb2, f"{name}Request"), getattr(observer_pb2, f"{name}Response")
        return Handler(handle, Cardinality.UNARY_UNARY, *kinds)

    async def _get_flows(self, stream: Stream) -> None:
        with _statuses():
            if self.stopping.is_set():
                raise GRPCError(Status.UNAVAILABLE, "the server is stopping")
            caller = caller_of(stream)
            principal = await self._identities.principal(caller)
            request = await streams.request(stream, observer_pb2.GetFlowsRequest)
            if request is None:
                raise RefusedRequestError("the call has no request: send one")
            planned = await self._in_thread(lambda: plan(request))
            if self._streams[principal] >= self._limits.streams:
                raise QueryLimitError(f"{principal.user} has {self._limits.streams} calls open, which is the most: end one of them")
            self._streams[principal] += 1
            try:
                await self._send(_Call(stream, caller, principal), planned)
            finally:
                self._streams[principal] -= 1

    async def _send(self, made: _Call, planned: Plan) -> None:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in a task
        sending = _Sending(task=task, progress=loop.time())

        def progressed() -> None:
            sending.progress = loop.time()

        self._open.add(sending)
        call = Call(self._door, made.principal, planned, self._limits, self._ahead)
        try:
            if planned.follow:  # perhaps nothing is sent for a long time
                await made.stream.send_initial_metadata()
            async with contextlib.aclosing(self._batches(call, made, follows=planned.follow)) as batches:
                async for batch in batches:
                    sending.is_writing = True
                    progressed()
                    await streams.send(made.stream, batch, progressed)
                    sending.is_writing = False
        except asyncio.CancelledError:
            if sending.cut is None:
                raise
        finally:
            self._open.discard(sending)
            await asyncio.shield(self._in_thread(call.close))
        if sending.cut is not None:
            raise sending.cut
        if planned.follow and self.stopping.is_set():
            raise GRPCError(Status.UNAVAILABLE, "the server is stopping")

    async def _batches(self, call: Call, made: _Call, *, follows: bool) -> AsyncGenerator[Batch]:
        """Yield encoded flows: those that are recorded, then, for a follower, those of later commits.

        Raises NotSignedInError when the credentials that the call began with are no longer valid.
        """
        loop = asyncio.get_running_loop()
        checked = loop.time()
        async with contextlib.aclosing(streams.made(self._pool, call.recorded())) as recorded:
            async for batch in recorded:
                if loop.time() - checked > CHECKED_EVERY_SECONDS:
                    await self._still(made)
                    checked = loop.time()
                yield batch
        while follows and not self.stopping.is_set():
            if loop.time() - checked > CHECKED_EVERY_SECONDS:
                await self._still(made)
                checked = loop.time()
            async with contextlib.aclosing(streams.made(self._pool, call.appended())) as appended:
                async for batch in appended:
                    yield batch
            try:
                await asyncio.wait_for(self.stopping.wait(), POLL_SECONDS)
            except TimeoutError:
                continue

    async def _still(self, made: _Call) -> None:
        """Raise NotSignedInError unless the call's credentials still name its principal."""
        if await self._identities.principal(made.caller) != made.principal:
            raise NotSignedInError("the credentials of this call name someone else by now")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)


def caller_of(stream: Stream) -> Caller:
    """Return what a call's connection and headers say of the caller."""
    transport, address = stream._stream._transport, stream.peer.addr()
    tls = transport.get_extra_info("ssl_object")
    encoded = tls.getpeercert(binary_form=True) if tls is not None else None
    return Caller(
        address=str(address[0]) if address else "",
        authorization=stream.metadata.get("authorization"),
        certificate=ssl.DER_cert_to_PEM_cert(encoded).encode() if encoded else None,
    )


@contextlib.contextmanager
def _statuses() -> Iterator[None]:
    """Turn our errors into those that grpclib sends. Raises GRPCError."""
    try:
        yield
    except _ERRORS as error:
        raise GRPCError(status_of(error), str(error)) from error


def status_of(error: Exception) -> Status:
    """Return the status that tells a caller of an error."""
    if isinstance(error, NotSignedInError):
        return Status.UNAUTHENTICATED
    if isinstance(error, AccessDeniedError):
        return Status.PERMISSION_DENIED
    if isinstance(error, QueryLimitError):
        return Status.RESOURCE_EXHAUSTED
    if isinstance(error, QueryError | RefusedRequestError):
        return Status.INVALID_ARGUMENT
    return Status.UNAVAILABLE if isinstance(error, LakeError) else Status.INTERNAL
