"""Keeps the events of proposals in the table `policy_changes`, and the edges of their simulations in `proposed_edges`. Append-only.

Two people who act on a proposal at the same moment do not both succeed: each event has a number that the table accepts once.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from pipelines.objects.canonical import Manifest
from pipelines.objects.names import Key
from pipelines.proposals.model import Entry, Event, Proposal, ProposedObject, by_id
from pipelines.replay.changed_edges import ChangedEdge
from pipelines.replay.outcomes import Change
from warehouse.errors import CommitConflictError, ProposalError
from warehouse.lake.tables import Lake
from warehouse.questions.proposal_questions import ProposalEvents
from warehouse.schema import POLICY_CHANGES, PROPOSED_EDGES

if TYPE_CHECKING:
    from pipelines.proposals.desk import Desk

CAUSE = "proposal"
_ENDS = ("namespace", "workload_name", "entity", "dns_name", "cidr")


def new_id() -> str:
    """Return an id for a proposal."""
    return uuid.uuid4().hex[:12]


def append(lake: Lake, proposal: str, cluster: str, namespace: str | None, entry: Entry) -> None:
    """Store an event. Raises ProposalError if another one was stored at the same time, LakeError."""
    rows = pa.Table.from_pylist(list(_rows(proposal, cluster, namespace, entry)), schema=POLICY_CHANGES.schema)
    try:
        lake.commit(
            POLICY_CHANGES,
            lake.write_files(POLICY_CHANGES, rows),
            transactions={f"proposal:{proposal}": entry.number},
            metadata={},
        )
    except CommitConflictError as error:
        raise ProposalError(f"proposal {proposal}: somebody else did something with it at the same time; look at it again") from error


def _rows(proposal: str, cluster: str, namespace: str | None, entry: Entry) -> Iterable[dict[str, Any]]:
    shared = {
        "cluster": cluster,
        "date": entry.time.date(),
        "time": entry.time,
        "run": entry.run or uuid.uuid4().hex,
        "cause": CAUSE,
        "actor": entry.actor,
        "namespace": namespace,
        "result": entry.result,
        "detail": entry.detail,
        "proposal": proposal,
        "event": entry.event.value,
    }
    for place, one in enumerate(entry.objects):
        version = {"uid": one.uid, "resource_version": one.resource_version}
        record = {"number": entry.number, "place": place, "object": version, "about": dict(entry.about)}
        yield shared | {
            "action": one.action,
            "kind": one.key.kind,
            "name": one.key.name,
            "before": as_text(one.before),
            "after": as_text(one.after),
            "record": json.dumps(record, sort_keys=True, default=str),
        }


def as_text(manifest: Manifest | None) -> str | None:
    """Return the form in which an object is stored, without what only the API server uses."""
    if manifest is None:
        return None
    metadata = {key: value for key, value in manifest["metadata"].items() if key != "managedFields"}
    return json.dumps({**manifest, "metadata": metadata}, sort_keys=True)


def one(lake: Lake, proposal: str) -> Proposal:
    """Return a proposal, whoever may see it. Raises ProposalError if there is none of this id, LakeError."""
    found = proposals_of(lake.read(POLICY_CHANGES, matching=pc.field("proposal") == proposal))
    if not found:
        raise ProposalError(f"there is no proposal {proposal}; `hindcast policy proposals list` shows them")
    return found[0]


def visible_one(desk: Desk, proposal: str) -> Proposal:
    """Return a proposal that the user of the desk may see, whole. Raises ProposalError if there is none, AccessDeniedError, LakeError."""
    if not desk.door.answer(desk.who, ProposalEvents(proposal=proposal)).rows.num_rows:
        raise ProposalError(f"there is no proposal {proposal} that you may see")
    return one(desk.lake, proposal)


def proposals_of(rows: pa.Table) -> list[Proposal]:
    """Return the proposals in rows of `policy_changes`, the newest first. A proposal whose first event is not among them is left out."""
    entries: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows.to_pylist():
        if row["proposal"] is not None and row["record"] is not None:
            entries.setdefault((row["proposal"], row["run"]), []).append(row | {"record": json.loads(row["record"])})
    made = [(proposal, listed[0]["cluster"], listed[0]["namespace"], _entry(listed)) for (proposal, _), listed in entries.items()]
    return [proposal for proposal in by_id(made) if proposal.entries[0].number == 1]


def _entry(rows: Sequence[dict[str, Any]]) -> Entry:
    listed = sorted(rows, key=lambda row: row["record"]["place"])
    first = listed[0]
    return Entry(
        number=first["record"]["number"],
        event=Event(first["event"]),
        time=first["time"],
        actor=first["actor"],
        result=first["result"],
        detail=first["detail"],
        about=first["record"]["about"],
        objects=tuple(_object(row) for row in listed),
        run=first["run"],
    )


def _object(row: dict[str, Any]) -> ProposedObject:
    before, after = (None if row[name] is None else json.loads(row[name]) for name in ("before", "after"))
    version = row["record"]["object"]
    version = version if isinstance(version, dict) else {}
    return ProposedObject(
        key=Key(row["kind"], row["namespace"], row["name"]),
        action=row["action"],
        before=before,
        after=after,
        uid=version.get("uid"),
        resource_version=version.get("resource_version"),
    )


def append_edges(lake: Lake, proposal: str, judgement: int, edges: Sequence[ChangedEdge], most: int) -> None:
    """Store the edges that a simulation says change or are uncertain, those with most flows first. Raises LakeError."""
    changed = [edge for edge in edges if edge.change is not Change.UNCHANGED][:most]
    rows = pa.Table.from_pylist([_edge_row(edge, proposal, judgement) for edge in changed], schema=PROPOSED_EDGES.schema)
    if rows.num_rows:
        lake.commit(PROPOSED_EDGES, lake.write_files(PROPOSED_EDGES, rows), transactions={}, metadata={})


def _edge_row(edge: ChangedEdge, proposal: str, judgement: int) -> dict[str, Any]:
    ends = {
        f"{side}_{name}": value
        for side, shown in (("source", edge.source), ("destination", edge.destination))
        for name, value in zip(("cluster_name", *_ENDS), shown, strict=True)
    }
    hour = edge.first_seen.replace(minute=0, second=0, microsecond=0)
    return {
        "cluster": edge.cluster,
        "date": hour.date(),
        "time": hour,
        **ends,
        "destination_port": edge.destination_port,
        "l4_protocol": edge.l4_protocol,
        "change": edge.change.value,
        "verdict_before": edge.before,
        "verdict_after": edge.after,
        "flows": edge.flows,
        "first_seen": edge.first_seen,
        "last_seen": edge.last_seen,
        "reason": edge.reason,
        "proposal": proposal,
        "judgement": judgement,
    }
