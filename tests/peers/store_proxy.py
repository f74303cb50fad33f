"""A proxy before an S3 server: counts requests, and makes those fail that a test wants to fail.

This file knows nothing of pytest or of Hindcast.
"""

import collections
import collections.abc
import contextlib
import dataclasses
import http.client
import http.server
import threading
import time

_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}


@dataclasses.dataclass(frozen=True)
class Request:
    """What a client asks of the store."""

    method: str
    path: str
    """With its query, as it was sent."""

    @property
    def kind(self) -> str:
        """Its method, or LIST, as stores charge for it."""
        return "LIST" if self.method == "GET" and "list-type=2" in self.path else self.method


@dataclasses.dataclass(frozen=True)
class Fault:
    """What happens to a request instead of the usual."""

    status: int = 0
    """Answered by the proxy with this status and an S3 error; 0 lets the request through."""

    code: str = "SlowDown"
    """The error's code."""

    is_lost: bool = False
    """The store does it, but its answer never arrives."""

    is_refused: bool = False
    """The connection is closed and the store is not asked."""

    seconds: float = 0.0
    """How long the request waits before anything happens."""

    without: str = ""
    """A header that the store does not get to see, in small letters."""


class Proxy:
    """Counts what passes, and applies `fault` to each request."""

    def __init__(self, store: str) -> None:
        self.store = store
        """`host:port` of the store; may be changed while requests pass."""
        self.counts: collections.Counter[str] = collections.Counter()
        self.fault: collections.abc.Callable[[Request], Fault | None] = lambda _request: None
        self._lock = threading.Lock()
        self.address = ""

    def noted(self, request: Request) -> Fault:
        """Count a request, and say what happens to it."""
        with self._lock:
            self.counts[request.kind] += 1
            return self.fault(request) or Fault()

    def taken(self) -> collections.Counter[str]:
        """The requests since the last call, by kind."""
        with self._lock:
            found, self.counts = self.counts, collections.Counter()
        return found


@contextlib.contextmanager
def proxy(store: str) -> collections.abc.Iterator[Proxy]:
    """Run a proxy on loopback before a store at `host:port`."""
    made = Proxy(store)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        upstream: http.client.HTTPConnection | None = None

        def log_message(self, *_arguments: object) -> None:
            """Nothing is printed."""

        def handle_one(self) -> None:
            """Pass one request on."""
            fault = made.noted(Request(self.command, self.path))
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            time.sleep(fault.seconds)
            if fault.is_refused:
                self.close_connection = True
                return
            if fault.status:
                text = f"<Error><Code>{fault.code}</Code><Message>made by a test</Message></Error>"
                self._answer(fault.status, [], b"" if self.command == "HEAD" else text.encode())
                return
            try:
                status, headers, content = self._ask(body, fault)
            except (OSError, http.client.HTTPException):  # the store is away
                self.close_connection = True
                return
            if fault.is_lost:
                self.close_connection = True
                return
            self._answer(status, headers, content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_one

        def _ask(
            self, body: bytes, fault: Fault
        ) -> tuple[int, list[tuple[str, str]], bytes]:
            host, _, port = made.store.partition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            with contextlib.closing(connection):
                connection.putrequest(
                    self.command, self.path, skip_host=True, skip_accept_encoding=True
                )
                for name, value in self.headers.items():
                    if name.lower() not in (*_HOP, fault.without):
                        connection.putheader(name, value)
                connection.putheader("content-length", str(len(body)))
                connection.endheaders(body)
                answer = connection.getresponse()
                return answer.status, answer.getheaders(), answer.read()

        def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
            self.send_response_only(status)
            length = None
            for name, value in headers:
                if name.lower() == "content-length":
                    length = value
                elif name.lower() not in _HOP:
                    self.send_header(name, value)
            is_head = self.command == "HEAD"
            self.send_header("Content-Length", length or "0" if is_head else str(len(content)))
            self.end_headers()
            with contextlib.suppress(OSError):  # the client did not wait
                self.wfile.write(content)

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 64

    server = Server(("127.0.0.1", 0), Handler)
    made.address = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
