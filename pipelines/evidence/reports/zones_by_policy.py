"""What the policies in force at the end of a window allow between zones, judged by the policy engine.

Judged are the connections that could be made between workloads that existed then, and from the world to them, on the ports on which the
destination was reached in the window or that its pods name. Other ports, and what leaves the cluster, are not judged.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, TypeVar

from pipelines.audits.exposure import Port, Reached, exposure
from pipelines.audits.workloads import Workload
from pipelines.evidence.reports.reading import Reader
from pipelines.replay.auditing import last_known
from pipelines.replay.ends import End, side_of
from pipelines.replay.in_force import History, Period
from pipelines.replay.reachable import MOST_JUDGED, workloads_of
from warehouse import config
from warehouse.engine import Window
from warehouse.questions.question import Question
from warehouse.questions.record_questions import Configuration, ConfigurationCoverage

T = TypeVar("T")
_BACK = timedelta(hours=24)
"""How far before the end of a window it is looked for what was in force."""
_INSTANT = timedelta(microseconds=1)
_WORLD = "world"


@dataclass(frozen=True, kw_only=True)
class Path:
    """A connection between zones that the policies allow, or of which it is not known."""

    cluster: str
    zones: tuple[str, str]
    source: str
    destination: str
    port: Port
    is_certain: bool
    is_by_rule: bool
    """Whether the configuration's rules between the zones allow the port, too."""


@dataclass(frozen=True, kw_only=True)
class ByPolicy:
    """What the policies allow between zones."""

    paths: list[Path] = field(default_factory=list)
    zones: set[str] = field(default_factory=set)
    """Zones with workloads whose callers were judged."""
    not_judged: dict[str, str] = field(default_factory=dict)
    """Clusters of which it is not known what the policies allow, with the reason."""


class _AsKnown(History):
    """Configuration history as the lake knew it when the report was made; its questions are noted in the manifest."""

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader.door, reader.request.subject)
        object.__setattr__(self, "_reader", reader)

    def answer(self, question: Question[T]) -> T:
        reader: Reader = self._reader  # type: ignore[attr-defined]
        asked: Question[Any] = question
        if isinstance(question, Configuration | ConfigurationCoverage):
            asked = replace(question, recorded=reader.request.known)
        answer: T = reader.ask(asked)
        return answer


def by_policy(reader: Reader, segmentation: config.Segmentation, seen: Iterable[Mapping[str, Any]]) -> ByPolicy:
    """Return what the policies allow between zones in each cluster; `seen` are the window's edges. Raises AccessDeniedError, LakeError."""
    request, history = reader.request, _AsKnown(reader)
    ports: dict[tuple[str, str, str], set[Port]] = defaultdict(set)
    for row in seen:
        if row["destination_namespace"] and row["port"] is not None and row["protocol"]:
            ports[row["cluster"], row["destination_namespace"], row["destination_name"]].add((row["protocol"], row["port"]))
    window = Window(since=max(request.since, request.until - _BACK), until=request.until)
    in_force = history.periods(window)
    found = ByPolicy()
    for cluster in sorted({*in_force.periods, *(key[0] for key in ports)}):
        period, problem = None, "nothing is recorded of its configuration"
        if cluster in in_force.periods:
            period, problem = last_known(in_force, cluster, request.until)
        if period is not None and not reader.scope.sees_whole(cluster, period.until - _INSTANT):
            period, problem = None, "not all of its policies and workloads are visible to the report's subject"
        if period is None:
            found.not_judged[cluster] = problem
            continue
        workloads = workloads_of(history, window, period, period.until - _INSTANT)
        paths = _paths(period, workloads, segmentation, ports)
        if paths is None:
            found.not_judged[cluster] = f"more than {MOST_JUDGED:,} connections between its workloads are possible"
            continue
        found.paths.extend(paths)
        found.zones.update(segmentation.zone_of(cluster, one.namespace, one.name) for one in workloads)
    return found


def _paths(
    period: Period, workloads: Sequence[Workload], segmentation: config.Segmentation, ports: Mapping[tuple[str, str, str], set[Port]]
) -> list[Path] | None:
    """The paths between zones in one cluster; None if they are too many."""
    cluster = period.cluster
    zones = [segmentation.zone_of(cluster, one.namespace, one.name) for one in workloads]
    titles = [one.title for one in workloads]
    sides = [one.side() for one in workloads]
    wanted = [
        sorted(ports.get((cluster, one.namespace, one.name), set()) | {(protocol, number) for (protocol, _), number in one.named_ports})
        for one in workloads
    ]
    if sum(map(len, wanted)) * (len(sides) + 1) > MOST_JUDGED:
        return None
    outside = segmentation.zone_of(cluster, None, _WORLD)
    peers = [*sides, side_of(End(cluster=cluster, entity=_WORLD))]
    found = []
    for one in exposure(period.policies, sides, peers, wanted, {}):
        source = (zones[one.peer], titles[one.peer]) if one.peer < len(sides) else (outside, _WORLD)
        pair = source[0], zones[one.target]
        if pair[0] != pair[1]:
            protocol, number = one.port
            found.append(
                Path(
                    cluster=cluster,
                    zones=pair,
                    source=source[1],
                    destination=titles[one.target],
                    port=one.port,
                    is_certain=one.reached is Reached.ALLOWED,
                    is_by_rule=segmentation.allows(*pair, number, protocol),
                )
            )
    return found
