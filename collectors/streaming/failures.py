"""Explains a failed call to Hubble: turns a gRPC status and its details into an error that says whether retrying may help.

Recognises the messages of both transports: grpcio's (BoringSSL) and libcurl's (OpenSSL). Calling does not belong here.
"""

from __future__ import annotations

from warehouse.errors import StreamError, StreamRefusedError


def explain(code: str, details: str, address: str) -> StreamError:
    """The error to raise for a status, given by the name gRPC has for it (`UNAVAILABLE`)."""
    details = details.strip()
    lower = details.lower()
    for sign, meaning in _REFUSALS:
        if sign in lower:
            return StreamRefusedError(f"{address}: {meaning} ({details})")
    match code:
        case "UNIMPLEMENTED":
            text = "it does not speak Hubble's Observer API (Unimplemented): is this the address of hubble-relay or of a Hubble node?"
            return StreamRefusedError(f"{address}: {text}")
        case "UNAUTHENTICATED" | "PERMISSION_DENIED":
            return StreamRefusedError(f"{address}: it refuses who we are: check hubble.auth and hubble.tls.cert ({details})")
        case "INVALID_ARGUMENT":
            return StreamRefusedError(f"{address}: it refuses the request: check hubble.allow and hubble.deny ({details})")
        case "UNAVAILABLE":
            # With TLS 1.3 a server that refuses our certificate may just hang up.
            hung_up = any(sign in lower for sign in _HUNG_UP)
            hint = "; if it asks for a client certificate, check hubble.tls.cert and hubble.tls.key" if hung_up else ""
            return StreamError(f"{address}: cannot be reached or went away{hint} ({details})")
        case _:
            return StreamError(f"{address}: the call failed: {code} {details}")


_HUNG_UP = ("socket closed", "connection reset", "broken pipe", "unexpected eof")
_OTHER_NAME = "its certificate is for another name: set hubble.tls.server_name to the name it carries"
_OUR_CERTIFICATE = "it does not accept our client certificate: check hubble.tls.cert"
_REFUSALS = (
    ("wrong_version_number", "it answers without TLS: say hubble.plaintext: true if that is meant"),
    ("wrong version number", "it answers without TLS: say hubble.plaintext: true if that is meant"),
    ("hostname verification", _OTHER_NAME),
    ("not match peer certificate", _OTHER_NAME),
    ("no alternative certificate subject name", _OTHER_NAME),
    ("alert certificate required", "it asks for a client certificate: set hubble.tls.cert and hubble.tls.key"),
    ("certificate_required", "it asks for a client certificate: set hubble.tls.cert and hubble.tls.key"),
    ("alert certificate", _OUR_CERTIFICATE),
    ("alert bad certificate", _OUR_CERTIFICATE),
    ("alert unknown ca", _OUR_CERTIFICATE),
    ("alert_unknown_ca", _OUR_CERTIFICATE),
    ("alert protocol version", "it does not speak TLS 1.3"),
    ("could not load pem client certificate", "hubble.tls.cert cannot be used"),
    ("unable to set private key", "hubble.tls.key cannot be used, or does not belong to hubble.tls.cert"),
    ("certificate blob", "hubble.tls.ca cannot be used"),
    ("certificate has expired", "its certificate has expired"),
    ("certificate_verify_failed", "its certificate is not signed by hubble.tls.ca, or is not valid now"),
    ("verify result", "its certificate is not signed by hubble.tls.ca, or is not valid now"),
    ("certificate problem", "its certificate is not signed by hubble.tls.ca, or is not valid now"),
)
"""Words in details, in small letters, and what they mean."""
