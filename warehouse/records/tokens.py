"""The table `tokens`: personal tokens, by which tools that cannot sign in with OpenID show on whose behalf they ask.

A token is shown once, when it is made; only a hash of it is stored. It expires and can be revoked. What its bearer may see is
worked out anew for each question, from the grants of its user and of the groups that the user had when it was made.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.schema import TOKENS

PREFIX = "hct"
LONGEST = timedelta(days=366)
LONGEST_NAME = 80
MOST = 50
"""The most tokens in force that one user may have."""
_WORK = {"n": 2**14, "r": 8, "p": 1, "maxmem": 64 * 1024**2}
"""Parameters of scrypt: 16 MB and some 50 ms for each guess."""
_SHAPE = re.compile(rf"{PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})")


@dataclass(frozen=True, kw_only=True)
class Token:
    """One token; see the table's columns."""

    kind: str = "personal"
    id: str
    time: datetime
    name: str
    user: str
    groups: tuple[str, ...]
    expires: datetime
    salt: str
    hash: str
    revoked: bool = False
    changed_by: str

    @property
    def principal(self) -> Principal:
        """On whose behalf the bearer asks."""
        return Principal(user=self.user, groups=frozenset(self.groups))


def create(lake: Lake, who: Principal, *, name: str, lifetime: timedelta, changed_by: str) -> tuple[Token, str]:
    """Make a token of a user; return it, and the text to show once. Raises QueryError for an invalid name or lifetime, LakeError."""
    user, plain = who.user.strip(), " ".join(name.split())
    if not user or user.startswith("group:") or who.is_operator:
        raise QueryError(f"{who.user!r} is not a user that a token can be made for")
    if not plain or not plain.isprintable() or len(plain) > LONGEST_NAME:
        raise QueryError(f"a token needs a name of 1 to {LONGEST_NAME} characters, e.g. laptop")
    if not timedelta(0) < lifetime <= LONGEST:
        raise QueryError(f"a token can be valid for {LONGEST.days} days at most: give less, e.g. 30d")
    now = datetime.now(UTC)
    if sum(token.user == user and token.expires > now for token in listed(lake)) >= MOST:
        raise QueryError(f"{user} has {MOST} tokens in force, which is the most: revoke one first")
    identifier, secret, salt = secrets.token_hex(8), secrets.token_urlsafe(32), secrets.token_bytes(16)
    made = Token(
        id=identifier,
        time=now,
        name=plain,
        user=user,
        groups=tuple(sorted(who.groups)),
        expires=now + lifetime,
        salt=salt.hex(),
        hash=_hash(secret, salt),
        changed_by=changed_by,
    )
    _append(lake, made)
    return made, f"{PREFIX}_{identifier}_{secret}"


def listed(lake: Lake, *, user: str | None = None) -> list[Token]:
    """Return the tokens that are not revoked, also expired ones, of one user or of all; the newest first. Raises LakeError."""
    newest: dict[str, Token] = {}
    for row in lake.read_cached(TOKENS).to_pylist():
        token = Token(**row | {"groups": tuple(row["groups"] or ())})
        known = newest.get(token.id)
        if known is None or (known.time, known.revoked) <= (token.time, token.revoked):
            newest[token.id] = token
    found = [token for token in newest.values() if not token.revoked and user in (None, token.user)]
    return sorted(found, key=lambda token: token.time, reverse=True)


def revoke(lake: Lake, identifier: str, *, user: str | None = None, changed_by: str) -> Token:
    """End a token, of the given user if one is given. Raises QueryError if there is none with this id, LakeError."""
    found = next((token for token in listed(lake, user=user) if token.id == identifier), None)
    if found is None:
        raise QueryError(f"there is no token {identifier!r}: `hindcast token list` shows those that exist")
    ended = replace(found, time=max(datetime.now(UTC), found.time + timedelta(microseconds=1)), revoked=True, changed_by=changed_by)
    _append(lake, ended)
    return ended


class Verifier:
    """Tells whose a token is. Each token's hash is computed once, and its row is read again for every call."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._lock = threading.Lock()
        self._proven: dict[str, tuple[str, str]] = {}

    def principal(self, text: str, *, user: str = "") -> Principal:
        """Return on whose behalf the bearer of a token asks; with `user`, the token must be that user's.

        Raises AccessDeniedError, which does not say what was wrong, and LakeError.
        """
        shape = _SHAPE.fullmatch(text.strip())
        identifier, secret = (shape[1], shape[2]) if shape else ("", text)
        token = next((one for one in listed(self._lake) if one.id == identifier), None)
        if token is None:
            _hash(secret[:100], b"no such token")  # as slow as a wrong secret
            raise AccessDeniedError("the token is wrong, expired or revoked")
        digest = hashlib.sha256(secret.encode()).hexdigest()
        with self._lock:
            proven = self._proven.get(identifier) == (digest, token.hash)
        if not proven and not hmac.compare_digest(_hash(secret, bytes.fromhex(token.salt)), token.hash):
            raise AccessDeniedError("the token is wrong, expired or revoked")
        with self._lock:
            self._proven[identifier] = (digest, token.hash)
        if token.expires <= datetime.now(UTC) or user not in ("", token.user):
            raise AccessDeniedError("the token is wrong, expired or revoked")
        return token.principal


def _hash(secret: str, salt: bytes) -> str:
    return hashlib.scrypt(secret.encode(), salt=salt, **_WORK).hex()


def _append(lake: Lake, token: Token) -> None:
    rows = pa.Table.from_pylist([asdict(token) | {"groups": list(token.groups)}], schema=TOKENS.schema)
    lake.commit(TOKENS, lake.write_files(TOKENS, rows), transactions={}, metadata={})
