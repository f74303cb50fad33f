"""Values that the filter bar offers: those that are common around the end of the window.

They are remembered for a few minutes, for all sessions of a principal: every page offers them, few people open the list, and looking them
up costs as much as a page's own questions. What is remembered belongs to a principal and the scope of that principal, so nobody is
offered what another one sees, and nothing is offered any more once a grant has ended.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from datetime import UTC, datetime, timedelta

from dashboards.visit import Visit, not_future
from warehouse.errors import HindcastError
from warehouse.questions import flow_questions
from warehouse.questions.conditions import FIELDS
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS

READ = timedelta(minutes=20)
"""How much of the window's end is read: enough to know the names, and cheap."""
STEP = timedelta(minutes=5)
"""The ends of what is read are moved to multiples of this, and answers are remembered for as long."""
MOST = 100
_FIELDS = [f"{field}=" for field in FIELDS]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_REMEMBERED: OrderedDict[Hashable, tuple[float, list[str]]] = OrderedDict()
_LOCK = threading.Lock()


def remembered(visit: Visit) -> list[str] | None:
    """Return what `offered` returns, without looking anything up; None if that is not known."""
    kept = _find(_key(visit, *_span(visit)))
    return None if kept is None else [*kept, *_FIELDS]


def offered(visit: Visit) -> list[str]:
    """Return `field=value` for the most common values, most common first, and then `field=` for every field."""
    since, until = _span(visit)
    key = _key(visit, since, until)
    found = _find(key)
    if found is None:
        try:
            found = _looked_up(visit, FlowFilter(since=since, until=until))
        except HindcastError:
            return _FIELDS
        _remember(key, found)
    return [*found, *_FIELDS]


def forget() -> None:
    """Forget what is remembered of everybody."""
    with _LOCK:
        _REMEMBERED.clear()


def _span(visit: Visit) -> tuple[datetime, datetime]:
    """The time that is read: it ends at most STEP after the window does, or now if that is earlier."""
    until = _whole(not_future(visit.time.until)) + STEP
    since = max(_whole(visit.time.since), until - READ - STEP)
    return since, max(until, since + STEP)


def _key(visit: Visit, since: datetime, until: datetime) -> Hashable:
    return visit.lake.address(FLOWS), visit.who, visit.door.scope(visit.who), since, until


def _whole(moment: datetime) -> datetime:
    """The last multiple of STEP that is not after a moment."""
    return moment - (moment - _EPOCH) % STEP


def _looked_up(visit: Visit, window: FlowFilter) -> list[str]:
    rows = visit.door.answer(visit.who, flow_questions.completions(window)).rows.to_pylist()
    order = list(flow_questions.COMPLETED)
    rows.sort(key=lambda row: (order.index(row["field"]), -row["flows"]))
    return [f"{row['field']}={row['value']}" for row in rows if "," not in row["value"]]


def _find(key: Hashable) -> list[str] | None:
    with _LOCK:
        kept = _REMEMBERED.get(key)
    return kept[1] if kept is not None and time.monotonic() - kept[0] < STEP.total_seconds() else None


def _remember(key: Hashable, found: list[str]) -> None:
    with _LOCK:
        _REMEMBERED[key] = (time.monotonic(), found)
        _REMEMBERED.move_to_end(key)
        while len(_REMEMBERED) > MOST:
            _REMEMBERED.popitem(last=False)
