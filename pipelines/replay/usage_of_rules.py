"""When each rule decided: the distinct connections of a window's edges, judged by the policies that were in force then."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.audits.finding import Policies
from pipelines.audits.usage import RuleName, Seen, Uses, policy_of
from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Connection, Direction, Side
from pipelines.policy.verdict import Verdict
from pipelines.replay import traffic
from pipelines.replay.ends import End, side_of
from pipelines.replay.grouping import Ints, grouped
from pipelines.replay.in_force import History, InForce, Period
from pipelines.replay.traffic import Asked, Reader, as_microseconds, codes, microseconds, numbers, recorded_of
from warehouse.engine import Window
from warehouse.errors import ConfigError
from warehouse.questions.replay_questions import DistinctEdges

_RECORDED = {"FORWARDED": Verdict.ALLOWED, "REDIRECTED": Verdict.ALLOWED, "DROPPED": Verdict.DENIED}
"""What policies said of a flow. A flow in audit mode says nothing for certain."""
_DIRECTIONS = {"EGRESS": Direction.EGRESS, "INGRESS": Direction.INGRESS}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class UsesOf:
    """What became of the rules of one cluster in a window."""

    uses: Uses
    label_sets: frozenset[LabelSet]
    """Of the cluster's pods that were seen in flows."""
    observed: float
    """Share of the window in which traffic was observed."""


def uses_of_rules(history: History, window: Window, in_force: InForce) -> dict[str, UsesOf]:
    """Return when rules and policies decided, by cluster. Periods without configuration history are left out.

    Raises ConfigError for a window without both bounds, and whatever questions raise.
    """
    if window.since is None or window.until is None:
        raise ConfigError("uses of rules are looked for in a window with a start and an end")
    asked = Asked(window=window, clusters=tuple(in_force.periods))
    answer = history.answer(DistinctEdges(wanted=asked.filter()))
    reader = traffic.reader(history, asked, answer)
    found = {}
    for cluster, periods in in_force.periods.items():
        edges = _Edges(cluster, reader, answer.rows.filter(pc.equal(answer.rows["cluster"], cluster)))
        found[cluster] = UsesOf(uses=edges.uses(periods), label_sets=edges.label_sets(), observed=answer.shares.get(cluster, 0.0))
    return found


def stands_since(periods: Sequence[Period]) -> tuple[dict[RuleName, datetime], datetime]:
    """Return since when each rule of the last period has stood without a break, and since when that is known."""
    found: dict[RuleName, datetime] = {}
    standing: set[RuleName] | None = None
    known_since = periods[-1].since
    for period in reversed(periods):
        if period.not_covered:
            break
        manifests = Policies(period.documents)
        names = {(*policy_of(rule), manifests.digest(rule)) for rule in period.policies.rules}
        standing = names if standing is None else standing & names
        found |= dict.fromkeys(standing, period.since)
        known_since = period.since
    return found, known_since


class _Edges:
    """The edges of one cluster on which policies decided."""

    def __init__(self, cluster: str, reader: Reader, rows: pa.Table) -> None:
        kind, _ = recorded_of(rows)
        rows = rows.filter(pa.array((kind == traffic.ALLOWED) | (kind == traffic.DENIED)))
        self._learned = reader.learned
        self._ends, self._source, self._destination = reader.ends(cluster, rows)
        self._verdicts, self._verdict = codes(rows["verdict"])
        self._directions, self._direction = codes(rows["traffic_direction"])
        self._protocols, self._protocol = codes(rows["l4_protocol"])
        self._port, self._flows = numbers(rows["destination_port"], -1), numbers(rows["flows"])
        self._first, self._last = microseconds(rows["first_seen"]), microseconds(rows["last_seen"])
        self._hour = microseconds(rows["since"]) // _HOUR_US
        self._sides: dict[tuple[End, str, bool], Side] = {}

    def label_sets(self) -> frozenset[LabelSet]:
        """Label sets of the cluster's own pods."""
        local = (end for end in self._ends if end.cluster_name is None and end.namespace is not None)
        return frozenset(LabelSet(end.labels) for end in local if end.labels is not None)

    def uses(self, periods: Sequence[Period]) -> Uses:
        """Judge the connections of each period by its policies; what lies on both sides of a change is judged by both."""
        found = Uses()
        if not len(self._hour) or not periods:
            return found
        starts = np.array([as_microseconds(period.since) for period in periods], np.int64)
        first, last = (np.maximum(np.searchsorted(starts, moment, "right") - 1, 0) for moment in (self._first, self._last))
        for number, period in enumerate(periods):
            if period.not_covered:
                continue
            add = found.of(period.policies, Policies(period.documents))
            for connection, seen in self._connections(period, np.flatnonzero((first <= number) & (number <= last))):
                add(connection, seen)
        return found

    def _connections(self, period: Period, rows: Ints) -> Iterator[tuple[Connection, Seen]]:
        """The distinct connections among rows, each with the hours in which it was seen."""
        key = (self._source, self._destination, self._protocol, self._port, self._verdict, self._direction)
        example, member = grouped([column[rows] for column in key])
        order = rows[np.argsort(member, kind="stable")]
        ends = np.cumsum(np.bincount(member, minlength=len(example)))
        for places in np.split(order, ends[:-1]) if len(rows) else ():
            place = int(places[0])
            recorded = _RECORDED.get(self._verdicts[self._verdict[place]] or "")
            denied_at = _DIRECTIONS.get(self._directions[self._direction[place]] or "") if recorded is Verdict.DENIED else None
            last = _EPOCH + timedelta(microseconds=int(self._last[places].max()))
            hours = frozenset(self._hour[places].tolist())
            yield self._connection(period, place), Seen(hours, last, int(self._flows[places].sum()), recorded, denied_at)

    def _connection(self, period: Period, place: int) -> Connection:
        source, destination = (self._side(self._ends[end[place]], period) for end in (self._source, self._destination))
        protocol, number = self._protocols[self._protocol[place]] or "", int(self._port[place])
        port, is_icmp = None if number < 0 else number, protocol.startswith("ICMP")
        return Connection(source, destination, protocol, None if is_icmp else port, port if is_icmp else None)

    def _side(self, end: End, period: Period) -> Side:
        named = period.named_ports(end.namespace, end.workload) if end.namespace is not None and end.cluster_name is None else None
        selects_nodes = period.policies.selects_nodes
        key = (end, repr(named), selects_nodes)
        found = self._sides.get(key)
        if found is None:
            found = self._sides[key] = side_of(end, named_ports=named, learned=self._learned, selects_nodes=selects_nodes)
        return found
