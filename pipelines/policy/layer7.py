"""HTTP and DNS rules, judged where the flow carries a request. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from pipelines.policy.names import name_pattern


@dataclass(frozen=True)
class HttpRequest:
    """An HTTP request as Hubble records it."""

    method: str
    path: str
    """Path and query."""
    host: str = ""
    headers: Mapping[str, str] | None = None
    """None when headers were not recorded."""
    all_headers: bool = True
    """Whether a header that is not among them was not sent; false where only some headers are recorded."""


@dataclass(frozen=True)
class DnsQuery:
    """A DNS query."""

    name: str


@dataclass(frozen=True)
class HttpRule:
    """An entry of `rules.http`: what is written must all match; method, path and host are regular expressions over the whole."""

    method: str = ""
    path: str = ""
    host: str = ""
    headers: tuple[tuple[str, str | None], ...] = ()
    """Names that must be there, with the value where one is required."""

    def allows(self, request: HttpRequest) -> bool | None:
        """Whether the request fits; None when the rule needs headers that were not recorded."""
        for pattern, value in ((self.method, request.method), (self.path, request.path), (self.host, request.host)):
            if pattern and not _compiled(pattern).fullmatch(value):
                return False
        if not self.headers:
            return True
        if request.headers is None:
            return None
        found = {name.lower(): value for name, value in request.headers.items()}
        if not request.all_headers and any(name.lower() not in found for name, _ in self.headers):
            return None
        return all(name.lower() in found and value in (None, found[name.lower()]) for name, value in self.headers)


@dataclass(frozen=True)
class DnsRule:
    """An entry of `rules.dns`: the queried name must match."""

    pattern: str
    multi_label: bool = True

    def allows(self, query: DnsQuery) -> bool:
        """Whether the queried name fits."""
        return name_pattern(self.pattern, self.multi_label).matches(query.name)


@dataclass(frozen=True)
class Layer7:
    """The part of a port rule above layer 4. Any one of the entries is enough."""

    http: tuple[HttpRule, ...] = ()
    dns: tuple[DnsRule, ...] = ()
    other: tuple[str, ...] = field(default=())
    """What is enforced by a proxy and cannot be judged from a flow: kafka, serverNames, listener."""

    def allows(self, request: HttpRequest | DnsQuery | None) -> bool | None:
        """Whether the request fits; None when there is no request to judge, or it lacks something."""
        if isinstance(request, HttpRequest) and self.http:
            answers = [rule.allows(request) for rule in self.http]
            return True if True in answers else None if None in answers or self.other else False
        if isinstance(request, DnsQuery) and self.dns:
            return any(rule.allows(request) for rule in self.dns)
        return None

    def __str__(self) -> str:
        parts = ["HTTP"] * bool(self.http) + ["DNS"] * bool(self.dns) + list(self.other)
        return " and ".join(parts)


def read_http(raw: Mapping[str, Any]) -> HttpRule:
    """An entry of `rules.http`, already checked for form."""
    headers: list[tuple[str, str | None]] = []
    for text in raw.get("headers") or []:
        name, separator, value = text.partition(" ") if ":" not in text else text.partition(":")
        headers.append((name.strip(), value.strip() if separator else None))
    matches = [one for one in raw.get("headerMatches") or [] if not one.get("mismatch")]
    headers += [(one["name"], None if one.get("secret") else one.get("value") or None) for one in matches]
    return HttpRule(raw.get("method") or "", raw.get("path") or "", raw.get("host") or "", tuple(headers))


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
