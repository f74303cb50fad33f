"""Turns files into the objects that proposals are about: checked for form and ownership, one group for each namespace. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pipelines.objects.canonical import SERVER_METADATA, Manifest
from pipelines.objects.names import Key, name_problem, namespace_problem
from pipelines.policy.policy_set import READERS
from pipelines.policy.reading import Document
from pipelines.proposals import rules
from warehouse.access.principals import Scope
from warehouse.errors import ConfigError

MOST_OBJECTS = 50
MOST_CHARACTERS = 400_000
"""The size of an object as JSON; API servers take little more."""
_API = {"NetworkPolicy": "networking.k8s.io/v1"}
_API_OF_CILIUM = "cilium.io/v2"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What is to become of one object."""

    key: Key
    document: Document | None
    """The wanted object, without what only an API server writes; None to delete it."""

    @property
    def manifest(self) -> Manifest | None:
        """The wanted object."""
        return None if self.document is None else dict(self.document.manifest)


def read(documents: Iterable[Document], removed: Iterable[tuple[str, str, str]] = ()) -> list[list[Asked]]:
    """Return the objects in groups, each of one namespace, or of the whole cluster: each group is a proposal of its own.

    Args:
        documents: manifests, with namespace and name.
        removed: kind, namespace (empty for the whole cluster) and name of objects to delete.

    Raises:
        ConfigError: a manifest is no object that can be proposed, a name is not valid, or there are two of one name.
    """
    asked = [_asked(document) for document in documents]
    asked += [_removed(*one) for one in removed]
    if not asked:
        raise ConfigError("there is nothing to propose: name files with policies, or --remove")
    if len(asked) > MOST_OBJECTS:
        raise ConfigError(f"{len(asked)} objects are too many for one proposal; at most {MOST_OBJECTS} can be proposed at a time")
    seen: set[Key] = set()
    groups: dict[str | None, list[Asked]] = {}
    for one in asked:
        if one.key in seen:
            raise ConfigError(f"{one.key} is there twice: propose one change of an object at a time")
        seen.add(one.key)
        groups.setdefault(one.key.namespace, []).append(one)
    return list(groups.values())


def refusals(scope: Scope, cluster: str, asked: Sequence[Asked], now: datetime) -> list[str]:
    """Return why the principal may not propose these objects, a sentence each; empty if she may."""
    found = [rules.why_not_propose(scope, cluster, one.key.kind, one.key.namespace, now) for one in asked]
    return list(dict.fromkeys(text for text in found if text))


def _removed(kind: str, namespace: str, name: str) -> Asked:
    _check_names("", kind, namespace, name)
    return Asked(key=Key(kind, namespace or None, name), document=None)


def _check_names(where: str, kind: str, namespace: str, name: str) -> None:
    """Refuse names that no API server accepts: they would lead to other objects in paths, of files as of API servers."""
    if problem := name_problem(kind, name):
        raise ConfigError(f"{where}{kind} {name!r}: metadata.name {problem}")
    if namespace and (problem := namespace_problem(namespace)):
        raise ConfigError(f"{where}{kind} {name}: metadata.namespace {namespace!r} {problem}")


def _asked(document: Document) -> Asked:
    kind, namespace, name = document.identity
    where = f"{document.source}:{document.line('kind') or document.line('') or 1}" if document.lines else document.source
    if kind not in (*rules.OF_OWNERS, *rules.OF_PLATFORM):
        known = ", ".join((*rules.OF_OWNERS, *rules.OF_PLATFORM))
        raise ConfigError(f"{where}: {kind or 'an object without a kind'} cannot be proposed: proposals are about {known}")
    if not name:
        raise ConfigError(f"{where}: {kind}: metadata.name is missing")
    _check_names(f"{where}: ", kind, namespace, name)
    is_namespaced = READERS[kind][1]
    if is_namespaced and not namespace:
        raise ConfigError(f"{where}: {kind} {name}: metadata.namespace is missing: a proposal says which namespace it changes")
    if namespace and not is_namespaced:
        raise ConfigError(f"{where}: {kind} {name}: has a namespace, but selects pods of the whole cluster: remove metadata.namespace")
    wanted = _group(kind)
    version = str(document.manifest.get("apiVersion") or "")
    if wanted is not None and version != wanted:
        raise ConfigError(f"{where}: {kind} {name}: apiVersion must be {wanted}, not {version or 'absent'}")
    manifest = _without_server_fields(document.manifest)
    if len(str(manifest)) > MOST_CHARACTERS:
        raise ConfigError(f"{where}: {kind} {name}: has more than {MOST_CHARACTERS:,} characters, which no API server takes")
    return Asked(key=Key(kind, namespace or None, name), document=Document(manifest, document.source, document.lines))


def _group(kind: str) -> str | None:
    return _API.get(kind) or (_API_OF_CILIUM if kind.startswith("Cilium") else None)


def _without_server_fields(manifest: Mapping[str, Any]) -> Manifest:
    """The manifest without status and the metadata that an API server writes, as after `kubectl get -o yaml`."""
    metadata = {key: value for key, value in manifest["metadata"].items() if key not in SERVER_METADATA}
    return {**{key: value for key, value in manifest.items() if key != "status"}, "metadata": metadata}
