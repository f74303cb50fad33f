"""Compares an observed state with the versions in force and writes what began and what ended. Reading the state does not belong here.

A Recorder serves one snapshot, or one watch, of one cluster. It reads the versions in force, receives the observed objects
and writes the difference, so an unchanged cluster writes no version. Each table is one commit, numbered by cluster: if two
processes record a cluster at once, the second gets CommitConflictError and starts over. A process killed between two tables has
written complete tables, and the next snapshot writes the others.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from pipelines.configuration.kinds import TABLE_OF, Observed
from pipelines.objects.names import Key
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.records.configuration_coverage import coverage_at
from warehouse.schema import CONFIG_COVERAGE, VERSION_TABLES, Table

CHANGED, DELETED, RECREATED = "changed", "deleted", "recreated"
GIVE_ACCESS = ("Namespace", "RoleBinding", "ClusterRoleBinding")
"""Kinds that decide who may see what: if one is deleted and recreated, its grants end at the creation of the new one."""
_MICROSECOND = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_ALWAYS = datetime(9999, 1, 1, tzinfo=UTC)
"""The placeholder end of versions in force."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """When something was changed, and by whom; `source` as in the column `valid_from_source`."""

    at: datetime
    by: str | None
    source: str


FindChange = Callable[[str, str | None, str, datetime | None, datetime, bool], Change | None]
"""Looks up a change: kind, namespace, name, earliest time, latest time, whether it is a deletion."""


@dataclass(kw_only=True)
class _Known:
    """A version in force. `row` is the row that is not stored yet, if any."""

    hash: str
    uid: str | None
    valid_from: datetime
    row: dict[str, Any] | None = None


@dataclass(kw_only=True)
class Written:
    """How many versions were written."""

    began: int = 0
    ended: int = 0
    by_kind: dict[str, int] = field(default_factory=dict)

    @property
    def versions(self) -> int:
        """Both together."""
        return self.began + self.ended


class Recorder:
    """Writes the configuration history of one cluster."""

    def __init__(
        self, lake: Lake, cluster: str, *, source: str, find_change: FindChange | None = None, tables: Collection[Table] = VERSION_TABLES
    ) -> None:
        """Read the versions in force. Raises LakeError."""
        self._lake, self._cluster, self._source = lake, cluster, source
        self._find_change = find_change
        # The commit numbers are read before the versions they guard, so that a commit in between invalidates them.
        self._numbers = {table.name: lake.transaction_version(table, self._app_id) or 0 for table in tables}
        stored = versions.in_force(lake, _ALWAYS, versions.Selection(tables=list(tables), clusters=[cluster], kinds=list(TABLE_OF)))
        columns = stored.select(["kind", "namespace", "name", "hash", "uid", "valid_from"]).to_pydict()
        self._known = {
            Key(kind, namespace, name): _Known(hash=hash_, uid=uid, valid_from=valid_from)
            for kind, namespace, name, hash_, uid, valid_from in zip(*columns.values(), strict=True)
        }
        self._last_looks = last_looks(lake, cluster)
        self._lives_ended: dict[Key, datetime] = {}
        self._began: dict[str, list[dict[str, Any]]] = {}
        self._ended: dict[str, list[tuple[Key, datetime, dict[str, Any]]]] = {}
        self.written = Written()

    @property
    def _app_id(self) -> str:
        return f"config:{self._cluster}"

    @property
    def pending(self) -> int:
        """The number of versions that began or ended and are not stored yet."""
        return sum(map(len, self._began.values())) + sum(map(len, self._ended.values()))

    def knows(self, kind: str) -> list[Key]:
        """Return the objects of a kind that are in force."""
        return [key for key in self._known if key[0] == kind]

    def saw(self, seen: Observed, *, at: datetime) -> bool:
        """Record an object as it was at a time; return whether that is a change."""
        known = self._known.get(seen.key)
        recreated = known is not None and known.uid is not None and seen.uid is not None and known.uid != seen.uid
        # When a cluster moves from manifests to its API server, the uid must be stored so that the next recreation is noticed.
        learned_uid = known is not None and known.uid is None and seen.uid is not None
        if known is not None and known.hash == seen.hash and not recreated and not learned_uid:
            return False
        begin = self._beginning(seen, known, at)
        if known is not None:
            end = self._end_of_life(seen, known, begin) if recreated and seen.kind in GIVE_ACCESS else begin
            self._end(seen.key, known, end, RECREATED if recreated else CHANGED)
        row = {
            "cluster": self._cluster,
            "valid_from": begin.at,
            "valid_to": None,
            "kind": seen.kind,
            "namespace": seen.namespace,
            "name": seen.name,
            "uid": seen.uid,
            "recorded": None,
            "ended_recorded": None,
            "hash": seen.hash,
            "api_version": seen.api_version,
            "valid_from_source": begin.source,
            "valid_to_source": None,
            "ended_how": None,
            "changed_by": begin.by,
            "ended_by": None,
            "source": self._source,
            "manifest": seen.manifest,
            "status": seen.status,
        }
        self._began.setdefault(TABLE_OF[seen.kind].name, []).append(row)
        self._known[seen.key] = _Known(hash=seen.hash, uid=seen.uid, valid_from=begin.at, row=row)
        self._count(seen.kind, began=1)
        return True

    def missed(self, key: Key, *, at: datetime, source: str = "snapshot") -> None:
        """Record that an object no longer exists at a time; does nothing if it was not in force."""
        known = self._known.pop(key, None)
        if known is None:
            return
        found = self._audit(key, known.valid_from + _MICROSECOND, at, deletion=True)
        end = found or Change(at=max(at, known.valid_from + _MICROSECOND), by=None, source=source)
        self._lives_ended[key] = end.at
        self._end(key, known, end, DELETED)

    def missed_others(self, kind: str, seen: Collection[Key], *, at: datetime) -> None:
        """Record that a kind was read completely and that only the objects in `seen` exist."""
        for key in self.knows(kind):
            if key not in seen:
                self.missed(key, at=at)
        self._last_looks[kind] = max(at, self._last_looks.get(kind, at))

    def commit(self, *, recorded: datetime) -> int:
        """Store what began and ended; return the number of versions. Raises LakeError, and CommitConflictError if another process
        has written this cluster's history meanwhile. After an error this recorder is out of date: make a new one."""
        stored = 0
        for table in VERSION_TABLES:
            began, ended = self._began.pop(table.name, []), self._ended.pop(table.name, [])
            if not began and not ended:
                continue
            for row in began:
                row["recorded"] = recorded
                if row["valid_to"] is not None:
                    row["ended_recorded"] = recorded
            rows = pa.concat_tables([pa.Table.from_pylist(began, schema=table.schema), self._ending_rows(table, ended, recorded)])
            number = self._numbers[table.name] + 1
            self._lake.commit(
                table,
                self._lake.write_files(table, rows.sort_by([("kind", "ascending"), ("namespace", "ascending"), ("name", "ascending")])),
                transactions={self._app_id: number},
                metadata={},
            )
            self._numbers[table.name] = number
            for row in began:
                known = self._known.get(Key(row["kind"], row["namespace"], row["name"]))
                if known is not None and known.row is row:
                    known.row = None
            stored += len(began) + len(ended)
        return stored

    # How ------------------------------------------------------------------------------------------------------

    def _end(self, key: Key, known: _Known, change: Change, how: str) -> None:
        values = {"valid_to": change.at, "valid_to_source": change.source, "ended_how": how, "ended_by": change.by}
        if known.row is not None:  # it began after the last commit
            known.row.update(values)
        else:
            self._ended.setdefault(TABLE_OF[key[0]].name, []).append((key, known.valid_from, values))
        self._count(key[0], ended=1)

    def _count(self, kind: str, *, began: int = 0, ended: int = 0) -> None:
        if kind in versions.BOOKKEEPING_KINDS:
            return
        self.written.began += began
        self.written.ended += ended
        self.written.by_kind[kind] = self.written.by_kind.get(kind, 0) + 1

    def _beginning(self, seen: Observed, known: _Known | None, at: datetime) -> Change:
        """Decide when a version began and who made it: from the audit log, else managed fields, else its creation, else now.

        The begin is never before the last snapshot that did not see the version, and always after the previous version. API
        times have whole seconds; one earlier than a snapshot that saw another state is due to a wrong clock or another change.
        """
        after = known.valid_from + _MICROSECOND if known is not None else self._lives_ended.get(seen.key)
        earliest = max(filter(None, (self._last_looks.get(seen.kind), after)), default=None)
        reported, source = (seen.changed, "managed_fields") if seen.changed is not None else (seen.created, "created")
        is_possible = reported is not None and (earliest is None or reported + _SECOND > earliest)
        # The log also contains writes that changed nothing: the one at the time recorded in the object is the right one.
        span = (reported, reported + 2 * _SECOND) if reported is not None and is_possible else (None, at)
        audited = self._audit(seen.key, max(filter(None, (earliest, span[0])), default=None), min(at, span[1]), deletion=False)
        if audited is not None:
            return audited
        if reported is not None and is_possible:
            latest = max(at, earliest) if earliest is not None else at
            return Change(at=min(max(reported, earliest) if earliest is not None else reported, latest), by=seen.manager, source=source)
        source = "watch" if self._source == "watch" else "snapshot"
        # A manager whose change precedes the last snapshot did not make this version.
        return Change(at=max(at, earliest) if earliest is not None else at, by=seen.manager if reported is None else None, source=source)

    def _end_of_life(self, seen: Observed, known: _Known, begin: Change) -> Change:
        """Return the latest possible end of an object that was deleted and recreated: the creation of the new object.

        The first known version of the new object may be younger (`begin`). Never before the last snapshot that saw the old one.
        """
        if seen.created is None:
            return begin
        at = max(seen.created, known.valid_from + _MICROSECOND, self._last_looks.get(seen.kind, seen.created))
        return Change(at=at, by=None, source="created") if at < begin.at else begin

    def _audit(self, key: Key, earliest: datetime | None, latest: datetime, *, deletion: bool) -> Change | None:
        return self._find_change(*key, earliest, latest, deletion) if self._find_change is not None else None

    def _ending_rows(self, table: Table, ended: Iterable[tuple[Key, datetime, dict[str, Any]]], recorded: datetime) -> pa.Table:
        """Return the stored rows of versions, with their ends."""
        ends = {(*key, valid_from): values for key, valid_from, values in ended}
        if not ends:
            return table.schema.empty_table()
        kinds = sorted({kind for kind, *_ in ends})
        stored = versions.in_force(self._lake, _ALWAYS, versions.Selection(tables=[table], clusters=[self._cluster], kinds=kinds))
        keys = list(zip(*(stored[name].to_pylist() for name in ("kind", "namespace", "name", "valid_from")), strict=True))
        indexes = [index for index, key in enumerate(keys) if key in ends]
        rows = stored.take(pa.array(indexes, pa.int64()))
        for name in ("valid_to", "valid_to_source", "ended_how", "ended_by"):
            values = [ends[keys[index]][name] for index in indexes]
            place = table.schema.get_field_index(name)
            rows = rows.set_column(place, table.schema.field(name), pa.array(values, table.schema.field(name).type))
        place = table.schema.get_field_index("ended_recorded")
        return rows.set_column(
            place, table.schema.field("ended_recorded"), pa.repeat(pa.scalar(recorded, rows["recorded"].type), len(indexes))
        )


def last_looks(lake: Lake, cluster: str) -> dict[str, datetime]:
    """Return the time up to which each kind is known. Raises LakeError."""
    return {each.kind: each.before for each in coverage_at(lake, _ALWAYS, clusters=[cluster]) if each.before is not None}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a snapshot adds to the ledger about some kinds; columns of config_coverage."""

    state: str
    kinds: tuple[str, ...]
    objects: int | None = None
    versions_written: int | None = None
    detail: str | None = None


def note_looks(lake: Lake, cluster: str, looks: Iterable[Look], *, source: str, begin: datetime, end: datetime, recorded: datetime) -> None:
    """Write to the ledger what was observed and what could not be observed. Raises LakeError."""
    rows = [
        {
            "cluster": cluster,
            "from": begin,
            "to": end,
            "state": look.state,
            "kinds": list(look.kinds),
            "source": source,
            "objects": look.objects,
            "versions_written": look.versions_written,
            "detail": look.detail,
            "recorded": recorded,
        }
        for look in looks
    ]
    table = CONFIG_COVERAGE
    lake.commit(table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions={}, metadata={})
