"""The smallest change of policies that allows a connection which they deny. Pure.

Every change is tried on the policy engine; one that does not lead to the connection being allowed is not returned.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.policy import cilium_policy, network_policy
from pipelines.policy.labels import POD_NAMESPACE
from pipelines.policy.model import Action, Direction, Origin
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import Document, Surroundings
from pipelines.policy.settings import AgentSettings
from pipelines.policy.verdict import Verdict, decide
from pipelines.recommend import manifests, selectors
from pipelines.recommend.drafts import Drafts, RuleDraft, draft
from pipelines.recommend.manifests import PolicyDraft, PolicyKind, WrittenRule
from pipelines.recommend.observed import ObservedEdge, Seen
from pipelines.recommend.peers import Namer

_KINDS = {cilium_policy.KIND: PolicyKind.CILIUM, network_policy.KIND: PolicyKind.KUBERNETES}
_MOST_CHANGES = 4


@dataclass(frozen=True)
class Change:
    """One change of one policy."""

    direction: Direction
    text: str
    """What to do, in words."""
    path: str
    """Where in the policy."""
    part: Any
    """What to add there, or to remove; the whole policy where it is a new one."""
    manifest: Mapping[str, Any]
    """The policy after the change."""


@dataclass(frozen=True)
class Policies:
    """The policies in force, as they can be changed and judged again."""

    documents: Sequence[Document]
    settings: AgentSettings
    surroundings: Surroundings

    def compile(self) -> PolicySet:
        """The set, compiled."""
        return compile_policies(self.documents, self.settings, self.surroundings)

    def with_policy(self, manifest: Mapping[str, Any]) -> Policies:
        """The policies with one added; it replaces one of the same kind, namespace and name."""
        new = Document(manifest)
        rest = [one for one in self.documents if _identity(one) != _identity(new)]
        return dataclasses.replace(self, documents=[*rest, new])


def allow(edge: ObservedEdge, policies: Policies) -> tuple[Change, ...]:
    """The changes, in order, after which the connection is allowed at both of its ends.

    Empty when it is allowed already, and when no change was found: for a deny by a tiered policy, for an end whose labels
    are not known, and where what a rule depends on is not known.
    """
    changes: list[Change] = []
    for direction in Direction:
        for _ in range(_MOST_CHANGES):
            if decide(policies.compile(), direction, edge.connection).verdict is not Verdict.DENIED:
                break
            found = _next(edge, direction, policies)
            if found is None:
                return ()
            changes.append(found)
            policies = policies.with_policy(found.manifest)
        if decide(policies.compile(), direction, edge.connection).verdict is Verdict.DENIED:
            return ()
    return tuple(changes)


def _next(edge: ObservedEdge, direction: Direction, policies: Policies) -> Change | None:
    """The first change that helps: a deny rule is removed, or else a rule added."""
    compiled = policies.compile()
    decision = decide(compiled, direction, edge.connection)
    by_origin = {rule.origin: rule for rule in compiled.rules}
    denying = [origin for origin in decision.rules if by_origin[origin].action is Action.DENY]
    if denying:
        return _without(denying[0], direction, policies)
    isolating = list(dict.fromkeys((one.kind, one.namespace, one.name) for one in decision.rules))
    for one in _candidates(edge, direction, policies, isolating):
        changed = decide(policies.with_policy(one.manifest).compile(), direction, edge.connection)
        if changed.verdict is Verdict.ALLOWED:
            return one
    return None


def _without(origin: Origin, direction: Direction, policies: Policies) -> Change | None:
    document = _document(policies, (origin.kind, origin.namespace, origin.name))
    place = origin.path.rpartition(".")
    key = place[2].partition("[")[0]
    if document is None or place[0] != "spec" or key not in ("ingressDeny", "egressDeny"):
        return None
    manifest = copy.deepcopy(dict(document.manifest))
    removed = manifest["spec"][key].pop(origin.index)
    if not manifest["spec"][key]:
        manifest["spec"][key] = []
    if not any(manifest["spec"].get(name) for name in ("ingress", "egress", "ingressDeny", "egressDeny")):
        manifest["spec"].update({"ingress" if key == "ingressDeny" else "egress": [{}]})  # keeps the pods isolated
    text = f"remove the deny rule {origin.path} of {origin.policy}, or make it narrower"
    return Change(direction, text, origin.path, removed, manifest)


def _candidates(
    edge: ObservedEdge, direction: Direction, policies: Policies, isolating: Iterable[tuple[str, str, str]]
) -> Iterator[Change]:
    """Changes that may allow the connection, the smallest first."""
    documents = [(name, _document(policies, name)) for name in isolating]
    # A policy that allows something in this direction already is a better place than one that only isolates.
    documents.sort(key=lambda pair: pair[1] is None or not any((pair[1].manifest.get("spec") or {}).get(direction.value) or ()))
    for name, document in documents:
        kind = _KINDS.get(name[0])
        if document is None or kind is None or "spec" not in document.manifest:
            continue
        rule = _rule(edge, direction, kind)
        if rule is not None:
            wider = _with_port(document, rule, direction)
            if wider is not None:
                yield wider
            yield _with_rule(document, rule, direction)
    new = _new_policy(edge, direction)
    if new is not None:
        yield new


def _rule(edge: ObservedEdge, direction: Direction, kind: PolicyKind) -> WrittenRule | None:
    drafts = _drafts(edge, direction).rules
    if not drafts:
        return None
    if kind is PolicyKind.CILIUM:
        return next(manifests.cilium_rules(_narrow(drafts[0]), dns_names=False), None)
    found = manifests.kubernetes_rule(_narrow(drafts[0]))
    return found if isinstance(found, WrittenRule) else None


def _narrow(rule: RuleDraft) -> RuleDraft:
    """The rule with the connection's own port alone."""
    return dataclasses.replace(rule, ports=tuple(pair for pair in rule.ports if pair[1].edges))


def _drafts(edge: ObservedEdge, direction: Direction) -> Drafts:
    labels = {}
    for end in (edge.source, edge.destination):
        if end.namespace and end.labels is not None:
            labels[end.cluster, end.namespace] = {end.workload: [end.labels]}
    return draft([edge], direction, Namer(labels), Seen(edge.first_seen, edge.last_seen), include_one_offs=True)


def _with_port(document: Document, rule: WrittenRule, direction: Direction) -> Change | None:
    """A port added to a rule for the same peer."""
    manifest = copy.deepcopy(dict(document.manifest))
    namespace = _identity(document)[1]
    for index, one in enumerate(manifest["spec"].get(direction.value) or []):
        if _peers(one, namespace) != _peers(rule.body, namespace):
            continue
        for key, places in (("toPorts", one.get("toPorts")), ("ports", [one])):
            for place, entry in enumerate(places or []):
                if key in rule.body and entry.get("ports") and not entry.get("rules"):
                    added = rule.body["toPorts"][0]["ports"][0] if key == "toPorts" else rule.body["ports"][0]
                    entry["ports"].append(added)
                    path = f"spec.{direction.value}[{index}]{f'.toPorts[{place}]' if key == 'toPorts' else ''}.ports"
                    return Change(direction, f"add a port to {path} of {_title(document)}", path, added, manifest)
    return None


def _peers(rule: Mapping[str, Any], namespace: str) -> dict[str, Any]:
    """The peers of a rule, comparable: the policy's own namespace is the same whether it is written or not."""
    found = {key: copy.deepcopy(value) for key, value in rule.items() if key not in ("toPorts", "ports", "icmps")}
    for selector in (*found.get("fromEndpoints", ()), *found.get("toEndpoints", ())):
        labels = selector.get("matchLabels", {})
        for key in (POD_NAMESPACE, f"k8s:{POD_NAMESPACE}"):
            if labels.get(key) == namespace:
                del labels[key]
    for peer in (*(found.get("from") or ()), *(found.get("to") or ())):
        if peer.get("namespaceSelector") == {"matchLabels": {"kubernetes.io/metadata.name": namespace}} and "podSelector" in peer:
            del peer["namespaceSelector"]
    return found


def _with_rule(document: Document, rule: WrittenRule, direction: Direction) -> Change:
    manifest = copy.deepcopy(dict(document.manifest))
    rules = [one for one in manifest["spec"].get(direction.value) or [] if one]
    manifest["spec"][direction.value] = [*rules, rule.body]
    path = f"spec.{direction.value}"
    return Change(direction, f"add a rule to {path} of {_title(document)}", path, rule.body, manifest)


def _new_policy(edge: ObservedEdge, direction: Direction) -> Change | None:
    """A policy of its own, for pods that a clusterwide policy or the agent's settings isolate."""
    end = edge.subject(direction)
    if not end.namespace or end.labels is None:
        return None
    labels = selectors.choose([end.labels], ())
    account = "" if labels else selectors.service_account([end.labels])
    drafts = _drafts(edge, direction)
    if not drafts.rules or not (labels or account):
        return None
    drafts = dataclasses.replace(drafts, rules=tuple(_narrow(one) for one in drafts.rules), is_observed=True)
    directions = {one: drafts if one is direction else Drafts((), (), is_observed=False) for one in Direction}
    name = end.workload or (labels[0][1] if labels else account)
    written = manifests.write(PolicyDraft(end.namespace, (name,), labels, account, directions), PolicyKind.CILIUM)
    written.manifest["metadata"]["name"] = f"{written.name.removesuffix('-recommended')}-allowed"
    text = f"add a CiliumNetworkPolicy for {end.text}"
    return Change(direction, text, "", written.manifest, written.manifest)


def _identity(document: Document) -> tuple[str, str, str]:
    kind, namespace, name = document.identity
    return kind, (namespace or "default") if kind in _KINDS else "", name


def _document(policies: Policies, name: tuple[str, str, str]) -> Document | None:
    return next((one for one in policies.documents if _identity(one) == name), None)


def _title(document: Document) -> str:
    kind, namespace, name = _identity(document)
    return f"{kind} {namespace}/{name}"
