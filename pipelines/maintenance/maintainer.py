"""The maintainer runs beside a collector and, every 20 seconds, keeps the partitions that are still being written small.

It merges new files, deletes those that it replaced an hour ago, and keeps the tables' logs small. Its work may be interrupted
at any moment, done by several maintainers at once, and repeated. Work that waits for an hour or a day to close belongs to the DAGs.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import structlog

from pipelines.maintenance import merging
from warehouse import config
from warehouse.errors import LakeError
from warehouse.lake.tables import Lake
from warehouse.schema import TABLES

EVERY_SECONDS = 20.0
REPLACED_STAY = timedelta(hours=1)
"""How long a merged file stays on disk for readers that opened it before, unless vacuum is configured to run sooner."""
LOG_EVERY = 50
"""After this many versions of a table its log is checked."""
_log = structlog.get_logger()


class Maintainer:
    """Merges files, deletes replaced ones and cleans logs for one collector. Not thread-safe."""

    def __init__(self, settings: config.Config) -> None:
        """The lake is opened in the first round, so that an unreachable lake does not prevent a collector from starting."""
        self._settings = settings
        self._clusters = [cluster.name for cluster in settings.clusters]
        self._lake: Lake | None = None
        self._replaced: list[tuple[float, str, list[str]]] = []
        self._tidied: dict[str, int] = {}
        self.cpu_seconds = 0.0
        """The share of a CPU core that the rounds have used so far."""

    def run(self, stop: threading.Event, *, every_seconds: float = EVERY_SECONDS) -> None:
        """Run a round at each interval until `stop` is set. A round that fails is logged, and the next one tries again."""
        while not stop.wait(every_seconds):
            began = time.thread_time()
            try:
                self.round(now=datetime.now(UTC))
            except LakeError as error:
                _log.warning("merging failed and will be retried", error=str(error))
            finally:
                self.cpu_seconds += time.thread_time() - began

    def round(self, *, now: datetime) -> list[merging.Merged]:
        """Merge what is due, delete files that were replaced long enough ago, and clean logs. Raises LakeError."""
        lake = self._lake = self._lake or Lake.open(self._settings.lake)
        done = merging.merge(lake, now=now, clusters=self._clusters)
        for one in done:
            self._replaced.append((time.monotonic(), one.table.name, [file.path for file in one.replaced]))
        self._delete_replaced(lake)
        self._tidy_logs(lake, now)
        return done

    def _delete_replaced(self, lake: Lake) -> None:
        """Replaced files that are still waiting when the process ends are left to vacuum."""
        kept_seconds = min(REPLACED_STAY, self._settings.retention.vacuum_after).total_seconds()
        while self._replaced and time.monotonic() - self._replaced[0][0] >= kept_seconds:
            _, table, paths = self._replaced.pop(0)
            lake.delete_replaced(TABLES[table], paths)

    def _tidy_logs(self, lake: Lake, now: datetime) -> None:
        for table in TABLES.values():
            version = lake.version(table)
            if version - self._tidied.get(table.name, -LOG_EVERY) >= LOG_EVERY:
                lake.tidy_log(table, now=now)
                self._tidied[table.name] = version


def beside(settings: config.Config, stop: threading.Event) -> threading.Thread:
    """Start a maintainer in its own thread, which ends with the process or when `stop` is set."""
    thread = threading.Thread(target=Maintainer(settings).run, args=(stop,), name="maintainer", daemon=True)
    thread.start()
    return thread
