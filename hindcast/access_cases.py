"""Test cases of `hindcast access test`, which state who sees which flow and how: reads and checks them, without any stored flow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pydantic
import yaml
from pydantic import Field

from warehouse.access import redaction
from warehouse.access.principals import Grant, Principal, Scope, scope_of
from warehouse.config import Moment, Section
from warehouse.errors import ConfigError
from warehouse.schema import FLOWS

SCHEMA = pa.schema([("case", pa.string()), ("passed", pa.bool_()), ("expected", pa.string()), ("found", pa.string()), ("why", pa.string())])


class Flow(Section):
    """The properties of a flow that decide who sees it; a side without a namespace is outside the cluster."""

    cluster: str
    source: str | None = None
    destination: str | None = None
    at: Moment = Field(default_factory=lambda: datetime.now(UTC))


class Expected(Section):
    """What the user is expected to see of the flow."""

    visible: bool
    source: Literal["full", "workload", "namespace", "hidden"] | None = None
    destination: Literal["full", "workload", "namespace", "hidden"] | None = None
    hidden: tuple[str, ...] = ()
    """Columns of `flows` that are expected to be null."""
    shown: tuple[str, ...] = ()
    """Columns of `flows` that are expected to be visible."""


class Case(Section):
    """One case."""

    user: str
    groups: tuple[str, ...] = ()
    flow: Flow
    expect: Expected


class Cases(Section):
    """The file."""

    cases: tuple[Case, ...] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a case."""

    case: str
    passed: bool
    expected: str
    found: str
    why: str

    def row(self) -> dict[str, Any]:
        """Return the result as a row of SCHEMA."""
        return {name: getattr(self, name) for name in SCHEMA.names}


def load(file: Path) -> tuple[Case, ...]:
    """Read the cases. Raises ConfigError naming file and key."""
    try:
        return Cases.model_validate(yaml.safe_load(file.read_text(encoding="utf-8"))).cases
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid YAML: {error}") from error
    except pydantic.ValidationError as error:
        mistakes = [f"{file}: {'.'.join(map(str, problem['loc'])) or 'the file'}: {problem['msg']}" for problem in error.errors()]
        raise ConfigError("\n".join(mistakes)) from error


def run(cases: Iterable[Case], grants: Sequence[Grant], peer_detail: str) -> list[Result]:
    """Check each case against the grants."""
    return [_check(number, case, scope_of(_principal(case), grants), peer_detail) for number, case in enumerate(cases, 1)]


def _principal(case: Case) -> Principal:
    return Principal(user=case.user, groups=frozenset(case.groups))


def _check(number: int, case: Case, scope: Scope, peer_detail: str) -> Result:
    flow, expect = case.flow, case.expect
    owned = {side: scope.owns(flow.cluster, getattr(flow, side), flow.at) for side in ("source", "destination")}
    outside = flow.source is None and flow.destination is None
    visible = any(owned.values()) or (outside and scope.sees_whole(flow.cluster, flow.at))
    hidden: set[str] = set()
    levels: dict[str, str] = {}
    for side in ("source", "destination"):
        foreign = getattr(flow, side) is not None and not owned[side]
        levels[side] = peer_detail if foreign else "full"
        hidden |= redaction.hidden_columns(FLOWS, side, levels[side])
    problems = []
    if visible != expect.visible:
        problems.append("visible" if visible else "not visible")
    if visible and expect.visible:
        problems += [f"{side} {levels[side]}" for side in levels if getattr(expect, side) not in (None, levels[side])]
        problems += [f"{name} shown" for name in expect.hidden if name not in hidden]
        problems += [f"{name} hidden" for name in expect.shown if name in hidden]
    unknown = [name for name in (*expect.hidden, *expect.shown) if name not in FLOWS.schema.names]
    if unknown:
        raise ConfigError(f"case {number}: flows has no column {unknown[0]!r}")
    deciding = [
        grant
        for side in ("source", "destination")
        for grant in scope.about(flow.cluster, getattr(flow, side), flow.at)
        if getattr(flow, side)
    ]
    return Result(
        case=f"{number}: {case.user} {flow.cluster} {flow.source or '-'} > {flow.destination or '-'} at {flow.at:%Y-%m-%d %H:%M} UTC",
        passed=not problems,
        expected="visible" if expect.visible else "not visible",
        found="; ".join(problems) or ("visible" if visible else "not visible"),
        why="; ".join(dict.fromkeys(grant.reason for grant in deciding)) or "no grant",
    )
