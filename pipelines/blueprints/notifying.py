"""Announces drift that has opened: one finding for each drift, and one message to the targets of `alerts` for all that is new.

The lake's log remembers the newest evaluation that was announced: for findings in the same commit as their rows, for the
targets after all have answered. A target that is down, or a process that is killed, therefore delays a message until the next run
but does not lose it. A run makes a claim before it sends, so that two concurrent runs do not send twice. A message that is sent again
has the same `id`, and is not sent to targets at which it has arrived, unless the process was killed before it recorded that.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from pipelines.blueprints.evaluation import BEGINNING
from pipelines.evidence import alerts
from pipelines.evidence.delivery import delivering
from pipelines.evidence.delivery.message import Audience, Message
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import CommitConflictError, HindcastError
from warehouse.lake.tables import Lake
from warehouse.records import posture
from warehouse.schema import DRIFT, FINDINGS
from warehouse.wording import counted

KIND = "drift"
FOUND, ANNOUNCED = "drift-findings", "drift-webhook"
"""App ids in the logs of `findings` and `drift`: the newest evaluation that was announced, in microseconds since 1970."""
CLAIMED, RELEASED, TURN = "drift-webhook-claim", "drift-webhook-release", "drift-webhook-turn"
"""App ids in the log of `drift`: when a run began to post, the claim that was released, and how many claims there were. If two
runs saw the same number of claims, the lake accepts only one of them."""
CLAIM_FOR = timedelta(minutes=5)
"""A claim that was not released after this long belongs to a run that was killed."""
NAMED = 5
"""How many drifts a message names; the others are only counted."""
_WORST = ("critical", "high", "medium", "low")


def notify_opened(settings: config.Config, lake: Lake, *, now: datetime, source: str) -> list[str]:
    """Announce all drift that has opened and was not announced yet. Return failures as sentences; the next call tries again.

    A failure of the lake or of a target does not prevent the others from being used.
    """
    failures = []
    steps: tuple[tuple[Callable[[config.Config, Lake, datetime, str], None], str], ...] = (
        (_write_findings, "the findings were not written"),
        (_send, "not everyone was notified"),
    )
    for step, what in steps:
        try:
            step(settings, lake, now, source)
        except HindcastError as error:
            failures.append(f"{what}: {error}")
    return failures


def _write_findings(_settings: config.Config, lake: Lake, now: datetime, source: str) -> None:
    opened, until = _opened_after(lake, lake.transaction_version(FINDINGS, FOUND) or _beginning(lake))
    if not opened:
        return
    rows = pa.Table.from_pylist([_finding(row, now, source) for row in opened], schema=FINDINGS.schema)
    try:
        lake.commit(FINDINGS, lake.write_files(FINDINGS, rows), transactions={FOUND: until}, metadata={})
    except CommitConflictError:
        return  # another run has written them


def _send(settings: config.Config, lake: Lake, now: datetime, source: str) -> None:
    targets = alerts.told(settings)
    claim = _claim(lake, max(CLAIM_FOR, delivering.longest(targets)))
    if claim is None:
        return  # another run is sending, and the next run sends whatever that one could not
    marks = {RELEASED: claim}
    try:
        announced = lake.transaction_version(DRIFT, ANNOUNCED)
        opened, until = _opened_after(lake, announced or _beginning(lake))
        if targets and opened and (failures := alerts.tell(settings, _message(opened, source), lake=lake, source=source)):
            raise HindcastError("; ".join(failures))
        # Without a target nobody waits for a message: one that is configured later starts with the drift that opens then.
        if opened:
            marks[ANNOUNCED] = until
    finally:
        lake.commit(DRIFT, [], transactions=marks, metadata={})


def _claim(lake: Lake, lasts: timedelta) -> int | None:
    """Return the claim that allows this run to post, or None while another run has one."""
    now = datetime.now(UTC)
    turn = lake.transaction_version(DRIFT, TURN) or 0  # read first: any later claim by another run makes it stale
    claimed, released = (lake.transaction_version(DRIFT, name) for name in (CLAIMED, RELEASED))
    if claimed is not None and claimed != released and _moment(claimed) > now - lasts:
        return None
    try:
        lake.commit(DRIFT, [], transactions={CLAIMED: _version(now), TURN: turn + 1}, metadata={})
    except CommitConflictError:
        return None
    return _version(now)


def mark_as_announced(lake: Lake) -> None:
    """Mark everything recorded so far as announced, because history generated afterwards is not news. Raises LakeError."""
    rows = lake.read(DRIFT, ["time"])["time"].to_pylist()
    if rows:
        until = _version(max(rows))
        for table, name in ((FINDINGS, FOUND), (DRIFT, ANNOUNCED)):
            if until > (lake.transaction_version(table, name) or 0):
                lake.commit(table, [], transactions={name: until}, metadata={})


def _beginning(lake: Lake) -> int:
    """Return where to start in a lake that has announced nothing yet: the evaluation before the first that set this mark."""
    return lake.transaction_version(DRIFT, BEGINNING) or 0


def _opened_after(lake: Lake, version: int) -> tuple[list[Mapping[str, Any]], int]:
    """Return drift rows opened by evaluations after a given one (each drift's newest row), and the newest evaluation's version."""
    after = _moment(version)
    rows = sorted(lake.read(DRIFT, since=after + timedelta(microseconds=1)).to_pylist(), key=lambda row: row["time"])
    if not rows:
        return [], version
    clusters = sorted({row["cluster"] for row in rows})
    known = {posture.drift_key(row) for row in posture.open_drift(lake, at=after, clusters=clusters).to_pylist()}
    opened: dict[tuple[Any, ...], Mapping[str, Any]] = {}
    for row in rows:
        key = posture.drift_key(row)
        if row["state"] == "open" and (key not in known or key in opened):
            opened[key] = row
        (known.add if row["state"] == "open" else known.discard)(key)
    return list(opened.values()), _version(rows[-1]["time"])


def _version(moment: datetime) -> int:
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)) / timedelta(microseconds=1))


def _moment(version: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=version)


def _finding(row: Mapping[str, Any], now: datetime, source: str) -> dict[str, Any]:
    detail = {name: row[name] for name in ("drift", "blueprint", "changed_by", "paths", "flows")}
    return {
        "cluster": row["cluster"],
        "date": now.date(),
        "time": now,
        "kind": KIND,
        "severity": row["severity"],
        "namespace": row["namespace"],
        "subject": f"{row['kind']}/{row['name']}" if row["name"] else row["kind"],
        "summary": row["summary"],
        "detail": json.dumps(detail | {"since": row["since"].isoformat()}, ensure_ascii=False),
        "source": source,
    }


def _message(opened: Sequence[Mapping[str, Any]], source: str) -> Message:
    worst = sorted(opened, key=lambda row: (_WORST.index(row["severity"]), row["cluster"], row["summary"]))
    clusters = sorted({row["cluster"] for row in opened})
    lines = [f"Hindcast: {counted(len(opened), 'new drift')} in {', '.join(clusters[:NAMED])}"]
    lines[0] += f" and {len(clusters) - NAMED} more" if len(clusters) > NAMED else ""
    lines += [f"{row['cluster']}: {row['severity']}: {row['summary']}" for row in worst[:NAMED]]
    lines += [f"and {len(worst) - NAMED} more"] if len(worst) > NAMED else []
    identity = json.dumps(sorted([str(part) for part in (*posture.drift_key(row), row["time"])] for row in opened))
    return Message(
        title=lines[0],
        text="\n".join(lines),
        audience=Audience(made_for=OPERATOR),
        facts={"kind": KIND, "severity": worst[0]["severity"], "subject": ", ".join(clusters), "source": source},
        id=hashlib.sha256(identity.encode()).hexdigest()[:16],
    )
