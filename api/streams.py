"""What the streams of grpclib lack: requests of bounded size, and many messages in one write.

A message that is sent by itself costs tens of microseconds, as in any server of gRPC in Python; in frames of 16 KiB it costs one or two.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import Executor
from typing import Any

from google.protobuf.message import DecodeError
from grpclib.const import Handler, Status
from grpclib.exceptions import GRPCError

from api import frames

LARGEST_REQUEST_BYTES = 1024**2
FRAME_BYTES = 16_384
"""The size of a frame that every client of HTTP/2 accepts."""
AHEAD_AFTER_BYTES = 4 * 1024**2
"""After so much was sent, the next batch is made while one is sent; a client that stops reading at once costs no more than its first."""
Stream = Any
"""A call as grpclib's server gives it to a handler."""


async def request(stream: Stream, kind: Any) -> Any:
    """Return the next message that a client sends, None if there is no more. Raises GRPCError if it cannot be read."""
    prefix = await stream._stream.recv_data(frames.PREFIX_BYTES)
    if not prefix:
        return None
    try:
        length = frames.length(prefix)
    except ValueError as error:
        raise GRPCError(Status.UNIMPLEMENTED, str(error)) from error
    if length > LARGEST_REQUEST_BYTES:
        raise GRPCError(Status.RESOURCE_EXHAUSTED, f"the request has {length:,} bytes; at most {LARGEST_REQUEST_BYTES:,} are allowed")
    try:
        return kind.FromString(await stream._stream.recv_data(length))
    except DecodeError as error:
        raise GRPCError(Status.INVALID_ARGUMENT, f"the request is not a {kind.DESCRIPTOR.full_name}") from error


async def send(stream: Stream, batch: frames.Batch, on_progress: Callable[[], None]) -> None:
    """Send messages in frames; `on_progress` is called whenever the client has taken one."""
    if not stream._send_initial_metadata_done:
        await stream.send_initial_metadata()
    for begin in range(0, len(batch.content), FRAME_BYTES):
        await stream._stream.send_data(batch.content[begin : begin + FRAME_BYTES])
        on_progress()
    stream._send_message_done = True


async def made(pool: Executor, batches: Iterator[frames.Batch]) -> AsyncGenerator[frames.Batch]:
    """Yield batches that a pool makes; in a long answer, the next one is made while one is sent.

    When the generator is closed, it waits for the batch that is being made.
    """

    def following() -> asyncio.Future[frames.Batch | None]:
        return asyncio.get_running_loop().run_in_executor(pool, lambda: next(batches, None))

    sent, coming = 0, following()
    try:
        while (batch := await coming) is not None:
            sent += len(batch.content)
            if sent > AHEAD_AFTER_BYTES:
                coming = following()
                yield batch
            else:
                yield batch
                coming = following()
    finally:
        await asyncio.wait([coming])
        if not coming.cancelled():
            coming.exception()  # it was raised already, or nobody is there any more to be told


class Bounded:
    """A stream for the handlers of grpclib's own services, whose requests are bounded as well."""

    def __init__(self, stream: Stream, kind: Any) -> None:
        self._stream = stream
        self._kind = kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def recv_message(self) -> Any:
        """Return the next message, None if there is no more."""
        return await request(self._stream, self._kind)

    async def __aiter__(self) -> AsyncIterator[Any]:
        while (message := await self.recv_message()) is not None:
            yield message


class BoundedService:
    """A service of grpclib, such as health or reflection, whose requests are bounded."""

    def __init__(self, service: Any) -> None:
        self._service = service

    def __mapping__(self) -> dict[str, Handler]:
        """Return the service's methods, as grpclib asks for them."""
        return {path: _bounded(handler) for path, handler in self._service.__mapping__().items()}


def _bounded(handler: Handler) -> Handler:
    async def handle(stream: Stream) -> None:
        await handler.func(Bounded(stream, handler.request_type))

    answer: Callable[[Stream], Awaitable[None]] = handle
    return handler._replace(func=answer)
