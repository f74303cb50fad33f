"""The gRPC server: its address, TLS, health, reflection, and how it stops. What calls do belongs to api.observer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Coroutine
from typing import Any

import grpclib.server
import uvloop
from grpclib.config import Configuration
from grpclib.health.check import ServiceStatus
from grpclib.health.service import OVERALL, Health
from grpclib.reflection.service import ServerReflection

from api.certificates import Certificates
from api.observer import HEALTH, Observer
from api.streams import LARGEST_REQUEST_BYTES, BoundedService
from warehouse import config
from warehouse.errors import ConfigError

GRACE_SECONDS = 3.0
"""How long open calls may go on when the server stops."""
_CONNECTIONS = Configuration(
    http2_stream_window_size=LARGEST_REQUEST_BYTES,
    # Finds clients that are gone without a word.
    _keepalive_time=60.0,
    _keepalive_timeout=20.0,
    _keepalive_permit_without_calls=True,
    _http2_max_pings_without_data=0,
    _http2_min_sent_ping_interval_without_data=60.0,
)


def run(serving: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on an event loop that is faster than asyncio's own."""
    uvloop.run(serving)


class Server:
    """Serves Hubble's Observer API at one address until it is stopped."""

    def __init__(self, observer: Observer, listen: str, tls: config.ServeTls | None) -> None:
        self._observer = observer
        self._listen = listen
        self._tls = tls
        self._server: grpclib.server.Server | None = None
        self._status = ServiceStatus()
        self._watch: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises ConfigError if the address or the certificate cannot be used."""
        context = None if self._tls is None else Certificates(self._tls).context()
        listening = _listening(self._listen)
        health = Health({OVERALL: [self._status], self._observer: [self._status], _Named(HEALTH): [self._status]})
        services = ServerReflection.extend([self._observer, health])
        self._server = grpclib.server.Server([self._observer, *map(BoundedService, services[1:])], config=_CONNECTIONS)
        await self._server.start(sock=listening, ssl=context)
        self.port = int(listening.getsockname()[1])
        self._watch = asyncio.create_task(self._observer.cut_stalled())
        self._status.set(True)

    async def stop(self) -> None:
        """Refuse new calls, let open ones end for a moment, then end them with UNAVAILABLE."""
        self._status.set(False)
        await self._observer.stop(GRACE_SECONDS)
        if self._server is not None:
            self._server.close()
            with contextlib.suppress(TimeoutError):  # clients keep their connections open
                await asyncio.wait_for(self._server.wait_closed(), 1)
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.to_thread(self._observer.close)


class _Named:
    """A name by which a client may ask for the service's health."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __mapping__(self) -> dict[str, Any]:
        """Return a method of the service, from which grpclib takes the name."""
        return {f"/{self._name}/": None}


def _listening(address: str) -> socket.socket:
    """Return a socket that listens at host:port. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, int(port)), family=family, backlog=128, dualstack_ipv6=host == "::")
    except OSError as error:
        raise ConfigError(f"serve.listen: {address!r} cannot be listened on: {error.strerror or error}") from error
