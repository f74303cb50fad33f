"""Adds what is missing to policies in a YAML file, and leaves its comments, order and everything else as they are. Pure.

What the file's policies allow already is not added again, so that a second run changes nothing. Documents that do not
change stay as they are, byte for byte; a policy that the file does not have is appended.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import yaml
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from pipelines.policy.documents import read_documents
from pipelines.policy.matching import match_rule
from pipelines.policy.model import Action, Direction
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.settings import AgentSettings
from pipelines.recommend import manifests, writing
from pipelines.recommend.drafts import PortDraft
from pipelines.recommend.manifests import PolicyKind, WrittenPolicy, WrittenRule
from pipelines.recommend.observed import Evidence
from pipelines.recommend.recommendation import Recommendation
from warehouse.errors import ConfigError

_MARK = re.compile(r"---(\s+#.*)?")
_SELECTORS = {"CiliumNetworkPolicy": "endpointSelector", "NetworkPolicy": "podSelector"}


@dataclass(frozen=True)
class Merged:
    """A file after the merge."""

    text: str
    changes: tuple[str, ...]
    """What was added, a sentence each; empty when nothing was."""


def merge(text: str, source: str, found: Recommendation, settings: AgentSettings | None = None) -> Merged:
    """Add a recommendation's policies to a file.

    Args:
        text: the file's content.
        source: its name, for messages.
        found: what is recommended.
        settings: the agent's, by which the file's policies are read.

    Raises:
        ConfigError: the file is not YAML, or has a policy of a recommended name for other pods.
    """
    if "\r\n" in text:
        merged = merge(text.replace("\r\n", "\n"), source, found, settings)
        return Merged(merged.text.replace("\n", "\r\n"), merged.changes) if merged.changes else Merged(text, ())
    compiled = compile_policies(read_documents(text, source) if text.strip() else [], settings)
    chunks = list(_chunks(text, source))
    changes: list[str] = []
    appended: list[str] = []
    for policy in found.policies:
        target = _target(chunks, policy, source)
        if target is None and _does_all_of(compiled, policy):
            continue
        if target is None:
            appended.append(writing.policy_as_yaml(policy, found.notes[policy.name]))
            changes.append(f"added {policy.manifest['kind']} {policy.manifest['metadata']['namespace']}/{policy.name}")
        else:
            index, spec = target
            chunk = chunks[index]
            added = _Addition(chunk.node, spec, policy, compiled, found.subject.kind).run(_indent(chunk.text)[1])
            if added:
                chunks[index] = dataclasses.replace(chunk, text=_dump(chunk))
                changes += added
    if not changes:
        return Merged(text, ())
    whole = "".join(chunk.text for chunk in chunks)
    if whole and not whole.endswith("\n"):
        whole += "\n"
    for one in appended:
        whole += ("---\n" if whole.strip() else "") + one
    return Merged(whole, tuple(changes))


@dataclass(frozen=True)
class _Chunk:
    """One document of the file: its text, with the marks around it, and its nodes."""

    text: str
    head: str
    """The part of the text that stands before the content: comments and the mark `---`."""
    tail: str
    """The part after it: the mark `...`, and comments that belong to no node."""
    node: Any


def _chunks(text: str, source: str) -> Iterator[_Chunk]:
    """The documents of a file; their texts together are the file."""
    if not text.strip():
        return
    lines = text.splitlines(keepends=True)
    try:
        events = (event for event in yaml.parse(text) if isinstance(event, yaml.DocumentStartEvent))
        starts = [event.start_mark.line for event in events if event.start_mark is not None]
        bounds = [0, *starts[1:], len(lines)]
        for begin, end in pairwise(bounds):
            part = "".join(lines[begin:end])
            at = next((place for place, line in enumerate(lines[begin:end]) if _MARK.fullmatch(line.rstrip())), None)
            head = "" if at is None else "".join(lines[begin : begin + at + 1])
            last = next((place for place, line in enumerate(lines[begin:end]) if line.rstrip() == "..."), end - begin)
            while last and (not lines[begin + last - 1].strip() or lines[begin + last - 1].startswith("#")):
                last -= 1  # comments at the left edge after the content belong to no item of a list
            tail = "".join(lines[begin + last : end]) if begin + last > begin + len(head.splitlines()) else ""
            yield _Chunk(part, head, tail, writing.emitter(*_indent(part)).load(part[len(head) : len(part) - len(tail)]))
    except (yaml.YAMLError, YAMLError) as error:
        mark = error.problem_mark if isinstance(error, (MarkedYAMLError, yaml.MarkedYAMLError)) else None
        where = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: cannot be read as YAML: {getattr(error, 'problem', None) or error}") from error


def _dump(chunk: _Chunk) -> str:
    text = io.StringIO()
    emitter = writing.emitter(*_indent(chunk.text))
    emitter.explicit_start = not chunk.head and chunk.text.startswith("---")
    emitter.dump(chunk.node, text)
    return chunk.head + text.getvalue() + chunk.tail


def _indent(text: str) -> tuple[int, int]:
    """How the lists of a text are indented: from the key to the content of items, and to their dashes."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    for key, item in pairwise(lines):
        if key.rstrip().endswith(":") and item.lstrip().startswith("- "):
            key_at = len(key) - len(key.lstrip().removeprefix("- ").lstrip())
            offset = len(item) - len(item.lstrip()) - key_at
            content = len(item.lstrip()) - len(item.lstrip()[1:].lstrip())
            if 0 <= offset <= 6:
                return offset + content, offset
    return 2, 0


def _target(chunks: Sequence[_Chunk], policy: WrittenPolicy, source: str) -> tuple[int, CommentedMap] | None:
    """The document and the spec in it that selects the same pods; None when the file has none."""
    wanted = _selected(policy.manifest, policy.manifest["spec"])
    found = [(index, spec) for index, chunk in enumerate(chunks) for spec in _specs(chunk.node) if _selected(chunk.node, spec) == wanted]
    named = [(index, spec) for index, spec in found if chunks[index].node["metadata"].get("name") == policy.name]
    same_name = (policy.manifest["kind"], wanted[1], policy.name)
    for index, chunk in enumerate(chunks):
        if _identity(chunk.node) == same_name and all(index != other for other, _ in named):
            raise ConfigError(
                f"{source}: {same_name[0]} {same_name[1]}/{policy.name} selects other pods than the recommended policy; rename it"
            )
    return next(iter([*named, *found]), None)


def _specs(node: Any) -> list[Any]:
    """The spec of a policy, and those in its list `specs`."""
    if not isinstance(node, Mapping):
        return []
    several = node.get("specs")
    return [one for one in (node.get("spec"), *(several if isinstance(several, list) else ())) if isinstance(one, Mapping)]


def _identity(node: Any) -> tuple[str, str, str]:
    metadata = node.get("metadata") if isinstance(node, Mapping) else None
    if not isinstance(metadata, Mapping):
        return "", "", ""
    return str(node.get("kind")), str(metadata.get("namespace") or "default"), str(metadata.get("name"))


def _selected(node: Any, spec: Mapping[str, Any]) -> tuple[str, str, str]:
    """Kind and namespace of a policy, and the pod selector of a spec of it, comparable."""
    kind, namespace, _ = _identity(node)
    key = _SELECTORS.get(kind, "")
    if not isinstance(spec.get(key), Mapping):
        return kind, namespace, ""
    selector = dict(spec[key])
    labels = selector.get("matchLabels")
    if isinstance(labels, Mapping):  # a source before a key says nothing that its absence does not
        selector["matchLabels"] = {str(label).removeprefix("any:").removeprefix("k8s:"): value for label, value in labels.items()}
    return kind, namespace, _canonical(selector)


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str)


class _Addition:
    """Adds what one policy of the file lacks."""

    def __init__(self, node: CommentedMap, spec: CommentedMap, policy: WrittenPolicy, compiled: PolicySet, kind: PolicyKind) -> None:
        self._node, self._spec, self._policy, self._compiled = node, spec, policy, compiled
        self._is_in_list = node.get("spec") is not spec
        self._is_cilium = kind is PolicyKind.CILIUM

    def run(self, offset: int) -> list[str]:
        """Add rules; returns what was added. `offset` is where the dashes of lists stand from their key."""
        changes: list[str] = []
        for direction in Direction:
            absent = self._spec.get(direction.value) is None
            mine = [rule for rule in self._policy.rules if rule.direction is direction]
            missing = [one for rule in mine for one in self._missing(rule)]
            for rule in missing:
                self._add(rule, 2 + offset + (offset if self._is_in_list else 0))
                changes.append(f"{_title(self._node)}: added a rule for {direction.value}: {rule.draft.peer.text}")
            changes += self._close(direction, absent, bool(missing))
        return changes

    def _close(self, direction: Direction, was_absent: bool, added: bool) -> list[str]:
        """Close a direction that the policy did not mention, or keep it open where the recommendation leaves it open."""
        is_open = direction in self._policy.open_directions
        if self._is_cilium:
            if is_open and was_absent and added:
                self._spec.setdefault("enableDefaultDeny", CommentedMap())[direction.value] = False
            elif not is_open and was_absent and not added and direction.value in self._policy.manifest["spec"]:
                self._spec[direction.value] = writing.as_node([{}])
                return [f"{_title(self._node)}: closed {direction.value}"]
            return []
        word = direction.value.capitalize()
        types = self._spec.get("policyTypes")
        implied = list(types) if types else ["Ingress", *(["Egress"] if "egress" in self._spec else [])]
        if is_open or word in implied:
            return []
        if types is None:
            self._spec["policyTypes"] = writing.as_node([*implied, word])
        else:
            types.append(word)
        return [f"{_title(self._node)}: closed {direction.value}"]

    def _add(self, rule: WrittenRule, column: int) -> None:
        items = self._spec.get(rule.direction.value)
        if items is None or list(items) == [{}]:
            items = self._spec[rule.direction.value] = CommentedSeq()
        items.fa.set_block_style()
        items.append(writing.as_node(rule.body))
        first, *rest = writing.rule_comment(rule)
        lines = [f"recommended by Hindcast: {first}", *rest]
        writing.comment_before(items, len(items) - 1, lines, column=column)

    def _missing(self, rule: WrittenRule) -> Iterable[WrittenRule]:
        """The part of a rule that the file's policies do not allow already."""
        ports = [(port, evidence) for port, evidence in rule.ports if not _allows(self._compiled, rule, port, evidence)]
        if not ports:
            return
        draft = dataclasses.replace(rule.draft, ports=tuple(ports))
        if self._is_cilium:
            names = "'rules':" in str(rule.body)
            parts = list(manifests.cilium_rules(draft, dns_names=names))
        else:
            parts = [one for one in [manifests.kubernetes_rule(draft)] if isinstance(one, WrittenRule)]
        yield from (one for one in parts if not self._has(one))

    def _has(self, rule: WrittenRule) -> bool:
        """Whether the policy has rules for the same peer with all of these ports, whoever the peer is."""
        mine, wanted = _parts(rule.body)
        held: set[str] = set()
        for one in self._spec.get(rule.direction.value) or []:
            peer, ports = _parts(one)
            if peer == mine:
                held |= ports
        return wanted <= held


def _does_all_of(compiled: PolicySet, policy: WrittenPolicy) -> bool:
    """Whether a file's policies, whatever they select pods by, allow and close all that a policy would."""
    if not policy.rules or not all(_allows(compiled, rule, port, evidence) for rule in policy.rules for port, evidence in rule.ports):
        return False
    subjects = {edge.subject(rule.direction).side.subject for rule in policy.rules for edge in rule.draft.evidence.edges}
    closed = [direction for direction in Direction if direction not in policy.open_directions]
    return all(subject is not None and compiled.applicable(direction, subject).isolating for subject in subjects for direction in closed)


def _allows(compiled: PolicySet, rule: WrittenRule, port: PortDraft, evidence: Evidence) -> bool:
    """Whether rules of the file match all of a port's traffic for certain; with rules for DNS where names are learned from it."""
    learns = port.is_dns and "'dns':" in str(rule.body)
    edges = [
        dataclasses.replace(edge, protocol=port.protocol, port=None if port.is_icmp else port.number)
        for edge in (evidence.edges or rule.draft.evidence.edges)
    ]
    for edge in edges:
        subject = edge.subject(rule.direction).side.subject
        if subject is None:
            return False
        rules = [one for one in compiled.applicable(rule.direction, subject).rules if one.action is Action.ALLOW]
        matched = [found for one in rules if (found := match_rule(one, rule.direction, edge.connection)) is not None and found.sure]
        if not matched or (learns and not any(part.dns for found in matched for part in found.layer7)):
            return False
    return bool(edges)


def _parts(rule: Mapping[str, Any]) -> tuple[str, set[str]]:
    """A rule's peer, comparable, and its ports."""
    peer = {key: value for key, value in rule.items() if key not in ("toPorts", "icmps", "ports")}
    ports = {_canonical([port, entry.get("rules")]) for entry in rule.get("toPorts") or [] for port in entry.get("ports") or []}
    ports |= {_canonical(one) for entry in rule.get("icmps") or [] for one in entry.get("fields") or []}
    ports |= {_canonical(port) for port in rule.get("ports") or []}
    return _canonical(peer), ports or {"every port"}


def _title(node: Any) -> str:
    kind, namespace, name = _identity(node)
    return f"{kind} {namespace}/{name}"
