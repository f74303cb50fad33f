"""On whose behalf a call is made: by personal token, OpenID token or client certificate, or by the operator's choice without sign-in."""

from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

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


@dataclass(frozen=True, kw_only=True)
class Caller:
    """What is known of who makes a call."""

    address: str
    """The address from which it comes, without the port."""
    authorization: str | None = None
    """Its header `authorization`."""
    certificate: bytes | None = None
    """The client's certificate as PEM, which the TLS handshake has verified."""


class Identities(Protocol):
    """Says on whose behalf a call is made."""

    async def principal(self, caller: Caller) -> Principal:
        """Return the principal of a call. Raises NotSignedInError, HindcastError."""


class Fixed:
    """The same principal for every call."""

    def __init__(self, principal: Principal) -> None:
        self.only = principal

    async def principal(self, caller: Caller) -> Principal:
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

    async def principal(self, caller: Caller) -> Principal:
        """Return the principal of a call. Raises NotSignedInError, HindcastError."""
        if caller.authorization is not None:
            return await self._of_header(caller.authorization, caller.address)
        if caller.certificate is not None:
            return of_certificate(caller.certificate, self._settings.certificates)
        raise NotSignedInError(
            "no credentials: use a client certificate, or a personal token (`hindcast token create`) as the password of Basic credentials"
        )

    async def _of_header(self, header: str, address: str) -> Principal:
        await asyncio.sleep(self._throttle.delay(address))
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._pool, self.checked, header)
        except AccessDeniedError as error:
            self._refused(address, error)
            raise NotSignedInError(str(error)) from error
        self._throttle.succeeded(address)
        return found

    def of_header(self, header: str, address: str) -> Principal:
        """Return the principal that an `authorization` header names. Blocks. Raises AccessDeniedError, HindcastError."""
        time.sleep(self._throttle.delay(address))
        try:
            found = self.checked(header)
        except AccessDeniedError as error:
            self._refused(address, error)
            raise
        self._throttle.succeeded(address)
        return found

    def _refused(self, address: str, error: AccessDeniedError) -> None:
        self._throttle.failed(address)
        log.warning("sign-in refused", peer=address, reason=str(error))

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
    """Makes callers that failed to sign in wait, longer with each failure, so that guessing is slow. Threads may share it."""

    def __init__(self) -> None:
        self._failures: dict[str, tuple[int, float]] = {}
        self._lock = threading.Lock()

    def delay(self, source: str) -> float:
        """Return how many seconds the next attempt from an address has to wait."""
        count, at = self._failures.get(source, (0, 0.0))
        if not count or time.monotonic() - at > FORGIVEN_SECONDS:
            return 0.0
        return float(min(LONGEST_DELAY_SECONDS, 0.1 * 2 ** (count - 1)))

    def failed(self, source: str) -> None:
        """Count a failure."""
        now = time.monotonic()
        with self._lock:
            count, at = self._failures.pop(source, (0, now))
            self._failures[source] = (min(count + 1, 30) if now - at <= FORGIVEN_SECONDS else 1, now)
            if len(self._failures) > MOST_SOURCES:
                del self._failures[next(iter(self._failures))]

    def succeeded(self, source: str) -> None:
        """Halve what is counted: someone with a valid token must not clear the way for guessing others."""
        with self._lock:
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
