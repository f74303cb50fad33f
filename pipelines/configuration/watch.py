"""Keeps the history of one cluster up to date: takes a snapshot, then watches each kind that could be read.

Watch events are stored every few seconds, and every few minutes a ledger row records up to when all kinds were observed. When
a watch breaks or expires, a new snapshot is taken and the ledger shows the gap. A snapshot is also taken every hour, for kinds
that were installed or permitted since. A folder of manifests is read every few minutes.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import structlog

from pipelines.cluster_access import ClusterAccess, Event
from pipelines.configuration import kinds, manifests, snapshot
from pipelines.configuration.audit_log import AuditLog
from pipelines.configuration.kinds import BY_NAME, CILIUM_AGENTS, POD_LABELS, PODS
from pipelines.configuration.recording import Look, Recorder, note_looks
from pipelines.configuration.snapshot import Snapshot
from pipelines.objects.names import Key
from warehouse import config
from warehouse.errors import ClusterError, CommitConflictError, ConfigError
from warehouse.lake.tables import Lake

log = structlog.stdlib.get_logger(__name__)

SOURCE = "watch"
FLUSH_SECONDS = 5.0
"""How long an event waits at most before it is stored."""
LEDGER_EVERY = timedelta(minutes=5)
LOOK_EVERY = timedelta(hours=1)
LOOK_SOON = timedelta(minutes=1)
"""How soon to retry when a kind could not be read for a reason that may pass."""
PAUSE_SECONDS = 10.0
"""How soon to retry a cluster that cannot be reached."""


@dataclass(frozen=True, kw_only=True)
class _Heard:
    """An event on the watch of a kind; `event` is None when the watch was started or resumed."""

    kind: str
    at: datetime
    event: Event | None = None
    error: Exception | None = None


class ClusterWatch:
    """Watches one cluster until it is stopped."""

    def __init__(
        self,
        lake: Lake,
        cluster: config.Cluster,
        *,
        flush_seconds: float = FLUSH_SECONDS,
        ledger_every: timedelta = LEDGER_EVERY,
        look_every: timedelta = LOOK_EVERY,
        pause_seconds: float = PAUSE_SECONDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        on_snapshot: Callable[[Snapshot], None] = lambda _taken: None,
    ) -> None:
        """Make a watch; `on_snapshot` is called after each full snapshot."""
        self._lake, self._cluster, self._now, self._on_snapshot = lake, cluster, now, on_snapshot
        self._flush_seconds, self._pause_seconds = flush_seconds, pause_seconds
        self._ledger_every, self._look_every = ledger_every, look_every

    def run(self, stop: threading.Event) -> None:
        """Watch until `stop` is set; everything observed by then is stored. Raises LakeError."""
        while not stop.is_set():
            try:
                if self._cluster.kubernetes is not None and self._cluster.kubernetes.manifests is not None:
                    taken, _ = manifests.take(self._lake, self._cluster, now=self._now)
                    self._on_snapshot(taken)
                    stop.wait(self._ledger_every.total_seconds())
                else:
                    self._look_and_watch(stop)
            except (ClusterError, CommitConflictError, ConfigError) as error:
                log.warning("the watch is restarted", cluster=self._cluster.name, error=str(error))
                stop.wait(self._pause_seconds)

    def _look_and_watch(self, stop: threading.Event) -> None:
        settings = self._cluster.kubernetes
        if settings is None:
            raise ConfigError(f"cluster {self._cluster.name}: kubernetes is not configured, so its configuration cannot be read")
        # The snapshot opens and closes its own access, so that credential errors reach the ledger.
        access, began = ClusterAccess(settings, cluster=self._cluster.name), self._now()
        ended = threading.Event()
        try:
            recorder = Recorder(self._lake, self._cluster.name, source=SOURCE, find_change=AuditLog.of(settings).find)
            taken = Snapshot(cluster=self._cluster.name, begin=began)
            snapshot.look_at(access, recorder, taken, at=began, progress=lambda _cluster, _kind, _objects: None)
            recorder.commit(recorded=self._now())
            taken.written = recorder.written
            self._note(snapshot.ledger_lines(taken), began, self._now(), source=snapshot.SOURCE)
            self._on_snapshot(taken)
            if taken.watchable:
                self._watch(access, recorder, taken, stop, ended)
            else:
                stop.wait(self._pause_seconds)
        finally:
            ended.set()
            access.close()

    def _watch(self, access: ClusterAccess, recorder: Recorder, taken: Snapshot, stop: threading.Event, ended: threading.Event) -> None:
        """Process events until stopped, until a watch fails, or until the next snapshot is due."""
        inbox: queue.SimpleQueue[_Heard] = queue.SimpleQueue()
        for kind, (place, version) in taken.watchable.items():
            arguments = (access, kind, place, version, inbox, lambda: stop.is_set() or ended.is_set())
            threading.Thread(target=self._listen, args=arguments, name=f"watch {kind}", daemon=True).start()
        heard = dict.fromkeys(taken.watchable, taken.begin)
        ledger_from, versions_before = taken.begin, recorder.written.versions
        is_passing = any(look.state in ("unreachable", "refused", "failed") for look in taken.troubles)
        next_flush = self._now()
        look_again = self._now() + (min(LOOK_SOON, self._look_every) if is_passing else self._look_every)
        error: Exception | None = None
        while error is None and not stop.is_set() and self._now() < look_again:
            try:
                news = inbox.get(timeout=min(self._flush_seconds, 0.5))
            except queue.Empty:
                news = None
            if news is not None and news.error is None:
                heard[news.kind] = news.at
                if news.event is not None:
                    self._record(recorder, taken, news.kind, news.event, news.at)
            error = news.error if news is not None else None
            if error is not None or self._now() >= next_flush:
                recorder.commit(recorded=self._now())
                next_flush = self._now() + timedelta(seconds=self._flush_seconds)
                until = min(heard.values())
                if until - ledger_from >= self._ledger_every:
                    self._note_watched(heard, ledger_from, until, recorder.written.versions - versions_before)
                    ledger_from, versions_before = until, recorder.written.versions
        recorder.commit(recorded=self._now())
        # When stopped, everything received so far is stored: nothing is missing but the delay of the connections.
        until = min(heard.values()) if error is not None else min(self._now(), look_again)
        if until > ledger_from:
            self._note_watched(heard, ledger_from, until, recorder.written.versions - versions_before)
        if error is not None:
            raise error

    def _listen(
        self, access: ClusterAccess, kind: str, place: str, version: str, inbox: queue.SimpleQueue[_Heard], stop: Callable[[], bool]
    ) -> None:
        """Put the events on the watch of a kind into the inbox, and resume the watch where the server ended it."""
        query = BY_NAME[kind].query if kind in BY_NAME else PODS.query
        try:
            while not stop():
                for event in access.watch(place, version, query=query, stop=stop):
                    version = event.resource_version
                    inbox.put(_Heard(kind=kind, at=self._now(), event=event if event.type != "BOOKMARK" else None))
        except Exception as error:
            if not stop():
                inbox.put(_Heard(kind=kind, at=self._now(), error=error))

    def _record(self, recorder: Recorder, taken: Snapshot, kind: str, event: Event, at: datetime) -> None:
        """Pass an event to the recorder."""
        gone = event.type == "DELETED"
        if kind == PODS.name:
            came, emptied = (None, taken.pods.remove(event.object)) if gone else taken.pods.put(event.object)
            if came is not None:
                recorder.saw(came, at=at)
            if emptied is not None:
                recorder.missed(emptied, at=at, source=SOURCE)
            return
        place = taken.watchable[kind][0]
        item = {"apiVersion": kinds.api_version(place), **event.object}
        observed = kinds.observe(BY_NAME[kind], item)
        namespace = kinds.namespace_of(BY_NAME[kind], item["metadata"])
        if observed is None or gone:
            recorder.missed(Key(kind, namespace, item["metadata"]["name"]), at=at, source=SOURCE)
        else:
            recorder.saw(observed, at=at)
        if kind == "DaemonSet" and snapshot.is_cilium(item):
            agents = snapshot.cilium_agents({**item, "kind": "DaemonSet"})
            if gone:
                recorder.missed(agents.key, at=at, source=SOURCE)
            else:
                recorder.saw(agents, at=at)

    def _note_watched(self, heard: dict[str, datetime], begin: datetime, until: datetime, written: int) -> None:
        watched = tuple(POD_LABELS if kind == PODS.name else kind for kind in heard)
        agents = (CILIUM_AGENTS,) if "DaemonSet" in heard else ()
        self._note([Look(state="observed", kinds=(*watched, *agents), versions_written=written)], begin, until, source=SOURCE)

    def _note(self, looks: Iterable[Look], begin: datetime, end: datetime, *, source: str) -> None:
        note_looks(self._lake, self._cluster.name, looks, source=source, begin=begin, end=end, recorded=self._now())
