"""Tells people of drift that has opened: a finding for each, and one message to the configured webhook for all that is new.

What has been told is remembered in the lake's own log, by the time of the newest evaluation that was told of: for findings
together with their rows, for the webhook after it has answered. So a webhook that is down, or a process that is ended,
delays a message to the next run and loses none. A run claims the webhook before it posts, so that two runs at once do not
tell twice. Only a process that is ended between the answer and its note in the lake tells twice; the message's `id` is then
the same.
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
from warehouse import config
from warehouse.errors import CommitConflictError, HindcastError
from warehouse.lake.tables import Lake
from warehouse.records import posture
from warehouse.schema import DRIFT, FINDINGS

KIND = "drift"
FOUND, TOLD = "drift-findings", "drift-webhook"
"""App ids in the logs of `findings` and `drift`: the newest evaluation that was told of, in microseconds since 1970."""
CLAIMED, RELEASED, TURN = "drift-webhook-claim", "drift-webhook-release", "drift-webhook-turn"
"""App ids in the log of `drift`: when a run began to post, the claim that is over, and how many claims there were. Of two runs
that saw the same number of claims, the lake takes one."""
CLAIM_FOR = timedelta(minutes=5)
"""After this a claim that was not released is that of a run that was ended."""
NAMED = 5
"""How many drifts a message names; the others are counted."""
_WORST = ("critical", "high", "medium", "low")


def tell_opened(settings: config.Config, lake: Lake, *, now: datetime, source: str) -> list[str]:
    """Tell of all drift that has opened and was not told of yet. Gives what could not be done, as sentences: the next call does it.

    Neither the lake nor the webhook being away keeps the other from being told.
    """
    failures = []
    steps: tuple[tuple[Callable[[config.Config, Lake, datetime, str], None], str], ...] = (
        (_write_findings, "the findings were not written"),
        (_post, "the webhook was not told"),
    )
    for tell, what in steps:
        try:
            tell(settings, lake, now, source)
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


def _post(settings: config.Config, lake: Lake, now: datetime, source: str) -> None:
    url = settings.alerts.webhook_url()
    claim = _claim(lake, max(CLAIM_FOR, 2 * settings.alerts.timeout))
    if claim is None:
        return  # another run is posting, and the next one posts what it could not
    marks = {RELEASED: claim}
    try:
        told = lake.transaction_version(DRIFT, TOLD)
        opened, until = _opened_after(lake, told or _beginning(lake))
        if url and opened:
            alerts.post(url, _message(opened, source), settings)
        # Without a webhook nobody waits for a message: one that is configured later begins with what opens then.
        if opened:
            marks[TOLD] = until
    finally:
        lake.commit(DRIFT, [], transactions=marks, metadata={})


def _claim(lake: Lake, lasts: timedelta) -> int | None:
    """The claim with which this run may post; None while another run has one."""
    now = datetime.now(UTC)
    turn = lake.transaction_version(DRIFT, TURN) or 0  # first: whoever claims after this makes it stale
    held, released = (lake.transaction_version(DRIFT, name) for name in (CLAIMED, RELEASED))
    if held is not None and held != released and _moment(held) > now - lasts:
        return None
    try:
        lake.commit(DRIFT, [], transactions={CLAIMED: _version(now), TURN: turn + 1}, metadata={})
    except CommitConflictError:
        return None
    return _version(now)


def mark_as_told(lake: Lake) -> None:
    """Count everything that is recorded so far as told: history that was made up later is no news. Raises LakeError."""
    rows = lake.read(DRIFT, ["time"])["time"].to_pylist()
    if rows:
        until = _version(max(rows))
        for table, name in ((FINDINGS, FOUND), (DRIFT, TOLD)):
            if until > (lake.transaction_version(table, name) or 0):
                lake.commit(table, [], transactions={name: until}, metadata={})


def _beginning(lake: Lake) -> int:
    """Where telling begins in a lake that has told nothing yet: at the evaluation before the first that noted this."""
    return lake.transaction_version(DRIFT, BEGINNING) or 0


def _opened_after(lake: Lake, version: int) -> tuple[list[Mapping[str, Any]], int]:
    """Rows of drift that opened in evaluations after one, each drift once by its newest row, and the newest evaluation's version."""
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


def _message(opened: Sequence[Mapping[str, Any]], source: str) -> dict[str, Any]:
    worst = sorted(opened, key=lambda row: (_WORST.index(row["severity"]), row["cluster"], row["summary"]))
    clusters = sorted({row["cluster"] for row in opened})
    lines = [f"Hindcast: {len(opened)} new drifts in {', '.join(clusters[:NAMED])}"]
    lines[0] += f" and {len(clusters) - NAMED} more" if len(clusters) > NAMED else ""
    lines += [f"{row['cluster']}: {row['severity']}: {row['summary']}" for row in worst[:NAMED]]
    lines += [f"and {len(worst) - NAMED} more"] if len(worst) > NAMED else []
    identity = json.dumps(sorted([str(part) for part in (*posture.drift_key(row), row["time"])] for row in opened))
    return {
        "text": "\n".join(lines),
        "kind": KIND,
        "severity": worst[0]["severity"],
        "subject": ", ".join(clusters),
        "source": source,
        "id": hashlib.sha256(identity.encode()).hexdigest()[:16],
    }
