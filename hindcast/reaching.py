"""Finds out why a Hubble address cannot be used, step by step (name, connection, TLS), and says what to do about it."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import Any

from warehouse import config

CONNECT_SECONDS = 5.0
_RELAY = "kubectl -n kube-system get pods,svc -l k8s-app=hubble-relay"
_SECRET = "the Secret hubble-relay-client-certs in Cilium's namespace"  # noqa: S105 - a name


def advice(hubble: config.Hubble, address: str) -> str:
    """Return what to do so that this address can be used; empty if each step succeeds."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        connection = socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS)
    except socket.gaierror:
        inside = host.endswith((".svc", ".svc.cluster.local", ".local"))
        where = "is a name inside its own cluster, and is not known here" if inside else "is not known to this machine's name servers"
        return f"{host} {where}: expose relay (hubble.relay.service.type, or a gateway for gRPC) and give that address, or run there"
    except TimeoutError:
        return (
            f"nothing answered within {CONNECT_SECONDS:.0f} s: a firewall or NetworkPolicy is between. "
            "The chart's collector may reach what networkPolicy.hubble lists"
        )
    except OSError as error:
        return (
            f"nothing listens at port {port} ({error.strerror}): is relay enabled (hubble.relay.enabled=true) and running ({_RELAY})? "
            "Its Service listens on port 80 without TLS, on 443 with it"
        )
    with connection:
        return _tls_advice(hubble, connection, host)


def _tls_advice(hubble: config.Hubble, connection: socket.socket, host: str) -> str:
    """Return what the TLS of an open connection lacks; the server's certificate is checked as the collector checks it."""
    connection.settimeout(CONNECT_SECONDS)
    if hubble.plaintext:
        speaks = _handshake(_context(None), connection, host)
        is_tls = not isinstance(speaks, OSError) or "ALERT" in str(speaks)
        return f"it speaks TLS: take out plaintext: true, and give tls with ca.crt, tls.crt and tls.key of {_SECRET}" if is_tls else ""
    context = _context(hubble.tls)
    wanted = hubble.tls.server_name or host
    found = _handshake(context, connection, wanted)
    if isinstance(found, ssl.SSLCertVerificationError):
        ours = "" if hubble.tls.ca else "; without tls.ca only public authorities are trusted"
        return f"its certificate is not signed by an authority of tls.ca{ours}: give ca.crt of {_SECRET}"
    if isinstance(found, OSError):
        if "WRONG_VERSION_NUMBER" in str(found):
            return "it answers without TLS: say plaintext: true, or enable it (hubble.relay.tls.server.enabled=true) and use port 443"
        return ""
    if not any(_matches(name, wanted) for name in found):
        example = next((name.replace("*", "relay") for name in found), "a name of its certificate")
        return f"its certificate is for {', '.join(found) or 'no name'}, not {wanted}: set tls.server_name: {example}"
    if hubble.tls.cert is None:
        return f"if it demands a client certificate (hubble.relay.tls.server.mtls), give tls.cert and tls.key of {_SECRET}"
    return f"its certificate is right: it refuses ours, {hubble.tls.cert}; give tls.crt and tls.key of {_SECRET} as they are now"


def _context(tls: config.Tls | None) -> ssl.SSLContext:
    """Return what the collector trusts; with no `tls` anything, since only whether TLS is spoken is asked."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False  # the names are compared afterwards, so that they can be shown
    context.set_alpn_protocols(["h2"])
    if tls is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cafile=tls.ca or _public_authorities())
        if tls.cert is not None:
            context.load_cert_chain(tls.cert, tls.key)
    return context


def _public_authorities() -> Path:
    """Return the file of the authorities that collectors trust where none is configured."""
    import certifi

    return Path(certifi.where())


def _handshake(context: ssl.SSLContext, connection: socket.socket, name: str) -> list[str] | OSError:
    """Shake hands and return the names of the server's certificate (none if it is not checked), or the error."""
    try:
        with context.wrap_socket(connection, server_hostname=name) as secure:
            certificate = secure.getpeercert() or {}
    except OSError as error:
        return error
    alternatives: Any = certificate.get("subjectAltName", ())
    return [value for kind, value in alternatives if kind in ("DNS", "IP Address")]


def _matches(pattern: str, name: str) -> bool:
    """Whether a name of a certificate, which may begin with `*.`, is for this name."""
    if pattern.startswith("*."):
        return name.partition(".")[2].lower() == pattern[2:].lower()
    return pattern.lower() == name.lower()
