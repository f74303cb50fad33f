"""Least-privilege policies for a namespace or workload, from the traffic that was observed. Pure.

`recommend` is the whole of it. What it returns was judged by the policy engine on the traffic it was made from: `check`
lists what the policies would deny of it, which is nothing unless what a flow carries is not known.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Direction
from pipelines.policy.policy_set import compile_policies
from pipelines.policy.reading import Document
from pipelines.policy.refusals import Refusal
from pipelines.policy.settings import AgentSettings
from pipelines.policy.verdict import Verdict, decide
from pipelines.recommend import selectors, triage, unseen
from pipelines.recommend.drafts import Drafts, draft
from pipelines.recommend.manifests import PolicyDraft, PolicyKind, WrittenPolicy, write
from pipelines.recommend.observed import End, ObservedEdge, Seen
from pipelines.recommend.peers import Namer
from pipelines.recommend.triage import Reason, ServicePort, SetApart

Known = Mapping[tuple[str, str], Mapping[str, Sequence[LabelSet]]]
"""Label sets by cluster (empty for the local one) and namespace, then by workload."""


@dataclass(frozen=True)
class Subject:
    """What policies are recommended for, and how."""

    namespace: str
    workload: str = ""
    """Empty for every workload of the namespace."""
    kind: PolicyKind = PolicyKind.CILIUM
    include_one_offs: bool = False
    """Whether traffic that was seen on one day only, a few times, gets rules."""


@dataclass(frozen=True)
class Traffic:
    """What was observed, and what is known of the cluster around it."""

    edges: Sequence[ObservedEdge]
    seen: Seen
    known: Known = field(default_factory=dict)
    """Label sets besides those of the edges."""
    services: Sequence[ServicePort] = ()


@dataclass(frozen=True)
class Judged:
    """One edge that is not certain to be allowed."""

    edge: ObservedEdge
    direction: Direction
    reason: str


@dataclass(frozen=True)
class Check:
    """What the recommended policies do to the traffic they were made from."""

    allowed: int
    """Edges, counted once at each end that the policies select."""
    newly_denied: tuple[Judged, ...] = ()
    uncertain: tuple[Judged, ...] = ()
    refusals: tuple[Refusal, ...] = ()


@dataclass(frozen=True)
class Recommendation:
    """Policies, the traffic that is not in them, and what was not seen."""

    subject: Subject
    seen: Seen
    policies: tuple[WrittenPolicy, ...]
    notes: Mapping[str, tuple[str, ...]]
    """What is not known of each policy's traffic, by the policy's name."""
    not_seen: tuple[str, ...]
    """What is not known of the whole."""
    apart: tuple[SetApart, ...]
    check: Check


def recommend(traffic: Traffic, subject: Subject, settings: AgentSettings | None = None) -> Recommendation:
    """The least-privilege policies for a namespace's workloads, or for one of them.

    Args:
        traffic: edges of the subject's workloads, in both directions; others are passed over.
        subject: what policies are for.
        settings: the agent's, by which the result is judged.
    """
    settings = settings or AgentSettings()
    named = [_with_workloads(edge) for edge in triage.translate(traffic.edges, traffic.services)]
    known = _known(traffic.known, named)
    edges = [_completed(edge, known) for edge in named]
    edges = [edge for edge in edges if any(_is_local(end, subject.namespace) for end in (edge.source, edge.destination))]
    kept, apart = triage.sort_out(edges)
    span = max((edge.last_seen for edge in edges), default=traffic.seen.since) - min(
        (edge.first_seen for edge in edges), default=traffic.seen.since
    )
    seen = dataclasses.replace(traffic.seen, spanned=span)
    maker = _Maker(subject, seen, known, kept, apart)
    drafts, problems = maker.drafts()
    written = [(one, write(one, subject.kind)) for one in drafts]
    policies = tuple(policy for _, policy in written if not policy.is_empty)
    problems += [f"{', '.join(policy.workloads)}: no policy, {_reasons(policy)}" for _, policy in written if policy.is_empty]
    notes = {policy.name: _notes_of(one, policy) for one, policy in written if not policy.is_empty}
    apart = [*(one for one in apart if maker.concerns(one.edge)), *(one for each in drafts for one in _one_offs(each))]
    apart = list({id(one.edge): one for one in apart}.values())  # both of an edge's ends may set it apart
    not_seen = (*unseen.of_window(seen), *problems, *unseen.of_traffic(apart))
    return Recommendation(subject, seen, policies, notes, not_seen, tuple(apart), check(policies, settings))


def check(policies: Iterable[WrittenPolicy], settings: AgentSettings) -> Check:
    """Judge the traffic that policies were made from, at the ends that they select."""
    policies = list(policies)
    compiled = compile_policies([Document(policy.manifest) for policy in policies], settings)
    found: dict[Verdict, list[Judged]] = defaultdict(list)
    seen: set[tuple[int, Direction]] = set()
    for rule in (rule for policy in policies for rule in policy.rules):
        for edge in rule.draft.evidence.edges:
            if (id(edge), rule.direction) not in seen:
                seen.add((id(edge), rule.direction))
                decision = decide(compiled, rule.direction, edge.connection)
                found[decision.verdict].append(Judged(edge, rule.direction, decision.reason))
    allowed = len(found[Verdict.ALLOWED]) + len(found[Verdict.NOT_ENFORCED])
    return Check(allowed, tuple(found[Verdict.DENIED]), tuple(found[Verdict.UNCERTAIN]), compiled.refusals)


class _Maker:
    """Drafts the policies of one subject."""

    def __init__(self, subject: Subject, seen: Seen, known: Known, kept: list[ObservedEdge], apart: list[SetApart]) -> None:
        self._subject, self._seen, self._known = subject, seen, known
        self._kept, self._apart = kept, apart
        self._workloads = known.get(("", subject.namespace), {})

    def drafts(self) -> tuple[list[PolicyDraft], list[str]]:
        """The policies, in the order of their workloads' names, and in words the workloads without one."""
        found: dict[tuple[selectors.Labels, str], PolicyDraft] = {}
        problems = [
            f"{self._subject.namespace}/{name or '(workload not known)'}: no policy, its labels are not known or not visible to you"
            for name in sorted(self._without_labels())
        ]
        for name, sets in sorted(self._workloads.items()):
            if not self._wants(name) or not self._talked(sets):
                continue
            others = [one for other, theirs in self._workloads.items() if other != name for one in theirs]
            labels = selectors.choose(sets, others)
            account = "" if labels else selectors.service_account(sets)
            if not labels and (not account or self._subject.kind is PolicyKind.KUBERNETES):
                problems.append(f"{self._subject.namespace}/{name}: no policy, none of its labels is stable enough to select it by")
            elif (labels, account) not in found:
                found[labels, account] = self._draft(name, labels, account)
        return list(found.values()), problems

    def concerns(self, edge: ObservedEdge) -> bool:
        """Whether an edge is one of the subject's."""
        ends = (edge.source, edge.destination)
        return any(_is_local(end, self._subject.namespace) and self._wants(end.workload) for end in ends)

    def _wants(self, workload: str) -> bool:
        return self._subject.workload in ("", workload)

    def _without_labels(self) -> set[str]:
        ends = (end for edge in self._kept for end in (edge.source, edge.destination))
        mine = (end for end in ends if _is_local(end, self._subject.namespace) and self._wants(end.workload))
        return {end.workload for end in mine if end.side.subject is None}

    def _talked(self, sets: Sequence[LabelSet]) -> bool:
        edges = (*self._kept, *(one.edge for one in self._apart))
        return any(end.side.subject in sets for edge in edges for end in (edge.source, edge.destination))

    def _draft(self, name: str, labels: selectors.Labels, account: str) -> PolicyDraft:
        selected = [(other, one) for other, theirs in self._workloads.items() for one in theirs if _selects(labels, account, one)]
        sets = {one for _, one in selected}
        others = sorted({other for other, _ in selected} - {name})
        namer = Namer(self._known)
        directions: dict[Direction, Drafts] = {}
        for direction in Direction:
            mine = [edge for edge in self._kept if self._is_subject(edge.subject(direction), sets)]
            drafts = draft(mine, direction, namer, self._seen, include_one_offs=self._subject.include_one_offs)
            denied = [one.edge for one in self._apart if one.reason is not Reason.REPLY]
            observed = any(direction in edge.seen_at for edge in denied if self._is_subject(edge.subject(direction), sets))
            directions[direction] = dataclasses.replace(drafts, is_observed=drafts.is_observed or observed)
        return PolicyDraft(self._subject.namespace, (name, *others), labels, account, directions)

    def _is_subject(self, end: End, sets: set[LabelSet]) -> bool:
        return _is_local(end, self._subject.namespace) and end.side.subject in sets


def _is_local(end: End, namespace: str) -> bool:
    return end.namespace == namespace and not end.cluster


def _selects(labels: selectors.Labels, account: str, found: LabelSet) -> bool:
    return selectors.matches(labels, found) if labels else selectors.service_account([found]) == account


def _with_workloads(edge: ObservedEdge) -> ObservedEdge:
    """The edge with workloads that nobody recorded named after their pods' labels."""
    return dataclasses.replace(edge, source=_with_workload(edge.source), destination=_with_workload(edge.destination))


def _with_workload(end: End) -> End:
    if end.workload or not end.namespace or end.labels is None:
        return end
    labels = selectors.choose([end.labels], ())
    return dataclasses.replace(end, workload=labels[0][1] if labels else selectors.service_account([end.labels]))


def _known(besides: Known, edges: Iterable[ObservedEdge]) -> dict[tuple[str, str], dict[str, list[LabelSet]]]:
    """The label sets of every workload, from the edges and from what is known besides; sorted, so that their order never matters."""
    found: dict[tuple[str, str], dict[str, set[LabelSet]]] = defaultdict(lambda: defaultdict(set))
    for (cluster, namespace), workloads in besides.items():
        for workload, sets in workloads.items():
            found[cluster, namespace][workload].update(sets)
    for edge in edges:
        for end in (edge.source, edge.destination):
            if end.namespace and end.labels is not None:
                found[end.cluster, end.namespace][end.workload].add(end.labels)
    return {
        key: {name: sorted(sets, key=lambda one: one.texts) for name, sets in sorted(workloads.items())} for key, workloads in found.items()
    }


def _completed(edge: ObservedEdge, known: Known) -> ObservedEdge:
    """The edge with the labels of its workloads where the flow does not show them and only one set of labels is known."""
    source, destination = (_with_labels(end, known) for end in (edge.source, edge.destination))
    if source is edge.source and destination is edge.destination:
        return edge
    return dataclasses.replace(edge, source=source, destination=destination)


def _with_labels(end: End, known: Known) -> End:
    if end.labels is not None or not end.namespace or not end.workload:
        return end
    sets = known.get((end.cluster, end.namespace), {}).get(end.workload, ())
    if len(sets) != 1:
        return end
    return dataclasses.replace(end, side=dataclasses.replace(end.side, subject=sets[0], seen_as=sets[0]))


def _notes_of(one: PolicyDraft, policy: WrittenPolicy) -> tuple[str, ...]:
    notes = [f"{direction.value} is not closed: {'; '.join(reasons)}" for direction, reasons in policy.open_directions.items()]
    others = policy.workloads[1:]
    if others:
        notes.append(f"the same labels select {', '.join(others)} as well, so their traffic is in the rules too")
    return (*notes, *unseen.of_policy(one))


def _one_offs(one: PolicyDraft) -> Iterable[SetApart]:
    return (apart for direction in Direction for apart in one.directions[direction].apart)


def _reasons(policy: WrittenPolicy) -> str:
    return "; ".join(f"{direction.value} cannot be closed: {'; '.join(reasons)}" for direction, reasons in policy.open_directions.items())
