"""One streaming gRPC call over libcurl, which does HTTP/2 and TLS; frames and statuses are read here.

grpcio returns each message by itself, which costs more than everything else that happens to a flow. Here a stream's
bytes are read as they arrive, and cut into messages by the hundred. The one module that imports pycurl.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pycurl

from collectors.streaming.failures import explain
from collectors.streaming.messages import Cutter, Messages
from warehouse.errors import StreamRefusedError

CONNECT_SECONDS = 20
IDLE_SECONDS, CONNECTING_SECONDS = 5.0, 0.05
"""How often libcurl is given a turn while nothing arrives, and before there is a connection: a process may have a thousand calls."""
GATHER_SECONDS = 0.5
GATHER_BYTES = 32 * 1024
"""A waiting thread wakes up when this many bytes have arrived, or after GATHER_SECONDS: waking up costs as much as many messages.

Far less than fits into the socket's buffer, so that the server never has to wait.
"""
READ_BYTES = 256 * 1024
"""When more bytes than this have arrived, about this many are handed on at once."""
# Dead connections are found by TCP's own probes: servers close connections that are sent HTTP/2 pings too often.
PROBE_AFTER_SECONDS, PROBE_EVERY_SECONDS = 60, 15
_PROTOCOLS = {"http": pycurl.PROTO_HTTP, "https": pycurl.PROTO_HTTPS}
_OK, _UNKNOWN = 0, 2
_STATUSES = (
    *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED"),
    *("RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE"),
    *("DATA_LOSS", "UNAUTHENTICATED"),
)
_OF_HTTP = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "UNIMPLEMENTED", 429: "UNAVAILABLE"} | dict.fromkeys(
    (502, 503, 504), "UNAVAILABLE"
)
"""The gRPC status for the HTTP status of a response that is not from a gRPC server, for example from a proxy."""


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """Certificates and key for TLS, in PEM. TLS 1.3 is the oldest version accepted."""

    ca: bytes = field(repr=False)
    cert: bytes | None = field(repr=False)
    key: bytes | None = field(repr=False)
    server_name: str | None
    """The name in the server's certificate, if it is not the host of the address."""


class Call:
    """A running stream of messages. One thread may iterate over it, once."""

    def __init__(
        self, address: str, method: str, request: bytes, *, credentials: Credentials | None, metadata: Sequence[tuple[str, str]]
    ) -> None:
        """Prepare a call of `method` ("/package.Service/Method") at host:port, in plain text without credentials. Iterating connects.

        Raises StreamRefusedError if the address, the method or the credentials cannot be used.
        """
        self._address = address
        self._cancelled = threading.Event()
        self._pipe: tuple[int, ...] = ()
        self._cutter = Cutter()
        self._chunks: list[bytes] = []
        self._lines: list[bytes] = []
        self._headers: dict[str, str] = {}
        self._curl = pycurl.Curl()
        try:
            self._pipe = self._woken, self._wake = os.pipe()
            os.set_blocking(self._wake, False)
            self._ask(method, request, credentials, metadata)
        except (pycurl.error, UnicodeError, OSError) as error:
            raise StreamRefusedError(f"{address}: it cannot be asked: {error}") from error

    def __iter__(self) -> Iterator[Messages]:
        """Yield messages as they arrive, until the server ends the stream with OK. Raises StreamError, StreamRefusedError.

        Nothing is read while the caller does not ask for more messages, so the server has to wait.
        """
        multi = pycurl.CurlMulti()
        multi.add_handle(self._curl)
        try:
            running = True
            while running:
                if self._cancelled.is_set():
                    raise explain("CANCELLED", "by us", self._address)
                running = self._read(multi)
                if self._chunks:
                    if (messages := self._cut()) is not None:
                        yield messages
                        if running:
                            self._gather()
                elif running:
                    self._wait(IDLE_SECONDS)
            self._check_end(multi)
        finally:
            multi.remove_handle(self._curl)
            self._curl.close()
            multi.close()

    def cancel(self) -> None:
        """End the stream, from any thread; the iterating thread gets a StreamError."""
        self._cancelled.set()
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # it is being woken already, or has ended
            os.write(self._wake, b"x")

    def __del__(self) -> None:
        for end in self._pipe:
            os.close(end)

    def _ask(self, method: str, request: bytes, credentials: Credentials | None, metadata: Sequence[tuple[str, str]]) -> None:
        curl = self._curl
        host, _, port = self._address.rpartition(":")
        scheme, name = ("http" if credentials is None else "https"), host
        headers = ["content-type: application/grpc", "te: trailers", "user-agent: hindcast", "accept:", "expect:"]
        if credentials is not None:
            if credentials.server_name:
                name = credentials.server_name
                headers.append(f"host: {name}")
                curl.setopt(curl.CONNECT_TO, [f"::{host}:{port}"])
            self._trust(credentials)
        headers += [f"{key}: {value}" for key, value in metadata]
        curl.setopt(curl.URL, f"{scheme}://{name}:{port}{method}")
        curl.setopt(curl.PROTOCOLS, _PROTOCOLS[scheme])
        curl.setopt(curl.HTTP_VERSION, curl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE)
        curl.setopt(curl.HTTPHEADER, headers)
        curl.setopt(curl.POSTFIELDS, b"\0" + len(request).to_bytes(4, "big") + request)
        curl.setopt(curl.PROXY, _proxy(host))
        curl.setopt(curl.HTTPPROXYTUNNEL, 1)
        curl.setopt(curl.NOSIGNAL, 1)  # signals are for the main thread
        curl.setopt(curl.CONNECTTIMEOUT, CONNECT_SECONDS)
        curl.setopt(curl.TCP_KEEPALIVE, 1)
        curl.setopt(curl.TCP_KEEPIDLE, PROBE_AFTER_SECONDS)
        curl.setopt(curl.TCP_KEEPINTVL, PROBE_EVERY_SECONDS)
        curl.setopt(curl.BUFFERSIZE, READ_BYTES)
        # Python code of ours would cost more than the append, and be run for every message.
        curl.setopt(curl.WRITEFUNCTION, self._chunks.append)
        curl.setopt(curl.HEADERFUNCTION, self._lines.append)

    def _trust(self, credentials: Credentials) -> None:
        curl = self._curl
        curl.setopt(curl.SSLVERSION, curl.SSLVERSION_TLSv1_3)
        curl.setopt(curl.SSL_VERIFYPEER, 1)
        curl.setopt(curl.SSL_VERIFYHOST, 2)
        curl.unsetopt(curl.CAPATH)  # else the authorities that libcurl was built with would be trusted too
        curl.setopt(curl.CAINFO_BLOB, credentials.ca)
        if credentials.cert is not None and credentials.key is not None:
            curl.setopt(curl.SSLCERT_BLOB, credentials.cert)
            curl.setopt(curl.SSLKEY_BLOB, credentials.key)

    def _read(self, multi: pycurl.CurlMulti) -> bool:
        """Read available bytes into `_chunks`, up to a limit. Return false if the transfer is over."""
        chunks, had, size = self._chunks, -1, 0
        running = 1
        while running and len(chunks) != had and size < READ_BYTES:
            had = len(chunks)
            running = multi.perform()[1]
            size += sum(map(len, chunks[had if had > 0 else 0 :]))
        return running > 0

    def _wait(self, seconds: float) -> None:
        """Wait until something arrives, or the call is cancelled.

        Not by libcurl's select, which fails at once for sockets whose number is 1,024 or more.
        """
        number = self._curl.getinfo(pycurl.ACTIVESOCKET)
        waiting = select.poll()
        waiting.register(self._woken, select.POLLIN)
        if number >= 0:
            waiting.register(number, select.POLLIN)
        waiting.poll((seconds if number >= 0 else CONNECTING_SECONDS) * 1_000)

    def _gather(self) -> None:
        """Wait a short time for enough bytes to make reading worthwhile."""
        number = self._curl.getinfo(pycurl.ACTIVESOCKET)
        if number < 0:
            return
        with socket.socket(fileno=os.dup(number)) as ours:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, GATHER_BYTES)
            self._wait(GATHER_SECONDS)
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _cut(self) -> Messages | None:
        self._check_kind()
        try:
            messages = self._cutter.cut(self._chunks)
        except ValueError as error:
            raise explain("INTERNAL", str(error), self._address) from error
        finally:
            self._chunks.clear()
        return messages

    def _read_headers(self) -> None:
        for line in self._lines:
            text = line.decode("latin-1").strip()
            if text.startswith("HTTP/"):  # an answer begins; one before it was a proxy's
                self._headers = {":status": text.split()[1]}
            elif ":" in text:
                name, _, value = text.partition(":")
                self._headers[name.lower()] = value.strip()
        self._lines.clear()

    def _check_kind(self) -> None:
        """Raise StreamError if the response is not gRPC."""
        if self._lines:
            self._read_headers()
        status, kind = int(self._headers.get(":status", 0)), self._headers.get("content-type", "")
        if status != 200:
            raise explain(_OF_HTTP.get(status, "UNKNOWN"), f"HTTP status {status}", self._address)
        if not kind.startswith("application/grpc"):
            raise explain("UNKNOWN", f"the answer is not gRPC; its content type is {kind or 'missing'}", self._address)

    def _check_end(self, multi: pycurl.CurlMulti) -> None:
        """Raise StreamError unless the stream ended with status OK."""
        _, _, failed = multi.info_read()
        self._read_headers()
        status = self._headers.get("grpc-status")
        if status is None:
            if failed:
                raise explain("UNAVAILABLE", failed[0][2] or self._curl.errstr(), self._address)
            self._check_kind()
            raise explain("UNAVAILABLE", "the stream ended without a status", self._address)
        code = int(status) if status.isdecimal() else _UNKNOWN
        if code != _OK:
            name = _STATUSES[code] if code < len(_STATUSES) else f"status {code}"
            raise explain(name, urllib.parse.unquote(self._headers.get("grpc-message", "")), self._address)


def _proxy(host: str) -> str:
    """Return the proxy for a host from the environment variables that gRPC reads; an empty string for none."""
    proxies = urllib.request.getproxies()
    if urllib.request.proxy_bypass(host):
        return ""
    return proxies.get("grpc") or proxies.get("https") or proxies.get("http") or ""
