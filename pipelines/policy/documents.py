"""YAML and JSON read as Kubernetes' readers read them, with the line of each field. Pure: it takes text, not files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pipelines.policy.reading import Document
from warehouse.errors import ConfigError

_KEPT_AS_TEXT = frozenset({"tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:value", "tag:yaml.org,2002:binary"})
"""Kubernetes' reader knows no dates: what looks like one is a text."""
_MERGE = "tag:yaml.org,2002:merge"
MOST_NODES = 2_000_000
"""Aliases are expanded; more values than this are an attack or a mistake."""


class _Builder:
    """Builds values from a document's nodes and notes the line of each path."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._constructor = yaml.constructor.SafeConstructor()
        self._left = MOST_NODES
        self.lines: dict[str, int] = {}

    def value(self, node: Node, path: str) -> Any:
        self._left -= 1
        if self._left < 0:
            raise ConfigError(f"{self._source}: more than {MOST_NODES:,} values; aliases that multiply are not expanded")
        self.lines.setdefault(path, node.start_mark.line + 1)
        if isinstance(node, MappingNode):
            return self._mapping(node, path)
        if isinstance(node, SequenceNode):
            return [self.value(item, f"{path}[{index}]") for index, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: MappingNode, path: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if key_node.tag == _MERGE:
                parts = value_node.value if isinstance(value_node, SequenceNode) else [value_node]
                for part in reversed(parts):
                    merged.update(self.value(part, path))
                continue
            key = key_node.value if isinstance(key_node, ScalarNode) else None
            if key is None:
                raise ConfigError(f"{self._source}:{key_node.start_mark.line + 1}: a key must be a text")
            if key in found:
                raise ConfigError(f"{self._source}:{key_node.start_mark.line + 1}: the key {key!r} is written twice; keep one")
            below = f"{path}.{key}" if path else key
            self.lines[below] = key_node.start_mark.line + 1
            found[key] = self.value(value_node, below)
        return {**merged, **found}

    def _scalar(self, node: Node) -> Any:
        if not isinstance(node, ScalarNode) or node.tag in _KEPT_AS_TEXT:
            return node.value
        try:
            return self._constructor.construct_object(node)
        except yaml.YAMLError:
            return node.value
        except ValueError as error:
            raise ConfigError(f"{self._source}:{node.start_mark.line + 1}: {node.value!r} cannot be read: {error}") from error


def read_documents(text: str, source: str) -> list[Document]:
    """The manifests of a file: documents of YAML, or JSON; lists of Kubernetes are taken apart.

    Args:
        text: the file's content.
        source: its name, for messages.

    Raises:
        ConfigError: the text is neither YAML nor JSON, a key is written twice, or a document is not a mapping.
    """
    found: list[Document] = []
    for value, lines in read_values(text, source):
        if value is None:
            continue
        if not isinstance(value, dict):
            raise ConfigError(f"{source}:{lines.get('', 1)}: a manifest must be a mapping with apiVersion and kind")
        found.extend(_unpacked(Document(value, source, lines)))
    return found


def read_values(text: str, source: str) -> Iterator[tuple[Any, dict[str, int]]]:
    """Each document's value, and the line of each path in it (empty for JSON).

    Raises:
        ConfigError: the text is neither YAML nor JSON, or a key is written twice.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            yield json.loads(text.lstrip("\ufeff")), {}
            return
        except ValueError:
            pass  # a mapping in YAML's flow style begins the same way
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        for node in yaml.compose_all(text, Loader=loader):
            builder = _Builder(source)
            yield (None if node is None else builder.value(node, "")), builder.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{source}{where}: neither YAML nor JSON: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: neither YAML nor JSON: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{source}: nested too deeply to be read") from error


def _unpacked(document: Document) -> Iterator[Document]:
    """A document, or the items of a Kubernetes list such as List or NetworkPolicyList."""
    items = document.manifest.get("items")
    if not document.kind.endswith("List") or not isinstance(items, list):
        yield document
        return
    for index, item in enumerate(items):
        if isinstance(item, dict):
            prefix = f"items[{index}]"
            lines = {path[len(prefix) :].removeprefix("."): line for path, line in document.lines.items() if path.startswith(prefix)}
            kind = item.get("kind") or document.kind.removesuffix("List")
            yield from _unpacked(Document({**item, "kind": kind}, document.source, lines))
