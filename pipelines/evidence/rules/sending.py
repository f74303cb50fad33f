"""Sends alerts to Alertmanager, again at each run while they fire, and to deliveries, once when they fire and once when they end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.evidence.delivery import delivering, hooks, readers
from pipelines.evidence.delivery.message import Audience, Message
from pipelines.evidence.rules import links
from pipelines.evidence.rules.evaluating import principal
from pipelines.evidence.rules.model import Rule
from pipelines.evidence.rules.states import AlertState
from warehouse import config
from warehouse.access import grants
from warehouse.config.selectors import Selector
from warehouse.errors import HindcastError
from warehouse.lake.tables import Lake

FIRES_FOR = timedelta(minutes=20)
"""For how long Alertmanager believes that an alert fires without hearing of it again."""
RESOLVED_FOR = timedelta(minutes=30)
"""For how long Alertmanager is told that an alert has ended, in case it was away."""
TELLS_FOR = timedelta(days=1)
"""For how long deliveries are tried to be told that an alert has ended."""
NAMED = 20
"""How many alerts of one rule a message describes; the others are only counted."""


@dataclass(frozen=True, kw_only=True)
class Sender:
    """Sends the alerts of one run."""

    settings: config.Config
    lake: Lake
    rules: Mapping[str, Rule]
    """By name."""
    source: str

    def send(self, states: Sequence[AlertState], *, at: datetime) -> list[str]:
        """Send what is firing or has ended; return failures as sentences. The next run tries again what failed."""
        shown = [one for one in states if one.state in ("firing", "resolved") and one.rule in self.rules]
        heard = [one for one in shown if silenced(self.settings, one, at) is None]
        failures = []
        for send in (self._to_alertmanager, self._to_deliveries):
            try:
                failures += send(heard, at)
            except HindcastError as error:
                failures.append(str(error))
        return failures

    def _to_alertmanager(self, states: Sequence[AlertState], at: datetime) -> list[str]:
        target = self.settings.alerts.alertmanager
        alerts = [self._posted(one, at) for one in states if one.state == "firing" or at - one.time <= RESOLVED_FOR]
        if target is None or not alerts:
            return []
        url = hooks.checked(target.url, "alerts.alertmanager.url").rstrip("/") + "/api/v2/alerts"
        try:
            hooks.send(url, alerts, bearer=target.bearer(), ca=target.ca, seconds=target.timeout.total_seconds())
        except HindcastError as error:
            return [f"Alertmanager was not told: {error}"]
        return []

    def _posted(self, one: AlertState, at: datetime) -> dict[str, Any]:
        ends = at + FIRES_FOR if one.state == "firing" else one.time
        link = self._link(one, at)
        return {
            "labels": dict(one.labels),
            "annotations": {name: text for name, text in one.annotations.items() if text},
            "startsAt": (one.fired or one.time).isoformat(),
            "endsAt": ends.isoformat(),
            **({"generatorURL": link} if link else {}),
        }

    def _link(self, one: AlertState, at: datetime) -> str:
        until = at if one.state == "firing" else one.time
        return links.view(self.settings.alerts.dashboard_url, self.rules[one.rule], one.labels, one.since or one.time, until)

    def _to_deliveries(self, states: Sequence[AlertState], at: datetime) -> list[str]:
        recent = [one for one in states if one.state == "firing" or at - one.time <= TELLS_FOR]
        if not self.settings.alerts.routes or not recent:
            return []
        oldest = min(one.fired or one.time for one in recent)
        known = delivering.recorded(self.lake, since=min(oldest, at - TELLS_FOR) - timedelta(hours=1))
        failures = []
        for group in _grouped(recent):
            to = self._targets(group[0], at)
            if group[0].state == "resolved":
                fired = _id(group, "firing")
                to = [target for target in to if known.get((fired, target.name), frozenset()) & delivering.ARRIVED]
            if to:
                message = self._message(group, at)
                outcomes = delivering.deliver(self.settings, message, to, lake=self.lake, source=self.source, once=known)
                failures += [outcome.failure for outcome in outcomes if outcome.failure]
        return failures

    def _targets(self, one: AlertState, at: datetime) -> list[config.Delivery]:
        """The targets of all routes that match an alert, each once."""
        names: list[str] = []
        for route in self.settings.alerts.routes:
            if route.match is not None and not Selector.parse(route.match).matches(one.labels):
                continue
            names += route.to
            cluster, namespace = one.cluster, one.labels.get("namespace")
            if route.owners and cluster is not None and namespace is not None:
                known = grants.in_force(self.lake, self.settings.ownership)
                names += [
                    target.name for target in self.settings.deliveries if readers.speaks_for_owner(target, cluster, namespace, known, at=at)
                ]
        return delivering.targets(self.settings, names)

    def _message(self, group: Sequence[AlertState], at: datetime) -> Message:
        first = group[0]
        rule = self.rules[first.rule]
        about = [first.labels[name] for name in ("namespace", "cluster") if name in first.labels]
        title = f"[{first.state}] {rule.text.alert}" + (f": {' in '.join(about)}" if about else "")
        lines = [line for one in group[:NAMED] for line in self._lines(one, at)]
        lines += [f"and {len(group) - NAMED} more"] if len(group) > NAMED else []
        return Message(
            title=title,
            text="\n".join(lines).strip(),
            audience=self._audience(first),
            facts={
                "status": first.state,
                "rule": first.rule,
                "severity": first.labels.get("severity"),
                "alerts": [self._posted(one, at) for one in group[:NAMED]],
                "source": self.source,
            },
            id=_id(group, first.state),
        )

    def _lines(self, one: AlertState, at: datetime) -> list[str]:
        said = one.annotations.get("summary") or one.annotations.get("description") or one.labels["alertname"]
        labels = ", ".join(f"{name}={text}" for name, text in sorted(one.labels.items()) if name != "alertname")
        since = f"since {one.since:%Y-%m-%d %H:%M} UTC" if one.since else ""
        ended = f", until {one.time:%Y-%m-%d %H:%M} UTC" if one.state == "resolved" else ""
        value = "" if one.value is None else f", value {one.value:g}"
        return [said, f"{since}{ended}{value}", labels, self._link(one, at), ""]

    def _audience(self, one: AlertState) -> Audience:
        """Who may see an alert: its principal; and for those built-ins that say so the owner of its namespace."""
        rule = self.rules[one.rule]
        cluster, namespace = one.cluster, one.labels.get("namespace")
        back = rule.call.looks_back if rule.call is not None else None
        if back is None or cluster is None or namespace is None:
            return Audience(made_for=principal(rule))
        since = one.since or one.time
        times = tuple(dict.fromkeys((since - rule.text.window - back, since - rule.text.window, one.time)))
        return Audience(made_for=principal(rule), about=((cluster, namespace),), times=times)


def silenced(settings: config.Config, one: AlertState, at: datetime) -> str | None:
    """Return why an alert is silent at a time; None if it is not."""
    for silence in settings.alerts.silences:
        if silence.since <= at < silence.until and Selector.parse(silence.match).matches(one.labels):
            return silence.reason
    return None


def _grouped(states: Iterable[AlertState]) -> list[list[AlertState]]:
    """Group the alerts of a rule about the same namespace that began to fire, and ended, at the same time."""
    groups: dict[tuple[Any, ...], list[AlertState]] = {}
    for one in sorted(states, key=lambda one: (one.rule, one.alert)):
        ended = one.time if one.state == "resolved" else None
        key = (one.rule, one.fired, ended, one.cluster, one.labels.get("namespace"))
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _id(group: Sequence[AlertState], state: str) -> str:
    """The id of the message about a group when it fires or ends. It depends on what does not change between the two."""
    first = group[0]
    identity = [first.rule, str(first.fired), first.cluster, first.labels.get("namespace"), state]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:16]
