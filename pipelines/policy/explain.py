"""Reasons in the words that engineers use. Pure."""

from __future__ import annotations

from pipelines.policy.layer7 import HttpRequest
from pipelines.policy.model import Connection, Direction, Origin, Tier

_SHOWN = 3
_TIERS = {Tier.ADMIN: "the Admin tier", Tier.BASELINE: "the Baseline tier"}


def no_rules(direction: Direction, subject: str) -> str:
    """Nothing selects the subject."""
    return f"no policy selects {subject} for {direction}, so everything is allowed"


def not_isolated(direction: Direction, subject: str) -> str:
    """Rules select the subject, but none of them isolates it."""
    return f"no rule decides, and {subject} is not isolated for {direction}"


def allowed(rules: tuple[Origin, ...], direction: Direction, connection: Connection) -> str:
    """A rule allows it."""
    return f"{_listed(rules)} allows {_traffic(connection)}" if rules else f"{direction} is allowed"


def denied(rules: tuple[Origin, ...], _direction: Direction, connection: Connection, tier: Tier) -> str:
    """A deny rule matches."""
    where = f" in {_TIERS[tier]}" if tier in _TIERS else ""
    return f"{_listed(rules)} denies {_traffic(connection)}{where}"


def default_deny(isolating: tuple[Origin, ...], direction: Direction, connection: Connection) -> str:
    """The subject is isolated, and nothing allows it."""
    subject = connection.subject(direction).name
    if not isolating:
        return f"{subject} denies {direction} by default, and no rule allows {_traffic(connection)}"
    policies = list(dict.fromkeys(origin.policy for origin in isolating))
    return f"{subject} is isolated for {direction} by {_named(policies)}, and no rule allows {_traffic(connection)}"


def request_denied(rules: tuple[Origin, ...], connection: Connection) -> str:
    """The port is open, but the request is not allowed."""
    request = connection.request
    what = f"{request.method} {request.path}" if isinstance(request, HttpRequest) else f"the query for {request.name}" if request else ""
    return f"{_listed(rules)} allows the port, but not {what}"


def authentication_fails(rules: tuple[Origin, ...]) -> str:
    """The rule demands an authentication that always fails."""
    return f"{_listed(rules)} demands an authentication that always fails (test-always-fail)"


def uncertain(missing: tuple[str, ...], unsure: tuple[Origin, ...] = ()) -> str:
    """Something that decides is not known."""
    what = f"not known: {_named(list(missing))}"
    return f"{what}, on which {_listed(unsure)} depends" if unsure else what


def _traffic(connection: Connection) -> str:
    port = "" if connection.port is None else f" {connection.port}"
    kind = "" if connection.icmp_type is None else f" type {connection.icmp_type}"
    return f"{connection.source.name} to {connection.destination.name} on {connection.protocol}{port}{kind}"


def _listed(rules: tuple[Origin, ...]) -> str:
    return _named([str(rule) for rule in rules])


def _named(texts: list[str]) -> str:
    shown = texts[:_SHOWN]
    more = len(texts) - len(shown)
    return " and ".join([", ".join(shown), f"{more} more"]) if more else ", ".join(shown)
