"""Converts YAML text to JSON values as Kubernetes' readers do, with limits on the cost of a document.

kubectl reads with go-yaml v2, a translation of libyaml. So libyaml's own parser (PyYAML's C extension) produces the events,
and this module only decides what libyaml leaves open: redefined anchors, merge keys, duplicate keys, scalar values
(`yaml_scalars`). Where Kubernetes would use the last of two equal keys, the document is refused instead.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from pipelines.objects.yaml_scalars import MERGE_TAG, key_text, scalar

MAX_OBJECT_BYTES = 1_572_864
"""The most that etcd stores for one object by default: no API server has a larger one."""
MAX_DEPTH = 100
"""The most levels of nesting. Kubernetes' own types have fewer than thirty."""
_EXPANSION = 10
"""How many times longer than its text a whole list of objects may become when its aliases are expanded."""
_ESCAPED_SLASH = re.compile(r"(?<!\\)(\\\\)*\\/")
_Loader: type[Any] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class DocumentError(Exception):
    """What is wrong with a document: `line` counts from 0, `head` is what is known of it all the same."""

    def __init__(self, line: int, text: str, head: dict[str, Any] | None = None) -> None:
        super().__init__(text)
        self.line, self.text, self.head = line, text, head


@dataclass(slots=True)
class Node:
    """A node of a document."""

    kind: str
    """scalar, sequence or mapping; a mapping's children are its keys and values in turn."""
    line: int
    value: str = ""
    tag: str | None = None
    is_plain: bool = False
    children: list[Node] = field(default_factory=list)
    size: int | None = None
    """Approximate size of its value in bytes, with aliases expanded; None while it is being read."""

    def entry(self, name: str) -> Node | None:
        """Return the value of a key of a mapping."""
        if self.kind != "mapping":
            return None
        return next((value for key, value in zip(self.children[::2], self.children[1::2], strict=True) if key.value == name), None)

    @property
    def is_merge(self) -> bool:
        """Return whether a key merges other mappings into its own."""
        return self.kind == "scalar" and self.value == "<<" and (self.is_plain or self.tag == MERGE_TAG)


class Composer:
    """Builds the nodes of the first document of a text."""

    def __init__(self, text: str) -> None:
        self._text = text if "\\/" in text else None
        self._loader = _Loader(text)
        self._anchors: dict[str, Node] = {}

    def document(self) -> Node | None:
        """Return the document's root, or None if there is none. Raises DocumentError, and yaml.YAMLError for invalid YAML."""
        self._loader.get_event()  # start of the stream
        event = self._loader.get_event()
        if not isinstance(event, yaml.DocumentStartEvent):
            return None
        root = self._node(0)
        self._loader.get_event()
        return root

    def line_after(self) -> int | None:
        """Return where another document begins, or None if nothing follows."""
        if not self._loader.check_event(yaml.DocumentStartEvent):
            return None
        return int(self._loader.get_event().start_mark.line)

    def _node(self, depth: int) -> Node:
        event: Any = self._loader.get_event()
        line: int = event.start_mark.line
        anchor: str | None = event.anchor
        if depth > MAX_DEPTH:
            raise DocumentError(line, f"nested deeper than {MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(str(anchor), line)
        if isinstance(event, yaml.ScalarEvent):
            self._refuse_escaped_slash(event, line)
            node = Node("scalar", line, event.value, event.tag, event.implicit[0], size=len(event.value) + 3)
            if anchor:
                self._anchors[anchor] = node
            return node
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        node = Node("mapping" if is_mapping else "sequence", line)
        if anchor:
            self._anchors[anchor] = node
        end = yaml.MappingEndEvent if is_mapping else yaml.SequenceEndEvent
        size = 2
        while not self._loader.check_event(end):
            child = self._node(depth + 1)
            node.children.append(child)
            size += child.size or 0
        self._loader.get_event()
        node.size = size
        return node

    def _aliased(self, anchor: str, line: int) -> Node:
        target = self._anchors.get(anchor)
        if target is None:
            raise DocumentError(line, f"the alias *{anchor} is used before an anchor &{anchor} is set")
        if target.size is None:
            raise DocumentError(line, f"the anchor &{anchor} contains itself")
        return target

    def _refuse_escaped_slash(self, event: Any, line: int) -> None:
        """libyaml accepts this JSON escape, go-yaml does not."""
        if self._text is None or event.style != '"':
            return
        if _ESCAPED_SLASH.search(self._text, event.start_mark.index, event.end_mark.index):
            raise DocumentError(line, "not valid YAML: kubectl does not know the escape \\/ in double quotes; write / alone")


def value_of(root: Node, text_length: int) -> Any:
    """Return the JSON value of a document with this text length. Raises DocumentError, also for documents that are too large."""
    kind = root.entry("kind")
    items = root.entry("items")
    size = root.size or 0
    if items is not None and items.kind == "sequence" and is_list(kind.value if kind else None):
        large = next((item for item in items.children if (item.size or 0) > MAX_OBJECT_BYTES), None)
        if large is None and size > MAX_OBJECT_BYTES + _EXPANSION * text_length:
            large = root
    else:
        large = root if size > MAX_OBJECT_BYTES else None
    if large is not None:
        head = {name: found.value for name in ("apiVersion", "kind") if (found := large.entry(name) or root.entry(name)) is not None}
        raise DocumentError(large.line, too_large(large.size or 0), head)
    return _construct(root, 0)


def _construct(node: Node, depth: int) -> Any:
    if depth > MAX_DEPTH:  # an alias may be nested deeper than its anchor
        raise DocumentError(node.line, f"nested deeper than {MAX_DEPTH} levels")
    if node.kind == "scalar":
        try:
            return scalar(node.value, node.tag, is_plain=node.is_plain)
        except ValueError as error:
            raise DocumentError(node.line, str(error)) from error
    if node.kind == "sequence":
        return [_construct(child, depth + 1) for child in node.children]
    value: dict[str, Any] = {}
    given: dict[str, int] = {}
    for key, child in zip(node.children[::2], node.children[1::2], strict=True):
        if key.is_merge:
            for source in _merged(child):
                value.update(_construct(source, depth + 1))
            continue
        name = _key(key)
        if name in given:
            raise DocumentError(key.line, f"the key {name} is given twice (the first time {_lines_above(key.line - given[name])})")
        given[name] = key.line
        value[name] = _construct(child, depth + 1)
    return value


def _lines_above(lines: int) -> str:
    return "on the same line" if lines == 0 else "one line above" if lines == 1 else f"{lines} lines above"


def _key(node: Node) -> str:
    if node.kind != "scalar":
        raise DocumentError(node.line, f"a {node.kind} cannot be a key; is this a template that was not rendered?")
    try:
        return key_text(node.value, node.tag, is_plain=node.is_plain)
    except ValueError as error:
        raise DocumentError(node.line, str(error)) from error


def _merged(node: Node) -> list[Node]:
    """Return the mappings that a merge key merges; a sequence in reverse order, since earlier ones take precedence."""
    sources = [node] if node.kind == "mapping" else node.children[::-1] if node.kind == "sequence" else []
    if any(source.kind != "mapping" for source in sources) or node.kind == "scalar":
        raise DocumentError(node.line, "a merge key << takes a mapping or a list of mappings")
    return sources


def is_list(kind: Any) -> bool:
    """Return whether a kind is a list of objects."""
    return isinstance(kind, str) and kind.endswith("List")


def too_large(size: int) -> str:
    """Return the problem of an object of this many bytes."""
    return f"too large: about {size:,} bytes with its aliases expanded; an API server accepts at most {MAX_OBJECT_BYTES:,} bytes per object"
