"""The gRPC server: its address, TLS, health, reflection, and how it stops. What calls do belongs to api.observer."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

import grpc
import uvloop
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from api.observer import HEALTH, SERVICE, Observer
from warehouse import config
from warehouse.errors import ConfigError

GRACE_SECONDS = 3.0
"""How long open calls may go on when the server stops."""
LARGEST_REQUEST_BYTES = 1024**2
_OPTIONS: Sequence[tuple[str, Any]] = (
    ("grpc.so_reuseport", 0),  # a second server on the same port must fail
    ("grpc.max_receive_message_length", LARGEST_REQUEST_BYTES),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),  # Go clients ping every 10 s or 30 s
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_time_ms", 60_000),  # finds clients that are gone without a word
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_concurrent_streams", 1_000),
)


def run(serving: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine to its end on an event loop that costs a message a third less than asyncio's own."""
    uvloop.run(serving)


class Server:
    """Serves Hubble's Observer API at one address until it is stopped."""

    def __init__(self, observer: Observer, listen: str, tls: config.ServeTls | None) -> None:
        self._observer = observer
        self._listen = listen
        self._tls = tls
        self._server: Any = None
        self._health = health.aio.HealthServicer()
        self._watch: asyncio.Task[None] | None = None
        self.port = 0

    async def start(self) -> None:
        """Listen. Raises ConfigError if the address or the certificate cannot be used."""
        self._server = grpc.aio.server(options=list(_OPTIONS))
        self._server.add_generic_rpc_handlers((self._observer.handlers(),))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            if self._tls is None:
                self.port = self._server.add_insecure_port(self._listen)
            else:
                self.port = self._server.add_secure_port(self._listen, _credentials(self._tls))
        except RuntimeError as error:
            raise ConfigError(f"serve.listen: {self._listen!r} cannot be listened on: is another process using it?") from error
        await self._server.start()
        self._watch = asyncio.create_task(self._observer.cut_stalled())
        for service in ("", SERVICE, HEALTH):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)

    async def stop(self) -> None:
        """Refuse new calls, let open ones end for a moment, then end them with UNAVAILABLE."""
        await self._health.enter_graceful_shutdown()
        self._observer.stopping.set()
        await self._server.stop(GRACE_SECONDS)
        if self._watch is not None:
            self._watch.cancel()
        await asyncio.to_thread(self._observer.close)


def _credentials(tls: config.ServeTls) -> grpc.ServerCredentials:
    """Return credentials that follow the files: certificates are renewed while the server runs."""
    known = _Files(tls)

    def fetch() -> Any:
        try:
            return known.configuration(only_new=True)
        except ConfigError:
            return None  # a file that is being replaced: the previous certificate stays

    return grpc.dynamic_ssl_server_credentials(known.configuration(), fetch, require_client_authentication=tls.client_ca is not None)


class _Files:
    """The certificate files and when they were last changed."""

    def __init__(self, tls: config.ServeTls) -> None:
        self._paths = (tls.key, tls.cert, *((tls.client_ca,) if tls.client_ca else ()))
        self._seen: tuple[int, ...] = ()

    def configuration(self, *, only_new: bool = False) -> Any:
        """Return the certificates; None if `only_new` and the files are as before. Raises ConfigError naming the file."""
        try:
            changed = tuple(path.stat().st_mtime_ns for path in self._paths)
            if only_new and changed == self._seen:
                return None
            key, cert, *authority = (path.read_bytes() for path in self._paths)
        except OSError as error:
            raise ConfigError(f"serve.tls: {error.filename}: cannot be read: {error.strerror}") from error
        self._seen = changed
        return grpc.ssl_server_certificate_configuration([(key, cert)], root_certificates=authority[0] if authority else None)
