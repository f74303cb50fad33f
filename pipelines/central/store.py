"""Keeps the events of changes of blueprints in the table `policy_changes`. Append-only.

Each event is one row of the whole fleet, since it names several clusters; what is done to an object is a row of its cluster, with the same
`run`. Two people who act on a change at the same moment do not both succeed: each event has a number that the table accepts once.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.central.model import Change, Entry, Event, by_id
from pipelines.evidence.findings import FLEET
from pipelines.objects.names import Key
from pipelines.proposals import live
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Entry as AppliedEntry
from pipelines.proposals.model import Event as ProposalEvent
from pipelines.proposals.model import ProposedObject
from warehouse.errors import CommitConflictError, ProposalError
from warehouse.lake.tables import Lake
from warehouse.questions.proposal_questions import CHANGE, BlueprintChanges
from warehouse.schema import POLICY_CHANGES

KIND = "Blueprint"


def append(lake: Lake, change: Change, entry: Entry) -> Change:
    """Store an event, and return the change with it. Raises ProposalError if another one was stored at the same time, LakeError."""
    row = {
        "cluster": FLEET,
        "date": entry.time.date(),
        "time": entry.time,
        "run": change.id,
        "cause": CHANGE,
        "actor": entry.actor,
        "blueprint": change.blueprint,
        "blueprint_version": change.version,
        "action": "update",
        "kind": KIND,
        "name": change.blueprint,
        "result": entry.result,
        "detail": entry.detail,
        "event": entry.event.value,
        "record": json.dumps({"number": entry.number, "about": dict(entry.about)}, sort_keys=True, default=str),
    }
    rows = pa.Table.from_pylist([row], schema=POLICY_CHANGES.schema)
    try:
        files = lake.write_files(POLICY_CHANGES, rows)
        lake.commit(POLICY_CHANGES, files, transactions={f"change:{change.id}": entry.number}, metadata={})
    except CommitConflictError as error:
        raise ProposalError(f"change {change.id}: somebody else did something with it at the same time; look at it again") from error
    return Change(id=change.id, blueprint=change.blueprint, version=change.version, entries=(*change.entries, entry))


def changes_of(rows: pa.Table) -> list[Change]:
    """Return the changes in rows of `policy_changes`, the newest first."""
    events = (row for row in rows.to_pylist() if row["cause"] == CHANGE and row["record"] is not None)
    return by_id([(row["run"], row["blueprint"], row["blueprint_version"], _entry(row, json.loads(row["record"]))) for row in events])


def _entry(row: dict[str, Any], record: dict[str, Any]) -> Entry:
    return Entry(
        number=record["number"],
        event=Event(row["event"]),
        time=row["time"],
        actor=row["actor"],
        result=row["result"],
        detail=row["detail"],
        about=record["about"],
    )


def visible(desk: Desk) -> list[Change]:
    """Return the changes that the user of the desk may see, the newest first. Raises AccessDeniedError, LakeError."""
    return changes_of(desk.door.answer(desk.who, BlueprintChanges()).rows)


def visible_one(desk: Desk, change: str) -> Change:
    """Return a change that the user of the desk may see. Raises ProposalError if there is none, AccessDeniedError, LakeError."""
    found = changes_of(desk.door.answer(desk.who, BlueprintChanges(run=change)).rows)
    if not found:
        raise ProposalError(f"there is no change {change!r} of a blueprint that you may see; `hindcast blueprint changes` lists them")
    return found[0]


def done(lake: Lake, change: Change) -> dict[str, AppliedEntry]:
    """Return what publishing a change did to the objects of each cluster, with the time of its first step there. Raises LakeError."""
    matching = (pc.field("run") == change.id) & (pc.field("cause") == "publish") & (pc.field("result") == "done")
    rows = sorted(lake.read(POLICY_CHANGES, since=change.time, matching=matching).to_pylist(), key=lambda row: row["time"])
    found: dict[str, AppliedEntry] = {}
    for cluster in dict.fromkeys(row["cluster"] for row in rows):
        mine = [row for row in rows if row["cluster"] == cluster]
        objects: dict[Key, ProposedObject] = {}
        for row in mine:
            one = _object(row)
            first = objects.get(one.key, one)
            objects[one.key] = ProposedObject(
                key=one.key,
                action=first.action,
                before=first.before,
                after=one.after,
                uid=one.uid,
                resource_version=one.resource_version,
            )
        found[cluster] = AppliedEntry(
            number=1, event=ProposalEvent.APPLIED, time=mine[0]["time"], actor=mine[0]["actor"], objects=tuple(objects.values())
        )
    return found


def _object(row: dict[str, Any]) -> ProposedObject:
    before, after = (None if row[name] is None else json.loads(row[name]) for name in ("before", "after"))
    uid, resource_version = live.version_of(after)
    return ProposedObject(
        key=Key(row["kind"], row["namespace"], row["name"]),
        action=row["action"],
        before=before,
        after=after,
        uid=uid,
        resource_version=resource_version,
    )
