"""Which flows a request wants: what SQL can decide is decided there, the rest on the flow as the principal sees it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from api import pushdown
from collectors.filtering.filters import compile_filters
from collectors.hubble_api.flow import flow_pb2
from warehouse.questions.flow_spans import EVERY, Selection


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The flows that a request's filters select."""

    selection: Selection = EVERY
    """What the lake's engine decides; a flow that it leaves out does not match."""
    matches: Callable[[flow_pb2.Flow], bool] | None = None
    """What decides flow by flow among those; None if there are no filters."""
    decides_all: bool = False
    """Whether `matches` has to decide every flow, rather than only those with a `rest`."""


def wanted(whitelist: Iterable[flow_pb2.FlowFilter], blacklist: Iterable[flow_pb2.FlowFilter]) -> Wanted:
    """Return what these filters select. Raises ValueError naming the field that cannot be applied."""
    allowed, refused = list(whitelist), list(blacklist)
    if not allowed and not refused:
        return Wanted()
    matches = compile_filters(allowed, refused)
    conditions = [pushdown.of_filter(one) for one in allowed], [pushdown.of_filter(one) for one in refused]
    columns = frozenset({"rest"}).union(*(one.columns for side in conditions for one in side))
    return Wanted(
        selection=Selection(scans=pushdown.scans(*conditions), columns=columns),
        matches=matches,
        decides_all=not all(one.is_exact for side in conditions for one in side),
    )
