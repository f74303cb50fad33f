"""Publishes blueprints to all their clusters at once, and records it as one change, which is watched and rolled back as one with canaries.

What each cluster's plan would have denied of the recorded traffic is recorded before anything is applied there, so that only what was
not foreseen counts for the rule that rolls back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from pipelines.blueprints import fleet, publishing
from pipelines.blueprints.model import BlueprintFile
from pipelines.blueprints.planning import Plan
from pipelines.blueprints.publishing import Publication
from pipelines.central import acting, previewing, rights
from pipelines.central.model import Change, Event
from pipelines.central.previewing import ClusterPreview
from pipelines.proposals.desk import Desk
from pipelines.proposals.steps import LONGEST_REASON
from warehouse import config


class AtOnce:
    """One publication of blueprints to clusters; `change` is its record, None as long as no object has to change anywhere."""

    def __init__(self, desk: Desk, files: Sequence[BlueprintFile], clusters: Sequence[config.Cluster], *, reason: str = "") -> None:
        self._desk, self._files, self._reason = desk, list(files), reason[:LONGEST_REASON]
        self._clusters = fleet.canary_order(files, clusters)
        self._run = publishing.new_run()
        self._reached: list[str] = []
        self._problems: list[str] = []
        self.change: Change | None = None

    def publish(
        self, *, retired: Iterable[str] = (), wait: bool = True, progress: fleet.Progress = fleet.silent
    ) -> Iterator[tuple[Plan, Publication | None]]:
        """Publish as `fleet.publish_fleet` does, and record what came of it. Raises ConfigError, LakeError, ProposalError."""
        desk, is_over = self._desk, False
        try:
            for plan, done in fleet.publish_fleet(
                desk.lake,
                self._files,
                self._clusters,
                now=desk.now,
                actor=rights.actor(desk),
                retired=retired,
                wait=wait,
                progress=progress,
                run=self._run,
                check=self._begin,
            ):
                problems = [*plan.problems, *([done.failure] if done is not None and done.failure else [])]
                self._problems += problems
                if not problems:
                    self._reached.append(plan.cluster)
                yield plan, done
            is_over = True
        finally:  # also what ends with an error of ours has come so far
            self._end(is_over=is_over)

    def _begin(self, plan: Plan) -> str:
        """Record what is about to be done in a cluster; it is never refused."""
        if any(change.action != "unchanged" for change in plan.changes):
            names = ", ".join(file.blueprint.name for file in self._files)
            if self.change is None:
                change = Change(id=self._run, blueprint=names, version=self._versions, entries=())
                self.change = acting.noted(self._desk, change, Event.BEGUN, about=self._about(), detail=self._reason)
            one = ClusterPreview(plan=plan, foreseen=previewing.foreseen(self._desk, plan))
            about = {"clusters": [plan.cluster], "plans": {plan.cluster: acting.in_numbers(one)}}
            self.change = acting.noted(self._desk, self.change, Event.PUBLISHING, about=about)
        return ""

    def _end(self, *, is_over: bool) -> None:
        if self.change is None:
            return
        missed = [one.name for one in self._clusters if one.name not in self._reached]
        about = {"clusters": self._reached}
        if not missed and is_over:
            self.change = acting.noted(self._desk, self.change, Event.PUBLISHED, result="done", about=about)
            return
        text = "; ".join(self._problems) or "it ended with an error"
        detail = f"{text}; not published to {', '.join(missed)}"[:LONGEST_REASON]
        self.change = acting.noted(self._desk, self.change, Event.FAILED, result="failed", about=about, detail=detail)

    @property
    def _versions(self) -> str:
        return ", ".join(str(file.blueprint.version) for file in self._files)

    def _about(self) -> dict[str, object]:
        text = "\n---\n".join(file.document.text for file in self._files)
        return {
            "at_once": True,
            "file": {"source": ", ".join(str(file.source) for file in self._files), "text": text, "before": text},
            "clusters": [one.name for one in self._clusters],
            "canary": [],
            "reason": self._reason,
            "plans": {},
        }
