"""Splits YAML or JSON text into documents and reads them as kubectl does; an unreadable document does not affect the others."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from pipelines.objects.yaml_nodes import MAX_OBJECT_BYTES, Composer, DocumentError, is_list, too_large, value_of

_SEPARATOR = re.compile(r"^---(.*)$", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Why a document cannot be read. `line` counts from 1."""

    line: int
    text: str
    is_cut_off: bool = False
    """Whether the text ends before the document is complete."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """One document. If it has a problem, `value` has only what is known of it: apiVersion and kind, or nothing."""

    line: int
    """The line it begins at, counted from 1."""
    value: Any = None
    item_lines: tuple[int, ...] = ()
    """For a list of objects, the line each item begins at; empty if unknown."""
    text: str = ""
    """The text of the document."""
    problem: Problem | None = None


def read_documents(text: str) -> Iterator[Document]:
    """Return every document of a text. An unreadable document has a problem; the others are still read."""
    if text.lstrip(" \t\r\n").startswith("{"):
        values = _json_values(text)
        if values is not None:
            yield from values
            return
    for line, part, trailer in _split(text):
        if trailer:
            problem = Problem(line=line, text="kubectl accepts only a comment after the separator ---: begin the document on the next line")
            yield Document(line=line, text=part, problem=problem)
            continue
        yield from _read_part(part, line)


def _split(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield parts of a stream as Kubernetes splits it: the first line, the part, and the text after its separator."""
    begin, line, trailer = 0, 1, ""
    for found in _SEPARATOR.finditer(text):
        part = text[begin : found.start()]
        if part.strip() or trailer:
            yield line, part, trailer
        line += part.count("\n")
        rest = found[1].strip()
        trailer = "" if rest.startswith("#") else rest
        begin, line = min(found.end() + 1, len(text)), line + 1
        if trailer:
            begin, line = found.start() + 3, line - 1
    if text[begin:].strip() or trailer:
        yield line, text[begin:], trailer


def _read_part(part: str, first_line: int) -> Iterator[Document]:
    begin = first_line + len(part[: len(part) - len(part.lstrip())].splitlines()) if part[:1].isspace() else first_line
    try:
        composer = Composer(part)
        root = composer.document()
        if root is None:
            return
        begin = first_line + root.line
        value = value_of(root, len(part))
        items = root.entry("items")
        lines = tuple(first_line + each.line for each in items.children) if items is not None and items.kind == "sequence" else ()
        yield Document(line=begin, value=value, item_lines=lines, text=part)
        after = composer.line_after()
        if after is not None:
            message = "kubectl does not read text after the end mark ...: separate documents with ---"
            yield Document(line=first_line + after, text=part, problem=Problem(line=first_line + after, text=message))
    except DocumentError as error:
        problem = Problem(line=first_line + error.line, text=error.text)
        yield Document(line=begin, value=error.head, text=part, problem=problem)
    except yaml.MarkedYAMLError as error:
        lines_of_part = len(part.splitlines())
        at = error.problem_mark.line if error.problem_mark else 0
        problem = Problem(
            line=first_line + min(at, max(lines_of_part - 1, 0)),
            text=f"not valid YAML: {error.problem}",
            is_cut_off=at >= lines_of_part - 1,
        )
        yield Document(line=begin, text=part, problem=problem)
    except yaml.reader.ReaderError as error:
        at = part.encode("utf-8", "replace")[: error.position].count(b"\n")
        yield Document(line=begin, text=part, problem=Problem(line=first_line + at, text=f"not valid YAML: {error.reason}"))


class _NotPlainJson(ValueError):
    pass


def _json_values(text: str) -> list[Document] | None:
    """Return the objects of a JSON stream; None if it is not one or has duplicate keys, which the YAML reader then locates."""
    decoder = json.JSONDecoder(object_pairs_hook=_pairs, parse_int=_json_int, parse_float=_json_float, parse_constant=_refuse)
    documents, place = list[Document](), 0
    try:
        while True:
            while place < len(text) and text[place] in " \t\r\n":
                place += 1
            if place == len(text):
                return documents
            value, end = decoder.raw_decode(text, place)
            part, line = text[place:end], text.count("\n", 0, place) + 1
            items = value.get("items") if isinstance(value, dict) else None
            is_many = isinstance(items, list) and is_list(value.get("kind"))
            if not is_many and end - place > MAX_OBJECT_BYTES:
                head = {name: value[name] for name in ("apiVersion", "kind") if isinstance(value, dict) and name in value}
                documents.append(Document(line=line, value=head, text=part, problem=Problem(line=line, text=too_large(end - place))))
            else:
                documents.append(Document(line=line, value=value, text=part))
            place = end
    except (ValueError, RecursionError):
        return None


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _NotPlainJson
    return value


def _json_int(text: str) -> int | float:
    value = int(text) if len(text) < 400 else float(text)
    return value if -(2**63) <= value < 2**63 else float(value)


def _json_float(text: str) -> int | float:
    value = float(text)
    if abs(value) == float("inf"):
        raise _NotPlainJson
    return int(value) if value.is_integer() and abs(value) < 2**63 else value


def _refuse(_text: str) -> None:
    raise _NotPlainJson
