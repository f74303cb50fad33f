"""The fleet's inventory of policies: the same object in several clusters, where it differs, and what it decides. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.objects.canonical import Manifest, as_text, canonical_body, canonical_metadata
from pipelines.objects.compare import Difference, changes
from pipelines.policy.model import Action, Direction
from pipelines.policy.policy_set import READERS, compile_policies
from pipelines.policy.reading import Document
from warehouse.access.labels import HIDDEN
from warehouse.wording import counted

Version = Mapping[str, Any]
"""A row of a version table."""
Name = tuple[str, str | None, str]
"""Kind, namespace and name."""
_DIRECTIONS = (Direction.INGRESS, Direction.EGRESS)
_VERBS = {Action.ALLOW: "allows by", Action.DENY: "denies by", Action.PASS: "passes on by"}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One content of an object, and the clusters that have it."""

    versions: tuple[Version, ...]
    """One for each cluster, by the cluster's name."""

    @property
    def manifest(self) -> Manifest:
        """The object."""
        found: Manifest = json.loads(self.versions[0]["manifest"])
        return found

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters."""
        return tuple(version["cluster"] for version in self.versions)


@dataclass(frozen=True, kw_only=True)
class FleetObject:
    """An object that has one name in one or more clusters."""

    name: Name
    variants: tuple[Variant, ...]
    """Its contents; the one that most clusters have comes first."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """The clusters that have it."""
        return tuple(sorted(cluster for variant in self.variants for cluster in variant.clusters))

    def differences(self) -> list[tuple[Variant, tuple[Difference, ...]]]:
        """Return the other variants, each with its differences from the first."""
        first = self.variants[0].manifest
        return [(variant, changes(first, variant.manifest)) for variant in self.variants[1:]]

    @property
    def differing(self) -> tuple[str, ...]:
        """The paths at which it is not the same everywhere."""
        return tuple(dict.fromkeys(one.path for _, found in self.differences() for one in found))


def of(versions: Iterable[Version]) -> list[FleetObject]:
    """Return the objects of versions that are in force, one of each object and cluster, by namespace, name and kind."""
    by_name: dict[Name, list[Version]] = {}
    for version in versions:
        by_name.setdefault((version["kind"], version["namespace"], version["name"]), []).append(version)
    found = [FleetObject(name=name, variants=_variants(listed)) for name, listed in by_name.items()]
    return sorted(found, key=lambda one: (one.name[1] or "", one.name[2], one.name[0]))


def _variants(versions: Sequence[Version]) -> tuple[Variant, ...]:
    """Versions grouped by what they mean; those with the same text first, because most are the same."""
    by_text: dict[str, list[Version]] = {}
    manifests: dict[str, Manifest] = {}
    for version in sorted(versions, key=lambda one: str(one["cluster"])):
        manifest = json.loads(version["manifest"])
        text = canonical_body(manifest).text + as_text(canonical_metadata(manifest))
        by_text.setdefault(text, []).append(version)
        manifests.setdefault(text, manifest)
    groups: list[tuple[Manifest, list[Version]]] = []
    for text, listed in by_text.items():
        same = next((group for manifest, group in groups if not changes(manifest, manifests[text])), None)
        if same is None:
            groups.append((manifests[text], listed))
        else:
            same.extend(listed)
    made = [Variant(versions=tuple(sorted(group, key=lambda one: str(one["cluster"])))) for _, group in groups]
    return tuple(sorted(made, key=lambda one: (-len(one.versions), one.clusters)))


def decides(manifest: Manifest) -> str:
    """Return what a policy decides, in a sentence: which directions it isolates, and how many rules allow or deny."""
    if manifest.get("kind") not in READERS:
        return "is referred to by policies, and decides nothing by itself"
    compiled = compile_policies([Document(manifest)])
    if HIDDEN in json.dumps(manifest):
        return "cannot be told without its labels, which are not shown to auditors"
    if compiled.refusals:
        return f"is not enforced: {compiled.refusals[0].path}: {compiled.refusals[0].reason}"
    told = []
    for direction in _DIRECTIONS:
        rules = [rule for rule in compiled.rules if rule.direction is direction]
        counts = {action: sum(rule.action is action and rule.ports != () for rule in rules) for action in _VERBS}
        parts = [f"{_VERBS[action]} {counted(count, 'rule')}" for action, count in counts.items() if count]
        if any(rule.default_deny for rule in rules):
            parts.append("denies all other" if parts else "denies all")
        if parts:
            told.append(f"{direction}: {', '.join(parts)}")
    return "; ".join(told) or "selects pods, and neither allows nor denies anything"
