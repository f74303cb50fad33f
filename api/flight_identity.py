"""Who makes a call of Flight SQL, about which span of time, and in which errors it ends.

Flight tells a call's headers before, and its address only to the method that answers it. So credentials are checked in the methods: whoever
guesses is slowed by address, as at the other doors. A password is what the client goes on to send as a bearer token, checked or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow.flight as fl

from api.identity import Fixed, SignedIn, basic
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError, HindcastError, QueryError, QueryLimitError

IDENTITY = "identity"
"""The name of the middleware."""
_SINCE, _UNTIL = "hindcast-since", "hindcast-until"


class RefusedError(fl.FlightServerError):  # type: ignore[misc]
    """A request that is wrong, in words for the client.

    Flight sends the traceback of any exception that is not its own, so other kinds must not reach it.
    """


class NoHandshake(fl.ServerAuthHandler):  # type: ignore[misc]
    """Accepts the call by which clients exchange a password for a token; the middleware does the work."""

    def authenticate(self, outgoing: Any, incoming: Any) -> None:
        """Do nothing."""

    def is_valid(self, token: Any) -> bytes:
        """Accept: the methods check the credentials."""
        return b""


class Asking(fl.ServerMiddleware):  # type: ignore[misc]
    """The credentials of a call, and the bearer token that the client is to send from now on."""

    def __init__(self, header: str, bearer: str, window: Window) -> None:
        self.header = header
        self.window = window
        """The span of time that statements are about, as the client's headers say."""
        self.principal: Principal | None = None
        """Who asks, once the credentials have been checked."""
        self._bearer = bearer

    def sending_headers(self) -> Mapping[str, str]:
        """Return the token of a password, so that the client sends it with later calls."""
        return {"authorization": f"Bearer {self._bearer}"} if self._bearer else {}


class Identify(fl.ServerMiddlewareFactory):  # type: ignore[misc]
    """Reads the headers of each call before anything else is done for it."""

    def __init__(self, identities: Fixed | SignedIn) -> None:
        self._identities = identities

    def start_call(self, _info: Any, headers: Mapping[str, list[str]]) -> Asking:
        """Return what the headers say. Raises FlightUnauthenticatedError if there are no credentials, RefusedError for a wrong time."""
        given = {name.lower(): values[0] for name, values in headers.items() if values}
        header, window = given.get("authorization", ""), _window(given)
        is_password = header.lower().startswith("basic ")
        if isinstance(self._identities, Fixed):
            return Asking(header, "anyone" if is_password else "", window)
        if not header:
            raise fl.FlightUnauthenticatedError("no credentials: use a personal token (`hindcast token create`) as password or bearer")
        try:
            return Asking(header, basic(header.partition(" ")[2].strip())[1] if is_password else "", window)
        except AccessDeniedError as error:
            raise fl.FlightUnauthenticatedError(str(error)) from error


def asking_of(context: Any) -> Asking:
    """Return what the headers of a call say."""
    found: Asking = context.get_middleware(IDENTITY)
    return found


def principal_of(context: Any, identities: Fixed | SignedIn) -> Principal:
    """Return who makes a call. Blocks. Raises FlightUnauthenticatedError, FlightUnavailableError."""
    if isinstance(identities, Fixed):
        return identities.only
    asking = asking_of(context)
    if asking.principal is None:
        peer = context.peer()
        address = (peer.decode() if isinstance(peer, bytes) else str(peer)).partition(":")[2].rpartition(":")[0]
        try:
            asking.principal = identities.of_header(asking.header, address)
        except AccessDeniedError as error:
            raise fl.FlightUnauthenticatedError(str(error)) from error
        except HindcastError as error:
            raise fl.FlightUnavailableError(str(error)) from error
    return asking.principal


def _window(headers: Mapping[str, str]) -> Window:
    """Return the span between the headers `hindcast-since` and `hindcast-until`, each an age or a time. Raises RefusedError."""
    bounds = []
    for name in (_SINCE, _UNTIL):
        text = headers.get(name)
        try:
            bounds.append(None if text is None else _moment(text))
        except ValueError as error:
            raise RefusedError(f"{name}: {error}") from error
    return Window(since=bounds[0], until=bounds[1])


def _moment(text: str) -> datetime | None:
    try:
        return datetime.now(UTC) - config.parse_duration(text)
    except ValueError:
        return config.parse_moment(text)


def translated(error: HindcastError) -> Any:
    """Return the error of Flight that tells a client of one of ours."""
    if isinstance(error, AccessDeniedError):
        return fl.FlightUnauthorizedError(str(error))
    if isinstance(error, QueryLimitError):
        return fl.FlightTimedOutError(str(error))
    return RefusedError(str(error)) if isinstance(error, QueryError) else fl.FlightUnavailableError(str(error))
