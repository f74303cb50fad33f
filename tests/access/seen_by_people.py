"""What each kind of person may see of the world, by the oracle of conftest.py, and the names of the persons."""

from __future__ import annotations

import datetime as dt
import json
import re
from typing import Any

from warehouse.engine import Limits, Window
from warehouse.questions.flow_filter import FlowFilter
from warehouse.records import versions
from warehouse.schema import DRIFT, POLICY_CHANGES, POSTURE

ALL = Limits(rows=1_000_000)
START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
WHOLE = Window(since=START, until=START + 6 * DAY)
FIRST, REST = Window(since=START, until=START + 2 * DAY), FlowFilter(since=START + 2 * DAY, until=START + 6 * DAY)
NAMES = (
    "operator", "ada", "carl", "tim", "dora", "otto", "wanda", "sina", "nora", "olga", "anna", "rita", "payments", "intern", "red", "blue",
    "annex", "lost",
)  # fmt: skip
STRANGERS = ("eve", "vera", "liar", "empty")
LEVELS = ("full", "workload", "namespace", "hidden")


def tokens(what: Any) -> set[str]:
    """The values that the world's rows are made of; each says of which row and column it is."""
    return set(re.findall(r"\w+~\d+|uuid-\d+", str(what)))


class Seen:
    """What the oracle lets a person see."""

    def __init__(self, world: Any, who: str, level: str = "workload") -> None:
        self.flows = [shown for row in world.flows if (shown := world.oracle.shown(who, row, level))]
        self.findings = [
            row
            for row in world.findings
            if world.oracle.owns(who, row["cluster"], row["namespace"], row["time"])
            or (row["namespace"] is None and world.oracle.whole(who, row["cluster"], row["time"]))
        ]
        self.everything = world.flows
        self.every_finding = world.findings
        now = dt.datetime.now(dt.UTC)
        changes = world.lake.read(POLICY_CHANGES).to_pylist()
        drifts, controls = world.lake.read(DRIFT).to_pylist(), world.lake.read(POSTURE).to_pylist()

        def sees(row: dict[str, Any]) -> bool:
            named = row.get("namespace")
            return bool(world.oracle.owns(who, row["cluster"], named, now) if named else world.oracle.whole(who, row["cluster"], now))

        held = [row for row in versions.between(world.lake, START, START + 6 * DAY).to_pylist() if self._held(world, who, row)]
        self.versions = {version_key(row) for row in held}
        self.drift = {row["summary"] for row in drifts if sees(row)}
        self.controls = {row["control"] for row in controls if sees(row)}
        self.manifests = world.manifests(who, 0, 6)
        self.open_findings = {row["summary"] for row in world.findings if sees(row)}

        def saw(row: dict[str, Any]) -> bool:
            named, at = row["namespace"], row["time"]
            return bool(world.oracle.owns(who, row["cluster"], named, at) if named else world.oracle.whole(who, row["cluster"], at))

        proposals = [row for row in changes if row["proposal"] and sees(row) and saw(row)]
        self.proposals = {row["run"] for row in proposals}
        of_blueprints = [row for row in changes if not row["proposal"]]
        self.changes = {
            row["run"]
            for row in of_blueprints
            if all(
                world.oracle.whole(who, cluster, at)
                for cluster in json.loads(row["record"])["about"]["clusters"]
                for at in (row["time"], now)
            )
        }
        shown_changes = [row for row in of_blueprints if row["run"] in self.changes]
        standing = [*proposals, *shown_changes, *filter(sees, drifts), *filter(sees, controls), *filter(sees, world.findings)]
        self.tokens = tokens([self.flows, self.findings, held, *standing]) | self.manifests
        self.clusters = {cluster for cluster in ("c1", "c2") if world.oracle.knows(who, cluster)}

    @staticmethod
    def _held(world: Any, who: str, row: dict[str, Any]) -> bool:
        """Whether a version's namespace (or whole cluster) was someone's at some third hour in which it was in force.

        All that changes in this world changes at quarters of days.
        """
        end = row["valid_to"] or dt.datetime.now(dt.UTC)
        moments = [row["valid_from"] + number * dt.timedelta(hours=3) for number in range(8 * 14)]
        named = row["name"] if row["kind"] == "Namespace" else row["namespace"]
        inside = [moment for moment in moments if moment < end]
        if named is None:
            return any(world.oracle.whole(who, row["cluster"], moment) for moment in inside)
        return any(world.oracle.owns(who, row["cluster"], named, moment) for moment in inside)

    def within(self, window: Window | FlowFilter) -> list[dict[str, Any]]:
        return [row for row in self.flows if window.since <= row["time"] < window.until]  # type: ignore[operator]


def keyed(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["uuid"]: row for row in rows}


def version_key(row: dict[str, Any]) -> tuple[Any, ...]:
    """What names a version of configuration."""
    return tuple(row[name] for name in ("cluster", "kind", "namespace", "name", "valid_from"))
