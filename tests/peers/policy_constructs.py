"""Counts what the rules that decided a verdict are made of, so that a construct which is never tried is seen.
"""

import collections
import typing

from pipelines.policy.policy_set import PolicySet
from pipelines.policy.verdict import Decision

Manifests = list[dict[str, typing.Any]]


def note_constructs(counts: collections.Counter[str], ours: Decision, manifests: Manifests, policies: PolicySet) -> None:
    """Count what the deciding rules are made of."""
    if not ours.rules:
        counts["no rule decided"] += 1
    for origin in ours.rules:
        (manifest,) = [manifest for manifest in manifests if manifest["metadata"]["name"] == origin.name]
        by_default = origin.index < 0 or "isolated" in ours.reason
        counts[f"{origin.kind} {ours.verdict.value} {'by default' if by_default else 'by rule'}"] += 1
        counts.update(sorted(set(words(at(manifest, origin.path)))))
    for key, value in (("enable-policy", policies.settings.enable_policy), ("local cluster", str(policies.settings.local_cluster))):
        counts[f"{key} {value}"] += 1


def at(manifest: dict[str, typing.Any], path: str) -> typing.Any:
    """The part of a manifest at a path."""
    value: typing.Any = manifest
    for part in path.replace("[", ".").replace("]", "").split("."):
        value = value[int(part)] if isinstance(value, list) else value.get(part, {})
    return value


def words(value: typing.Any, above: str = "") -> typing.Iterator[str]:
    """The names of constructs in a rule."""
    if isinstance(value, dict):
        if not value:
            yield f"{above}: {{}}"
        for key, below in value.items():
            if above in ("matchLabels",):
                yield "matchLabels"
                continue
            yield key
            if key in ("operator", "action", "mode"):
                yield f"{key} {below}"
            if key == "port" and not str(below).isdecimal():
                yield "named port"
            yield from words(below, key)
    elif isinstance(value, list):
        if not value:
            yield f"{above}: []"
        for below in value:
            if above.endswith("Entities"):
                yield f"entity {below}"
            yield from words(below, above)
