"""What begins when a browser asks for a page's address: the questions that the page will ask, for who asks.

It is a head start and nothing more. A page whose question differs, because a minute has passed or the address was changed, asks as
ever; nothing is begun for whom the request does not identify, or for a page without a function `asks`.
"""

from __future__ import annotations

import importlib
from datetime import UTC, datetime
from urllib.parse import parse_qs

import structlog
from starlette.requests import Request

from dashboards import ahead, opened, views
from dashboards.access import identity, sign_in
from dashboards.frame import time_control, url_state
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import HindcastError

_log = structlog.get_logger()


def begin(request: Request) -> None:
    """Begin the questions of the page that a request is for, if a browser says that it is to show the page.

    A probe that fetches the address, or a picture on another site, asks nothing in anyone's name. Browsers say it over TLS and on loopback.
    """
    if request.headers.get("sec-fetch-dest") != "document":
        return
    page = request.url.path.strip("/") or "overview"
    # Pages are imported here and not above, so that the server starts to serve before they are.
    asks = getattr(importlib.import_module(f"{views.__name__}.{page.replace('-', '_')}"), "asks", None)
    if asks is None:
        return
    parts = parse_qs(request.url.query)
    try:
        settings = opened.configuration()
        with url_state.of_request(parts):
            who = _who(request, settings)
            questions = asks(time_control.window(datetime.now(UTC).replace(microsecond=0)))
        door = opened.door(settings, page)
        if who is not None and not door.scope(who).is_empty:  # one refusal in the access log, by the page, says it all
            for question in questions:
                ahead.begin_for_page(door, who, question)
    except HindcastError as error:
        _log.debug("nothing is asked ahead of the page, which will say why", page=page, reason=str(error))


def _who(request: Request, settings: config.Config) -> Principal | None:
    """Return who sends a request; None for a stranger."""
    if settings.dashboard.auth.mode != "local":
        return sign_in.sender_of(request.scope, settings.dashboard.auth)
    known = identity.subjects(settings)
    chosen = url_state.get("user") or (known[0] if known else "")
    return identity.as_principal(chosen) if chosen in known else None
