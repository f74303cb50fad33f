"""Rules that allow everyone, every address, or egress to the world without DNS names. Pure."""

from __future__ import annotations

from pipelines.audits.finding import Audited, Finding, Kind, Policies, Severity, about_rule
from pipelines.audits.strangers import WORLD
from pipelines.policy.model import Action, Direction, Rule
from pipelines.policy.peers import CidrPeer, LabelPeer
from pipelines.policy.policy_set import PolicySet


def wide_rules(cluster: str, policies: PolicySet, manifests: Policies) -> tuple[Audited, Audited, Audited]:
    """Return the audits of rules that allow everyone, of rules that allow every address, and of egress to the world without names."""
    found: dict[Kind, dict[str, Finding]] = {Kind.ALLOW_ALL: {}, Kind.EVERY_ADDRESS: {}, Kind.WORLD_WITHOUT_NAMES: {}}
    checked = 0
    for rule in policies.rules:
        if rule.action is not Action.ALLOW or rule.ports == ():
            continue
        checked += 1
        everyone, ranges, world = is_everyone(rule), whole_ranges(rule), reaches_world(rule)
        ports = port_text(rule)
        severity: Severity = "high" if rule.ports is None else "medium"
        side = "from" if rule.direction is Direction.INGRESS else "to"
        if everyone:
            summary = f"{rule.origin} allows {rule.direction} {side} everyone on {ports}"
            finding = about_rule(Kind.ALLOW_ALL, severity, cluster, rule, manifests, summary, ports=ports)
            found[Kind.ALLOW_ALL][finding.key] = finding
        if ranges:
            summary = f"{rule.origin} allows {rule.direction} {side} {' and '.join(map(_range, ranges))} on {ports}"
            listed = [str(one.network) for one in ranges]
            finding = about_rule(Kind.EVERY_ADDRESS, severity, cluster, rule, manifests, summary, ports=ports, ranges=listed)
            found[Kind.EVERY_ADDRESS][finding.key] = finding
        if rule.direction is Direction.EGRESS and world:
            summary = f"{rule.origin} allows egress to every address outside of the cluster on {ports}, whatever its DNS name"
            severity = "medium" if rule.ports is None else "low"
            finding = about_rule(Kind.WORLD_WITHOUT_NAMES, severity, cluster, rule, manifests, summary, ports=ports)
            found[Kind.WORLD_WITHOUT_NAMES][finding.key] = finding
    first, second, third = (
        Audited(cluster=cluster, kind=kind, findings=tuple(findings.values()), checked=checked) for kind, findings in found.items()
    )
    return first, second, third


def is_everyone(rule: Rule) -> bool:
    """Whether the rule is for everyone, whoever it is."""
    return rule.peers is None or any(isinstance(one, LabelPeer) and one.selector.is_wildcard for one in rule.peers)


def whole_ranges(rule: Rule) -> list[CidrPeer]:
    """Return the ranges of the rule that hold every address."""
    return [one for one in rule.peers or () if isinstance(one, CidrPeer) and one.network.prefixlen == 0]


def reaches_world(rule: Rule) -> bool:
    """Whether the rule allows an address of the world that it does not name."""
    return rule.peers is None or any(one.matches(side) is True for one in rule.peers for side in WORLD)


def _range(peer: CidrPeer) -> str:
    return f"{peer.network}" + (f" except {', '.join(map(str, peer.exceptions))}" if peer.exceptions else "")


def port_text(rule: Rule) -> str:
    """Return the rule's ports, in words."""
    if rule.ports is None:
        return "every port"
    return ", ".join(sorted({str(port) for port in rule.ports}))
