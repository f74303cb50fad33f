"""Bearer tokens of an OpenID provider: whose they are, by the provider's published keys."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import urllib3
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError, HindcastError

ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures with public keys only: with a shared secret the provider's client could make tokens itself."""
KEYS_SECONDS = 300.0
"""How long the provider's keys are used before they are read again."""
AGAIN_SECONDS = 10.0
"""How soon they are read again at the earliest, also for a token that none of them has signed."""
CLOCK_SECONDS = 60
"""How far clocks may differ."""
_LARGEST_BYTES = 1024**2


class ProviderError(HindcastError):
    """The provider cannot be asked; trying again may help."""


class OpenId:
    """Checks tokens of one provider. May be shared by threads."""

    def __init__(self, settings: config.ServeOidc) -> None:
        self._settings = settings
        self._http = urllib3.PoolManager(timeout=10.0, retries=False)
        self._lock = threading.Lock()
        self._keys: Any = None
        self._issuer = ""
        self._read_at = float("-inf")

    def principal(self, text: str) -> Principal:
        """Return on whose behalf the bearer of a token asks. Raises AccessDeniedError, ProviderError."""
        try:
            token = self._decoded(text)
            settings = self._settings
            registry = jwt.JWTClaimsRegistry(
                leeway=CLOCK_SECONDS,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": settings.audience},
                exp={"essential": True},
            )
            registry.validate(token.claims)
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise AccessDeniedError(f"the bearer token is not valid: {type(error).__name__}") from error
        user, groups = token.claims.get(settings.user_claim), token.claims.get(settings.groups_claim) or []
        if not isinstance(user, str) or not user.strip() or user.startswith("group:"):
            raise AccessDeniedError(f"the bearer token has no user in {settings.user_claim}")
        if settings.user_claim == "email" and token.claims.get("email_verified") is False:
            raise AccessDeniedError("the bearer token's email is not verified")
        named = [groups] if isinstance(groups, str) else groups if isinstance(groups, list) else []
        return Principal(user=user, groups=frozenset(group for group in named if isinstance(group, str) and group))

    def _decoded(self, text: str) -> Any:
        try:
            return jwt.decode(text, self._current(KEYS_SECONDS), algorithms=ALGORITHMS)
        except (JoseError, ValueError):  # perhaps the provider has new keys
            return jwt.decode(text, self._current(AGAIN_SECONDS), algorithms=ALGORITHMS)

    def _current(self, most_seconds: float) -> Any:
        """Return the provider's keys, read at most so long ago."""
        with self._lock:
            if time.monotonic() - self._read_at > most_seconds:
                document = self._json(self._settings.metadata_url)
                self._keys = KeySet.import_key_set(self._json(str(document["jwks_uri"])))
                self._issuer, self._read_at = str(document["issuer"]), time.monotonic()
            return self._keys

    def _json(self, url: str) -> Any:
        try:
            response = self._http.request("GET", url, redirect=False, preload_content=False)
            try:
                content = response.read(_LARGEST_BYTES)
            finally:
                response.release_conn()
            if response.status != 200:
                raise ProviderError(f"{url}: the provider answered {response.status}")
            return json.loads(content)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise ProviderError(f"{url}: the provider cannot be asked: {type(error).__name__}") from error
