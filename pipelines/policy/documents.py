"""Manifests and test cases read from text as kubectl reads them, with the line of each field. Pure: it opens no files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from pipelines.objects import kubernetes_yaml
from pipelines.objects.yaml_nodes import Composer, Node
from pipelines.policy.reading import Document
from warehouse.errors import ConfigError


class UnreadableError(ConfigError):
    """A text cannot be read as manifests."""

    def __init__(self, source: str, line: int, text: str) -> None:
        super().__init__(f"{source}:{line}: {text}")
        self.line, self.text = line, text


def read_documents(text: str, source: str) -> list[Document]:
    """The manifests of a file: documents of YAML, or JSON; lists of Kubernetes are taken apart.

    Args:
        text: the file's content.
        source: its name, for messages.

    Raises:
        UnreadableError: the text is neither YAML nor JSON, a key is written twice, or a document is not a mapping.
    """
    found: list[Document] = []
    for value, lines in read_values(text, source):
        if value is None:
            continue
        if not isinstance(value, dict):
            raise UnreadableError(source, lines.get("", 1), "a manifest must be a mapping with apiVersion and kind")
        found.extend(_unpacked(Document(value, source, lines)))
    return found


def read_values(text: str, source: str) -> Iterator[tuple[Any, dict[str, int]]]:
    """Each document's value, and the line of each path in it (empty for JSON).

    Raises:
        UnreadableError: the text is neither YAML nor JSON, or a key is written twice.
    """
    if text.lstrip("\ufeff \t\r\n").startswith("{"):
        try:
            yield json.loads(text.lstrip("\ufeff")), {}
            return
        except (ValueError, RecursionError):
            pass  # a stream of JSON objects, or a mapping in YAML's flow style, begins the same way
    for document in kubernetes_yaml.read_documents(text):
        if document.problem is not None:
            raise UnreadableError(source, document.problem.line, document.problem.text)
        yield document.value, dict(_lines_of(document))


def _lines_of(document: kubernetes_yaml.Document) -> Iterator[tuple[str, int]]:
    root = Composer(document.text).document()
    if root is not None:
        yield from _lines(root, "", document.line - root.line)


def _lines(node: Node, path: str, first: int) -> Iterator[tuple[str, int]]:
    """The path and line of a node and of everything in it."""
    yield path, first + node.line
    if node.kind == "sequence":
        for index, item in enumerate(node.children):
            yield from _lines(item, f"{path}[{index}]", first)
    elif node.kind == "mapping":
        for key, value in zip(node.children[::2], node.children[1::2], strict=True):
            below = f"{path}.{key.value}" if path else key.value
            yield from _lines(value, below, first)
            yield below, first + key.line


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
