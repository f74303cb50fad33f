"""Why a connection was allowed or denied: the policies in force then, the walk through their rules, and what would allow it.

Everything is as far as the principal may see it. Policies that she may not see are counted in the notes and never shown.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from pipelines.policy.layer7 import DnsQuery, HttpRequest
from pipelines.policy.model import Connection, Direction
from pipelines.policy.verdict import Decision, Verdict
from pipelines.policy.walk import Attribution, Walk, compare, walk
from pipelines.recommend import observed
from pipelines.recommend.allowing import Change, Policies, allow
from pipelines.recommend.observed import ObservedEdge
from pipelines.replay.ends import End, known_labels, known_names, side_of, valid_address
from pipelines.replay.in_force import History, Period
from pipelines.replay.requests import request_of
from warehouse.engine import Window
from warehouse.errors import ConfigError
from warehouse.questions import edge_rule, flow_questions
from warehouse.questions.record_questions import UnseenObjects
from warehouse.schema import POLICY_VERSIONS
from warehouse.wording import counted

_MOMENT = timedelta(seconds=1)
_REASON = "POLICY_DENIED"
ALLOWED_BUT_DROPPED = "policy says allow and the datapath dropped"
DENIED_BUT_FORWARDED = "policy says deny and it was forwarded"
_ENFORCED = ("FORWARDED", "REDIRECTED", "DROPPED", "AUDIT")


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What Hubble recorded of a connection."""

    time: datetime
    verdict: str
    drop_reason: str = ""
    seen_at: Direction | None = None
    """The end whose node reported the flow."""
    named: Mapping[Direction, tuple[tuple[str, str, str], ...] | None]
    """The policies that the flow names as deciding, as kind, namespace and name; None where they are not the principal's to see."""
    uuid: str = ""
    is_comparable: bool = True
    """Whether the policies of its time are those that the connection is explained by."""


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why one connection was allowed or denied."""

    cluster: str
    at: datetime
    edge: ObservedEdge
    """The connection with both of its ends."""
    recorded: Recorded | None
    """None where no flow of the connection was found."""
    walks: tuple[Walk, ...]
    """At the source, then at the destination."""
    attributions: Mapping[Direction, Attribution]
    """Whether Hubble names the policies that the engine says decided; for the end that reported the flow alone."""
    changes: tuple[Change, ...]
    """The smallest change after which the connection is allowed, where it is denied."""
    notes: tuple[str, ...]
    """What is not known or not visible."""

    @property
    def verdict(self) -> Verdict:
        """The engine's: denied if one end denies, else uncertain if one is, else allowed."""
        found = {one.decision.verdict for one in self.walks}
        return next((one for one in (Verdict.DENIED, Verdict.UNCERTAIN) if one in found), Verdict.ALLOWED)

    @property
    def agreement(self) -> str:
        """How the engine's verdict and what Hubble recorded go together, in a sentence; empty without a recorded flow."""
        if self.recorded is None or not self.recorded.is_comparable or self.recorded.verdict not in _ENFORCED:
            return ""
        dropped = self.recorded.verdict in ("DROPPED", "AUDIT")
        if dropped and self.recorded.verdict == "DROPPED" and self.recorded.drop_reason != _REASON:
            return f"it was dropped for another reason than policy: {self.recorded.drop_reason or 'none was recorded'}"
        if self._at_reporter is Verdict.UNCERTAIN:
            return "the engine cannot tell, so it neither agrees nor disagrees with what was recorded"
        if dropped == (self._at_reporter is Verdict.DENIED):
            return "the engine agrees with what was recorded"
        return ALLOWED_BUT_DROPPED if dropped else DENIED_BUT_FORWARDED

    @property
    def disagrees(self) -> bool:
        """Whether the engine's verdict is certain and contradicts what was recorded."""
        return self.agreement in (ALLOWED_BUT_DROPPED, DENIED_BUT_FORWARDED)

    @property
    def _at_reporter(self) -> Verdict:
        at = self.recorded.seen_at if self.recorded else None
        return next((one.decision.verdict for one in self.walks if one.direction is at), self.verdict)


def explain_flow(history: History, uuid: str, window: Window, clusters: Sequence[str] = ()) -> Explanation:
    """Explain a recorded flow.

    Args:
        history: the lake's, as far as one principal may see it.
        uuid: of the flow.
        window: where it is looked for, with both bounds.
        clusters: where it is looked for; all that the principal may know of when empty.

    Raises:
        ConfigError: there is no such flow in the window, as far as the principal may see.
        AccessDeniedError, QueryError, LakeError: as for every question.
    """
    row = flow_of(history, uuid, window, clusters)
    if row is None:
        raise ConfigError(f"no flow {uuid} {_between(window)} that you may see; name its time with --at, or an earlier --since")
    return explain_row(history, row)


def flow_of(history: History, uuid: str, window: Window, clusters: Sequence[str] = ()) -> Mapping[str, Any] | None:
    """Return every column of a flow; None if there is none in the window that the principal may see."""
    since, until = window.since, window.until
    if since is None or until is None:
        raise ConfigError("a flow is looked for in a window with a start and an end")
    question = flow_questions.one_flow(cluster="", uuid=uuid, at=since, until=until)
    question = replace(question, wanted=replace(question.wanted, clusters=tuple(clusters)))
    rows: list[Mapping[str, Any]] = history.answer(question).rows.to_pylist()
    return rows[0] if rows else None


def _between(window: Window) -> str:
    return f"from {window.since:%Y-%m-%d %H:%M} to {window.until:%Y-%m-%d %H:%M} UTC"


def explain_row(history: History, row: Mapping[str, Any], *, at: datetime | None = None) -> Explanation:
    """Explain a flow that a question has returned with every column of `flows`, by the policies of its time or of another one."""
    turned = _is_turned(row)
    sides = ("destination", "source") if turned else ("source", "destination")
    source, destination = (_end(row, side, history) for side in sides)
    port = edge_rule.server_port(row["source_port"], row["destination_port"], row["is_reply"])
    direction = {"EGRESS": Direction.EGRESS, "INGRESS": Direction.INGRESS}.get(row["traffic_direction"] or "")
    if turned and direction is not None:  # a reply that leaves a pod belongs to a connection that came in
        direction = Direction.INGRESS if direction is Direction.EGRESS else Direction.EGRESS
    edge = edge_between(source, destination, row["l4_protocol"] or "", port, row["time"], row["icmp_type"])
    recorded = Recorded(
        time=row["time"],
        verdict=row["verdict"] or "",
        drop_reason=row["drop_reason_desc"] or "",
        seen_at=direction,
        named={one: _named(row, one, turned=turned) for one in Direction},
        uuid=row["uuid"] or "",
    )
    return explain(history, row["cluster"], edge, recorded, request_of(row), at=at)


def edge_between(
    source: End, destination: End, protocol: str, port: int | None, at: datetime, icmp_type: int | None = None
) -> ObservedEdge:
    """One connection as recommendations read it; the flow leaves out a type of ICMP that is 0."""
    ends = [observed.End(side_of(end), end.namespace or "", end.workload or "", end.cluster_name or "") for end in (source, destination)]
    return ObservedEdge(
        source=ends[0],
        destination=ends[1],
        protocol=protocol,
        port=port,
        flows=1,
        first_seen=at,
        last_seen=at,
        days=frozenset({at.date()}),
        icmp_type=(icmp_type or 0) if protocol.startswith("ICMP") else None,
    )


def explain(
    history: History,
    cluster: str,
    edge: ObservedEdge,
    recorded: Recorded | None,
    request: HttpRequest | DnsQuery | None = None,
    *,
    at: datetime | None = None,
) -> Explanation:
    """Explain a connection by the policies that were in force in its cluster at a time, by default when it was last seen."""
    at = at or edge.last_seen
    first = min(at, recorded.time) if recorded else at
    in_force = history.periods(Window(since=first, until=max(at, edge.last_seen) + _MOMENT), clusters=(cluster,))
    period = in_force.at(cluster, at)
    if period is None:
        raise ConfigError(f"{cluster}: nothing is known about {at:%Y-%m-%d %H:%M} UTC")
    notes = list(in_force.notes)
    unseen = history.answer(UnseenObjects(at=at, cluster=cluster, tables=(POLICY_VERSIONS,)))
    if unseen:
        notes.append(f"not yours to see: {counted(unseen, 'policy', 'policies')} in force in {cluster}, which may decide, too")
    if recorded is not None and in_force.at(cluster, recorded.time) is not period:
        notes.append("the policies or settings changed between the recorded flow and the time asked about, so they are not compared")
        recorded = replace(recorded, is_comparable=False)
    connection: Connection = replace(edge.connection, request=request)
    scope = history.door.scope(history.principal)
    walks = []
    for direction in (Direction.EGRESS, Direction.INGRESS):
        end, found = edge.subject(direction), walk(period.policies, direction, connection)
        missing = ""
        if end.namespace and not end.cluster and not scope.owns(cluster, end.namespace, at):
            missing = f"the policies of namespace {end.namespace}, which are not yours to see"
        elif period.not_covered and found.decision.verdict is not Verdict.NOT_ENFORCED:
            missing = f"which objects of kind {', '.join(period.not_covered)} were in force"
        walks.append(replace(found, decision=_unknown(missing)) if missing else found)
    denied = any(one.decision.verdict is Verdict.DENIED for one in walks)
    return Explanation(
        cluster=cluster,
        at=at,
        edge=edge,
        recorded=recorded,
        walks=tuple(walks),
        attributions=_attributions(walks, recorded),
        changes=_changes(edge, period) if denied else (),
        notes=tuple(notes),
    )


def _unknown(missing: str) -> Decision:
    return Decision(Verdict.UNCERTAIN, (), f"not known: {missing}", (missing,))


def _attributions(walks: Sequence[Walk], recorded: Recorded | None) -> dict[Direction, Attribution]:
    if recorded is None or recorded.seen_at is None or not recorded.is_comparable:
        return {}
    theirs = recorded.named[recorded.seen_at]
    if theirs is None:
        return {recorded.seen_at: Attribution(None, "which policies the flow names is not yours to see")}
    return {one.direction: compare(one.decision, theirs) for one in walks if one.direction is recorded.seen_at}


def _changes(edge: ObservedEdge, period: Period) -> tuple[Change, ...]:
    return allow(edge, Policies(period.documents, period.settings, period.surroundings))


def _is_turned(row: Mapping[str, Any]) -> bool:
    """The rule of edge_rule.TURNED for one flow."""
    if row["is_reply"] is not None:
        return bool(row["is_reply"])
    ports = row["source_port"], row["destination_port"]
    known = [port for port in ports if port is not None]
    return len(known) == 2 and known[0] < edge_rule.EPHEMERAL_PORT <= known[1]


def _end(row: Mapping[str, Any], side: str, history: History) -> End:
    namespace, cluster = row[f"{side}_namespace"], row["cluster"]
    elsewhere = row[f"{side}_cluster_name"]
    is_local = elsewhere in (None, "default", cluster, (row["node_name"] or "").partition("/")[0])
    labels = row[f"{side}_labels"]
    owned = namespace is None or history.door.scope(history.principal).owns(cluster, namespace, row["time"])
    is_outside = namespace is None and row[f"{side}_pod_name"] is None
    address, pod = row[f"{side}_ip"], row[f"{side}_pod_name"]
    return End(
        cluster=cluster,
        cluster_name=None if is_local else elsewhere,
        namespace=namespace,
        workload=row[f"{side}_workload_name"] or (edge_rule.workload_of_pod(pod) if pod else None),
        entity=edge_rule.IDENTITIES.get(row[f"{side}_identity"] or 0) if is_outside else None,
        labels=known_labels(labels),
        address=valid_address(address) if is_outside else None,
        names=known_names(row[f"{side}_names"]),
        is_hidden=not labels and not owned,
    )


def _named(row: Mapping[str, Any], direction: Direction, *, turned: bool) -> tuple[tuple[str, str, str], ...] | None:
    """The policies that a flow names for the connection's direction; nothing on replies, which no policy decides."""
    if turned:
        return ()
    side = "destination" if direction is Direction.INGRESS else "source"
    columns = [row[f"{direction.value}_{what}_by"] for what in ("allowed", "denied")]
    if all(one is None for one in columns) and row[f"{side}_labels"] is None and row[f"{side}_namespace"] is not None:
        return None
    listed: Collection[Mapping[str, Any]] = [one for column in columns for one in column or ()]
    return tuple((one["kind"] or "CiliumNetworkPolicy", one["namespace"] or "", one["name"] or "") for one in listed)
