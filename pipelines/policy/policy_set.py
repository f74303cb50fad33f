"""A set of policies, compiled: rules by direction, and for each subject the rules that select it, in order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from pipelines.policy import admin_policy, cilium_policy, cluster_policy, network_policy
from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Action, Direction, Rule, Tier
from pipelines.policy.reading import Document, Reading, Surroundings, begin
from pipelines.policy.refusals import API_SERVER, Refusal, Refused
from pipelines.policy.settings import AgentSettings
from pipelines.policy.surroundings import CONTEXT_KINDS, gather

READERS: dict[str, tuple[Callable[[Reading], list[Rule]], bool]] = {
    network_policy.KIND: (network_policy.read, True),
    cilium_policy.KIND: (cilium_policy.read, True),
    cilium_policy.CLUSTERWIDE_KIND: (cilium_policy.read, False),
    cluster_policy.KIND: (cluster_policy.read, False),
    admin_policy.KIND: (admin_policy.read, False),
    admin_policy.BASELINE_KIND: (admin_policy.read_baseline, False),
}
"""The kinds of policies, how each is read, and whether it lives in a namespace."""


@dataclass(frozen=True)
class Level:
    """Rules that decide together: one tier and priority. A deny beats an allow, and an allow beats a pass."""

    tier: Tier
    priority: float
    deny: tuple[Rule, ...] = ()
    allow: tuple[Rule, ...] = ()
    let_pass: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Applicable:
    """The rules that select one subject in one direction."""

    levels: tuple[Level, ...]
    isolating: tuple[Rule, ...]
    """The rules because of which the subject denies what nothing allows."""

    rules: tuple[Rule, ...] = ()
    """All of them."""

    @property
    def empty(self) -> bool:
        """Whether no rule selects the subject."""
        return not self.levels


@dataclass
class PolicySet:
    """Policies that are enforced together, and those that are refused."""

    settings: AgentSettings
    rules: tuple[Rule, ...]
    refusals: tuple[Refusal, ...] = ()
    ignored: tuple[str, ...] = ()
    """Kinds of documents that are neither policies nor something that policies refer to."""
    surroundings: Surroundings = field(default_factory=Surroundings)
    _applicable: dict[tuple[Direction, LabelSet], Applicable] = field(default_factory=dict, repr=False)

    @cached_property
    def selects_nodes(self) -> bool:
        """Whether any rule selects nodes."""
        return any(rule.selects_nodes for rule in self.rules)

    def has_rules(self, direction: Direction) -> bool:
        """Whether any rule is about this direction."""
        return any(rule.direction is direction for rule in self.rules)

    def applicable(self, direction: Direction, subject: LabelSet) -> Applicable:
        """The rules that select a subject, worked out once for each distinct label set."""
        key = (direction, subject)
        found = self._applicable.get(key)
        if found is None:
            found = self._applicable[key] = self._select(direction, subject)
        return found

    def keep(self, direction: Direction, subject: LabelSet, applicable: Applicable) -> None:
        """Keep the rules that select a subject, where they have been worked out for many subjects at once."""
        self._applicable.setdefault((direction, subject), applicable)

    def enforces_at(self, subject: LabelSet) -> bool:
        """Whether the agent enforces any policy at this subject."""
        if self.settings.enable_policy == "never":
            return False
        return self.settings.enable_host_firewall or not subject.has_reserved("host")

    def denies_always(self, subject: LabelSet) -> bool:
        """Whether the subject denies what no rule allows although no rule may select it."""
        return self.settings.enable_policy == "always" or subject.has_reserved("init")

    def _select(self, direction: Direction, subject: LabelSet) -> Applicable:
        is_host = subject.has_reserved("host")
        selected = [
            rule for rule in self.rules if rule.direction is direction and rule.selects_nodes == is_host and rule.subject.matches(subject)
        ]
        return applicable_of(selected)


def applicable_of(selected: Sequence[Rule]) -> Applicable:
    """The rules that select a subject, in the order in which they decide."""
    return Applicable(levels_of(selected), tuple(rule for rule in selected if rule.default_deny), tuple(selected))


def levels_of(rules: Iterable[Rule]) -> tuple[Level, ...]:
    """Rules grouped by tier and priority, in the order in which they decide."""
    groups: dict[tuple[Tier, float], dict[Action, list[Rule]]] = {}
    for rule in rules:
        groups.setdefault((rule.tier, rule.priority), {}).setdefault(rule.action, []).append(rule)
    return tuple(
        Level(tier, priority, tuple(by.get(Action.DENY, ())), tuple(by.get(Action.ALLOW, ())), tuple(by.get(Action.PASS, ())))
        for (tier, priority), by in sorted(groups.items())
    )


def compile_policies(
    documents: Sequence[Document], settings: AgentSettings | None = None, surroundings: Surroundings | None = None
) -> PolicySet:
    """Compile policies.

    Args:
        documents: policies, and the CiliumCIDRGroups and Services that they refer to. Of two policies with the same kind,
            namespace and name the later one counts. Other kinds are passed over and listed in `ignored`.
        settings: the agent's, by default those of the newest release known.
        surroundings: what the cluster is known to hold besides the documents; nothing unless given.
    """
    settings = settings or AgentSettings()
    surroundings = gather(documents, surroundings or Surroundings())
    ignored = [document.kind for document in documents if document.kind not in READERS and document.kind not in CONTEXT_KINDS]
    compiled = [compile_policy(document, settings, surroundings) for document in latest(documents)]
    return assemble(compiled, settings, surroundings, ignored)


Compiled = tuple[tuple[Rule, ...], Refusal | None]
"""The rules of one policy, or why it is refused."""


def compile_policy(document: Document, settings: AgentSettings, surroundings: Surroundings) -> Compiled:
    """Compile one policy, of one of the kinds in READERS."""
    read, namespaced = READERS[document.kind]
    try:
        return tuple(read(begin(document, settings, surroundings, namespaced=namespaced))), None
    except Refused as refused:
        return (), _refusal(document, refused, namespaced=namespaced)


def assemble(compiled: Iterable[Compiled], settings: AgentSettings, surroundings: Surroundings, ignored: Sequence[str] = ()) -> PolicySet:
    """Put compiled policies together. Settings and surroundings must be those that they were compiled with."""
    rules: list[Rule] = []
    refusals: list[Refusal] = []
    for found, refusal in compiled:
        rules.extend(found)
        if refusal is not None:
            refusals.append(refusal)
    return PolicySet(settings, tuple(rules), tuple(refusals), tuple(ignored), surroundings)


def latest(documents: Sequence[Document]) -> list[Document]:
    """The policies among the documents; a later one replaces an earlier one of the same kind, namespace and name."""
    found: dict[tuple[str, str, str] | int, Document] = {}
    for place, document in enumerate(documents):
        if document.kind in READERS:
            name = document.identity
            found[name if name[2] else place] = document
    return list(found.values())


def _refusal(document: Document, refused: Refused, *, namespaced: bool) -> Refusal:
    kind, namespace, name = document.identity
    return Refusal(
        kind=kind,
        namespace=(namespace or "default") if namespaced else "",
        name=name,
        path=refused.path.removeprefix("."),
        reason=refused.reason,
        by=refused.by or API_SERVER,
        line=document.line(refused.path.removeprefix(".")),
        source=document.source,
    )
