"""Explanations of `hindcast policy explain`: as text for people, and as data for JSON."""

from __future__ import annotations

import dataclasses
import textwrap
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pipelines.policy.walk import Step, Walk
    from pipelines.recommend.allowing import Change
    from pipelines.replay.explaining import Explanation


def as_text(found: Explanation, *, everything: bool = False) -> str:
    """The explanation in lines; rules that select neither end are counted, or listed with `everything`."""
    return "\n".join(_lines(found, everything=everything)) + "\n"


def _lines(found: Explanation, *, everything: bool) -> Iterator[str]:
    yield f"{found.edge.text}, in {found.cluster} by the policies of {found.at:%Y-%m-%d %H:%M:%S} UTC: {found.verdict.value}"
    if found.recorded is not None:
        recorded = found.recorded
        reason = f" ({recorded.drop_reason})" if recorded.drop_reason else ""
        where = f" at {recorded.seen_at.value}" if recorded.seen_at else ""
        yield f"recorded {recorded.time:%Y-%m-%d %H:%M:%S} UTC: {recorded.verdict}{reason}{where}"
    if found.agreement:
        yield found.agreement
    for one in found.walks:
        yield ""
        yield from _walk_lines(one, everything=everything)
        if one.direction in found.attributions:
            yield f"  {found.attributions[one.direction].text}"
    if found.changes:
        yield ""
        yield "The smallest change that allows it, tried on the policy engine:"
        yield from _change_lines(found.changes)
    if found.notes:
        yield ""
        yield from (f"note: {note}" for note in found.notes)


def _walk_lines(one: Walk, *, everything: bool) -> Iterator[str]:
    yield f"{one.direction.value} at {one.subject}: {one.decision.verdict.value}"
    yield f"  {one.decision.reason}"
    shown = [step for step in one.steps if step.selects or everything]
    for number, step in enumerate(shown, 1):
        isolates = ", isolates" if step.isolates else ""
        why = f": {step.why_not}" if step.why_not else ""
        tier = "" if step.tier.name == "NORMAL" else f"{step.tier.name.capitalize()} tier, "
        yield f"  {number}. {step.rule} ({tier}{step.action.value}{isolates}) {step.outcome.value}{why}"
    passed = len(one.steps) - len(shown)
    if passed and one.decision.verdict.value != "n/a":
        yield f"  {passed} further rules do not select this end"


def _change_lines(changes: Iterable[Change]) -> Iterator[str]:
    for number, change in enumerate(changes, 1):
        yield f"{number}. {change.text}:"
        yield textwrap.indent(yaml.safe_dump(_plain(change.part), sort_keys=False), "   ").rstrip()


def as_data(found: Explanation) -> dict[str, Any]:
    """The explanation as plain data."""
    recorded = None
    if found.recorded is not None:
        recorded = {
            "uuid": found.recorded.uuid or None,
            "time": found.recorded.time.isoformat(),
            "verdict": found.recorded.verdict,
            "drop_reason_desc": found.recorded.drop_reason or None,
            "seen_at": found.recorded.seen_at.value if found.recorded.seen_at else None,
        }
    return {
        "cluster": found.cluster,
        "at": found.at.isoformat(),
        "source": found.edge.source.text,
        "destination": found.edge.destination.text,
        "l4_protocol": found.edge.protocol,
        "destination_port": found.edge.port,
        "verdict": found.verdict.value,
        "recorded": recorded,
        "agreement": found.agreement or None,
        "walks": [_walk_data(one) for one in found.walks],
        "hubble": {direction.value: {"agrees": one.agrees, "text": one.text} for direction, one in found.attributions.items()},
        "changes": [_change_data(one) for one in found.changes],
        "notes": list(found.notes),
    }


def _walk_data(one: Walk) -> dict[str, Any]:
    return {
        "direction": one.direction.value,
        "subject": one.subject,
        "verdict": one.decision.verdict.value,
        "reason": one.decision.reason,
        "missing": list(one.decision.missing),
        "rules": [_step_data(step) for step in one.steps],
    }


def _step_data(step: Step) -> dict[str, Any]:
    return {
        **dataclasses.asdict(step.rule),
        "action": step.action.value,
        "tier": step.tier.name.lower(),
        "priority": step.priority,
        "selects": step.selects,
        "isolates": step.isolates,
        "outcome": step.outcome.value,
        "why_not": step.why_not or None,
    }


def _change_data(change: Change) -> dict[str, Any]:
    return {"direction": change.direction.value, "text": change.text, "path": change.path, "part": change.part, "manifest": change.manifest}


def _plain(value: Any) -> Any:
    """The value without what YAML would write as an alias."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value
