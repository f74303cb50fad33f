"""Tells the owners of alert rules which of them cannot be evaluated, and why; once, like an alert."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from pipelines.evidence import alerts
from pipelines.evidence.delivery import delivering, readers
from pipelines.evidence.delivery.message import Audience, Message
from pipelines.evidence.rules.states import AlertState
from warehouse import config
from warehouse.access.principals import OPERATOR
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake
from warehouse.wording import counted

TELLS_FOR = timedelta(days=1)
"""For how long it is tried to tell an owner."""
NAMED = 20
"""How many rules a message describes; the others are only counted."""


def tell(settings: config.Config, lake: Lake, known: Iterable[AlertState], *, at: datetime, source: str) -> list[str]:
    """Tell each owner of the rules that cannot be evaluated since at most a day; return failures as sentences.

    The rules of a subject are told to the deliveries that only she reads, or to the platform if there are none; those of the operator
    to the platform.
    """
    of: dict[str, list[AlertState]] = defaultdict(list)
    for one in known:
        if one.is_of_rule and one.state == "failed" and at - one.time <= TELLS_FOR:
            of[one.made_for].append(one)
    failures: list[str] = []
    try:
        before = delivering.recorded(lake, since=at - TELLS_FOR - timedelta(hours=1)) if of else {}
        for made_for, rules in sorted(of.items()):
            for target in _targets(settings, made_for):
                new = [one for one in rules if not before.get((_id(one), target.name), frozenset()) & delivering.ARRIVED]
                if new:
                    outcomes = delivering.deliver(settings, _message(new, source), [target], lake=lake, source=source, once=before)
                    failures += [outcome.failure for outcome in outcomes if outcome.failure]
    except HindcastError as error:
        failures.append(f"owners of rules were not told: {error}")
    return failures


def _targets(settings: config.Config, made_for: str) -> Sequence[config.Delivery]:
    own = [] if made_for == OPERATOR.user else [target for target in settings.deliveries if readers.speaks_for(target, made_for)]
    return own or alerts.told(settings)


def _message(rules: Sequence[AlertState], source: str) -> Message:
    made_for = rules[0].made_for
    ids = tuple(sorted(_id(one) for one in rules))
    whose = "" if made_for == OPERATOR.user else f" of {made_for}"
    lines = [f"{one.rule}\n    {(one.detail or '').strip()}" for one in rules[:NAMED]]
    lines += [f"and {len(rules) - NAMED} more"] if len(rules) > NAMED else []
    return Message(
        title=f"{counted(len(rules), 'alert rule')}{whose} cannot be evaluated",
        text="\n".join(lines),
        audience=Audience(made_for=OPERATOR if not whose else readers.principal_of(made_for)),
        facts={"status": "failed", "rules": [one.rule for one in rules[:NAMED]], "source": source},
        id=_digest(*ids),
        tells=ids,
    )


def _id(one: AlertState) -> str:
    return _digest(one.rule, str(one.time), one.detail or "")


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
