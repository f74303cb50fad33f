"""What identifies an object in its cluster, and which names, namespaces and labels an API server accepts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII)
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?", re.ASCII)
_LABEL_CHARACTERS, _SUBDOMAIN_CHARACTERS = 63, 253
_PATH_SEGMENT_KINDS = frozenset({"Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"})
"""Kinds whose names may contain any path segment characters."""
_SHORT_NAME_KINDS = frozenset({"Namespace", "Service"})


class Key(NamedTuple):
    """Identifies an object in its cluster over time. A Namespace belongs to itself: its namespace is its own name."""

    kind: str
    namespace: str | None
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace and self.kind != "Namespace" else f"{self.kind} {self.name}"


def key_of(manifest: Mapping[str, Any]) -> Key:
    """Return the key of a manifest with kind and metadata.name."""
    kind, metadata = str(manifest["kind"]), manifest["metadata"]
    return Key(kind, str(metadata["name"]) if kind == "Namespace" else metadata.get("namespace"), str(metadata["name"]))


def name_problem(kind: str, name: str) -> str | None:
    """Return why an API server refuses this name for the kind, or None if it accepts it."""
    if kind in _PATH_SEGMENT_KINDS:
        return "may not be . or .. and may not contain / or %" if name in {".", ".."} or "/" in name or "%" in name else None
    if kind in _SHORT_NAME_KINDS:
        return _label_problem(name)
    if _SUBDOMAIN.fullmatch(name) and len(name) <= _SUBDOMAIN_CHARACTERS:
        return None
    return f"must be lower-case letters, digits, - and ., with a letter or digit at both ends, at most {_SUBDOMAIN_CHARACTERS} characters"


def namespace_problem(namespace: str) -> str | None:
    """Return why an API server refuses this namespace, or None if it accepts it."""
    return _label_problem(namespace)


def labels_problem(labels: Mapping[str, str]) -> str | None:
    """Return why an API server refuses these labels, naming the first invalid one, or None if it accepts them."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if (
            not _is_qualified(name)
            or (slash and not (_SUBDOMAIN.fullmatch(prefix) and len(prefix) <= _SUBDOMAIN_CHARACTERS))
            or (value and not _is_qualified(value))
        ):
            return (
                f"{key}={value} is not a label: at most {_LABEL_CHARACTERS} letters, digits, -, _ and . with a letter or digit at both ends"
            )
    return None


def _is_qualified(text: str) -> bool:
    return len(text) <= _LABEL_CHARACTERS and _QUALIFIED.fullmatch(text) is not None


def _label_problem(name: str) -> str | None:
    if _LABEL.fullmatch(name) and len(name) <= _LABEL_CHARACTERS:
        return None
    return f"must be lower-case letters, digits and -, with a letter or digit at both ends, at most {_LABEL_CHARACTERS} characters"
