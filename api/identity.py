"""On whose behalf a call is made: by personal token, OpenID token or client certificate, or by the operator's choice without sign-in."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from api.openid import OpenId
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError
from warehouse.lake.tables import Lake
from warehouse.records import tokens

log = structlog.stdlib.get_logger(__name__)
LONGEST_DELAY_SECONDS = 10.0
FORGIVEN_SECONDS = 600.0
"""After this long without another failure, failures no longer count."""
MOST_SOURCES = 10_000


class NotSignedInError(Exception):
    """The caller did not say who it is, or not convincingly; the message is for the caller."""


class Identities(Protocol):
    """Says on whose behalf a call is made."""

    async def principal(self, context: Any) -> Principal:
        """Return the principal of a call on grpc's asynchronous server. Raises NotSignedInError."""


class Fixed:
    """The same principal for every call."""

    def __init__(self, principal: Principal) -> None:
        self.only = principal

    async def principal(self, context: Any) -> Principal:
        """Return the principal."""
        return self.only


class SignedIn:
    """The principal that a call's credentials name: a personal token, an OpenID token, or the client certificate."""

    def __init__(self, settings: config.Serve, lake: Lake) -> None:
        self._settings = settings
        self._tokens = tokens.Verifier(lake)
        self._openid = OpenId(settings.oidc) if settings.oidc else None
        self._throttle = Throttle()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="identity")  # one guess at a time

    async def principal(self, context: Any) -> Principal:
        """Return the principal of a call on grpc's asynchronous server. Raises NotSignedInError, HindcastError."""
        header = next((str(value) for name, value in context.invocation_metadata() or () if name == "authorization"), None)
        if header is not None:
            return await self.of_header(header, context.peer())
        given: Mapping[str, list[bytes]] = context.auth_context()
        for pem in given.get("x509_pem_cert", ()):
            return of_certificate(pem, self._settings.certificates)
        raise NotSignedInError(
            "no credentials: use a client certificate, or a personal token (`hindcast token create`) as the password of Basic credentials"
        )

    async def of_header(self, header: str, peer: str) -> Principal:
        """Return the principal that an `authorization` header names. Raises NotSignedInError, HindcastError."""
        source = peer.rpartition(":")[0]
        await asyncio.sleep(self._throttle.delay(source))
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, self.checked, header)
        except AccessDeniedError as error:
            self._throttle.failed(source)
            log.warning("sign-in refused", peer=source, reason=str(error))
            raise NotSignedInError(str(error)) from error
        self._throttle.succeeded(source)
        return found

    def of_password_or_token(self, header: str) -> tuple[Principal, str]:
        """Return the principal that an `authorization` header names, and a bearer token if it was a password. Blocks.

        Raises AccessDeniedError, HindcastError.
        """
        source = f"token {hash(header)}"  # the peer's address is not known here: an attempt slows those with the same credentials
        time.sleep(self._throttle.delay(source))
        try:
            found = self.checked(header)
        except AccessDeniedError as error:
            self._throttle.failed(source)
            log.warning("sign-in refused", reason=str(error))
            raise
        kind, _, value = header.partition(" ")
        return found, basic(value.strip())[1] if kind.lower() == "basic" else ""

    def checked(self, header: str) -> Principal:
        """Return the principal that an `authorization` header names. Blocks. Raises AccessDeniedError, HindcastError."""
        kind, _, value = header.partition(" ")
        value = value.strip()
        if kind.lower() == "basic":
            user, password = basic(value)
            return self._tokens.principal(password, user=user)
        if kind.lower() != "bearer":
            raise AccessDeniedError("the credentials are neither Basic nor Bearer")
        if value.startswith(f"{tokens.PREFIX}_") or self._openid is None:
            return self._tokens.principal(value)
        return self._openid.principal(value)


def basic(value: str) -> tuple[str, str]:
    """Return user and password of Basic credentials, whose padding may be missing. Raises AccessDeniedError."""
    try:
        text = base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode()
    except ValueError as error:
        raise AccessDeniedError("the Basic credentials cannot be decoded") from error
    user, _, password = text.partition(":")
    return user, password


class Throttle:
    """Makes callers that failed to sign in wait, longer with each failure, so that guessing is slow."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}

    def delay(self, source: str) -> float:
        """Return how many seconds the next attempt from an address has to wait."""
        count, at = self._failures.get(source, (0, 0.0))
        if not count or time.monotonic() - at > FORGIVEN_SECONDS:
            return 0.0
        return float(min(LONGEST_DELAY_SECONDS, 0.1 * 2 ** (count - 1)))

    def failed(self, source: str) -> None:
        """Count a failure."""
        now = time.monotonic()
        count, at = self._failures.pop(source, (0, now))
        self._failures[source] = (min(count + 1, 30) if now - at <= FORGIVEN_SECONDS else 1, now)
        if len(self._failures) > MOST_SOURCES:
            del self._failures[next(iter(self._failures))]

    def succeeded(self, source: str) -> None:
        """Halve what is counted: someone with a valid token must not clear the way for guessing others."""
        count, at = self._failures.get(source, (0, 0.0))
        if count > 1:
            self._failures[source] = (count // 2, at)
        else:
            self._failures.pop(source, None)


_GROUPS = {"organization": NameOID.ORGANIZATION_NAME, "organizational_unit": NameOID.ORGANIZATIONAL_UNIT_NAME}
_ALTERNATIVES: Mapping[str, type[x509.RFC822Name | x509.DNSName | x509.UniformResourceIdentifier]] = {
    "email": x509.RFC822Name,
    "dns": x509.DNSName,
    "uri": x509.UniformResourceIdentifier,
}


def of_certificate(pem: bytes, rule: config.ServeCertificates) -> Principal:
    """Return the principal that a certificate names by the rule. Raises NotSignedInError if it names none."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        user = _user(certificate, rule)
        oid = _GROUPS.get(rule.groups)
        groups = [_text(one.value) for one in certificate.subject.get_attributes_for_oid(oid)] if oid else []
    except ValueError as error:
        raise NotSignedInError(f"the client certificate cannot be read: {error}") from error
    if not user.strip() or user.startswith("group:"):
        raise NotSignedInError(f"the client certificate has no {rule.user.replace('_', ' ')} that names a user")
    return Principal(user=user, groups=frozenset(group for group in groups if group))


def _user(certificate: x509.Certificate, rule: config.ServeCertificates) -> str:
    if rule.user == "common_name":
        return next((_text(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)), "")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    return next(iter(names.get_values_for_type(_ALTERNATIVES[rule.user])), "")


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "replace")
