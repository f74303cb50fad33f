"""What the ledger of configuration history says of a time: which kinds of a cluster were known then, and how well."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from warehouse.lake.tables import Lake
from warehouse.schema import CONFIG_COVERAGE

STATES_OF_LACK = ("partial", "forbidden", "unreachable", "refused", "failed")


@dataclass(frozen=True, kw_only=True)
class KindCoverage:
    """What is known of one kind of a cluster at a time."""

    cluster: str
    kind: str
    before: datetime | None
    """The last time, not after it, at which the kind was read whole; None if it never was until then."""
    after: datetime | None
    """The first such time after it. What is the same before and after was in force; what differs changed in between."""
    state: str
    """observed, or why it was not at the last try not after it: absent (the cluster has no such kind), forbidden, unreachable,
    refused, partial, failed; never, if there was no try."""
    detail: str | None
    """Why it was not observed; of manifests also the files that could not be read, though everything else was observed."""

    @property
    def is_known(self) -> bool:
        """Whether an answer about the time is more than a guess."""
        return self.state == "absent" or (self.state == "observed" and self.before is not None)


def coverage_at(
    lake: Lake, at: datetime, *, clusters: Collection[str] | None = None, recorded: datetime | None = None
) -> list[KindCoverage]:
    """The coverage of every kind that was ever looked at, by cluster and kind. Raises LakeError."""
    rows = lake.read(CONFIG_COVERAGE, None, None if clusters is None else list(clusters)).to_pylist()
    befores: dict[tuple[str, str], datetime] = {}
    afters: dict[tuple[str, str], datetime] = {}
    last: dict[tuple[str, str], tuple[datetime, str, str | None]] = {}
    for row in sorted(rows, key=lambda row: (row["from"], row["to"])):
        if recorded is not None and row["recorded"] > recorded:
            continue
        begin = row["from"]
        # A snapshot is of the moment at which it began; a watch is of all the time until its end.
        end = row["to"] if row["source"] == "watch" else begin
        for kind in row["kinds"]:
            key = (row["cluster"], kind)
            last.setdefault(key, (begin, "never", None))
            if begin <= at:
                last[key] = (begin, row["state"], row["detail"])
            if row["state"] == "observed":
                if begin <= at:
                    befores[key] = max(min(end, at), befores.get(key, begin))
                if end > at and key not in afters:
                    afters[key] = max(begin, at + timedelta(microseconds=1))
    return [
        KindCoverage(
            cluster=cluster,
            kind=kind,
            before=befores.get((cluster, kind)),
            after=afters.get((cluster, kind)),
            state=state,
            detail=detail,
        )
        for (cluster, kind), (_, state, detail) in sorted(last.items())
    ]
