"""Delivers a report to targets of the configuration, only where everyone who reads there may see all of it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pipelines.evidence.delivery import delivering
from pipelines.evidence.delivery.message import Audience, File, Message
from pipelines.evidence.reports import words
from pipelines.evidence.reports.asked import asked_again
from pipelines.evidence.reports.making import Made
from warehouse import config
from warehouse.lake.tables import Lake

MEDIA = {
    "html": "text/html",
    "csv": "text/csv",
    "json": "application/json",
    "parquet": "application/vnd.apache.parquet",
}
"""Media types of a report's files, by suffix."""


def send(settings: config.Config, lake: Lake, made: Made, names: Sequence[str], *, source: str) -> list[str]:
    """Deliver a report; return what did not arrive, in sentences. A report that arrived somewhere is not sent there again.

    Raises ConfigError for an unknown target, LakeError.
    """
    targets = delivering.targets(settings, names)
    before = delivering.recorded(lake, since=datetime.fromisoformat(made.manifest["made"]))
    outcomes = delivering.deliver(settings, message_of(made), targets, lake=lake, source=source, once=before)
    return [outcome.failure for outcome in outcomes if outcome.failure]


def message_of(made: Made) -> Message:
    """Return a report as a message with its files, for whom it was made."""
    described = made.manifest
    request = asked_again(described["asked"])
    shares = ", ".join(f"{one['cluster']} {words.share(one['observed'])}" for one in described["coverage"]) or "nothing"
    lines = [
        f"{described['title']}",
        f"Window: {words.moment(request.since)} to {words.moment(request.until)}. Observed: {shares}.",
        f"Made {words.moment(datetime.fromisoformat(described['made']))} for {described['asked']['for'] or 'the platform'}.",
        "To verify it: hindcast report verify FILE",
    ]
    return Message(
        title=described["title"],
        text="\n".join(lines) + "\n",
        audience=Audience(made_for=request.subject),
        files=tuple(File(name=name, content=content, media_type=MEDIA[name.rpartition(".")[2]]) for name, content in made.files.items()),
        facts={"report": described["id"], "for": described["asked"]["for"], "manifest": described},
        id=described["id"],
    )
