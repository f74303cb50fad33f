"""Whether other policies of a cluster defeat its blueprints, judged by the policy engine on the workloads that exist. No I/O.

`pipelines.audits.effect` says what counts as defeated. Policies that an agent rejects enforce nothing and are left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from pipelines.audits.effect import Defeat, Defeats, PolicyName, defeats, may_defeat
from pipelines.audits.workloads import Workload, read_workloads
from pipelines.blueprints.render import Wanted
from pipelines.blueprints.state import ClusterState, StoredObject
from pipelines.objects.names import Key
from pipelines.policy.policy_set import READERS, PolicySet, compile_policies
from pipelines.policy.reading import Document, Surroundings
from pipelines.policy.settings import AgentSettings, from_cilium_config, release_of
from warehouse.errors import ConfigError

NEEDED = ("Namespace", "PodLabels", "NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")
"""Kinds without which nobody knows whether a blueprint is defeated."""
_GROUPS = "CiliumCIDRGroup"


@dataclass(frozen=True, kw_only=True)
class Defeated:
    """A policy that defeats a blueprint."""

    key: Key
    blueprint: str
    defeats: tuple[Defeat, ...]
    """Each rule at each workload."""


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What became of the blueprints' policies in a cluster."""

    checked: int
    """Number of distinct sets of pods in the namespaces of blueprints' policies."""
    defeated: tuple[Defeated, ...] = ()
    undecided: Mapping[Key, str] = field(default_factory=dict)
    """Policies whose effect is not known, with what is missing."""


def judge_effect(wanted: Wanted, state: ClusterState) -> Effect:
    """Judge the blueprints' policies together with all others. The kinds of `NEEDED` must be known."""
    own = {key: one for key, one in wanted.objects.items() if key.kind in READERS}
    places = {key.namespace for key in own}
    settings = _settings(state)
    checked = sum(1 for pods in state.pods if not pods.host_network and (None in places or pods.namespace in places))
    others = [
        policy
        for key, policy in state.policies.items()
        if key.kind in READERS and key not in own and not policy.is_rejected and _may_defeat(policy, settings)
    ]
    if not own or not others:
        return Effect(checked=checked)
    # Only policies that may select the same pods take part.
    near = None if any(policy.key.namespace is None for policy in others) else {policy.key.namespace for policy in others}
    ours = [Document(one.manifest) for key, one in own.items() if _is_near(key, near)]
    theirs = [policy for key, policy in state.policies.items() if _takes_part(key, policy, own) and _is_near(key, near)]
    surroundings = Surroundings(cidr_groups={} if _GROUPS in state.coverage and state.coverage[_GROUPS].observed else None)
    groups = [Document(policy.manifest) for key, policy in state.policies.items() if key.kind == _GROUPS]
    found = defeats(
        compile_policies([*groups, *ours], settings, surroundings),
        compile_policies([*groups, *ours, *(Document(policy.manifest) for policy in theirs)], settings, surroundings),
        {_name(policy.key) for policy in others},
        _workloads(state, settings),
    )
    return Effect(
        checked=checked,
        defeated=tuple(_by_policy(found, own_blueprints={_name(key): one.blueprint for key, one in own.items()})),
        undecided={Key(kind, namespace or None, name): why for (kind, namespace, name), why in found.undecided.items()},
    )


def summary(one: Defeated) -> str:
    """What a policy does to a blueprint, in one sentence."""
    first = one.defeats[0]
    titles = sorted({defeat.workload.title for defeat in one.defeats})
    at = titles[0] + (f" and {len(titles) - 1} more" if len(titles) > 1 else "")
    connection, direction = first.connection, first.rule.direction.value
    port = "every port" if first.rule.ports is None else f"{connection.protocol} {connection.port or connection.icmp_type or 'any'}"
    if first.opens:
        side = "from" if direction == "ingress" else "to"
        closes = "closes" if first.against else "leaves closed, since the agent denies what no rule allows"
        return f"{one.key} opens {direction} of {at} {side} {first.peer} on {port}, which blueprint {one.blueprint} {closes}"
    return f"{one.key} closes {direction} of {at} for {first.peer} on {port}, which blueprint {one.blueprint} opens"


def _by_policy(found: Defeats, own_blueprints: Mapping[PolicyName, str]) -> list[Defeated]:
    grouped: dict[tuple[Key, str], list[Defeat]] = {}
    for one in found.found:
        origin = one.rule.origin
        key = Key(origin.kind, origin.namespace or None, origin.name)
        grouped.setdefault((key, _blueprint(one, own_blueprints)), []).append(one)
    return [Defeated(key=key, blueprint=blueprint, defeats=tuple(ones)) for (key, blueprint), ones in grouped.items()]


def _blueprint(one: Defeat, own_blueprints: Mapping[PolicyName, str]) -> str:
    """The blueprint whose rules are defeated. Where the agent denies without any rule, it is one with policies nearest to the workload."""
    against = {own_blueprints[name] for rule in one.against if (name := (rule.kind, rule.namespace, rule.name)) in own_blueprints}
    near = {blueprint for (_, namespace, _), blueprint in own_blueprints.items() if namespace in ("", one.workload.namespace)}
    return min(against or near or own_blueprints.values())


def _takes_part(key: Key, policy: StoredObject, own: Mapping[Key, Any]) -> bool:
    return key.kind in READERS and key not in own and not policy.is_rejected


def _is_near(key: Key, near: set[str | None] | None) -> bool:
    return near is None or key.namespace is None or key.namespace in near


def _name(key: Key) -> PolicyName:
    return key.kind, key.namespace or "", key.name


def _settings(state: ClusterState) -> AgentSettings:
    """The agent's settings; its defaults where they cannot be read."""
    settings = AgentSettings(cluster_name=state.cluster)
    try:
        if state.agents is not None and state.agents.version:
            settings = replace(settings, release=release_of(state.agents.version))
        return from_cilium_config(state.cilium_config, settings)
    except ConfigError:
        return settings


def _workloads(state: ClusterState, settings: AgentSettings) -> Sequence[Workload]:
    manifests = [
        {"metadata": {"name": pods.name, "namespace": pods.namespace, "labels": pods.labels}, "spec": {"hostNetwork": pods.host_network}}
        for pods in state.pods
    ]
    return read_workloads(manifests, state.namespaces, settings)


def _may_defeat(policy: StoredObject, settings: AgentSettings) -> bool:
    """Whether a policy could defeat a blueprint; worked out once for each distinct body, since fleets repeat policies."""
    return _body_may_defeat(policy.key.kind, policy.body.text, settings)


@lru_cache(maxsize=50_000)
def _body_may_defeat(kind: str, text: str, settings: AgentSettings) -> bool:
    manifest = {**json.loads(text), "kind": kind, "metadata": {"name": "any", "namespace": "any"}}
    policies: PolicySet = compile_policies([Document(manifest)], settings)
    return bool(policies.refusals) or may_defeat(policies)
