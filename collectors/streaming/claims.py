"""Makes a collector the one that stores a unit, which the lake then enforces.

A claim is a commit without flows under the unit's next number. From then on whoever stored the unit before cannot commit what it
still holds: a collector that was paused and wakes up finds its number used. So no flow is stored twice, and what the earlier one had
received and not stored is read again from Hubble.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from collectors.streaming.nodes import Unbooked
from collectors.streaming.publish import Publisher, TakenOverError, app_id
from collectors.streaming.spool import Batch, read_note
from warehouse import schema
from warehouse.lake.tables import Lake

UNLEASED_SECONDS = 60.0
"""A collector of an earlier version, which gives no sign of life, is taken to be dead when it has noted nothing for so long."""

Holder = Callable[[str], str | None]
"""The name of the collector with this instance, if it is another one and alive."""


@dataclass(frozen=True, kw_only=True)
class Resume:
    """Where a unit's collection goes on."""

    sequence: int
    is_empty: bool
    """Whether the lake holds no flow of the cluster."""
    until_us: dict[str | None, int] = field(default_factory=dict)
    """As Ledger.until_us."""
    unbooked: dict[str | None, Unbooked] = field(default_factory=dict)
    """As Ledger.unbooked."""


class Claims:
    """Claims units for one collector process. Not thread-safe."""

    def __init__(self, lake: Lake, publisher: Publisher, holder: Holder, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._lake = lake
        self._publisher = publisher
        self._holder = holder
        self._clock = clock
        self._unleased: dict[str, tuple[float, float]] = {}
        """For each unit of a collector without lease: the time in its last note, and when we first saw that note."""

    def claim(self, clusters: dict[str, str], *, by_force: Collection[str] = ()) -> dict[str, Resume | str]:
        """Claim units, given with their clusters, in one commit. Returns for each where to go on, or who else collects it.

        Those in `by_force` are claimed even from a living collector, which then claims them again. Raises LakeError.
        """
        notes = self._publisher.notes()
        answers: dict[str, Resume | str] = {}
        claimed: list[Batch] = []
        for unit, cluster in clusters.items():
            note = notes.get(unit)
            other = None if note is None or unit in by_force else self._other(unit, note)
            if other is not None:
                answers[unit] = other
            else:
                claimed.append(_nothing(unit, cluster) if note is None else read_note(note))
        self._publisher.finish([batch for batch in claimed if batch.sequence])
        # Flows can be stored under a unit's numbers without a note, as the demo does.
        used = self._lake.transaction_versions(schema.FLOWS, [app_id(batch.unit) for batch in claimed])
        numbers = [max(batch.sequence, used[app_id(batch.unit)] or 0) + 1 for batch in claimed]
        claimed = [replace(batch, sequence=number, coverage=[], released=False) for batch, number in zip(claimed, numbers, strict=True)]
        while claimed:
            try:
                self._publisher.publish(claimed)
                break
            except TakenOverError as error:
                answers |= dict.fromkeys(error.units, "another collector")
                claimed = [batch for batch in claimed if batch.unit not in error.units]
        for batch in claimed:
            is_empty = not self._lake.files(schema.FLOWS, clusters=[batch.cluster])
            answers[batch.unit] = Resume(sequence=batch.sequence, is_empty=is_empty, until_us=batch.until_us, unbooked=batch.unbooked)
        return answers

    def release(self, unit: str, cluster: str, resume: Resume) -> None:
        """Leave a claimed unit to other collectors. Raises LakeError, TakenOverError."""
        last = replace(_nothing(unit, cluster), sequence=resume.sequence + 1, until_us=resume.until_us, unbooked=resume.unbooked)
        self._publisher.publish([replace(last, released=True)])

    def _other(self, unit: str, note: dict[str, Any]) -> str | None:
        """Who else collects the unit, if it is alive."""
        if note["released"] or note["instance"] == self._publisher.instance:
            return None
        if note.get("leased"):
            return self._holder(note["instance"])
        if note["host"] == socket.gethostname() and (note["pid"] == os.getpid() or not Path(f"/proc/{note['pid']}").exists()):
            return None
        at, first_seen = self._unleased.get(unit, (None, 0.0))
        if at != note["at"]:
            first_seen = self._clock()
            self._unleased[unit] = (note["at"], first_seen)
        return None if self._clock() - first_seen > UNLEASED_SECONDS else f"process {note['pid']} on {note['host']}"


def _nothing(unit: str, cluster: str) -> Batch:
    """Stands for the last batch of a unit that was never collected."""
    return Batch(cluster=cluster, unit=unit, sequence=0, rows=schema.FLOWS.schema.empty_table())
