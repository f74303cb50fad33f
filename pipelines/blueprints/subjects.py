"""Finds which pods a policy selects, and which directions it closes for them. It does no I/O.

Selectors are evaluated in full, including Cilium's label prefixes. Which traffic a policy allows is not judged here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pipelines.blueprints.selectors import selector_matches
from pipelines.blueprints.state import PodGroup, StoredObject
from pipelines.objects.canonical import CILIUM_POLICIES

NAMESPACE_LABEL = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS = "io.cilium.k8s.namespace.labels."


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One rule of a policy, in canonical form: which pods it selects, and which directions it closes."""

    kind: str
    namespace: str | None
    selector: Any
    """A label selector over pods; None for a rule about nodes."""
    rule: Mapping[str, Any]
    """The spec that the rule comes from."""
    closes: frozenset[str]
    """Directions, ingress and egress, in which everything that is not allowed is denied."""

    @property
    def selects_all(self) -> bool:
        """Whether it selects every pod it can reach."""
        return bool(self.selector == {})

    def selects(self, pods: PodGroup, namespace_labels: Mapping[str, str]) -> bool:
        """Return whether it selects these pods. Pods on the host network are outside every pod policy."""
        if self.selector is None or pods.host_network or self.namespace not in {None, pods.namespace}:
            return False
        if self.selects_all:
            return True
        if self.kind == "NetworkPolicy":
            return selector_matches(self.selector, pods.labels)
        return cilium_matches(self.selector, pods, namespace_labels)


def subjects(policy: StoredObject) -> list[Subject]:
    """Return the rules of a policy; none for kinds that do not select pods, and for malformed policies."""
    kind, namespace = policy.key.kind, policy.key.namespace
    if kind != "NetworkPolicy" and kind not in CILIUM_POLICIES:
        return []
    return [
        Subject(kind=kind, namespace=namespace, selector=selector, rule=rule, closes=closes)
        for selector, rule, closes in _rules(policy.body.text, kind)
    ]


@lru_cache(maxsize=50_000)
def _rules(text: str, kind: str) -> tuple[tuple[Any, Mapping[str, Any], frozenset[str]], ...]:
    """Return selector, rule and closed directions of each rule of a canonical body; results are cached by body."""
    body = json.loads(text)
    specs = body.get("specs")
    return tuple(_rule(rule, kind) for rule in (body.get("spec"), *(specs if isinstance(specs, list) else [])) if isinstance(rule, dict))


def _rule(rule: dict[str, Any], kind: str) -> tuple[Any, Mapping[str, Any], frozenset[str]]:
    if kind == "NetworkPolicy":
        types = rule.get("policyTypes")
        return rule.get("podSelector"), rule, frozenset(str(one).lower() for one in types) if isinstance(types, list) else frozenset()
    default_deny = rule.get("enableDefaultDeny")
    switches = default_deny if isinstance(default_deny, dict) else {}
    closes = frozenset(name for name in ("ingress", "egress") if switches.get(name) is True)
    return _without_sources(rule.get("endpointSelector")), rule, closes


def cilium_matches(selector: Any, pods: PodGroup, namespace_labels: Mapping[str, str]) -> bool:
    """Return whether a Cilium selector matches: keys may have the prefix k8s: or any:, and name the namespace and its labels."""
    labels = {
        **pods.labels,
        NAMESPACE_LABEL: pods.namespace,
        **{NAMESPACE_LABELS + key: value for key, value in namespace_labels.items()},
    }
    return selector_matches(_without_sources(selector), labels)


def _without_sources(selector: Any) -> Any:
    if not isinstance(selector, Mapping):
        return selector
    out = dict(selector)
    if isinstance(out.get("matchLabels"), Mapping):
        out["matchLabels"] = {_plain(str(key)): value for key, value in out["matchLabels"].items()}
    if isinstance(out.get("matchExpressions"), list):
        out["matchExpressions"] = [
            {**one, "key": _plain(str(one.get("key")))} if isinstance(one, Mapping) else one for one in out["matchExpressions"]
        ]
    return out


def _plain(key: str) -> str:
    source, colon, name = key.partition(":")
    return name if colon and source in {"k8s", "any"} else key
