"""Policies recommended from recorded history: reads the traffic and the agent's settings, and hands them to `pipelines.recommend`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pipelines.policy.settings import AgentSettings
from pipelines.recommend.recommendation import Recommendation, Subject, recommend
from pipelines.replay import observed_traffic
from pipelines.replay.in_force import History
from pipelines.replay.observed_traffic import TrafficOf


@dataclass(frozen=True, kw_only=True)
class Recommended:
    """A recommendation for one cluster."""

    cluster: str
    recommendation: Recommendation
    settings: AgentSettings
    """The agent's at the end of the window, by which the recommendation was judged."""


def recommended(history: History, wanted: TrafficOf, subject: Subject) -> Recommended:
    """Recommend policies from the traffic that the principal may see. Raises what `observed_traffic.read` raises."""
    recorded = observed_traffic.read(history, wanted)
    in_force = history.periods(wanted.window, clusters=(recorded.cluster,))
    periods = in_force.periods.get(recorded.cluster, ())
    settings = periods[-1].settings if periods else AgentSettings(cluster_name=recorded.cluster)
    found = recommend(recorded.traffic, subject, settings)
    found = replace(found, not_seen=(*recorded.notes, *found.not_seen))
    return Recommended(cluster=recorded.cluster, recommendation=found, settings=settings)
