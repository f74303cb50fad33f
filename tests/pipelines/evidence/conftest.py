"""Real receivers of messages: a web server, and a mail server with TLS."""

from __future__ import annotations

import email
import json
import ssl
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from pipelines.evidence.delivery import delivering
from tests.peers import certificates

sys.path.insert(0, str(Path(__file__).parent))  # for the recorded incident

SECRET = "T0P-secret"
USER, PASSWORD = "hindcast", "p4ss-w0rd"


class Receiver:
    """A web server that keeps what is posted to it, and answers with the statuses it is given, the last one for ever."""

    def __init__(self) -> None:
        self.statuses, self.got, self.paths, self.headers = [200], list[Any](), list[str](), list[dict[str, str]]()
        self.location, self.hangs, self.released = "", False, threading.Event()
        mine = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if mine.hangs:
                    mine.released.wait(60)
                    return
                mine.got.append(json.loads(body))
                mine.paths.append(self.path)
                mine.headers.append(dict(self.headers))
                status = mine.statuses.pop(0) if len(mine.statuses) > 1 else mine.statuses[0]
                self.send_response(status)
                if mine.location:
                    self.send_header("Location", mine.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_GET = do_POST

            def log_message(self, *_arguments: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        self.url = f"{self.address}/{SECRET}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


class Mailbox:
    """A real mail server that demands TLS and a password, and keeps what it takes."""

    def __init__(self, server_context: ssl.SSLContext, ca: Path) -> None:
        self.ca, self.got = ca, list[Any]()
        self.refuses: dict[str, str] = {}
        self.answers: list[str] = []
        mine = self

        class Handler:
            async def handle_RCPT(self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any) -> str:
                if address in mine.refuses:
                    return mine.refuses[address]
                envelope.rcpt_tos.append(address)
                return "250 OK"

            async def handle_DATA(self, _server: Any, session: Any, envelope: Any) -> str:
                if mine.answers:
                    return mine.answers.pop(0)
                mine.got.append((email.message_from_bytes(envelope.content), envelope.rcpt_tos, session.ssl is not None))
                return "250 taken"

        def authenticate(_server: SMTP, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
            good = isinstance(data, LoginPassword) and (data.login, data.password) == (USER.encode(), PASSWORD.encode())
            return AuthResult(success=good, handled=False)

        self._controller = Controller(
            Handler(),
            hostname="127.0.0.1",
            port=_free_port(),
            tls_context=server_context,
            require_starttls=True,
            auth_required=True,
            authenticator=authenticate,
            auth_require_tls=True,
        )
        self._controller.start()
        self.server = f"127.0.0.1:{self._controller.port}"

    def close(self) -> None:
        self._controller.stop()


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def mail_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailbox]:
    issued = certificates.authority(tmp_path_factory.mktemp("mail"), nodes=())
    certificate, key = issued.issue("mail.test", addresses=["127.0.0.1"], valid_for=timedelta(hours=1))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    made = Mailbox(context, issued.ca)
    yield made
    made.close()


@pytest.fixture
def mailbox(mail_server: Mailbox) -> Mailbox:
    """The mail server, empty."""
    mail_server.got.clear()
    mail_server.refuses.clear()
    mail_server.answers.clear()
    return mail_server


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further tries begin at once."""
    monkeypatch.setattr(delivering, "FIRST_WAIT", timedelta())
