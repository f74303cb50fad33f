"""Reads YAML documents written by users into models, with errors that name the file, line, key and the nearest known key.

The meaning of the documents does not belong here: see warehouse.config and the blueprints.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

import pydantic
import yaml
from pydantic import BaseModel

from warehouse.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)
Place = Sequence[str | int]
"""Keys and list indexes from the top of a document."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A parsed file: its mapping, and the line of each part of it."""

    source: Path
    text: str
    value: dict[str, Any]
    tree: yaml.Node | None

    def where(self, place: Place = ()) -> str:
        """Return `file:line` of a place; of its nearest parent in the file if the place itself is not in it."""
        return f"{self.source}:{_walk(self.tree, place)[0]}"

    def build(self, model: type[Model], *, secret: Iterable[str] = ()) -> Model:
        """Build a model from the document. Raises ConfigError with one line per mistake; values below `secret` keys are not shown."""
        return self.build_part(model, (), secret=secret)

    def build_part(self, model: type[Model], part: Place, *, secret: Iterable[str] = ()) -> Model:
        """Build a model from a part of the document, which must be in it. Raises ConfigError as `build` does."""
        value: Any = self.value
        for key in part:
            value = value[key]
        try:
            return model.model_validate(value)
        except pydantic.ValidationError as error:
            lines = [self._explain(model, part, problem, frozenset(secret)) for problem in error.errors()]
            raise ConfigError("\n".join(lines)) from error

    def _explain(self, model: type[BaseModel], part: Place, problem: Any, secret: frozenset[str]) -> str:
        line, place = _walk(self.tree, (*part, *problem["loc"]))
        if problem["type"] == "missing":
            place.append(problem["loc"][-1])
        dotted = ".".join(str(part) for part in place)
        where = f"{self.source}:{line}: {dotted}: " if dotted else f"{self.source}:{line}: "
        if problem["type"] == "extra_forbidden":
            return where + _unknown("key", str(place[-1]), _keys_at(model, problem["loc"][:-1]))
        if problem["type"] == "union_tag_invalid":
            context = problem["ctx"]
            expected = [tag.strip(" '") for tag in context["expected_tags"].split(",")]
            return where + _unknown(context["discriminator"].strip("'"), str(context["tag"]), expected)
        if problem["type"] == "union_tag_not_found":
            return where + f"the key {problem['ctx']['discriminator']} is missing: it determines the type of this entry"
        message: str = problem["msg"].removeprefix("Value error, ")
        given = None if secret & {str(part) for part in place} else problem.get("input")
        return where + message + (f" (got {given!r})" if isinstance(given, str | int | float) and repr(given) not in message else "")


def _unknown(what: str, given: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(given, known, n=1)
    name = "key" if what == "key" else f"{what} {given!r}"
    return f"unknown {name}" + (f"; did you mean {close[0]!r}?" if close else f"; known here: {', '.join(known)}")


def read_document(source: Path, *, expected: str = "a mapping") -> Document:
    """Read and parse a file; see parse_document. Raises ConfigError if it cannot be read."""
    try:
        text = source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{source}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    return parse_document(text, source=source, expected=expected)


def parse_document(text: str, *, source: Path, expected: str = "a mapping") -> Document:
    """Parse the text of the file `source`. An empty file is an empty mapping.

    Raises ConfigError naming file and line if it is not YAML, repeats a key, or is not a mapping (`expected` describes it in the error).
    """
    try:
        tree = yaml.compose(text, Loader=yaml.SafeLoader)
        repeated = _repeated_key(tree)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(f"{source}:{line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise ConfigError(f"{source}:1: must be {expected}, not {type(value).__name__}")
    if repeated:
        raise ConfigError(f"{source}:{repeated[1]}: the key {repeated[0]!r} is given twice")
    return Document(source=source, text=text, value=value, tree=tree)


def _repeated_key(node: yaml.Node | None, visited: set[int] | None = None) -> tuple[str, int] | None:
    """Return the first repeated key with its line. Each node is visited once, however many aliases refer to it."""
    visited = set() if visited is None else visited
    if id(node) in visited:
        return None
    visited.add(id(node))
    children: list[yaml.Node] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, child in node.value:
            if key.value in seen:
                return str(key.value), key.start_mark.line + 1
            seen.add(key.value)
            children.append(child)
    elif isinstance(node, yaml.SequenceNode):
        children = node.value
    return next(filter(None, (_repeated_key(child, visited) for child in children)), None)


def _walk(tree: yaml.Node | None, place: Place) -> tuple[int, list[str | int]]:
    """Return the line of a place, and the place without parts that are not in the file, such as pydantic's union tags."""
    line, node = 1, tree
    found_parts: list[str | int] = []
    for part in place:
        found = None
        if isinstance(node, yaml.MappingNode):
            found = next(((key.start_mark.line, child) for key, child in node.value if key.value == str(part)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            found = (node.value[part].start_mark.line, node.value[part])
        if found is not None:
            line, node = found[0] + 1, found[1]
            found_parts.append(part)
    return line, found_parts


def _keys_at(model: type[BaseModel], place: Place) -> list[str]:
    """Return the names of the keys allowed at a place, by walking the models' annotations."""
    candidates: list[type[BaseModel]] = [model]
    for part in place:
        if isinstance(part, int):
            continue
        tagged = [one for one in candidates if any(part in get_args(field.annotation) for field in one.model_fields.values())]
        fields = [field for one in candidates for name, field in one.model_fields.items() if part in {name, field.alias}]
        if fields:
            candidates = [found for field in fields for found in _models(field.annotation)]
        elif tagged:
            candidates = tagged
    return list(dict.fromkeys(field.alias or name for one in candidates for name, field in one.model_fields.items()))


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in _models(argument)]
