"""A connection that a person names by its two ends: the recorded flow nearest before the time, or else what is known of its ends."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import Any

from pipelines.replay import recorded_ends
from pipelines.replay.ends import End
from pipelines.replay.explaining import Explanation, edge_between, explain, explain_row, flow_of
from pipelines.replay.in_force import History
from warehouse.engine import Window
from warehouse.errors import ConfigError
from warehouse.questions import edge_rule, replay_questions
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import CONFIG_COVERAGE, FLOWS, POLICY_VERSIONS

LOOK_BACK = timedelta(hours=24)
"""How long before the time a flow of the connection is looked for."""
_ENTITIES = frozenset(edge_rule.IDENTITIES.values())


@dataclass(frozen=True, kw_only=True)
class AskedConnection:
    """A connection as a person names it."""

    source: str
    """NAMESPACE/WORKLOAD, an address, a DNS name, or an entity such as `world`."""
    destination: str
    protocol: str = "TCP"
    port: int | None = None
    at: datetime
    clusters: tuple[str, ...] = ()


def explain_connection(history: History, asked: AskedConnection) -> Explanation:
    """Explain a connection by the policies in force at a time.

    Raises:
        ConfigError: an end cannot be read, or the cluster is not clear.
        AccessDeniedError, QueryError, LakeError: as for every question.
    """
    row = _recorded(history, asked)
    if row is not None:
        found = flow_of(history, row["uuids"][0], Window(since=row["first_seen"], until=row["last_seen"] + timedelta(seconds=1)))
        if found is not None:
            return explain_row(history, found, at=asked.at)
    cluster = _cluster(history, asked)
    ends = [_end(history, text, cluster, asked) for text in (asked.source, asked.destination)]
    edge = edge_between(ends[0], ends[1], asked.protocol, asked.port, asked.at)
    found_nothing = f"no flow of this connection was recorded in the {LOOK_BACK / timedelta(hours=1):.0f} hours before"
    explanation = explain(history, cluster, edge, None)
    return replace(explanation, notes=(found_nothing, *_not_known(ends), *explanation.notes))


def _not_known(ends: Sequence[End]) -> list[str]:
    """What is not known of the labels of ends, in sentences."""
    return [f"{end.title}: not known: {end.missing}" for end in ends if end.missing]


def _recorded(history: History, asked: AskedConnection) -> Mapping[str, Any] | None:
    """The newest recorded connection between the two ends."""
    namespaces = tuple(text.partition("/")[0] for text in (asked.source, asked.destination) if _is_pod(text))
    wanted = FlowFilter(
        since=asked.at - LOOK_BACK,
        until=asked.at + timedelta(seconds=1),
        clusters=asked.clusters,
        namespaces=namespaces[:1],
        ports=() if asked.port is None else (asked.port,),
    )
    rows = history.answer(replay_questions.connections(wanted)).rows.to_pylist()
    found = [row for row in rows if row["uuids"] and _fits(row, asked)]
    clusters = sorted({row["cluster"] for row in found})
    if len(clusters) > 1:
        raise ConfigError(f"the connection was recorded in {', '.join(clusters)}: name one of them with --cluster")
    return max(found, key=lambda row: row["last_seen"], default=None)


def _fits(row: Mapping[str, Any], asked: AskedConnection) -> bool:
    if (row["l4_protocol"] or "") != asked.protocol or (asked.port is not None and row["destination_port"] != asked.port):
        return False
    return row["replies"] < row["flows"] and _is_end(row, "source", asked.source) and _is_end(row, "destination", asked.destination)


def _is_end(row: Mapping[str, Any], side: str, text: str) -> bool:
    if _is_pod(text):
        return bool(f"{row[f'{side}_namespace']}/{row[f'{side}_workload_name']}" == text)
    names = [row[f"{side}_entity"], row[f"{side}_ip"], row[f"{side}_dns_name"], *(row[f"{side}_names"] or ())]
    return text.lower() in [str(name).rstrip(".").lower() for name in names if name]


def _is_pod(text: str) -> bool:
    namespace, slash, workload = text.partition("/")
    return bool(slash and namespace and workload) and not set(".:") & set(namespace) and "/" not in workload


def _cluster(history: History, asked: AskedConnection) -> str:
    known = sorted(
        {name for table in (FLOWS, POLICY_VERSIONS, CONFIG_COVERAGE) for name in history.door.clusters(history.principal, of=table)}
    )
    if unknown := [name for name in asked.clusters if name not in known]:
        raise ConfigError(
            f"--cluster: nothing is recorded of {', '.join(unknown)} that you may see; there are {', '.join(known) or 'none'}"
        )
    clusters: Sequence[str] = asked.clusters or known
    if len(clusters) != 1:
        listed = f": {', '.join(clusters)}" if clusters else ""
        raise ConfigError(f"no flow of this connection was recorded; name the cluster to judge it in with --cluster{listed}")
    return clusters[0]


def _end(history: History, text: str, cluster: str, asked: AskedConnection) -> End:
    """An end of which no flow was recorded."""
    if _is_pod(text):
        namespace, _, workload = text.partition("/")
        period = history.periods(Window(since=asked.at, until=asked.at + timedelta(seconds=1)), clusters=(cluster,)).at(cluster, asked.at)
        named = period.settings.cluster_name if period is not None else cluster
        return recorded_ends.pod_end(history, recorded_ends.Asked(at=asked.at, cluster=cluster, cluster_name=named), namespace, workload)
    if text in _ENTITIES:
        return End(cluster=cluster, entity=text)
    try:
        return End(cluster=cluster, entity="world", address=str(ip_address(text)))
    except ValueError:
        if "/" in text or "." not in text:
            known = f"NAMESPACE/WORKLOAD, an address, a DNS name, or one of {', '.join(sorted(_ENTITIES))}"
            raise ConfigError(f"{text!r} is not {known}") from None
        return End(cluster=cluster, entity="world", dns_name=text.rstrip(".").lower(), names=(text.rstrip(".").lower(),))
