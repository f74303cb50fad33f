"""The demo's past: two days of the simulated fleet's flows and configuration, what drifted from its blueprint, and rollups.

Flows and configuration are made up; drift, posture and rollups are what the pipelines find in them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from collectors.simulator import configuration
from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import Story
from hindcast.simulate import CLUSTERS, SEED
from pipelines.blueprints import evaluation, model, notifying
from pipelines.maintenance import rollup
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import POSTURE

HISTORY = timedelta(days=2)
FLOWS_PER_SECOND = 3.0
EVALUATED_EVERY = timedelta(hours=6)
NODES = 3


def fill(
    lake: Lake,
    settings: config.Config,
    *,
    now: datetime,
    history: timedelta = HISTORY,
    flows_per_second: float = FLOWS_PER_SECOND,
    progress: Callable[[int, int], None] = lambda _hours, _flows: None,
) -> None:
    """Store the history of the fleet's first three clusters until `now`; parts that are already stored are left unchanged.

    `progress` is told hours and flows as they are stored. Raises LakeError.
    """
    fleet, story = build_fleet(SEED, CLUSTERS[:3], NODES), Story.before(now)
    since = now.replace(minute=0, second=0, microsecond=0) - history
    configuration.backfill(lake, fleet, story, since=since, until=now)
    backfill(lake, fleet, story, since=since, until=now, flows_per_second=flows_per_second, seed=SEED, progress=progress)
    judge(lake, settings, story, since=since, until=now)
    rollup.roll_up_closed_hours(lake, settings.rollups, now=now)


def judge(lake: Lake, settings: config.Config, story: Story, *, since: datetime, until: datetime) -> None:
    """Evaluate the clusters against the blueprints as the hourly run would have: periodically, and after each event of the story.

    Only times after the lake's last evaluation are evaluated, so a second run adds nothing. Raises LakeError.
    """
    last = lake.transaction_version(POSTURE, evaluation.APP_ID) or 0
    files = model.load(settings.blueprints)
    steps = (until - since) // EVALUATED_EVERY
    moments = {since + EVALUATED_EVERY * step for step in range(1, steps + 1)}
    moments |= {moment + timedelta(minutes=5) for moment in story.changes()}
    for moment in sorted(moment for moment in {*moments, until} if since < moment <= until):
        if moment.timestamp() * 1_000_000 > last:
            found = evaluation.evaluate_fleet(lake, files, settings.clusters, at=moment)
            evaluation.store(lake, found, now=moment)
    notifying.mark_as_announced(lake)
