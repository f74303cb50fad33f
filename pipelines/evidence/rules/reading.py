"""Reads rule files, and checks them so that each mistake is named with file and line before a rule ever runs.

A mistake stops the rule in which it is, and no other one.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from pipelines.evidence.rules import calls, reserved, templates
from pipelines.evidence.rules.calls import Call
from pipelines.evidence.rules.model import FileText, GroupText, Mistake, Rule, RuleText, named
from warehouse import config
from warehouse.config.documents import Document, Place, read_document
from warehouse.errors import ConfigError, QueryError
from warehouse.sql import describing

_LABEL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_CLOCK = re.compile(r"\bnow\s*\(|\bget_current_timestamp\s*\(|\btoday\s*\(|\bcurrent_(timestamp|date|time|localtime)\b", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What the configuration's rule files hold."""

    rules: tuple[Rule, ...]
    """The rules that are right."""
    mistakes: tuple[Mistake, ...]

    def checked(self) -> tuple[Rule, ...]:
        """Return the rules. Raises ConfigError with one line for each mistake if there are any."""
        if self.mistakes:
            raise ConfigError("\n".join(map(str, self.mistakes)))
        return self.rules

    def is_gone(self, rule: str, subject: str | None) -> bool:
        """Whether a rule that was there before is certainly in no file any more: not if its file, or the rule, has a mistake."""
        unread = {one.subject for one in self.mistakes if not one.rule}
        return not (unread & {None, subject}) and all(one.rule != rule for one in self.mistakes)


def load(settings: config.Config) -> Loaded:
    """Return the rules of all files that the configuration names, and the mistakes in them."""
    rules: dict[str, Rule] = {}
    mistakes: list[Mistake] = []
    for section in settings.alerts.rules:
        files = sorted(glob.glob(str(section.files)))  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not files:
            mistakes.append(Mistake(where="alerts.rules", text=f"no file is named {section.files}", subject=section.subject))
        for file in files:
            found, wrong = read(Path(file), subject=section.subject, severities=section.allowed_severities)
            mistakes += wrong
            for rule in found:
                first = rules.setdefault(rule.name, rule)
                if first is not rule:
                    text = f"the rule {rule.name} is defined a second time; the first is at {first.where}, and is evaluated"
                    mistakes.append(Mistake(where=rule.where, text=text, subject=rule.subject, rule=f"{rule.name} at {rule.where}"))
    return Loaded(rules=tuple(rules.values()), mistakes=tuple(mistakes))


def read(file: Path, *, subject: str | None = None, severities: tuple[str, ...] | None = None) -> tuple[list[Rule], list[Mistake]]:
    """Return the rules of a file that are right, and each mistake.

    Args:
        file: the file.
        subject: the one that the configuration names for the file; the file may then not name another one.
        severities: the severities that its alerts may have; None for all.
    """
    try:
        document = read_document(file, expected="a mapping with the key groups")
        text = document.build(FileText)
    except ConfigError as error:
        return [], _listed(error, file, subject)
    mistakes: list[Mistake] = []
    written = list(_written(document, text, subject, mistakes))
    expressions = [one.call() for one in written]
    queries = [one.rule.expr for one, call in zip(written, expressions, strict=True) if call is None]
    described = iter(describing.schemas(queries))
    rules = []
    for one, call in zip(written, expressions, strict=True):
        found = next(described) if call is None else None
        if isinstance(call, ValueError) or isinstance(found, QueryError):
            mistakes.append(one.mistake("expr", text=_indented(str(found if call is None else call))))
            continue
        columns, label_columns = (call.columns, call.labels) if call is not None else _columns(found)
        rule = Rule(
            group=one.group.name,
            text=one.rule,
            subject=one.subject,
            severities=severities,
            where=one.where("alert"),
            call=call,
            label_columns=label_columns,
        )
        wrong = [*one.of_columns(found), *one.of_labels(rule), *one.of_templates(columns)]
        mistakes += wrong
        if not wrong:
            rules.append(rule)
    return rules, mistakes


def _written(document: Document, text: FileText, subject: str | None, mistakes: list[Mistake]) -> Iterator[_Written]:
    """Yield the rules that have the right keys, each name once; add what is wrong with the others to `mistakes`."""
    groups: set[str] = set()
    for number, _ in enumerate(text.groups):
        place = ("groups", number)
        try:
            group = document.build_part(GroupText, place)
        except ConfigError as error:
            mistakes += _listed(error, document.source, subject)
            continue
        if subject is not None and group.subject not in (None, subject):
            wrong = f"the configuration evaluates this file as {subject}, so the group cannot be evaluated as {group.subject}"
            mistakes.append(Mistake(where=document.where((*place, "subject")), text=wrong, subject=subject))
            continue
        if group.name in groups:
            wrong = f"the group {group.name!r} is there twice; the first is evaluated"
            mistakes.append(Mistake(where=document.where((*place, "name")), text=wrong, subject=subject))
            continue
        groups.add(group.name)
        yield from _of_group(document, place, group, subject, mistakes)


def _of_group(document: Document, place: Place, group: GroupText, subject: str | None, mistakes: list[Mistake]) -> Iterator[_Written]:
    by = subject if subject is not None else group.subject
    names: set[str] = set()
    for number, raw in enumerate(group.rules):
        here = (*place, "rules", number)
        name = raw.get("alert") if isinstance(raw, dict) else None
        rule = named(by, f"{group.name}/{name}") if isinstance(name, str) else ""
        try:
            text = document.build_part(RuleText, here)
        except ConfigError as error:
            mistakes += _listed(error, document.source, by, rule)
            continue
        if text.alert in names:
            wrong = f"{group.name}/{text.alert} is defined twice; the first is evaluated"
            where = document.where((*here, "alert"))
            mistakes.append(Mistake(where=where, text=wrong, subject=by, rule=f"{rule} at {where}"))
            continue
        names.add(text.alert)
        yield _Written(document, here, group, text, by)


def _listed(error: ConfigError, file: Path, subject: str | None, rule: str = "") -> list[Mistake]:
    """The mistakes in an error about a file, in which each begins with the file and mostly a line."""
    parts = re.split(rf"^({re.escape(str(file))}(?::\d+)?): ", str(error), flags=re.MULTILINE)[1:]
    found = zip(parts[::2], parts[1::2], strict=True)
    return [Mistake(where=where, text=text.rstrip("\n"), subject=subject, rule=rule) for where, text in found]


@dataclass(frozen=True)
class _Written:
    """A rule with the right keys, and its place in the file."""

    document: Document
    place: Place
    group: GroupText
    rule: RuleText
    subject: str | None

    def where(self, *keys: str) -> str:
        return self.document.where((*self.place, *keys))

    def mistake(self, *keys: str, text: str) -> Mistake:
        short = f"{self.group.name}/{self.rule.alert}"
        return Mistake(where=self.where(*keys), text=f"{short}: {text}", subject=self.subject, rule=named(self.subject, short))

    def call(self) -> Call | ValueError | None:
        try:
            return calls.parsed(self.rule.expr)
        except ValueError as error:
            return error

    def of_columns(self, schema: pa.Schema | None) -> Iterator[Mistake]:
        """Mistakes in the columns of SQL."""
        if schema is None:
            return
        if clock := _CLOCK.search(self.rule.expr):
            text = (
                f"{clock[0].rstrip('(').strip()} is the time of the clock, so the rule cannot be replayed: "
                "leave it out, since the tables hold only the rule's window, which ends at the time of the evaluation"
            )
            yield self.mistake("expr", text=text)
        if "value" in schema.names and not _is_number(schema.field("value").type):
            yield self.mistake("expr", text=f"the column value must be a number, not {schema.field('value').type}")
        for name in schema.names:
            if not _LABEL.fullmatch(name):
                yield self.mistake("expr", text=f"the column {name!r} needs a name of letters, digits and underscores: write AS name")
            if name in reserved.NEVER_COLUMNS:
                yield self.mistake("expr", text=f"the column {name} would replace the alert's own label; give it another name")

    def of_labels(self, rule: Rule) -> Iterator[Mistake]:
        """Labels that are set by Hindcast, and a severity that the rule's alerts may not have."""
        for name, template in self.rule.labels.items():
            if name in reserved.NEVER_LABELS or (rule.call is not None and name in rule.call.labels and name != reserved.SEVERITY):
                text = f"the label {name} is set by Hindcast, from what was evaluated; give it another name"
                yield self.mistake("labels", name, text=text)
            elif name == reserved.SEVERITY and rule.call is not None and name in rule.call.labels and not templates.is_one(template):
                yield self.mistake("labels", name, text="the severity is that of what was evaluated; leave the label out")
            elif name == reserved.SEVERITY and not templates.is_one(template) and not reserved.may_have(rule, template):
                allowed = ", ".join(rule.severities or ())
                text = f"rules of {rule.subject} may have the severities {allowed} (alerts.rules.severities in the configuration)"
                yield self.mistake("labels", name, text=f"{text}, not {template!r}")

    def of_templates(self, columns: Sequence[str]) -> Iterator[Mistake]:
        """Mistakes in the names of labels and annotations, and in templates."""
        for section in ("labels", "annotations"):
            for name, template in getattr(self.rule, section).items():
                if not _LABEL.fullmatch(name):
                    text = f"{name!r} cannot be the name of a label or annotation: use letters, digits and underscores"
                    yield self.mistake(section, name, text=text)
                try:
                    missing = [found for found in templates.names(template) if found not in columns]
                except ValueError as error:
                    yield self.mistake(section, name, text=str(error))
                    continue
                for found in missing:
                    text = f"the template names {found}, which is no column of the expression; there are {', '.join(columns)}"
                    yield self.mistake(section, name, text=text)


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
