"""Renders blueprints and a cluster's namespaces into the objects that the cluster should have. A pure function.

Publishing and drift use the same objects: each is written out in full, with every field that affects which traffic passes,
since applying it again only restores fields that it names.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from pipelines.blueprints.admission import admission_objects
from pipelines.blueprints.model import Blueprint, BlueprintFile, Cilium, Waiver
from pipelines.blueprints.template_parts import Template
from pipelines.objects.canonical import CILIUM_POLICIES, CILIUM_RULES, Body, Manifest, canonical_body, fill_cilium_rule
from pipelines.objects.compare import Verdict, compare
from pipelines.objects.names import Key, key_of
from warehouse.errors import ConfigError

MANAGED_BY = "app.kubernetes.io/managed-by"
BLUEPRINT_LABEL = "hindcast/blueprint"


@dataclass(frozen=True, kw_only=True)
class WantedObject:
    """A wanted object, and the blueprint it comes from."""

    manifest: Manifest
    body: Body
    """The manifest in canonical form."""
    blueprint: str
    version: str
    drift: Literal["notify", "block", "revert"]
    template: str


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Everything the blueprints want of one cluster."""

    cluster: str
    objects: dict[Key, WantedObject] = field(default_factory=dict)
    locked: dict[str, str] = field(default_factory=dict)
    """Namespaces where other policies count as drift, with the blueprint that locks them."""
    cilium: dict[str, Cilium] = field(default_factory=dict)
    """By blueprint."""
    settings: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Keys of cilium-config: the value, and the blueprint that wants it."""
    waived: dict[Key, Waiver] = field(default_factory=dict)
    """Objects that may be absent now because of an owner's exception."""


def render(
    files: Sequence[BlueprintFile], *, cluster: str, labels: Mapping[str, str], namespaces: Mapping[str, Mapping[str, str]], now: datetime
) -> Wanted:
    """Return what the blueprints want of a cluster with these labels and these namespaces (with their labels), at a time.

    Raises ConfigError, which names both blueprints, if two of them want different things of the same object or setting.
    """
    wanted = Wanted(cluster=cluster)
    sources: dict[str, BlueprintFile] = {}
    for file in sorted(files, key=lambda file: file.blueprint.name):
        blueprint = file.blueprint
        if not blueprint.clusters.selects(cluster, labels):
            continue
        sources[blueprint.name] = file
        _add_cilium(wanted, blueprint, sources)
        for template in blueprint.cluster_policies:
            _add(wanted, sources, blueprint, template, [None], now)
        for rule in blueprint.namespaces:
            chosen = [namespace for namespace, given in namespaces.items() if rule.selects(namespace, dict(given))]
            if rule.locked:
                wanted.locked.update({namespace: blueprint.name for namespace in chosen if namespace not in wanted.locked})
            for entry in rule.policies:
                _add(wanted, sources, blueprint, entry, chosen, now)
        if blueprint.block is not None:
            for manifest in admission_objects(blueprint.name, blueprint.block.accounts, label=BLUEPRINT_LABEL):
                _put(wanted, sources, blueprint, manifest, canonical_body(manifest), "admission")
    return wanted


def _add_cilium(wanted: Wanted, blueprint: Blueprint, sources: Mapping[str, BlueprintFile]) -> None:
    wanted.cilium[blueprint.name] = blueprint.cilium
    for key, value in blueprint.cilium.settings.items():
        other = wanted.settings.setdefault(key, (value, blueprint.name))
        if other[0] != value:
            raise _disagreement(sources, wanted.cluster, f"cilium setting {key}", (other[1], other[0]), (blueprint.name, value))
    if blueprint.cilium.helm is not None:
        for name, cilium in wanted.cilium.items():
            if cilium.helm is not None and cilium.helm != blueprint.cilium.helm:
                raise _disagreement(
                    sources, wanted.cluster, "Cilium's chart", (name, cilium.helm.chart), (blueprint.name, blueprint.cilium.helm.chart)
                )


def _add(
    wanted: Wanted,
    sources: Mapping[str, BlueprintFile],
    blueprint: Blueprint,
    template: Template,
    namespaces: Iterable[str | None],
    now: datetime,
) -> None:
    whole = explicit(template.manifest(blueprint.name, None))
    body = canonical_body(whole)
    names = (template.template, template.object_name(blueprint.name))
    for namespace in namespaces:
        manifest = {**whole, "metadata": {**whole["metadata"], "namespace": namespace}} if namespace else whole
        waiver = next((one for one in blueprint.exceptions if one.covers(wanted.cluster, namespace, names, now=now)), None)
        if waiver is not None:
            wanted.waived[key_of(manifest)] = waiver
        else:
            _put(wanted, sources, blueprint, manifest, body, template.template)


def _put(wanted: Wanted, sources: Mapping[str, BlueprintFile], blueprint: Blueprint, manifest: Manifest, body: Body, template: str) -> None:
    metadata = manifest["metadata"]
    labels = {**metadata.get("labels", {}), MANAGED_BY: "hindcast", BLUEPRINT_LABEL: blueprint.name}
    key = key_of(manifest)
    other = wanted.objects.get(key)
    if other is not None:
        theirs = {**other.manifest, "metadata": {**other.manifest["metadata"], "labels": labels}}
        ours = {**manifest, "metadata": {**metadata, "labels": labels}}
        difference = compare(theirs, ours)
        if difference.verdict is Verdict.DRIFT:
            what = f"{key} ({', '.join(difference.paths)})"
            raise _disagreement(sources, wanted.cluster, what, (other.blueprint, ""), (blueprint.name, ""))
        return
    wanted.objects[key] = WantedObject(
        manifest={**manifest, "metadata": {**metadata, "labels": labels}},
        body=body,
        blueprint=blueprint.name,
        version=blueprint.version,
        drift=blueprint.drift,
        template=template,
    )


def _disagreement(
    sources: Mapping[str, BlueprintFile], cluster: str, what: str, one: tuple[str, str], other: tuple[str, str]
) -> ConfigError:
    if one[0] == other[0]:
        return ConfigError(
            f"cluster {cluster}: blueprint {one[0]} ({sources[one[0]].source}) wants {what} in two ways: give one of its entries a name"
        )
    sides = [f"{name} ({sources[name].source})" + (f" wants {value!r}" if value else "") for name, value in (one, other)]
    return ConfigError(f"cluster {cluster}: blueprints {sides[0]} and {sides[1]} disagree on {what}: change one, or the clusters it is for")


def explicit(manifest: Manifest) -> Manifest:
    """Return the object with every field that affects which traffic passes; lists that are not wanted are written as empty.

    The applier does not own a field omitted from a server-side apply: others may fill it in, and applying again preserves that.
    """
    manifest = copy.deepcopy(manifest)
    kind = manifest["kind"]
    if kind == "NetworkPolicy":
        spec = manifest.setdefault("spec", {})
        spec.setdefault("podSelector", {})
        if not spec.get("policyTypes"):
            spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
        for direction in ("ingress", "egress"):
            for rule in spec.setdefault(direction, []):
                for port in rule.get("ports") or []:
                    port.setdefault("protocol", "TCP")
    elif kind in CILIUM_POLICIES:
        rules: list[dict[str, Any]] = [rule for rule in (manifest.get("spec"), *manifest.setdefault("specs", [])) if isinstance(rule, dict)]
        for rule in rules:
            fill_cilium_rule(rule)
            for name in CILIUM_RULES:
                rule.setdefault(name, [])
        if not manifest["specs"] and "spec" not in manifest:
            del manifest["specs"]
    return manifest
