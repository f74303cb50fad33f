"""Which flows a request wants: what SQL can decide is decided there, the rest on the flow as the principal sees it. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from collectors.filtering.filters import compile_filters
from collectors.hubble_api.flow import flow_pb2
from warehouse.questions.flow_spans import EVERY, Selection


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """The flows that a request's filters select."""

    selection: Selection = EVERY
    """What the lake's engine decides; a flow that it leaves out does not match."""
    matches: Callable[[flow_pb2.Flow], bool] | None = None
    """What is left to decide flow by flow; None if nothing is."""


def wanted(whitelist: Iterable[flow_pb2.FlowFilter], blacklist: Iterable[flow_pb2.FlowFilter]) -> Wanted:
    """Return what these filters select. Raises ValueError naming the field that cannot be applied."""
    allowed, refused = list(whitelist), list(blacklist)
    if not allowed and not refused:
        return Wanted()
    return Wanted(matches=compile_filters(allowed, refused))
