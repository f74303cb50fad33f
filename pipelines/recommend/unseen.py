"""What the traffic of a window could not show, in words, so that nobody takes a recommendation for more than it is. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from pipelines.policy.model import Direction
from pipelines.recommend.drafts import DNS_PORTS
from pipelines.recommend.manifests import PolicyDraft
from pipelines.recommend.observed import Seen
from pipelines.recommend.peers import Kind
from pipelines.recommend.triage import SetApart
from warehouse.wording import counted

SHOWN = 5
_PERIODS = ((1.0, "daily"), (7.0, "weekly"), (31.0, "monthly"))


def of_window(seen: Seen) -> Iterator[str]:
    """What the window's length and coverage leave open."""
    missing = [name for days, name in _PERIODS if seen.days < days]
    if missing:
        observed = f"the traffic spans {_length(seen)}" if seen.covered is None else f"{_length(seen)} were observed"
        yield f"{observed}: {' and '.join(missing)} jobs may not have run in that time"
    if seen.covered is None:
        yield "nobody recorded how much of the window was observed"
    elif seen.covered < 1:
        yield f"{_percent(1 - seen.covered)} of the window was not observed"
    yield from _some([f"not observed: {gap}" for gap in seen.gaps], "more gaps")
    if seen.flows_lost:
        yield f"{counted(seen.flows_lost, 'flow')} {'is' if seen.flows_lost == 1 else 'are'} known to be lost"


def of_policy(draft: PolicyDraft) -> Iterator[str]:
    """What is not known of one workload's traffic."""
    rules = [rule for direction in Direction for rule in draft.directions[direction].rules]
    queries = any(port.number in DNS_PORTS for rule in rules for port, _ in rule.ports if rule.direction is Direction.EGRESS)
    if any(rule.peer.kind is Kind.NAME for rule in rules) and not queries:
        yield "no DNS query was seen: toFQDNs needs a rule for the resolver, so that the agent learns the names"
    wide = [rule.peer for rule in rules if rule.peer.kind is Kind.PODS and not rule.peer.labels]
    yield from _some([f"{peer.text}: {peer.note}" for peer in dict.fromkeys(wide)], "more peers without labels")


def of_traffic(apart: Iterable[SetApart]) -> Iterator[str]:
    """How much traffic no rule was made from, by reason."""
    flows: Counter[str] = Counter()
    edges: Counter[str] = Counter()
    for one in apart:
        flows[one.reason.value] += one.edge.flows
        edges[one.reason.value] += 1
    for reason, count in sorted(edges.items()):
        yield f"no rule for {counted(count, 'edge')} with {counted(flows[reason], 'flow')}, {reason}"


def _length(seen: Seen) -> str:
    if seen.days < 2 / 24:
        return f"{seen.days * 1440:.0f} minutes"
    return f"{seen.days * 24:.0f} hours" if seen.days < 2.5 else f"{seen.days:.1f} days"


def _percent(share: float) -> str:
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


def _some(texts: list[str], more: str) -> Iterator[str]:
    yield from texts[:SHOWN]
    if len(texts) > SHOWN:
        yield f"{len(texts) - SHOWN} {more}"
