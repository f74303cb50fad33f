"""Finds out whether the configured engine can be used, and connects to it.

An engine that is away, or of a version that is not known to give the same results, is not used: the embedded one does the work, and
the log says so. Nothing here knows what the work is.
"""

from __future__ import annotations

import contextlib
import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from warehouse import config
from warehouse.errors import EngineError

if TYPE_CHECKING:
    from warehouse.engines.spark import SparkConnection

MAJOR_VERSION = 4
"""The major version of Spark that a server must have, or claim to be like."""
ANSWER_SECONDS = 5.0
RETRIES = 3
"""How often a call is repeated; the client's own patience is ten minutes, in which the embedded engine could have done the work."""
_log = structlog.get_logger()


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A server that can be used."""

    settings: config.Engine

    def connect(self) -> SparkConnection:
        """Return a new session on the server, to be closed. Raises EngineError."""
        return _connected(self.settings)

    def __str__(self) -> str:
        return "{}:{}".format(*self.settings.host_and_port)


def usable(settings: config.Engine) -> Engine | None:
    """Return the configured engine, or None where there is none or it cannot be used, which is then logged with the reason."""
    if settings.spark is None:
        return None
    try:
        return checked(settings)
    except EngineError as error:
        _log.warning("the engine is not used; the embedded engine does its work", reason=str(error))
        return None


def checked(settings: config.Engine) -> Engine:
    """Return the configured engine. Raises EngineError with the reason why it cannot be used."""
    with _connected(settings) as connection:
        version = connection.version
    if version.split(".")[0] != str(MAJOR_VERSION):
        raise EngineError(f"the engine at {Engine(settings=settings)} is version {version}: Spark {MAJOR_VERSION}.x is needed, or Sail")
    return Engine(settings=settings)


def _connected(settings: config.Engine) -> SparkConnection:
    host, port = settings.host_and_port
    try:
        socket.create_connection((host, port), timeout=ANSWER_SECONDS).close()
    except OSError as error:
        raise EngineError(f"the engine at {host}:{port} cannot be reached: {error}") from error
    try:
        from warehouse.engines.client import DefaultPolicy, SparkSession
        from warehouse.engines.spark import SparkConnection
    except ImportError as error:
        raise EngineError("an engine is configured, but its client is not installed: install hindcast-flows[spark]") from error
    session: SparkSession | None = None
    try:
        session = SparkSession.builder.remote(settings.remote()).create()
        session.client.set_retry_policies([DefaultPolicy(max_retries=RETRIES)])
        return SparkConnection(session, settings.lake)
    except Exception as error:
        if session is not None:
            with contextlib.suppress(Exception):
                session.stop()
        reason = re.sub(r"token=[^;\s]*", "token=...", str(error)).strip() or type(error).__name__
        raise EngineError(f"the engine at {host}:{port} does not speak Spark Connect: {reason.splitlines()[0]}") from error
