"""When clusters were last held against their blueprints, and of which ones no all-clear may be given. Reads the question `Evaluations`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from dashboards.visit import Visit, not_future
from warehouse.questions.record_questions import Evaluations


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What is known of the evaluations of the clusters of which the principal sees anything."""

    last: datetime | None
    """The newest evaluation of any cluster; None if there was none."""
    missing: list[str]
    """Clusters without an evaluation in the window."""
    unwanted: list[str]
    """Clusters that were evaluated, but against no blueprint: nothing says how they should stand."""
    unseen: list[str]
    """Clusters whose configuration had never been seen whole when they were evaluated."""

    @property
    def allows_all_clear(self) -> bool:
        """Whether no open drift means that every cluster stands as its blueprints want."""
        return self.last is not None and not (self.missing or self.unwanted or self.unseen)


def standing(visit: Visit) -> Standing:
    """The evaluations until the end of the window. Raises AccessDeniedError and LakeError."""
    rows = visit.answer(Evaluations(at=not_future(visit.time.until))).rows.to_pylist()
    whole = {row["cluster"]: row for row in rows if row["blueprint"] is None}
    recent = {cluster for cluster, row in whole.items() if row["evaluated"] >= visit.time.since}
    sees = visit.door.scope(visit.who).sees_cluster
    configured = {cluster.name for cluster in visit.settings.clusters if sees(cluster.name)}
    # One that has left the configuration is not missed for ever; without any configured cluster, all that were evaluated are.
    known = (configured or set(whole)) | recent
    held = {row["cluster"] for row in rows if row["blueprint"] is not None and row["evaluated"] == whole[row["cluster"]]["evaluated"]}
    return Standing(
        last=max((row["evaluated"] for row in whole.values()), default=None),
        missing=sorted(known - recent),
        unwanted=sorted(recent - held),
        unseen=sorted(cluster for cluster in recent & held if whole[cluster]["observed"] is None),
    )
