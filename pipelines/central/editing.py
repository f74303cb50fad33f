"""Makes the changed file of a blueprint from a policy, or an entry of a blueprint, that somebody has edited. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydantic

from pipelines.blueprints import model
from pipelines.blueprints.model import SYSTEM_NAMESPACES, Blueprint, BlueprintFile
from pipelines.blueprints.own_templates import ClusterManifest, NamespaceManifest
from pipelines.blueprints.render import BLUEPRINT_LABEL, MANAGED_BY
from pipelines.blueprints.selectors import Selection, matches_any
from pipelines.blueprints.template_parts import Template
from pipelines.blueprints.templates import all_templates
from pipelines.central import splicing
from pipelines.objects.canonical import Manifest
from pipelines.objects.names import Key
from pipelines.policy.documents import read_documents
from warehouse import config
from warehouse.errors import ConfigError

SOURCE = "policy"
"""What messages call the edited text."""
Place = tuple[str | int, ...]
_KEPT = ("name", "labels", "annotations")
_OURS = (MANAGED_BY, BLUEPRINT_LABEL)


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What somebody wants to be changed, and where."""

    text: str
    """A manifest of a policy, or an entry of a blueprint with its `template`."""
    blueprint: str
    """Name of the blueprint that is changed; one that there is not yet is made."""
    clusters: tuple[str, ...]
    replaces: Key | None = None
    """The object that the text was opened from, if it may have another name by now."""
    canary: tuple[str, ...] = ()
    """Canary clusters of a new blueprint."""


@dataclass(frozen=True, kw_only=True)
class Edited:
    """The changed file of a blueprint."""

    file: BlueprintFile
    before: str
    """The text of the file before; empty if it is new."""
    is_new: bool = False
    """Whether the blueprint is made by this."""
    left: tuple[str, ...] = ()
    """Clusters that the blueprint is for and that were not chosen: they deviate from the changed file until it is published there."""

    @property
    def name(self) -> str:
        return self.file.blueprint.name

    @property
    def text(self) -> str:
        """The text of the changed file."""
        return self.file.document.text


@dataclass(frozen=True, kw_only=True)
class _Entry:
    value: dict[str, Any]
    is_namespaced: bool
    namespace: str | None = None
    """The namespace of a manifest."""


def edited(edit: Edit, files: Sequence[BlueprintFile], clusters: Sequence[config.Cluster], *, folder: Path) -> Edited:
    """Return the changed file of a blueprint.

    An entry that makes the same object is replaced, and the version of the blueprint is raised. Otherwise the policy becomes a new entry;
    a new blueprint is for the chosen clusters alone.

    Args:
        edit: what is to be changed.
        files: the configured blueprints.
        clusters: the configured clusters.
        folder: where the file of a new blueprint belongs.

    Raises:
        ConfigError: the text is no policy, or does not fit into the blueprint; it names file and line.
    """
    entry = _read(edit.text)
    file = next((one for one in files if one.blueprint.name == edit.blueprint), None)
    if not edit.clusters or not edit.blueprint:
        raise ConfigError("choose at least one cluster, and a blueprint or the name of a new one")
    if file is None:
        return Edited(file=_new(edit, entry, folder), before="", is_new=True)
    selected = [one.name for one in clusters if file.blueprint.clusters.selects(one.name, one.labels)]
    if foreign := [name for name in edit.clusters if name not in selected]:
        where = file.document.where(["clusters"])
        raise ConfigError(f"{where}: blueprint {edit.blueprint} is not for {', '.join(foreign)}; it is for {', '.join(selected) or 'none'}")
    changed = _changed(file, entry, edit.replaces)
    if changed.document.value == file.document.value:
        raise ConfigError(f"{file.source}: blueprint {edit.blueprint} already has it so: nothing would change")
    raised = splicing.replaced(changed.document, ["version"], _next_version(file.blueprint.version))
    left = tuple(name for name in selected if name not in edit.clusters)
    return Edited(file=model.parse(raised, file.source), before=file.document.text, left=left)


def text_of(manifest: Manifest, files: Sequence[BlueprintFile]) -> tuple[str, str | None]:
    """Return what an object in force is edited as, and the name of its blueprint; None if it belongs to none of these.

    An object that a template makes is edited as the entry of its blueprint, since the template makes it in other namespaces, too.
    """
    key = Key(str(manifest["kind"]), manifest["metadata"].get("namespace"), str(manifest["metadata"]["name"]))
    label = (manifest["metadata"].get("labels") or {}).get(BLUEPRINT_LABEL)
    file = next((one for one in files if one.blueprint.name == label), None)
    if file is not None:
        for place, template in _entries(file.blueprint):
            if _makes(template, file.blueprint, key) and not isinstance(template, ClusterManifest):
                value: Any = file.document.value
                for part in place:
                    value = value[part]
                return splicing.written(value), file.blueprint.name
    return splicing.written(_plain(manifest)), None if file is None else file.blueprint.name


def _read(text: str) -> _Entry:
    documents = read_documents(text, SOURCE)
    if len(documents) != 1:
        raise ConfigError(f"{SOURCE}: one policy is edited at a time, and this holds {len(documents)}")
    value = dict(documents[0].manifest)
    if "template" in value:
        template = all_templates().get(str(value["template"]))
        if template is None:
            raise ConfigError(f"{SOURCE}: there is no template {value['template']!r}; hindcast blueprint templates lists them")
        return _Entry(value=value, is_namespaced=template.scope == "namespace")
    kind = str(value.get("kind"))
    if kind not in NamespaceManifest.kinds + ClusterManifest.kinds:
        known = ", ".join(NamespaceManifest.kinds + ClusterManifest.kinds)
        raise ConfigError(f"{SOURCE}: an object of kind {kind!r} cannot be in a blueprint: {known} can, and entries with `template`")
    if not isinstance(value.get("metadata"), dict) or not value["metadata"].get("name"):
        raise ConfigError(f"{SOURCE}: metadata.name is missing")
    namespaced = kind in NamespaceManifest.kinds
    plain = _plain(value)
    namespace = plain["metadata"].pop("namespace", "default") if namespaced else None
    return _Entry(
        value={"template": "manifest" if namespaced else "cluster-manifest", "object": plain}, is_namespaced=namespaced, namespace=namespace
    )


def _plain(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest as one would write it: without what the API server adds, and without the labels of a blueprint."""
    metadata = manifest.get("metadata") or {}
    kept = {name: metadata[name] for name in ("name", "namespace", *_KEPT[1:]) if metadata.get(name)}
    labels = {name: value for name, value in (kept.pop("labels", None) or {}).items() if name not in _OURS}
    rest = {key: manifest[key] for key in ("spec", "specs") if manifest.get(key) is not None}
    return {
        "apiVersion": manifest.get("apiVersion"),
        "kind": manifest.get("kind"),
        "metadata": kept | ({"labels": labels} if labels else {}),
        **rest,
    }


def _new(edit: Edit, entry: _Entry, folder: Path) -> BlueprintFile:
    value: dict[str, Any] = {
        "blueprint": "v1",
        "name": edit.blueprint,
        "version": "1.0.0",
        "clusters": {"names": sorted(edit.clusters)},
    }
    if edit.canary:
        value["canary"] = list(edit.canary)
    if entry.is_namespaced:
        value["namespaces"] = [_rule(entry)]
    else:
        value["cluster_policies"] = [entry.value]
    return model.parse(splicing.written(value), folder / f"{edit.blueprint}.yaml")


def _rule(entry: _Entry) -> dict[str, Any]:
    if entry.namespace is None:
        raise ConfigError(f"{SOURCE}: the blueprint has no entry for this template yet: write which namespaces it is for into the file")
    rule: dict[str, Any] = {"select": {"names": [entry.namespace]}}
    if entry.namespace in SYSTEM_NAMESPACES:
        rule["exclude"] = []  # they are left out unless this is written
    return rule | {"policies": [entry.value]}


def _changed(file: BlueprintFile, entry: _Entry, replaces: Key | None) -> BlueprintFile:
    place = _place(file, entry, replaces)
    if place is not None:
        return model.parse(splicing.replaced(file.document, place, entry.value), file.source)
    if not entry.is_namespaced:
        return model.parse(splicing.appended(file.document, ["cluster_policies"], entry.value), file.source)
    for index, rule in enumerate(file.blueprint.namespaces):
        if rule.policies and rule.select == Selection(names=(entry.namespace or "",)):
            return model.parse(splicing.appended(file.document, ["namespaces", index, "policies"], entry.value), file.source)
    return model.parse(splicing.appended(file.document, ["namespaces"], _rule(entry)), file.source)


def _place(file: BlueprintFile, entry: _Entry, replaces: Key | None) -> Place | None:
    """Return the entry that makes the object which is edited; None if there is none. Raises ConfigError if there are several."""
    keys = [key for key in (replaces, _key(entry, file.blueprint)) if key is not None]
    for key in keys:
        made = [place for place, template in _entries(file.blueprint) if _makes(template, file.blueprint, key)]
        found = [place for place in made if _may_be_for(file.blueprint, place, entry.namespace or key.namespace)]
        if len(found) > 1:
            lines = ", ".join(file.document.where(place) for place in found)
            raise ConfigError(f"blueprint {file.blueprint.name} makes {key.name} by several entries ({lines}): change the file itself")
        if found:
            return found[0]
    return None


def _key(entry: _Entry, blueprint: Blueprint) -> Key | None:
    try:
        template = all_templates()[entry.value["template"]].model_validate(entry.value)
    except pydantic.ValidationError:
        return None  # the changed file says what is wrong with it, and where
    return Key(str(template.manifest(blueprint.name, None)["kind"]), entry.namespace, template.object_name(blueprint.name))


def _entries(blueprint: Blueprint) -> Iterator[tuple[Place, Template]]:
    for number, template in enumerate(blueprint.cluster_policies):
        yield ("cluster_policies", number), template
    for index, rule in enumerate(blueprint.namespaces):
        for number, entry in enumerate(rule.policies):
            yield ("namespaces", index, "policies", number), entry


def _makes(template: Template, blueprint: Blueprint, key: Key) -> bool:
    return (str(template.manifest(blueprint.name, None)["kind"]), template.object_name(blueprint.name)) == (key.kind, key.name)


def _may_be_for(blueprint: Blueprint, place: Place, namespace: str | None) -> bool:
    """Whether an entry is for a namespace, as far as its name tells: labels of namespaces are not known here."""
    if place[0] == "cluster_policies" or namespace is None:
        return True
    rule = blueprint.namespaces[int(place[1])]
    names, left_out = rule.select.names, (*rule.exclude, *rule.select.exclude)
    return not matches_any(namespace, left_out) and (not names or matches_any(namespace, names))


def _next_version(version: str) -> str:
    head, dot, last = version.rpartition(".")
    return f"{head}{dot}{int(last) + 1}" if last.isdigit() else f"{version}.1"
