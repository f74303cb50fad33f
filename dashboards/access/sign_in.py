"""What the server demands of every request before Streamlit sees it. Pure ASGI; it knows nothing of pages.

- proxy mode: the shared secret, and exactly one of each header that names the user; all others are refused.
- files of sessions (`/media`): only for who made them, so that a copied address gives nothing to a stranger.
- oidc mode: a deep link is remembered while its reader signs in.
"""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import SimpleCookie
from typing import Any
from urllib.parse import quote, unquote

from streamlit import runtime
from streamlit.auth_util import get_cookie_with_chunks
from streamlit.web.server.server_util import get_cookie_secret
from streamlit.web.server.starlette.starlette_app_utils import decode_signed_value
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from dashboards.access import identity, made_files
from warehouse import config
from warehouse.access.principals import Principal

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

LINK_COOKIE = "hindcast_link"
LINK_SECONDS = 600
LONGEST_LINK = 3_000
HEALTH = "/_stcore/health"
_OURS = ("/_stcore/", "/media/", "/static/", "/app/static/", "/auth/", "/oauth2callback", "/component/", "/assets/", "/favicon", "/export")


class ProxySecret:
    """Lets through only what the proxy sent; health is answered to anyone."""

    def __init__(self, app: App, *, settings: config.Proxy, secret: str) -> None:
        self._app, self._settings, self._secret = app, settings, secret.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope.get("path") == HEALTH:
            await self._app(scope, receive, send)
            return
        given = _values(scope, self._settings.secret_header)
        users, groups = _values(scope, self._settings.user_header), _values(scope, self._settings.groups_header)
        if len(given) != 1 or not hmac.compare_digest(given[0], self._secret):
            await _refuse(scope, receive, send, "This dashboard answers only its proxy.")
        elif len(users) != 1 or not users[0].strip() or len(groups) > 1:
            await _refuse(scope, receive, send, "The proxy must name one user, and groups at most once.")
        else:
            hidden = self._settings.secret_header.lower().encode()
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name != hidden]
            await self._app(scope, receive, send)


class OwnMedia:
    """Gives a session's files to nobody but the person whose session made them."""

    def __init__(self, app: App, *, settings: config.DashboardAuth) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith("/media/") and not self._may_have(scope, path.removeprefix("/media/")):
            await _refuse(scope, receive, send, "This file belongs to someone else's session.")
            return
        await self._app(scope, receive, send)

    def _may_have(self, scope: Scope, file: str) -> bool:
        who = sender_of(scope, self._settings)
        return who is not None and who in _makers(file.partition(".")[0], self._settings)


class KeepLink:
    """Remembers where a reader who is not signed in wanted to go, and sends her there once she is."""

    def __init__(self, app: App, *, settings: config.DashboardAuth) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or scope.get("method") != "GET":
            await self._app(scope, receive, send)
        elif path.endswith("/oauth2callback"):
            await self._app(scope, receive, _on_start(send, lambda message: _send_on(message, scope)))
        elif not path.startswith(_OURS) and b"text/html" in b",".join(_values(scope, "accept")):
            wanted = path + (f"?{scope['query_string'].decode('latin-1')}" if scope.get("query_string") else "")
            if sender_of(scope, self._settings) is None and 1 < len(wanted) <= LONGEST_LINK:
                await self._app(scope, receive, _on_start(send, lambda message: _set_cookie(message, quote(wanted, safe=""), LINK_SECONDS)))
            else:
                await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, send)


def sender_of(scope: Scope, settings: config.DashboardAuth) -> Principal | None:
    """Who sends a request; None for a stranger, or a session that is over."""
    if settings.mode == "local":
        return LOCAL
    if settings.proxy:
        headers = {"user": settings.proxy.user_header, "groups": settings.proxy.groups_header}
        claims: Mapping[str, Any] = {key: (b",".join(_values(scope, header))).decode("latin-1") for key, header in headers.items()}
    else:
        claims = _claims(scope)
        left = identity.seconds_left(claims, time.time())
        if not claims.get("is_logged_in") or (left is not None and left <= 0):
            return None
    return identity.principal_of(claims, settings)


LOCAL = Principal(user="whoever sits at this machine")


def _makers(file_id: str, settings: config.DashboardAuth) -> set[Principal | None]:
    """Whose sessions have made a file that is still kept."""
    if not runtime.exists():
        return set()
    # Streamlit keeps this to itself; the version is pinned, and a test downloads as two people.
    running: Any = runtime.get_instance()
    made = {session for session, files in running.media_file_mgr._files_by_session_and_coord.items() if file_id in files.values()}
    noted = made_files.makers(file_id)
    if settings.mode == "local":
        return {LOCAL} if made or noted else set()
    infos = [running._session_mgr.get_session_info(session) for session in made]
    return {*noted, *(identity.principal_of(info.session._user_info, settings) for info in infos if info is not None)}


def _claims(scope: Scope) -> dict[str, Any]:
    """What the signed cookie of Streamlit's sign-in says."""
    cookies: SimpleCookie = SimpleCookie()
    for value in _values(scope, "cookie"):
        cookies.load(value.decode("latin-1"))

    def signed(name: str) -> bytes | None:
        return decode_signed_value(get_cookie_secret(), name, cookies[name].value.encode("latin-1")) if name in cookies else None

    written = get_cookie_with_chunks(signed, USER_COOKIE_NAME)
    try:
        claims = json.loads(written) if written else {}
    except ValueError:
        return {}
    return claims if isinstance(claims, dict) else {}


def _values(scope: Scope, header: str) -> list[bytes]:
    name = header.lower().encode()
    return [value for key, value in scope.get("headers", []) if key.lower() == name]


def _on_start(send: Send, change: Callable[[Message], None]) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            change(message)
        await send(message)

    return sent


def _set_cookie(message: Message, value: str, seconds: int) -> None:
    written = f"{LINK_COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Lax"
    message["headers"] = [*message.get("headers", []), (b"set-cookie", written.encode("latin-1"))]


def _send_on(message: Message, scope: Scope) -> None:
    """Put the remembered link in the place of the start page; never one that leads to another host."""
    cookies: SimpleCookie = SimpleCookie()
    for value in _values(scope, "cookie"):
        cookies.load(value.decode("latin-1"))
    if LINK_COOKIE not in cookies or message["status"] not in (302, 303, 307):
        return
    wanted = unquote(cookies[LINK_COOKIE].value)
    if wanted.startswith("/") and not wanted.startswith("//") and not set(wanted) & set("\\\r\n\t") and wanted.isprintable():
        headers = [(name, value) for name, value in message["headers"] if name.lower() != b"location"]
        message["headers"] = [*headers, (b"location", quote(wanted, safe="/?&=%:,+~!*'()@;$-._#[]").encode("latin-1"))]
    _set_cookie(message, "", 0)


async def _refuse(scope: Scope, receive: Receive, send: Send, text: str) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008, "reason": text})
        return
    body = text.encode()
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-store"),
    ]
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})
