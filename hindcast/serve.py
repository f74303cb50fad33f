"""`hindcast serve`: Hubble's Observer API over the lake's history, for `hubble` and whatever else speaks it."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, LakeOption
from hindcast.query_options import GroupOption, open_door, principal
from warehouse import config
from warehouse.errors import ConfigError

if TYPE_CHECKING:
    from api.server import Server


def serve(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    listen: Annotated[str | None, typer.Option("--listen", help="host:port, instead of serve.listen in the configuration.")] = None,
    flight: Annotated[str | None, typer.Option("--flight-listen", help="host:port of Flight SQL, instead of serve.flight_listen.")] = None,
    plaintext: Annotated[bool, typer.Option("--plaintext", help="Without TLS and sign-in, on loopback only.")] = False,
    user: Annotated[str | None, typer.Option("--as", help="With --plaintext: answer as this user, not as the operator.")] = None,
    groups: GroupOption = None,
) -> None:
    """Serve the lake's history to `hubble observe --server HOST:PORT`, and follow what collectors add to it.

    Callers are identified by client certificate, personal token (`hindcast token create`) or OpenID token, and see what they may
    see; with --plaintext everyone on this machine is the operator, or the user of --as. SIGTERM and Ctrl-C end it.
    """
    from api import identity, observer, server

    settings = config.Config() if lake_url and not config_path else config.load_config(config_path)
    address = listen or settings.serve.listen
    check_address(address, plaintext=plaintext, has_tls=settings.serve.tls is not None)
    if user and not plaintext:
        raise ConfigError("--as works with --plaintext only: with TLS, callers say who they are")
    door = open_door(config_path, lake_url, "serve")
    if plaintext:
        identities: identity.Fixed | identity.SignedIn = identity.Fixed(principal(user, groups))
    else:
        identities = identity.SignedIn(settings.serve, door.lake)
    observing = observer.Observer(door, identities, settings.serve.limits)
    tls = None if plaintext else settings.serve.tls
    flight_address = settings.serve.flight_listen if flight is None else flight
    if flight_address:
        from api.flight import FlightSql

        check_address(flight_address, plaintext=plaintext, has_tls=tls is not None, key="serve.flight_listen")
        sql = FlightSql(door, identities, settings.serve.limits, flight_address, tls)
        try:
            typer.echo(f"Flight SQL on {flight_address.rpartition(':')[0]}:{sql.port}")
            server.run(_run(server.Server(observing, address, tls), address))
        finally:
            has_ended = sql.stop(server.GRACE_SECONDS)
        if not has_ended:
            sys.stdout.flush()
            os._exit(0)  # a client that reads nothing would keep the process; its statement has ended and is in the access log
    else:
        server.run(_run(server.Server(observing, address, tls), address))


def check_address(address: str, *, plaintext: bool, has_tls: bool, key: str = "serve.listen") -> None:
    """Raise ConfigError unless the address can be used, with TLS or, on loopback, without."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"{key}: {address!r} is not host:port, e.g. 127.0.0.1:4245")
    if plaintext and not _is_loopback(host):
        raise ConfigError(
            f"{key}: {address!r} must be a loopback address, e.g. 127.0.0.1:4245, because there is no sign-in with --plaintext"
        )
    if not plaintext and not has_tls:
        raise ConfigError("serve.tls: give cert and key, or --plaintext to serve this machine only, without sign-in")


async def _run(serving: Server, address: str) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    await serving.start()
    typer.echo(f"serving {address.rpartition(':')[0]}:{serving.port}")
    try:
        await stopped.wait()
    finally:
        await serving.stop()


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
