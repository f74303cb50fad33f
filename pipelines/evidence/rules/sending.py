"""Sends alerts to Alertmanager, again at each run while they fire, and to deliveries, once when they fire and once when they end."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from warehouse.access.principals import Grant
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

    def send(self, known: Sequence[AlertState], *, at: datetime) -> list[str]:
        """Send what is firing or has ended; return failures as sentences. The next run tries again what failed."""
        shown = [one for one in known if one.state in ("firing", "resolved") and one.rule in self.rules]
        heard = [one for one in shown if silenced(self.settings, one, at) is None]
        posted = [one for one in shown if not silent_so_far(self.settings, one, at)]
        failures = []
        for send, states in ((self._to_alertmanager, posted), (self._to_deliveries, heard)):
            try:
                failures += send(states, at)
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
        for group, to in self._bundles(recent, known, at):
            outcomes = delivering.deliver(self.settings, self._message(group, at), to, lake=self.lake, source=self.source, once=known)
            failures += [outcome.failure for outcome in outcomes if outcome.failure]
        return failures

    def _bundles(
        self, states: Sequence[AlertState], known: delivering.Recorded, at: datetime
    ) -> Iterator[tuple[list[AlertState], list[config.Delivery]]]:
        """Yield groups of alerts, each with the targets that are to be told exactly these.

        A target is told the alerts that are routed to it and of which it does not know; and that an alert has ended only if it was told
        that the alert fires.
        """
        in_force = grants.in_force(self.lake, self.settings.ownership) if any(route.owners for route in self.settings.alerts.routes) else ()
        news: dict[str, list[AlertState]] = {}
        for one in states:
            for name in self._targets(one, in_force, at):
                has_fired = one.state == "firing" or known.get((_id(one, "firing"), name), frozenset()) & delivering.ARRIVED
                if has_fired and not known.get((_id(one, one.state), name), frozenset()) & delivering.ARRIVED:
                    news.setdefault(name, []).append(one)
        bundles: dict[tuple[str, ...], tuple[list[AlertState], list[str]]] = {}
        for name, mine in news.items():
            for group in _grouped(mine):
                bundles.setdefault(_ids(group), (group, []))[1].append(name)
        for group, names in bundles.values():
            yield group, delivering.targets(self.settings, names)

    def _targets(self, one: AlertState, in_force: Iterable[Grant], at: datetime) -> list[str]:
        """The names of the targets of all routes that match an alert, each once."""
        names: list[str] = []
        for route in self.settings.alerts.routes:
            if route.match is not None and not Selector.parse(route.match).matches(one.labels):
                continue
            names += route.to
            cluster, namespace = one.cluster, one.labels.get("namespace")
            if route.owners and cluster is not None and namespace is not None:
                owned = [
                    target for target in self.settings.deliveries if readers.speaks_for_owner(target, cluster, namespace, in_force, at=at)
                ]
                names += [target.name for target in owned]
        return list(dict.fromkeys(names))

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
            id=_digest(*_ids(group)),
            tells=_ids(group),
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


def silent_so_far(settings: config.Config, one: AlertState, at: datetime) -> bool:
    """Whether silences have held an alert back at every moment from when it began to fire to a time.

    Alertmanager goes on hearing of an alert that it was told before a silence began: it would otherwise announce its end.
    """
    matching = [silence for silence in settings.alerts.silences if Selector.parse(silence.match).matches(one.labels)]
    moment = one.fired or one.time
    while moment <= at:
        ends = [silence.until for silence in matching if silence.since <= moment < silence.until]
        if not ends:
            return False
        moment = max(ends)
    return True


def _grouped(states: Iterable[AlertState]) -> list[list[AlertState]]:
    """Group the alerts of a rule about the same namespace that began to fire, and ended, at the same time."""
    groups: dict[tuple[Any, ...], list[AlertState]] = {}
    for one in sorted(states, key=lambda one: (one.rule, one.alert)):
        ended = one.time if one.state == "resolved" else None
        key = (one.rule, one.fired, ended, one.cluster, one.labels.get("namespace"))
        groups.setdefault(key, []).append(one)
    return list(groups.values())


def _ids(group: Iterable[AlertState]) -> tuple[str, ...]:
    return tuple(sorted(_id(one, one.state) for one in group))


def _id(one: AlertState, state: str) -> str:
    """The id of the news that an alert fires, or that it has ended."""
    return _digest(one.alert, str(one.fired), state)


def _digest(*parts: str) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
