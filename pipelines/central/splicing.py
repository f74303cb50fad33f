"""Changes single parts of a YAML file and leaves the rest as it is written, with its comments. Pure.

Each attempt is read again and compared with what is wanted. A file in which no attempt gives that is written anew as a whole.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from typing import Any

import yaml

from warehouse.config.documents import Document

Place = Sequence[str | int]
_WIDTH = 120


class PlainDumper(yaml.SafeDumper):
    """Writes equal parts in full, each time, instead of naming the first of them."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return that no part has an alias."""
        return True


def written(value: Any) -> str:
    """Return a value as YAML."""
    return yaml.dump(value, Dumper=PlainDumper, sort_keys=False, allow_unicode=True, width=_WIDTH)


def replaced(document: Document, place: Place, value: Any) -> str:
    """Return the text of a file with another value at a place that it has."""
    wanted = copy.deepcopy(document.value)
    _at(wanted, place[:-1])[place[-1]] = value
    node = _node(document.tree, place)
    return _first(wanted, _replacements(document.text, node, value) if node is not None else iter(()))


def appended(document: Document, place: Place, value: Any) -> str:
    """Return the text of a file with one more item in the list at a place; the list is made if its key is absent."""
    wanted = copy.deepcopy(document.value)
    parent = _at(wanted, place[:-1])
    parent[place[-1]] = [*(parent.get(place[-1]) or ()), value] if isinstance(parent, dict) else [*parent[int(place[-1])], value]
    return _first(wanted, _additions(document, place, value))


def _first(wanted: Any, attempts: Iterator[str]) -> str:
    for text in attempts:
        try:
            if yaml.safe_load(text) == wanted:
                return text
        except yaml.YAMLError:
            continue
    return written(wanted)


def _replacements(text: str, node: yaml.Node, value: Any) -> Iterator[str]:
    begin, end = node.start_mark.index, _end(text, node)
    yield text[:begin] + _indented(value, node.start_mark.column) + text[end:]
    yield text[:begin] + _in_flow(value) + text[end:]


def _additions(document: Document, place: Place, value: Any) -> Iterator[str]:
    text, node = document.text, _node(document.tree, place)
    if isinstance(node, yaml.SequenceNode) and node.value:
        column, end = node.start_mark.column, _end(text, node.value[-1])
        yield f"{text[:end]}\n{' ' * column}- {_indented(value, column + 2)}{text[end:]}"
        yield f"{text[:end]}, {_in_flow(value)}{text[end:]}"
    elif node is None and len(place) == 1:
        yield f"{text.rstrip()}\n{place[0]}:\n  - {_indented(value, 4)}\n"


def _indented(value: Any, column: int) -> str:
    text = written(value).removesuffix("...\n").rstrip("\n")
    return text.replace("\n", "\n" + " " * column)


def _in_flow(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def _end(text: str, node: yaml.Node) -> int:
    """Where a part ends: a parser puts the comments and empty lines after it into it as well."""
    begin = node.start_mark.index
    lines = text[begin : node.end_mark.index].rstrip().split("\n")
    while len(lines) > 1 and (not lines[-1].strip() or lines[-1].lstrip().startswith("#")):
        lines.pop()
    return begin + len("\n".join(lines).rstrip())


def _node(tree: yaml.Node | None, place: Place) -> yaml.Node | None:
    node = tree
    for part in place:
        if isinstance(node, yaml.MappingNode):
            node = next((child for key, child in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
        else:
            return None
    return node


def _at(value: Any, place: Place) -> Any:
    for part in place:
        value = value[part]
    return value
