"""Which stored hours of rollups hold exactly what the lake knew at a moment, so that questions as of that moment may read them.

A stored hour counts for a moment if it matches the flows there are, none of them was recorded after the moment, and by then the hour
was over for so long that no workload recorded since can name its pods. What was recorded last is remembered by a process for each hour's
set of files, which never change. Nothing is written.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from warehouse import table_views
from warehouse.lake.files import StoredFile
from warehouse.lake.tables import Lake
from warehouse.questions import recorded_workloads, rollup_notes
from warehouse.questions.rollup_notes import HOUR, ClusterHour
from warehouse.schema import FLOWS

MOST_HOURS = 200_000
"""How many hours are remembered; those that have not been asked for the longest are forgotten first."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US = HOUR // timedelta(microseconds=1)
_Key = tuple[str, ClusterHour, str]


class _Memory:
    """When the last flow of an hour was recorded, by lake, hour and note. Used by all threads of a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[_Key, datetime] = OrderedDict()

    def find(self, key: _Key) -> datetime | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: _Key, recorded: datetime) -> None:
        with self._lock:
            self._kept[key] = recorded
            while len(self._kept) > MOST_HOURS:
                self._kept.popitem(last=False)


_MEMORY = _Memory()


def known_by(connection: Any, lake: Lake, hours: Mapping[ClusterHour, list[StoredFile]], moment: datetime) -> set[ClusterHour]:
    """Return those of the hours, given with the files that may hold their flows, whose flows the lake had all recorded by a moment.

    Hours that were not over for long enough by then are not among them. Raises LakeError.
    """
    closed = {hour: files for hour, files in hours.items() if hour[1] + HOUR + recorded_workloads.LEARNED_WITHIN <= moment}
    keys = {hour: (lake.address(FLOWS), hour, rollup_notes.note(files)) for hour, files in closed.items()}
    last = {hour: _MEMORY.find(key) for hour, key in keys.items()}
    lacking = {hour: closed[hour] for hour, recorded in last.items() if recorded is None}
    if lacking:
        found = _last_recorded(connection, lake, lacking)
        for hour in lacking:
            last[hour] = found.get(hour, _EPOCH)
            _MEMORY.put(keys[hour], found.get(hour, _EPOCH))
    return {hour for hour, recorded in last.items() if recorded is not None and recorded <= moment}


def _last_recorded(connection: Any, lake: Lake, hours: Mapping[ClusterHour, list[StoredFile]]) -> dict[ClusterHour, datetime]:
    """Return when the last flow of each hour was recorded, by one scan of two columns; hours without flows are missing."""
    paths = sorted({f"{lake.address(FLOWS)}/{file.path}" for files in hours.values() for file in files})
    rows = table_views.query_of(connection, lake, FLOWS, paths, "flows_recorded")
    found = connection.execute(
        f"""SELECT cluster, epoch_us("time") // {_HOUR_US} AS hour, epoch_us(max({FLOWS.recorded})) AS recorded
            FROM ({rows}) GROUP BY ALL"""
    ).fetchall()
    return {(cluster, _EPOCH + hour * HOUR): _EPOCH + timedelta(microseconds=recorded) for cluster, hour, recorded in found}
