"""The built-in expressions of alert rules, as calls with named arguments: `drops_spike(factor=3, least=50)`. Pure."""

from __future__ import annotations

import ast
import difflib
import re
from datetime import timedelta
from typing import Any, ClassVar, Literal

import pydantic
from pydantic import Field

from warehouse.config import Duration, Section

_CALL = re.compile(r"\s*([a-z_][a-z0-9_]*)\s*\((.*)\)\s*", re.DOTALL)
_SQL = ("select", "with", "from", "values", "table", "pivot", "unpivot", "describe", "summarize", "show")


class Call(Section):
    """A built-in expression. Its columns that are in `labels` become labels of alerts, all others are for templates."""

    labels: ClassVar[tuple[str, ...]] = ("cluster",)
    more: ClassVar[tuple[str, ...]] = ()
    needs_coverage: ClassVar[bool] = True
    """Whether it says nothing about a cluster that was not observed in the window."""

    @property
    def looks_back(self) -> timedelta | None:
        """How far back what it returns about a namespace reaches, if an owner of the namespace could have asked it; None if not."""
        return None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its rows."""
        return (*self.labels, *self.more, "value")


class DropsSpike(Call):
    """More drops in a namespace than usual in the same hour of past weeks; the value is the number of drops in the window."""

    labels = ("cluster", "namespace")
    more = ("usual", "weeks_observed")
    factor: float = Field(default=3.0, gt=1)
    """How many times the usual number."""
    least: int = Field(default=50, ge=1)
    """Fewer drops than this are no spike."""
    weeks: int = Field(default=4, ge=1, le=52)
    namespace: str = "*"

    @property
    def looks_back(self) -> timedelta | None:
        """The drops of a namespace are its owner's to see, if she owned it all the time."""
        return timedelta(weeks=self.weeks, hours=1)


class FirstSeenEdge(Call):
    """A connection from one zone to another that was not seen before; the value is the number of flows."""

    labels = ("cluster", "source_namespace", "destination_namespace", "destination_entity")
    more = ("first_seen", "ports", "history_observed")
    source: str = "*"
    """Namespaces of the zone that connects: names separated by commas, with * and ?."""
    destination: str = "*"
    """Namespaces of the zone that is connected to, or entities such as world."""
    lookback: Duration = timedelta(days=30)


class EgressToNewName(Call):
    """A namespace connects to a DNS name outside that it did not connect to before; the value is the number of flows."""

    labels = ("cluster", "namespace", "name")
    more = ("first_seen", "history_observed")
    namespace: str = "*"
    lookback: Duration = timedelta(days=30)


class CoverageBelow(Call):
    """Less of a cluster was observed in the window than it should be; the value is the share, from 0 to 1."""

    more = ("flows_lost",)
    needs_coverage = False
    share: float = Field(default=0.95, gt=0, le=1)


class CollectorSilent(Call):
    """Nothing was recorded of a cluster, not even that its collector runs; the value is for how many seconds."""

    more = ("last",)
    needs_coverage = False
    after: Duration = timedelta(minutes=10)


class DriftOpened(Call):
    """Drift from a blueprint that is open; the value is 1."""

    labels = ("cluster", "namespace", "kind", "name", "drift", "severity", "blueprint")
    more = ("summary", "opened")
    needs_coverage = False
    severity: Literal["low", "medium", "high", "critical"] = "low"
    """The least severity."""

    @property
    def looks_back(self) -> timedelta | None:
        """Drift in a namespace is its owner's to see."""
        return timedelta()


class VerdictsDisagree(Call):
    """Recorded verdicts differ from what the policies in force say; the value is the share of flows, from 0 to 1."""

    more = ("disagreed", "agreed", "dropped_though_allowed", "forwarded_though_denied")
    share: float = Field(default=0.01, gt=0, lt=1)
    least: int = Field(default=10, ge=1)
    """Fewer flows than this are not reported."""


CALLS: dict[str, type[Call]] = {
    "drops_spike": DropsSpike,
    "first_seen_edge": FirstSeenEdge,
    "egress_to_new_name": EgressToNewName,
    "coverage_below": CoverageBelow,
    "collector_silent": CollectorSilent,
    "drift_opened": DriftOpened,
    "verdicts_disagree": VerdictsDisagree,
}
"""The built-in expressions by name."""


def parsed(expr: str) -> Call | None:
    """Return the built-in expression; None for SQL. Raises ValueError for a call that does not exist or has wrong arguments."""
    found = _CALL.fullmatch(expr)
    if found is None or found[1] in _SQL:
        return None
    name, inside = found[1], found[2]
    if name not in CALLS:
        close = difflib.get_close_matches(name, CALLS, n=1)
        raise ValueError(f"there is no built-in {name}()" + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(CALLS)}"))
    try:
        return CALLS[name].model_validate(_arguments(name, inside))
    except pydantic.ValidationError as error:
        raise ValueError("; ".join(_explained(name, problem) for problem in error.errors())) from error


def _arguments(name: str, inside: str) -> dict[str, Any]:
    try:
        tree = ast.parse(f"f({inside.strip()})", mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args or any(argument.arg is None for argument in tree.keywords):
            raise ValueError
        return {str(argument.arg): ast.literal_eval(argument.value) for argument in tree.keywords}
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ValueError(f'{name}(...) takes named arguments, such as {name}({next(iter(CALLS[name].model_fields))}="...")') from None


def _explained(name: str, problem: Any) -> str:
    argument = ".".join(str(part) for part in problem["loc"])
    known = list(CALLS[name].model_fields)
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(argument, known, n=1)
        return f"{name}() has no argument {argument}" + (f"; did you mean {close[0]}?" if close else f"; it has {', '.join(known)}")
    return f"{name}({argument}=...): {str(problem['msg']).removeprefix('Value error, ')}"
