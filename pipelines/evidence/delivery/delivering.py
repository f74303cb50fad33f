"""Delivers a message to targets of the configuration, tries again while one is away, and records how it went."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import structlog
import tenacity

from pipelines.evidence.delivery import files, hooks, mail, readers
from pipelines.evidence.delivery.message import Message
from warehouse import config
from warehouse.access import grants
from warehouse.access.ownership import grants_of
from warehouse.errors import ConfigError, DeliveryError, DeliveryRefusedError, HindcastError, LakeError
from warehouse.lake.tables import Lake
from warehouse.schema import DELIVERIES

log = structlog.stdlib.get_logger(__name__)
FIRST_WAIT = timedelta(seconds=1)
"""How long the second try waits; each further one waits twice as long, up to LONGEST_WAIT."""
LONGEST_WAIT = timedelta(seconds=30)
REMEMBERED = timedelta(days=7)
"""How far back `once` looks for deliveries of the same message."""
ARRIVED = ("delivered", "partly")
"""Outcomes after which a message is not sent again."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How one delivery ended; see the columns of `deliveries`."""

    target: str
    kind: str
    outcome: str
    tries: int
    detail: str | None
    seconds: float

    @property
    def failure(self) -> str | None:
        """A sentence that says why the message did not arrive; None if it did."""
        return None if self.outcome in ARRIVED else f"{self.target} ({self.kind}): {self.outcome}: {self.detail}"


def targets(settings: config.Config, names: Iterable[str]) -> list[config.Delivery]:
    """Return the targets of these names, each once. Raises ConfigError for a name that the configuration does not have."""
    known = {target.name: target for target in settings.deliveries}
    for name in (wanted := list(dict.fromkeys(names))):
        if name not in known:
            raise ConfigError(f"there is no delivery named {name!r}: the configuration has {', '.join(sorted(known)) or 'none'}")
    return [known[name] for name in wanted]


def deliver(
    settings: config.Config,
    message: Message,
    to: Sequence[config.Delivery],
    *,
    lake: Lake | None,
    source: str,
    once: bool = False,
) -> list[Outcome]:
    """Deliver a message to each target and return how each delivery ended. Failures are returned and recorded, not raised.

    Without a lake only the grants of the configuration are known, and nothing is recorded in the table. With `once`, targets at which a
    message of the same id has arrived within REMEMBERED are left out. Raises LakeError if the grants or the log cannot be read; a log
    that cannot be written is only reported, because the message has left.
    """
    now = datetime.now(UTC)
    arrived = _arrived(lake, message, now) if once and lake is not None else frozenset[str]()
    known = grants_of(settings.ownership) if lake is None else grants.in_force(lake, settings.ownership)
    outcomes = []
    for target in to:
        if target.name in arrived:
            continue
        refused = readers.refusal(target, message.audience, known, now=now)
        outcome = _outcome(target, "denied", detail=refused) if refused else _tried(target, message)
        if outcome.failure:
            log.warning("not delivered", target=target.name, message=message.id, outcome=outcome.outcome, problem=outcome.detail)
        outcomes.append(outcome)
    if lake is not None and outcomes:
        _record(lake, message, outcomes, source)
    return outcomes


def longest(to: Iterable[config.Delivery]) -> timedelta:
    """Return how long delivering to these targets takes at most, roughly: for the time that a claim on it must last."""
    waits = {"smtp": 8}  # how many answers a delivery waits for; two if not named
    return sum((target.tries * (waits.get(target.kind, 2) * target.timeout) + 2**target.tries * FIRST_WAIT for target in to), timedelta())


def _tried(target: config.Delivery, message: Message) -> Outcome:
    began, tries, detail = time.monotonic(), 0, None
    attempts = tenacity.Retrying(
        stop=tenacity.stop_after_attempt(target.tries),
        wait=tenacity.wait_exponential_jitter(
            multiplier=FIRST_WAIT.total_seconds(), max=LONGEST_WAIT.total_seconds(), jitter=FIRST_WAIT.total_seconds() / 4
        ),
        retry=tenacity.retry_if_exception(lambda error: isinstance(error, DeliveryError) and not isinstance(error, DeliveryRefusedError)),
        reraise=True,
    )
    try:
        for attempt in attempts:
            with attempt:
                tries = attempt.retry_state.attempt_number
                detail = _once(target, message)
    except (HindcastError, OSError) as error:
        return _outcome(target, "failed", tries=tries, detail=str(error), began=began)
    return _outcome(target, "partly" if detail else "delivered", tries=tries, detail=detail, began=began)


def _once(target: config.Delivery, message: Message) -> str | None:
    match target.kind:
        case "smtp":
            return mail.send(target, message)
        case "folder":
            files.put(target, message, now=datetime.now(UTC))
        case _:
            hooks.post(target, message)
    return None


def _outcome(target: config.Delivery, outcome: str, *, tries: int = 0, detail: str | None = None, began: float | None = None) -> Outcome:
    seconds = 0.0 if began is None else time.monotonic() - began
    return Outcome(target=target.name, kind=target.kind, outcome=outcome, tries=tries, detail=detail, seconds=seconds)


def _arrived(lake: Lake, message: Message, now: datetime) -> frozenset[str]:
    rows = lake.read(DELIVERIES, ["message", "target", "outcome"], since=now - REMEMBERED).to_pylist()
    return frozenset(row["target"] for row in rows if row["message"] == message.id and row["outcome"] in ARRIVED)


def _record(lake: Lake, message: Message, outcomes: Sequence[Outcome], source: str) -> None:
    now = datetime.now(UTC)
    try:
        size = len(message.text.encode()) + sum(len(file.read()) for file in message.files)
    except OSError:
        size = len(message.text.encode())
    rows = [
        {
            "date": now.date(),
            "time": now,
            "message": message.id,
            "target": outcome.target,
            "kind": outcome.kind,
            "title": message.line,
            "made_for": message.audience.name,
            "source": source,
            "files": [file.name for file in message.files],
            "bytes": size,
            "outcome": outcome.outcome,
            "tries": outcome.tries,
            "detail": outcome.detail,
            "seconds": outcome.seconds,
        }
        for outcome in outcomes
    ]
    try:
        lake.commit(
            DELIVERIES,
            lake.write_files(DELIVERIES, pa.Table.from_pylist(rows, schema=DELIVERIES.schema)),
            transactions={},
            metadata={},
        )
    except LakeError as error:
        log.error("deliveries were not recorded", message=message.id, problem=str(error))
