"""Evaluates the built-in expressions of alert rules over a window."""

from __future__ import annotations

import fnmatch
import functools
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from pipelines.evidence.rules.asking import Asking, Found
from pipelines.evidence.rules.calls import (
    Call,
    CollectorSilent,
    CoverageBelow,
    DriftOpened,
    DropsSpike,
    EgressToNewName,
    FirstSeenEdge,
    VerdictsDisagree,
)
from pipelines.replay import agreement, traffic
from pipelines.replay.agreement import Disagreement
from pipelines.replay.candidates import Candidates
from pipelines.replay.in_force import History
from pipelines.replay.simulation import Simulator
from warehouse.access.principals import Principal
from warehouse.engine import Limits, Window
from warehouse.questions import count_questions, edge_questions
from warehouse.questions.answers import Answer
from warehouse.questions.edge_questions import EdgeScope
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.record_questions import Drift

_WEEK, _HOUR, _DAY = timedelta(weeks=1), timedelta(hours=1), timedelta(days=1)
_DENIED = ("DROPPED", "ERROR")
_MANY = Limits(rows=1_000_000)
_SEVERITIES = ("low", "medium", "high", "critical")
_IMPORTED = "import"


@functools.singledispatch
def evaluated(call: Call, asking: Asking, principal: Principal, window: Window) -> Found:
    """Return the rows of a built-in expression over a window with both bounds. Raises what the door raises."""
    raise NotImplementedError(type(call).__name__)


@evaluated.register
def _(call: DropsSpike, asking: Asking, principal: Principal, window: Window) -> Found:
    since, until = _bounds(window)
    now = _drops(asking, principal, since, until)
    hour = (until - timedelta(microseconds=1)).replace(minute=0, second=0, microsecond=0)
    totals: dict[tuple[str, str], float] = defaultdict(float)
    observed: dict[str, float] = defaultdict(float)
    for weeks in range(1, call.weeks + 1):
        before = _drops(asking, principal, hour - weeks * _WEEK, hour - weeks * _WEEK + _HOUR)
        for cluster, share in before.shares.items():
            observed[cluster] += share
        for row in before.rows:
            totals[row["cluster"], row["namespace"]] += row["denied"]
    rows = []
    for row in now.rows:
        key = (row["cluster"], row["namespace"])
        hours = observed.get(row["cluster"], 0.0)
        if not hours or not _matches(row["namespace"], call.namespace):
            continue
        usual = totals[key] / hours * ((until - since) / _HOUR)
        if row["denied"] >= call.least and row["denied"] > call.factor * usual:
            described = {"cluster": key[0], "namespace": key[1], "usual": round(usual, 1), "weeks_observed": round(hours, 2)}
            rows.append({**described, "value": row["denied"]})
    unknown = {
        cluster: f"nothing was observed in the same hour of the past {call.weeks} weeks"
        for cluster in now.shares
        if not observed.get(cluster)
    }
    return Found(rows=rows, shares=now.shares, unknown=unknown)


def _drops(asking: Asking, principal: Principal, since: datetime, until: datetime) -> Found:
    """Denied flows from or to each namespace."""
    wanted = FlowFilter(since=since, until=until, verdicts=_DENIED)
    answer = asking.ask(principal, count_questions.namespaces(wanted, buckets=1))
    totals: dict[tuple[str, str], int] = defaultdict(int)
    for row in answer.rows.to_pylist():
        totals[row["cluster"], row["namespace"]] += row["denied"]
    rows = [{"cluster": cluster, "namespace": namespace, "denied": denied} for (cluster, namespace), denied in sorted(totals.items())]
    return Found(rows=rows, shares=answer.shares)


@evaluated.register
def _(call: FirstSeenEdge, asking: Asking, principal: Principal, window: Window) -> Found:
    since, until = _bounds(window)
    before = Window(since=since - call.lookback, until=since)
    wanted = FlowFilter(since=since, until=until)
    answer = asking.ask(principal, edge_questions.new_edges(wanted, before, scope=EdgeScope.NAMESPACE, limits=_MANY))
    history = asking.ledger(principal, before).shares
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in answer.rows.to_pylist():
        target = row["destination_namespace"] or row["destination_entity"]
        is_within = row["source_namespace"] == row["destination_namespace"]
        if row["source_namespace"] is None or target is None or is_within or not history.get(row["cluster"]):
            continue
        if not (_matches(row["source_namespace"], call.source) and _matches(target, call.destination)):
            continue
        key = tuple(row[name] for name in call.labels)
        found = rows.setdefault(
            key, {**{name: row[name] for name in call.labels}, "value": 0, "first_seen": row["first_seen"], "ports": ""}
        )
        found["value"] += row["flows_once"]
        found["ports"] = ", ".join(sorted({*filter(None, found["ports"].split(", ")), *_ports(row["ports"])}))
        found["history_observed"] = round(history[row["cluster"]], 3)
    return Found(rows=list(rows.values()), shares=answer.shares, unknown=_without_history(answer, history, call.lookback))


def _ports(ports: Any) -> list[str]:
    """Ports of an edge, as people write them."""
    return [
        "/".join(str(part) for part in port.values() if part is not None) if isinstance(port, dict) else str(port) for port in ports or ()
    ]


@evaluated.register
def _(call: EgressToNewName, asking: Asking, principal: Principal, window: Window) -> Found:
    since, until = _bounds(window)
    before = Window(since=since - call.lookback, until=since)
    answer = asking.ask(principal, edge_questions.edges(FlowFilter(since=since, until=until), limits=_MANY))
    history = asking.ledger(principal, before).shares
    new: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in answer.rows.to_pylist():
        key = _outside(row)
        if key is None or not _matches(key[1], call.namespace) or not history.get(key[0]):
            continue
        found = new.setdefault(key, {**dict(zip(call.labels, key, strict=True)), "value": 0, "first_seen": row["first_seen"]})
        found["value"] += row["flows_once"]
        found["first_seen"] = min(found["first_seen"], row["first_seen"])
        found["history_observed"] = round(history[key[0]], 3)
    if new:  # what was known is read only if there is anything to compare it with
        wanted = FlowFilter(since=since - call.lookback, until=since)
        past = asking.ask(principal, edge_questions.edges(wanted, limits=_MANY))
        for key in {_outside(row) for row in past.rows.to_pylist()} - {None}:
            new.pop(key, None)  # type: ignore[arg-type]
    return Found(rows=list(new.values()), shares=answer.shares, unknown=_without_history(answer, history, call.lookback))


def _outside(row: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """Cluster, namespace and name of an edge to a DNS name outside; None for any other edge."""
    if row["source_namespace"] is None or row["destination_namespace"] is not None or not row["destination_dns_name"]:
        return None
    return row["cluster"], row["source_namespace"], row["destination_dns_name"]


def _without_history(answer: Answer, history: Mapping[str, float], lookback: timedelta) -> dict[str, str]:
    return {cluster: f"nothing was observed in the {lookback.days} days before" for cluster in answer.shares if not history.get(cluster)}


@evaluated.register
def _(call: CoverageBelow, asking: Asking, principal: Principal, window: Window) -> Found:
    answer = asking.ledger(principal, window)
    lost: dict[str, int] = defaultdict(int)
    for node in answer.coverage:
        lost[node.cluster] += node.flows_lost
    shares = {**dict.fromkeys(asking.clusters(principal), 0.0), **answer.shares}
    rows = [{"cluster": name, "value": share, "flows_lost": lost[name]} for name, share in sorted(shares.items()) if share < call.share]
    return Found(rows=rows, shares=answer.shares)


@evaluated.register
def _(call: CollectorSilent, asking: Asking, principal: Principal, window: Window) -> Found:
    _, until = _bounds(window)
    answer = asking.ledger(principal, Window(since=until - max(_DAY, 2 * call.after), until=until))
    last: dict[str, datetime] = {}
    for row in answer.rows.to_pylist():
        if row["source"] != _IMPORTED and row["state"] != "left":
            moment = min(row["to"], until)
            last[row["cluster"]] = max(last.get(row["cluster"], moment), moment)
    wanted = asking.clusters(principal) or tuple(sorted(last))
    rows = []
    for cluster in wanted:
        seen = last.get(cluster)
        silent = (until - seen) if seen is not None else max(_DAY, 2 * call.after)
        if silent > call.after:
            rows.append({"cluster": cluster, "value": silent.total_seconds(), "last": seen})
    return Found(rows=rows, shares=answer.shares)


@evaluated.register
def _(call: DriftOpened, asking: Asking, principal: Principal, window: Window) -> Found:
    answer = asking.ask(principal, Drift(at=window.until))
    least = _SEVERITIES.index(call.severity)
    rows = [
        {
            **{name: row[name] for name in call.labels},
            "summary": row["summary"],
            "opened": row["since"],
            "value": 1,
        }
        for row in answer.rows.to_pylist()
        if _SEVERITIES.index(row["severity"]) >= least
    ]
    return Found(rows=rows, shares={})


@evaluated.register
def _(call: VerdictsDisagree, asking: Asking, principal: Principal, window: Window) -> Found:
    history = History(asking.door, principal)
    in_force = history.periods(window)
    clusters = tuple(sorted(in_force.periods))
    recorded, answer = traffic.read(history, traffic.Asked(window=window, clusters=clusters), in_force)
    rows, unknown = [], {}
    for one in recorded:
        found = agreement.together([agreement.of_cluster(one, Simulator(one, Candidates()).judge)])
        cluster = one.periods[0].cluster if len(one.periods) else None
        if cluster is None or any(period.not_covered for period in one.periods):
            unknown[str(cluster)] = "configuration history does not say which policies were in force"
            continue
        dropped, forwarded = found.disagreed[Disagreement.DROPPED], found.disagreed[Disagreement.FORWARDED]
        if found.share is not None and 1 - found.share > call.share and dropped + forwarded >= call.least:
            counted = {"disagreed": dropped + forwarded, "agreed": found.agreed}
            kinds = {"dropped_though_allowed": dropped, "forwarded_though_denied": forwarded}
            rows.append({"cluster": cluster, "value": 1 - found.share, **counted, **kinds})
    judged = {one.periods[0].cluster for one in recorded if len(one.periods)}
    unknown |= {name: "configuration history does not say which policies were in force" for name in answer.shares if name not in judged}
    return Found(rows=rows, shares=answer.shares, unknown=unknown)


def _bounds(window: Window) -> tuple[datetime, datetime]:
    if window.since is None or window.until is None:
        raise ValueError("a rule is evaluated over a window with both bounds")
    return window.since, window.until


def _matches(name: str, patterns: str) -> bool:
    """Whether a name matches one of the patterns, which are separated by commas."""
    return any(fnmatch.fnmatchcase(name, pattern.strip().replace("[", "[[]")) for pattern in patterns.split(","))
