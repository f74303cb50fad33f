"""Which flows a request wants: what SQL can decide is decided there, the rest on the flow as the principal sees it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from api import expressions, pushdown
from collectors.filtering.filters import compile_filters
from collectors.hubble_api.flow import flow_pb2
from warehouse.questions.flow_spans import EVERY, Selection


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The flows that a request's filters select."""

    selection: Selection = EVERY
    """What the lake's engine decides; a flow that it leaves out does not match."""
    decide: Callable[[Sequence[flow_pb2.Flow]], Sequence[bool]] | None = None
    """What decides which of those match; None if there are no filters. Raises QueryLimitError if an expression takes too much."""
    decides_all: bool = False
    """Whether `decide` has to decide about every flow, rather than only about those with a `rest`."""


def wanted(whitelist: Iterable[flow_pb2.FlowFilter], blacklist: Iterable[flow_pb2.FlowFilter]) -> Wanted:
    """Return what these filters select. Raises ValueError naming the field that cannot be applied, and QueryLimitError."""
    allowed, refused = list(whitelist), list(blacklist)
    if not allowed and not refused:
        return Wanted()
    decide = _decide(allowed, refused)
    conditions = [pushdown.of_filter(one) for one in allowed], [pushdown.of_filter(one) for one in refused]
    columns = frozenset({"rest"}).union(*(one.columns for side in conditions for one in side))
    return Wanted(
        selection=Selection(scans=pushdown.scans(*conditions), columns=columns),
        decide=decide,
        decides_all=not all(one.is_exact for side in conditions for one in side),
    )


def _decide(allowed: list[flow_pb2.FlowFilter], refused: list[flow_pb2.FlowFilter]) -> Callable[[Sequence[flow_pb2.Flow]], Sequence[bool]]:
    filters = expressions.encoded(allowed, refused)
    if filters is not None:
        expressions.EXPRESSIONS.check(filters)
        return functools.partial(expressions.EXPRESSIONS.decide, filters)
    matches = compile_filters(allowed, refused)
    return lambda flows: [matches(flow) for flow in flows]
