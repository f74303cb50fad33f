"""The result of a simulation as rows: one for each edge and what a change does to it, with the rules that decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from pipelines.policy.bulk import CODES, DENIED, UNCERTAIN
from pipelines.policy.model import Direction
from pipelines.policy.verdict import Decision, Verdict
from pipelines.replay.agreement import CLASSES, Disagreeing, Disagreement, explained
from pipelines.replay.ends import End
from pipelines.replay.grouping import Ints, grouped
from pipelines.replay.outcomes import CHANGES, WHYS, Change, Outcomes, Why
from pipelines.replay.traffic import INGRESS, Traffic

MOST_EXPLAINED = 2_000
"""Unchanged edges of a cluster beyond this number have no rules and a general reason."""
_AS_BEFORE = "the policies after the change give what was recorded"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
END_COLUMNS = ("namespace", "workload_name", "entity", "dns_name", "cidr")
Shown = tuple[str | None, ...]
"""What is shown of an end: its own cluster, then END_COLUMNS."""


@dataclass(kw_only=True)
class ChangedEdge:
    """An edge, what was recorded of it, and what would become of it."""

    cluster: str
    source: Shown
    destination: Shown
    destination_port: int | None
    l4_protocol: str | None
    before: str
    after: str
    change: Change
    flows: int = 0
    first_seen: datetime
    last_seen: datetime
    rules: tuple[str, ...] = ()
    reason: str = ""
    uuids: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    coverage: float | None = None
    """Share of the window in which the cluster's nodes were observed."""

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes it one edge, with one change."""
        return self.cluster, self.source, self.destination, self.destination_port, self.l4_protocol, self.before, self.after, self.change

    def add(self, other: ChangedEdge) -> None:
        """Add the flows of another part of the same edge; the rules and the reason of the larger part stay."""
        if other.flows > self.flows:
            self.reason = other.reason
        self.rules = tuple(dict.fromkeys([*self.rules, *other.rules]))
        self.flows += other.flows
        self.first_seen, self.last_seen = min(self.first_seen, other.first_seen), max(self.last_seen, other.last_seen)

    def row(self) -> dict[str, Any]:
        """Return the edge with the names of its columns."""
        ends = {
            f"{side}_{name}": value
            for side, shown in (("source", self.source), ("destination", self.destination))
            for name, value in zip(("cluster_name", *END_COLUMNS), shown, strict=True)
        }
        own = ("destination_port", "l4_protocol", "before", "after", "change", "flows", "first_seen", "last_seen")
        more = {name: getattr(self, name) for name in own} | {"change": self.change.value}
        lists = {name: list(getattr(self, name)) for name in ("rules", "uuids", "owners")}
        return {"cluster": self.cluster, **ends, **more, **lists, "reason": self.reason, "coverage": self.coverage}


def shown(end: End) -> Shown:
    """Return what is shown of an end."""
    is_world = end.entity is None or end.entity.startswith("world")
    cidr = end.cidr or (f"{end.address}/{128 if ':' in end.address else 32}" if end.address and is_world and not end.dns_name else None)
    return end.cluster_name, end.namespace, end.workload, end.entity, end.dns_name, cidr


def edges_of(outcomes: Sequence[Outcomes]) -> list[ChangedEdge]:
    """Return the edges of several clusters: those that change first, then those that are uncertain, most flows first."""
    together: dict[tuple[Any, ...], ChangedEdge] = {}
    for one in outcomes:
        for edge in _edges(one):
            there = together.setdefault(edge.key, edge)
            if there is not edge:
                there.add(edge)
    found = together.values()
    order = (Change.NEWLY_DENIED, Change.NEWLY_ALLOWED, Change.UNCERTAIN, Change.UNCHANGED)
    return sorted(found, key=lambda edge: (order.index(edge.change), -edge.flows, edge.cluster, str(edge.source), str(edge.destination)))


def rows_of(edges: Sequence[ChangedEdge]) -> list[dict[str, Any]]:
    """Return one row for each edge of a list in the order of `edges_of`, whatever parts of its flows a change does different things to.

    The row has the gravest change, with `flows` of the whole edge and `flows_of_change` of that change alone.
    """
    together: dict[tuple[Any, ...], list[ChangedEdge]] = {}
    for edge in edges:
        key = (edge.cluster, edge.source, edge.destination, edge.destination_port, edge.l4_protocol)
        together.setdefault(key, []).append(edge)
    rows = []
    for parts in together.values():
        row = parts[0].row()
        row["flows"], row["flows_of_change"] = sum(part.flows for part in parts), parts[0].flows
        row["first_seen"], row["last_seen"] = min(part.first_seen for part in parts), max(part.last_seen for part in parts)
        rest = Counter({part.change: 0 for part in parts[1:]})
        for part in parts[1:]:
            rest[part.change] += part.flows
        others = ", ".join(f"{flows:,} {change.value.replace('_', ' ')}" for change, flows in rest.items())
        row["reason"] += f"; of its other flows: {others}" if others else ""
        rows.append(row)
    return rows


def _edges(outcomes: Outcomes) -> list[ChangedEdge]:
    traffic = outcomes.traffic
    titles, of_end = _displayed(traffic)
    place = outcomes.connection
    columns = [
        of_end[traffic.source[place]],
        of_end[traffic.destination[place]],
        traffic.protocol[place],
        traffic.number[place],
        outcomes.before.astype(np.int64),
        outcomes.after.astype(np.int64),
        outcomes.change.astype(np.int64),
    ]
    if not len(place):
        return []
    example, member = grouped(columns)
    groups = np.stack([column[example] for column in columns])
    count = len(example)
    flows = np.bincount(member, weights=outcomes.flows, minlength=count).astype(np.int64)
    first, last = np.full(count, np.iinfo(np.int64).max), np.zeros(count, np.int64)
    np.minimum.at(first, member, traffic.first_seen[place])
    np.maximum.at(last, member, traffic.last_seen[place])
    largest = _largest(member, outcomes.flows, count)
    found, unchanged = [], 0
    for number in range(count):
        source, destination, protocol, port, before, after, change = groups[:, number].tolist()
        name = traffic.protocols[protocol]
        edge = ChangedEdge(
            cluster=traffic.cluster,
            source=titles[source],
            destination=titles[destination],
            destination_port=port if port >= 0 and not name.startswith("ICMP") else None,
            l4_protocol=name or None,
            before=CODES[before].value,
            after=CODES[after].value,
            change=CHANGES[change],
            flows=int(flows[number]),
            first_seen=_moment(first[number]),
            last_seen=_moment(last[number]),
        )
        unchanged += edge.change is Change.UNCHANGED
        if edge.change is Change.UNCHANGED and unchanged > MOST_EXPLAINED:
            edge.reason = _AS_BEFORE if outcomes.touched[largest[number]].any() else Why.NOT_SELECTED.value
        else:
            edge.rules, edge.reason = _explained(outcomes, int(largest[number]))
        found.append(edge)
    return found


def _largest(member: Any, flows: Any, count: int) -> Any:
    """For each group the entry with the most flows."""
    order = np.lexsort((flows, member))
    ends = np.searchsorted(member[order], np.arange(count), side="right") - 1
    return order[ends]


def _moment(microseconds: Any) -> datetime:
    return _EPOCH + timedelta(microseconds=int(microseconds))


def _explained(outcomes: Outcomes, entry: int) -> tuple[tuple[str, ...], str]:
    """The rules that decide an entry after the change, and the reason."""
    why = WHYS[outcomes.why[entry]]
    if why not in (Why.RULES, Why.REQUESTS, Why.CONTRADICTED):
        return (), why.value
    touched = [
        outcomes.decision(entry, direction)
        for direction, is_touched in zip((Direction.EGRESS, Direction.INGRESS), outcomes.touched[entry], strict=True)
        if is_touched
    ]
    deciding = [one for one in touched if _decides(one, int(outcomes.after[entry]))] or touched
    rules = tuple(dict.fromkeys(str(rule) for one in deciding for rule in one.rules))
    reason = "; ".join(dict.fromkeys(one.reason for one in deciding))
    return rules, reason if why is not Why.CONTRADICTED else f"{why.value}: {reason}"


def _decides(decision: Decision, after: int) -> bool:
    if after == DENIED:
        return decision.verdict is Verdict.DENIED
    if after == UNCERTAIN:
        return decision.verdict is Verdict.UNCERTAIN or decision.layer7_undecided
    return decision.verdict is Verdict.ALLOWED


def _displayed(traffic: Traffic) -> tuple[list[Shown], Ints]:
    """Return what is shown of the ends, each once, and for each end its place in that."""
    found: dict[Shown, int] = {}
    of_end = np.array([found.setdefault(shown(end), len(found)) for end in traffic.ends], np.int64)
    return list(found), of_end


def disagreements(cases: Sequence[Disagreeing], most: int) -> list[dict[str, Any]]:
    """Return the disagreements of the replay with what was recorded, as rows with the names of their columns; most flows first."""
    found: list[tuple[int, Disagreeing, int]] = []
    for case in cases:
        example, flows = _most_flows(case, most)
        found += [(number, case, place) for number, place in zip(flows.tolist(), example.tolist(), strict=True)]
    found.sort(key=lambda one: -one[0])
    rows = []
    for flows_of_row, case, place in found[:most]:
        decision = explained(case, place)
        row = _disagreement(case, place) | {"flows": flows_of_row}
        rows.append({**row, "rules": [str(rule) for rule in decision.rules], "reason": _reason(case, place, decision)})
    return rows


def _most_flows(case: Disagreeing, most: int) -> tuple[Ints, Ints]:
    """Return the edges that disagree and have the most flows: the first entry of each, and the flows."""
    traffic, connection = case.traffic, case.connection
    _, of_end = _displayed(traffic)
    ends = (of_end[traffic.source[connection]], of_end[traffic.destination[connection]])
    example, member = grouped([*ends, traffic.protocol[connection], traffic.number[connection], case.direction, case.kind])
    flows = np.zeros(len(example), np.int64)
    np.add.at(flows, member, case.flows)
    chosen = np.lexsort((example, -flows))[:most]
    return example[chosen], flows[chosen]


def _reason(case: Disagreeing, place: int, decision: Decision) -> str:
    traffic, connection = case.traffic, int(case.connection[place])
    if traffic.periods[int(traffic.first_period[connection])].not_covered:
        return Why.NOT_COVERED.value
    if CLASSES[case.kind[place]] is Disagreement.NOT_KNOWN and decision.verdict is not Verdict.UNCERTAIN:
        return Why.STRADDLES.value
    return decision.reason


def _disagreement(case: Disagreeing, place: int) -> dict[str, Any]:
    traffic: Traffic = case.traffic
    connection = int(case.connection[place])
    source, destination = (shown(traffic.ends[int(ends[connection])]) for ends in (traffic.source, traffic.destination))
    number = int(traffic.number[connection])
    return {
        "cluster": traffic.cluster,
        **{f"source_{name}": value for name, value in zip(("cluster_name", *END_COLUMNS), source, strict=True)},
        **{f"destination_{name}": value for name, value in zip(("cluster_name", *END_COLUMNS), destination, strict=True)},
        "destination_port": number if number >= 0 else None,
        "l4_protocol": traffic.protocols[int(traffic.protocol[connection])] or None,
        "traffic_direction": "INGRESS" if case.direction[place] == INGRESS else "EGRESS",
        "disagreement": CLASSES[case.kind[place]].value,
    }
