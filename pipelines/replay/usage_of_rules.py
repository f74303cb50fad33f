"""When each rule decided: the distinct connections of a window's edges, judged by the policies that were in force then."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.audits.finding import Policies
from pipelines.audits.usage import RuleName, Seen, Uses, policy_of
from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Connection, Direction, Side
from pipelines.policy.verdict import Verdict
from pipelines.replay.ends import NOTHING_LEARNED, End, LearnedNames, side_of
from pipelines.replay.in_force import History, InForce, Period
from warehouse.engine import Limits, Window
from warehouse.errors import ConfigError
from warehouse.questions import edge_questions
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.replay_questions import DistinctEdges, EdgesAnswer

_PARTS = ("cluster_name", "namespace", "workload_name", "entity", "dns_name", "cidr", "labels_id")
_SIDES = ("source", "destination")
_KEY = [*(f"{side}_{part}" for side in _SIDES for part in _PARTS), "destination_port", "l4_protocol"]
_REACHED = ["FORWARDED", "REDIRECTED", "AUDIT"]
_DENIED = ["POLICY_DENIED", "POLICY_DENY"]
"""Reasons of drops that policies decide; other drops say nothing about policies."""
_RECORDED = {"FORWARDED": Verdict.ALLOWED, "REDIRECTED": Verdict.ALLOWED, "DROPPED": Verdict.DENIED}
_DIRECTIONS = {"EGRESS": Direction.EGRESS, "INGRESS": Direction.INGRESS}
_MANY_NAMES = Limits(rows=1_000_000, seconds=120)
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
    wanted = FlowFilter(since=window.since, until=window.until, clusters=tuple(in_force.periods))
    answer = history.door.answer(history.principal, DistinctEdges(wanted=wanted))
    reader = _Reader(answer, _learned(history, wanted, answer))
    return {
        cluster: UsesOf(uses=reader.uses(cluster, periods), label_sets=reader.label_sets(cluster), observed=answer.shares.get(cluster, 0.0))
        for cluster, periods in in_force.periods.items()
    }


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


def _learned(history: History, wanted: FlowFilter, answer: EdgesAnswer) -> LearnedNames:
    """What DNS names stood for, if any end has one."""
    if all(answer.rows[f"{side}_dns_name"].null_count == answer.rows.num_rows for side in _SIDES):
        return NOTHING_LEARNED
    names = history.door.answer(history.principal, edge_questions.names(replace(wanted, namespaces=()), limits=_MANY_NAMES))
    return LearnedNames.read(names.rows.select(["cluster", "ip", "name"]).to_pylist())


class _Reader:
    def __init__(self, answer: EdgesAnswer, learned: LearnedNames) -> None:
        labels = zip(answer.label_sets["id"].to_pylist(), answer.label_sets["labels"].to_pylist(), strict=True)
        self._labels: Mapping[str, tuple[str, ...]] = {name: tuple(texts) for name, texts in labels}
        self._learned = learned
        rows = answer.rows
        said = pc.or_kleene(
            pc.is_in(rows["verdict"], pa.array(_REACHED)),
            pc.and_kleene(pc.equal(rows["verdict"], "DROPPED"), pc.is_in(rows["drop_reason_desc"], pa.array(_DENIED))),
        )
        self._rows = rows.filter(said)
        self._sides: dict[tuple[End, str, bool], Side] = {}

    def label_sets(self, cluster: str) -> frozenset[LabelSet]:
        """Label sets of the cluster's own pods."""
        rows = self._rows.filter(pc.equal(self._rows["cluster"], cluster))
        found = set()
        for side in _SIDES:
            local = rows.filter(pc.and_(pc.is_null(rows[f"{side}_cluster_name"]), pc.is_valid(rows[f"{side}_namespace"])))
            found |= {LabelSet(self._labels[name]) for name in pc.unique(local[f"{side}_labels_id"]).to_pylist() if name in self._labels}
        return frozenset(found)

    def uses(self, cluster: str, periods: Sequence[Period]) -> Uses:
        """Judge the connections of each period by its policies; what lies on both sides of a change is judged by both."""
        rows = self._rows.filter(pc.equal(self._rows["cluster"], cluster))
        found = Uses()
        if not rows.num_rows or not periods:
            return found
        starts = np.array([(period.since - _EPOCH) // timedelta(microseconds=1) for period in periods], np.int64)
        first, last = (
            np.maximum(np.searchsorted(starts, rows[name].cast(pa.int64()).to_numpy(), "right") - 1, 0)
            for name in ("first_seen", "last_seen")
        )
        for number, period in enumerate(periods):
            if period.not_covered:
                continue
            add = found.of(period.policies, Policies(period.documents))
            for connection, seen in self._connections(cluster, period, rows.filter(pa.array((first <= number) & (number <= last)))):
                add(connection, seen)
        return found

    def _connections(self, cluster: str, period: Period, rows: pa.Table) -> Iterator[tuple[Connection, Seen]]:
        """The distinct connections among rows, each with the hours in which it was seen."""
        selects_nodes = any(rule.selects_nodes for rule in period.policies.rules)
        rows = rows.append_column("hour", pc.divide(rows["since"].cast(pa.int64()), _HOUR_US))
        grouped = rows.group_by([*_KEY, "verdict", "traffic_direction"]).aggregate(
            [("hour", "distinct"), ("last_seen", "max"), ("flows", "sum")]
        )
        for row in grouped.to_pylist():
            source, destination = (
                self._side(
                    End(
                        cluster=cluster,
                        cluster_name=row[f"{side}_cluster_name"],
                        namespace=row[f"{side}_namespace"],
                        workload=row[f"{side}_workload_name"],
                        entity=row[f"{side}_entity"],
                        dns_name=row[f"{side}_dns_name"],
                        cidr=row[f"{side}_cidr"],
                        labels=self._labels.get(row[f"{side}_labels_id"] or ""),
                    ),
                    period,
                    selects_nodes,
                )
                for side in _SIDES
            )
            protocol, port = row["l4_protocol"] or "", row["destination_port"]
            is_icmp = protocol.startswith("ICMP")
            connection = Connection(source, destination, protocol, None if is_icmp else port, port if is_icmp else None)
            recorded = _RECORDED.get(row["verdict"])
            denied_at = _DIRECTIONS.get(row["traffic_direction"]) if recorded is Verdict.DENIED else None
            yield connection, Seen(frozenset(row["hour_distinct"]), row["last_seen_max"], row["flows_sum"], recorded, denied_at)

    def _side(self, end: End, period: Period, selects_nodes: bool) -> Side:
        named = period.named_ports(end.namespace, end.workload) if end.namespace is not None and end.cluster_name is None else None
        key = (end, repr(named), selects_nodes)
        found = self._sides.get(key)
        if found is None:
            found = self._sides[key] = side_of(end, named_ports=named, learned=self._learned, selects_nodes=selects_nodes)
        return found
