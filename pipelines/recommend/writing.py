"""Prints a recommendation as YAML, with the evidence as comments, or as data for JSON. Pure.

Everything that comes from the lake is one line in a comment, whatever it holds.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from pipelines.policy.model import Direction
from pipelines.recommend.manifests import WrittenPolicy, WrittenRule
from pipelines.recommend.observed import Evidence, ObservedEdge
from pipelines.recommend.recommendation import Check, Judged, Recommendation
from pipelines.recommend.triage import SetApart
from warehouse.wording import counted

EDGES_SHOWN = 20
"""So many of the edges that were set apart are listed one by one."""


def as_yaml(found: Recommendation) -> str:
    """All policies as one YAML stream. What the recommendation cannot know comes first, as comments."""
    parts = ["".join(f"{_comment(line)}\n" for line in header(found))]
    parts += [policy_as_yaml(policy, found.notes[policy.name]) for policy in found.policies]
    return "---\n".join(parts) if found.policies else parts[0]


def header(found: Recommendation) -> Iterator[str]:
    """What people must know before they apply the policies, a line each."""
    subject, seen, check = found.subject, found.seen, found.check
    what = f"{subject.namespace}/{subject.workload}" if subject.workload else f"namespace {subject.namespace}"
    yield f"Least-privilege policies for {what}, from traffic seen from {seen.since:%Y-%m-%d %H:%M} to {seen.until:%Y-%m-%d %H:%M} UTC."
    uncertain = f", {len(check.uncertain)} uncertain" if check.uncertain else ""
    yield f"Simulated on that traffic: {counted(check.allowed, 'edge')} allowed, {len(check.newly_denied)} newly denied{uncertain}."
    for kind, judged in (("newly denied", check.newly_denied), ("uncertain", check.uncertain)):
        yield from (f"  {kind}: {one.edge.text}: {one.reason}" for one in judged[:EDGES_SHOWN])
    yield from (f"  {refusal}" for refusal in check.refusals)
    if found.not_seen:
        yield "Not seen:"
        yield from (f"- {note}" for note in found.not_seen)
    if found.apart:
        yield "No rule was made from:"
        yield from (f"- {one.edge.text}, {counted(one.edge.flows, 'flow')}: {one.reason.value}" for one in found.apart[:EDGES_SHOWN])
        if len(found.apart) > EDGES_SHOWN:
            yield f"- {counted(len(found.apart) - EDGES_SHOWN, 'more edge')}"


def policy_as_yaml(policy: WrittenPolicy, notes: Iterable[str]) -> str:
    """One policy as YAML."""
    node = as_node(policy.manifest)
    for direction in Direction:
        rules = [rule for rule in policy.rules if rule.direction is direction]
        for index, rule in enumerate(rules):
            comment_before(node["spec"][direction.value], index, rule_comment(rule), column=2)
    text = io.StringIO()
    emitter().dump(node, text)
    return "".join(f"{_comment(note)}\n" for note in notes) + text.getvalue()


def emitter(sequence: int = 2, offset: int = 0) -> YAML:
    """A reader and writer of YAML that changes nothing it does not have to.

    Args:
        sequence: spaces from a list's key to the content of its items.
        offset: spaces from a list's key to the dashes of its items.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 100_000
    yaml.indent(mapping=2, sequence=sequence, offset=offset)
    return yaml


def as_node(value: Any) -> Any:
    """A value as the nodes that comments can be attached to."""
    if isinstance(value, dict):
        return CommentedMap((key, as_node(one)) for key, one in value.items())
    if isinstance(value, list):
        node = CommentedSeq(as_node(one) for one in value)
        if not value or value == [{}]:
            node.fa.set_flow_style()
        return node
    return value


def comment_before(items: CommentedSeq, index: int, lines: Iterable[str], *, column: int) -> None:
    """Write comment lines above an item of a list, whose dashes stand in this column."""
    text = "\n".join(map(one_line, lines))
    items.yaml_set_comment_before_after_key(index, before=text, indent=column)


def rule_comment(rule: WrittenRule) -> Iterator[str]:
    """The evidence of a rule: what was seen of it, of each of its ports, and what is inferred."""
    evidence = Evidence.of({id(edge): edge for _, one in rule.ports for edge in one.edges}.values())
    yield f"{rule.draft.peer.text}: {evidence}"
    if len(rule.ports) > 1:
        yield from (f"  {port}: {one}" for port, one in rule.ports)
    yield from (f"  {note}" for note in rule.notes)


def one_line(text: str) -> str:
    """A text without line breaks and control characters, so that it stays within a comment."""
    return "".join(char if char.isprintable() else " " for char in text).rstrip()


def _comment(text: str) -> str:
    return f"# {one_line(text)}"


def as_data(found: Recommendation) -> dict[str, Any]:
    """The whole recommendation as plain data: policies, evidence, what was not seen, and the simulation."""
    return {
        "namespace": found.subject.namespace,
        "workload": found.subject.workload or None,
        "kind": found.subject.kind.value,
        "since": found.seen.since.isoformat(),
        "until": found.seen.until.isoformat(),
        "covered": found.seen.covered,
        "policies": [_policy_data(policy, found.notes[policy.name]) for policy in found.policies],
        "not_seen": list(found.not_seen),
        "set_apart": [_apart_data(one) for one in found.apart],
        "simulation": _check_data(found.check),
    }


def _policy_data(policy: WrittenPolicy, notes: Iterable[str]) -> dict[str, Any]:
    rules = []
    for direction in Direction:
        for index, rule in enumerate(one for one in policy.rules if one.direction is direction):
            rules.append({"path": f"spec.{direction.value}[{index}]", **_rule_data(rule)})
    return {"manifest": policy.manifest, "workloads": list(policy.workloads), "rules": rules, "notes": list(notes)}


def _rule_data(rule: WrittenRule) -> dict[str, Any]:
    evidence = Evidence.of({id(edge): edge for _, one in rule.ports for edge in one.edges}.values())
    return {
        "direction": rule.direction.value,
        "peer": rule.draft.peer.text,
        **_evidence_data(evidence),
        "ports": [{"protocol": port.protocol, "number": port.number, **_evidence_data(one)} for port, one in rule.ports],
        "notes": list(rule.notes),
        "edges": [_edge_data(edge) for edge in evidence.edges],
    }


def _evidence_data(evidence: Evidence) -> dict[str, Any]:
    return {
        "flows": evidence.flows,
        "first_seen": evidence.first_seen.isoformat() if evidence.first_seen else None,
        "last_seen": evidence.last_seen.isoformat() if evidence.last_seen else None,
        "days_seen": len(evidence.days),
    }


def _edge_data(edge: ObservedEdge) -> dict[str, Any]:
    return {
        "source": edge.source.text,
        "destination": edge.destination.text,
        "destination_port": edge.port,
        "l4_protocol": edge.protocol or None,
        "icmp_type": edge.icmp_type,
        "verdict": edge.verdict,
        **_evidence_data(Evidence.of([edge])),
        "examples": list(edge.examples),
    }


def _apart_data(one: SetApart) -> dict[str, Any]:
    return {**_edge_data(one.edge), "drop_reason_desc": one.edge.drop_reason or None, "reason": one.reason.value}


def _check_data(check: Check) -> dict[str, Any]:
    return {
        "allowed": check.allowed,
        "newly_denied": [_judged_data(one) for one in check.newly_denied],
        "uncertain": [_judged_data(one) for one in check.uncertain],
        "refusals": [str(one) for one in check.refusals],
    }


def _judged_data(one: Judged) -> dict[str, Any]:
    return {**_edge_data(one.edge), "direction": one.direction.value, "reason": one.reason}
