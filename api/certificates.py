"""The certificates of the servers' TLS, which follow their files: certificates are renewed while a server runs."""

from __future__ import annotations

import ssl
from typing import Any

import structlog

from warehouse import config
from warehouse.errors import ConfigError

log = structlog.stdlib.get_logger(__name__)


class Certificates:
    """The server's certificate and the authority of its clients', read again for the next connection after a file changed."""

    def __init__(self, tls: config.ServeTls) -> None:
        self._tls = tls
        self._paths = (tls.cert, tls.key, *((tls.client_ca,) if tls.client_ca else ()))
        self._seen: tuple[int, ...] = ()
        self._newest = self._made()

    def context(self) -> ssl.SSLContext:
        """Return the context of a listening socket; each of its handshakes uses the newest files that can be read."""
        first = self._newest
        first.sni_callback = self._choose
        return first

    def _choose(self, connection: Any, _name: str | None, _first: ssl.SSLContext) -> None:
        """Give a connection that begins its handshake the newest certificates."""
        try:
            if self._changed() != self._seen:
                self._newest = self._made()
        except (ConfigError, OSError) as error:
            log.warning("the previous certificate stays in use", reason=str(error))  # a file is being replaced
        connection.context = self._newest

    def _changed(self) -> tuple[int, ...]:
        return tuple(path.stat().st_mtime_ns for path in self._paths)

    def _made(self) -> ssl.SSLContext:
        """Return a context of the files as they are. Raises ConfigError naming the file."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        try:
            seen = self._changed()
            for path in self._paths:
                path.read_bytes()
            context.load_cert_chain(self._tls.cert, self._tls.key)
            if self._tls.client_ca is not None:
                context.load_verify_locations(self._tls.client_ca)
                context.verify_mode = ssl.CERT_REQUIRED
        except ssl.SSLError as error:
            names = ", ".join(str(path) for path in self._paths)
            raise ConfigError(f"serve.tls: {names}: not a certificate and its key: {error.reason or error}") from error
        except OSError as error:
            raise ConfigError(f"serve.tls: {error.filename}: cannot be read: {error.strerror}") from error
        self._seen = seen
        return context
