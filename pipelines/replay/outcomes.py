"""What becomes of connections: their verdicts before and after a change of policies, and on what the latter rests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from pipelines.policy.bulk import ALLOWED, DENIED, UNCERTAIN, BulkJudge
from pipelines.policy.model import Direction
from pipelines.policy.side_vectors import Mask
from pipelines.policy.verdict import Decision
from pipelines.replay.grouping import Ints
from pipelines.replay.traffic import Traffic

Codes = NDArray[np.uint8]


class Change(StrEnum):
    """What a candidate does to a connection."""

    NEWLY_DENIED = "newly_denied"
    NEWLY_ALLOWED = "newly_allowed"
    UNCHANGED = "unchanged"
    UNCERTAIN = "uncertain"


CHANGES = tuple(Change)


class Why(StrEnum):
    """On what the verdict after the change rests."""

    RULES = "rules"
    NOT_SELECTED = "no policy that changes selects either end"
    NOT_COVERED = "configuration history does not cover that time, so it is not known which other policies were in force"
    CONTRADICTED = (
        "the policies in force then give another verdict than the one that was recorded, so the replay is not to be relied on here"
    )
    STRADDLES = "policies changed within the hour, and what the edge recorded lies on both sides of the change"
    REQUESTS = "rules for requests decide, and no request was recorded"


WHYS = tuple(Why)


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What becomes of a cluster's traffic: arrays of one length, up to two entries for each connection."""

    traffic: Traffic
    judge: BulkJudge
    """Has the policies before the change, by period, and then those after it."""
    connection: Ints
    """Index of the connection in `traffic`."""
    before: Codes
    after: Codes
    change: Codes
    """Index in CHANGES."""
    why: Codes
    """Index in WHYS."""
    touched: NDArray[np.bool_]
    """By entry and direction (egress, ingress): whether a policy that changes selects that end."""
    flows: Ints
    is_folded: Mask
    """Uncertain, and the flows themselves may tell, because they have what the edge does not."""

    def __len__(self) -> int:
        return len(self.connection)

    def decision(self, entry: int, direction: Direction) -> Decision:
        """The verdict after the change at one end of an entry's connection, with its rules and reason."""
        traffic, place = self.traffic, int(self.connection[entry])
        after = len(traffic.periods) + int(traffic.first_period[place])
        return self.judge.decide(after, direction, traffic.connection(place), traffic.subject(direction, place))

    def only(self, keep: Mask) -> Outcomes:
        """Return some of the entries."""
        arrays = {
            name: getattr(self, name)[keep] for name in ("connection", "before", "after", "change", "why", "touched", "flows", "is_folded")
        }
        return replace(self, **arrays)


class Part:
    """Entries of the same recorded verdict, one for each connection looked at."""

    def __init__(self, places: Ints, touched: NDArray[np.bool_], before: int, flows: Ints) -> None:
        count = len(places)
        self.places, self.touched, self.before, self.flows = places, touched, before, flows
        self.after = np.zeros(count, np.uint8)
        self.why = np.zeros(count, np.uint8)
        self.requests = np.zeros(count, bool)

    @property
    def keep(self) -> Mask:
        """The entries that have flows."""
        return np.asarray(self.flows > 0)

    def set_uncertain(self, where: Mask, why: Why) -> None:
        """Make the verdict after the change uncertain, for a reason other than the rules themselves."""
        self.after[where] = UNCERTAIN
        self.why[where] = WHYS.index(why)

    def change(self) -> Codes:
        """The index in CHANGES of each entry."""
        found = np.full(len(self.after), CHANGES.index(Change.UNCHANGED), np.uint8)
        found[self.after == UNCERTAIN] = CHANGES.index(Change.UNCERTAIN)
        if self.before == ALLOWED:
            found[self.after == DENIED] = CHANGES.index(Change.NEWLY_DENIED)
        else:
            found[self.after == ALLOWED] = CHANGES.index(Change.NEWLY_ALLOWED)
        return found


def joined(traffic: Traffic, judge: BulkJudge, parts: Sequence[Part]) -> Outcomes:
    """Return the outcomes of parts of a cluster's connections."""
    rules, requests = WHYS.index(Why.RULES), WHYS.index(Why.REQUESTS)
    for part in parts:
        part.why[(part.after == UNCERTAIN) & (part.why == rules) & part.requests] = requests
    places = np.concatenate([part.places[part.keep] for part in parts]) if parts else np.zeros(0, np.int64)

    def together(values: list[NDArray[np.generic]], kind: type[np.generic]) -> NDArray[np.generic]:
        return np.concatenate(values) if values else np.zeros(0, kind)

    after = together([part.after[part.keep] for part in parts], np.uint8)
    why = together([part.why[part.keep] for part in parts], np.uint8)
    touched = np.concatenate([part.touched[part.keep] for part in parts]) if parts else np.zeros((0, 2), bool)
    may_tell = np.isin(why, [rules, requests, WHYS.index(Why.STRADDLES)])
    return Outcomes(
        traffic=traffic,
        judge=judge,
        connection=places,
        before=together([np.full(int(part.keep.sum()), part.before, np.uint8) for part in parts], np.uint8),  # type: ignore[arg-type]
        after=after,  # type: ignore[arg-type]
        change=together([part.change()[part.keep] for part in parts], np.uint8),  # type: ignore[arg-type]
        why=why,  # type: ignore[arg-type]
        touched=touched,
        flows=together([part.flows[part.keep] for part in parts], np.int64),  # type: ignore[arg-type]
        is_folded=np.asarray((after == UNCERTAIN) & may_tell & _hides_something(traffic, places, why)),
    )


def _hides_something(traffic: Traffic, places: Ints, why: NDArray[np.generic]) -> Mask:
    """Whether an edge has less than its flows: an address, a name, a port, an ICMP type, a request, or the time."""
    folded = np.array(
        [bool(side.networks or side.possible_names) or (side.address is None and side.enforced is False) for side in traffic.sides], bool
    )
    at_ends = folded[traffic.source[places]] | folded[traffic.destination[places]]
    return np.asarray(at_ends | (traffic.number[places] < 0) | (why == WHYS.index(Why.REQUESTS)) | (why == WHYS.index(Why.STRADDLES)))
