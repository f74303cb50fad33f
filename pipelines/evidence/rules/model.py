"""Rule files: reading them, and checking them so that each mistake is named with file and line before a rule ever runs."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Self

import pyarrow as pa
from pydantic import ConfigDict, Field, model_validator

from pipelines.evidence.rules import calls, templates
from pipelines.evidence.rules.calls import Call
from warehouse import config
from warehouse.config import Duration, Section
from warehouse.config.documents import Document, read_document
from warehouse.errors import ConfigError, QueryError
from warehouse.sql import describing

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLOCK = re.compile(r"\bnow\s*\(|\bget_current_timestamp\s*\(|\btoday\s*\(|\bcurrent_(timestamp|date|time|localtime)\b", re.IGNORECASE)
LONGEST_WINDOW = timedelta(days=31)
OWN_LABELS = ("alertname",)
"""Labels that every alert has; a rule cannot set them."""


class RuleText(Section):
    """A rule as it is written in a file."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    alert: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    """Name of the alert."""
    expr: str = Field(min_length=1)
    """SQL over the tables of the window, or a built-in call. Each row is an alert: text columns are its labels, `value` its value."""
    for_: Duration = Field(default=timedelta(), alias="for")
    """For how long it must be true before it fires."""
    keep_firing_for: Duration = timedelta()
    """For how long it goes on firing once it is no longer true."""
    window: Duration = timedelta(minutes=10)
    """Length of the window that is evaluated; it ends at the time of the evaluation."""
    min_coverage: float = Field(default=0.9, ge=0, le=1)
    """A cluster of which a smaller share of the window was observed is not evaluated."""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _window_is_possible(self) -> Self:
        if not timedelta(minutes=1) <= self.window <= LONGEST_WINDOW:
            raise ValueError(f"window: from 1m to {LONGEST_WINDOW.days}d")
        return self


class GroupText(Section):
    """A group of rules as it is written in a file."""

    name: str = Field(min_length=1)
    subject: str | None = None
    """A user or group:NAME with whose rights the rules are evaluated; the operator by default."""
    rules: tuple[RuleText, ...] = ()


class FileText(Section):
    """A rule file."""

    groups: tuple[GroupText, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that was checked."""

    group: str
    text: RuleText
    subject: str | None
    """With whose rights it is evaluated; None for the operator."""
    where: str
    """file:line"""
    call: Call | None
    """The built-in expression; None for SQL."""
    label_columns: tuple[str, ...]
    """Columns of its rows that become labels."""

    @property
    def name(self) -> str:
        """group/alert"""
        return f"{self.group}/{self.text.alert}"


def load(settings: config.Config) -> list[Rule]:
    """Return the rules of all files that the configuration names. Raises ConfigError with one line for each mistake."""
    rules: list[Rule] = []
    mistakes: list[str] = []
    for section in settings.alerts.rules:
        files = sorted(glob.glob(str(section.files)))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not files:
            mistakes.append(f"alerts.rules: no file is named {section.files}")
        for file in files:
            found, wrong = read(Path(file), subject=section.subject)
            rules += found
            mistakes += wrong
    named: dict[str, str] = {}
    for rule in rules:
        if rule.name in named:
            mistakes.append(f"{rule.where}: the rule {rule.name} is defined a second time; the first is at {named[rule.name]}")
        named.setdefault(rule.name, rule.where)
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return rules


def read(file: Path, *, subject: str | None = None) -> tuple[list[Rule], list[str]]:
    """Return the rules of a file that are right, and a line for each mistake, `file:line: what is wrong`.

    `subject` is the one that the configuration names for the file; the file may then not name another one.
    """
    try:
        document = read_document(file, expected="a mapping with the key groups")
        text = document.build(FileText)
    except ConfigError as error:
        return [], str(error).splitlines()
    written = [
        _Written(document, ("groups", group, "rules", place), text.groups[group], rule)
        for group in range(len(text.groups))
        for place, rule in enumerate(text.groups[group].rules)
    ]
    mistakes = list(_of_groups(document, text, subject))
    expressions = [one.call() for one in written]
    queries = [one.rule.expr for one, call in zip(written, expressions, strict=True) if call is None]
    described = iter(describing.schemas(queries) if queries else ())
    rules = []
    for one, call in zip(written, expressions, strict=True):
        found = next(described) if call is None else None
        if isinstance(call, ValueError) or isinstance(found, QueryError):
            mistakes.append(f"{one.where('expr')}: {_indented(str(found if call is None else call))}")
            continue
        columns, label_columns = (call.columns, call.labels) if call is not None else _columns(found)
        wrong = [*one.of_columns(found), *one.of_templates(columns)]
        mistakes += wrong
        if not wrong:
            by = subject if subject is not None else one.group.subject
            rules.append(
                Rule(group=one.group.name, text=one.rule, subject=by, where=one.where("alert"), call=call, label_columns=label_columns)
            )
    return rules, mistakes


@dataclass(frozen=True)
class _Written:
    document: Document
    place: tuple[str | int, ...]
    group: GroupText
    rule: RuleText

    def where(self, *keys: str) -> str:
        return f"{self.document.where((*self.place, *keys))}: {self.group.name}/{self.rule.alert}"

    def call(self) -> Call | ValueError | None:
        try:
            return calls.parsed(self.rule.expr)
        except ValueError as error:
            return error

    def of_columns(self, schema: pa.Schema | None) -> Iterator[str]:
        """Mistakes in the columns of SQL."""
        if schema is None:
            return
        if clock := _CLOCK.search(self.rule.expr):
            yield (
                f"{self.where('expr')}: {clock[0].rstrip('(').strip()} is the time of the clock, so the rule cannot be replayed: "
                "leave it out, since the tables hold only the rule's window, which ends at the time of the evaluation"
            )
        if "value" in schema.names and not _is_number(schema.field("value").type):
            yield f"{self.where('expr')}: the column value must be a number, not {schema.field('value').type}"
        for name in schema.names:
            if not _LABEL.fullmatch(name):
                yield f"{self.where('expr')}: the column {name!r} needs a name of letters, digits and underscores: write AS name"
            if name in OWN_LABELS:
                yield f"{self.where('expr')}: the column {name} would replace the alert's own label; give it another name"

    def of_templates(self, columns: Sequence[str]) -> Iterator[str]:
        """Mistakes in the names of labels, and in templates."""
        for section in ("labels", "annotations"):
            for name, template in getattr(self.rule, section).items():
                where = self.where(section, name)
                if not _LABEL.fullmatch(name):
                    yield f"{where}: {name!r} cannot be the name of a label or annotation: use letters, digits and underscores"
                if section == "labels" and name in OWN_LABELS:
                    yield f"{where}: the label {name} is set by Hindcast; give it another name"
                try:
                    missing = [found for found in templates.names(template) if found not in columns]
                except ValueError as error:
                    yield f"{where}: {error}"
                    continue
                for found in missing:
                    yield f"{where}: the template names {found}, which is no column of the expression; there are {', '.join(columns)}"


def _of_groups(document: Document, text: FileText, subject: str | None) -> Iterator[str]:
    seen: set[str] = set()
    for place, group in enumerate(text.groups):
        if group.name in seen:
            yield f"{document.where(('groups', place, 'name'))}: the group {group.name!r} is there twice"
        seen.add(group.name)
        names = [rule.alert for rule in group.rules]
        for number, name in enumerate(names):
            if name in names[:number]:
                yield f"{document.where(('groups', place, 'rules', number, 'alert'))}: {group.name}/{name} is defined twice"
        if subject is not None and group.subject not in (None, subject):
            where = document.where(("groups", place, "subject"))
            yield f"{where}: the configuration evaluates this file as {subject}, so the group cannot be evaluated as {group.subject}"


def _columns(schema: pa.Schema | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if schema is None:
        return ("value",), ()
    texts = tuple(field.name for field in schema if _is_text(field.type) and field.name != "value")
    return (*dict.fromkeys((*schema.names, "value")),), texts


def _is_text(kind: pa.DataType) -> bool:
    inner = kind.value_type if pa.types.is_dictionary(kind) else kind
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_string_view(inner))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def _indented(text: str) -> str:
    return text.replace("\n", "\n    ")
