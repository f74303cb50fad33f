"""Delivers a message to targets of the configuration, tries again while one is away, and records how it went."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
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
Recorded = Mapping[tuple[str, str], frozenset[str]]
"""The outcomes of deliveries, by the id of the message, or of one of the things that it tells, and target."""
ARRIVED, DENIED = frozenset({"delivered", "partly"}), "denied"
"""Outcomes: those after which a message is not sent again, and the one of a target whose readers may not see it."""


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
    once: Recorded | None = None,
) -> list[Outcome]:
    """Deliver a message to each target and return how each delivery ended. Failures are returned and recorded, not raised.

    Without a lake only the grants of the configuration are known, and nothing is recorded in the table. With `once`, the deliveries
    recorded so far, targets at which a message of the same id has arrived are left out, and what was denied is not recorded again.
    Raises LakeError if the grants cannot be read; a log that cannot be written is only reported, because the message has left.
    """
    now = datetime.now(UTC)
    before = once or {}
    known = grants_of(settings.ownership) if lake is None else grants.in_force(lake, settings.ownership)
    outcomes = []
    for target in to:
        seen = before.get((message.id, target.name), frozenset())
        if seen & ARRIVED:
            continue
        refused = readers.refusal(target, message.audience, known, now=now)
        if refused and DENIED in seen:
            continue
        outcome = _outcome(target, DENIED, detail=refused) if refused else _tried(target, message)
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


def recorded(lake: Lake, *, since: datetime) -> Recorded:
    """Return the outcomes of all deliveries since a time. Raises LakeError."""
    found: dict[tuple[str, str], frozenset[str]] = {}
    for row in lake.read(DELIVERIES, ["message", "target", "outcome", "tells"], since=since).to_pylist():
        for told in (row["message"], *(row["tells"] or ())):
            key = (told, row["target"])
            found[key] = found.get(key, frozenset()) | {row["outcome"]}
    return found


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
            "tells": list(message.tells),
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
