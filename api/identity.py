"""On whose behalf a call is made: by client certificate, or the operator's choice without sign-in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from cryptography import x509
from cryptography.x509.oid import NameOID

from warehouse import config
from warehouse.access.principals import Principal


class NotSignedInError(Exception):
    """The caller did not say who it is, or not convincingly; the message is for the caller."""


class Identities(Protocol):
    """Says on whose behalf a call is made."""

    async def principal(self, context: Any) -> Principal:
        """Return the principal of a call on grpc's asynchronous server. Raises NotSignedInError."""


class Fixed:
    """The same principal for every call."""

    def __init__(self, principal: Principal) -> None:
        self._principal = principal

    async def principal(self, context: Any) -> Principal:
        """Return the principal."""
        return self._principal


class SignedIn:
    """The principal that a call's credentials name."""

    def __init__(self, settings: config.Serve) -> None:
        self._settings = settings

    async def principal(self, context: Any) -> Principal:
        """Return the principal that the client certificate names. Raises NotSignedInError."""
        given: Mapping[str, list[bytes]] = context.auth_context()
        for pem in given.get("x509_pem_cert", ()):
            return of_certificate(pem, self._settings.certificates)
        raise NotSignedInError("no credentials: use a client certificate, or a personal token as the password")


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
