"""Reports of one's own: a YAML file of named queries, text and charts. docs/reports.md describes the form.

Each query is SQL, which runs confined over what the subject may see, or one of the ready questions with filters.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import Field, model_validator

from pipelines.evidence.reports.fleet import observed
from pipelines.evidence.reports.model import Bars, Chart, Columns, Report, Section, Series
from pipelines.evidence.reports.reading import LIMITS, Reader
from warehouse import config
from warehouse.config.documents import Document, parse_document
from warehouse.config.values import Section as Model
from warehouse.engine import Limits
from warehouse.errors import ConfigError, QueryError
from warehouse.questions import conditions, count_questions
from warehouse.questions.answers import Answer
from warehouse.questions.edges_in_time import denials, edges_in_time
from warehouse.questions.flow_filter import FlowFilter
from warehouse.questions.question import Question
from warehouse.questions.sql_question import OwnSql

QUESTIONS: dict[str, Callable[[FlowFilter, Limits], Question[Answer]]] = {
    "timeline": lambda wanted, limits: count_questions.timeline(wanted, limits=limits),
    "drop_reasons": lambda wanted, limits: count_questions.drop_reasons(wanted, limits=limits),
    "edges": lambda wanted, limits: edges_in_time(wanted, limits=limits),
    "denials": lambda wanted, limits: denials(wanted, limits=limits),
}
"""The ready questions."""
_UNSTABLE = ("reason", "audited", "first_denied", "bucket_starts", "bucket_flows")
"""Columns of `edges` that are left out."""
_ORDERED = re.compile(r"\border\s+by\b", re.IGNORECASE)
Id = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]


class Query(Model):
    """A named query."""

    question: Literal["timeline", "drop_reasons", "edges", "denials"] | None = None
    filters: tuple[str, ...] = ()
    """Conditions on flows as in the dashboard, e.g. ns=shop."""
    sql: str | None = None
    limit: int = Field(default=LIMITS.rows, ge=1, le=20_000)

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.question is None) == (self.sql is None):
            raise ValueError("give either question or sql")
        if self.sql is not None and self.filters:
            raise ValueError("filters go with a question; write conditions into the sql")
        return self


class Drawn(Model):
    """A chart of the rows of a section's query."""

    kind: Literal["bars", "columns"] = "bars"
    """bars: one for each row; columns: over time."""
    names: str
    """The column that names the bars, or has the times of the columns."""
    values: tuple[str, ...] = Field(min_length=1, max_length=6)
    """Columns with the numbers, one colour each."""
    title: str = ""
    most: int = Field(default=12, ge=1, le=500)
    """How many bars are drawn."""


class Part(Model):
    """A section."""

    id: Id
    title: str = Field(min_length=1)
    text: str = ""
    query: str | None = None
    chart: Drawn | None = None
    columns: tuple[str, ...] = ()
    """The columns that the page shows; all of them if there are none."""

    @model_validator(mode="after")
    def _chart_needs_rows(self) -> Self:
        if self.chart is not None and self.query is None:
            raise ValueError("a chart needs a query")
        return self


class OwnReport(Model):
    """A report of one's own."""

    title: str = Field(min_length=1)
    text: str = ""
    queries: dict[str, Query] = Field(default_factory=dict)
    sections: tuple[Part, ...] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A file and what it says."""

    report: OwnReport
    document: Document

    def error(self, place: tuple[str | int, ...], problem: str) -> ConfigError:
        """Return the error about a place of the file."""
        dotted = ".".join(map(str, place))
        return ConfigError(f"{self.document.where(place)}: {dotted}: {problem}")


def parse(text: str, source: Path) -> Definition:
    """Read the text of a file. Raises ConfigError naming file and line of each mistake."""
    document = parse_document(text, source=source, expected="a mapping with title, queries and sections")
    found = Definition(report=document.build(OwnReport), document=document)
    problems = []
    for name, query in found.report.queries.items():
        for place, condition in enumerate(query.filters):
            try:
                conditions.parse(condition)
            except QueryError as error:
                problems.append(found.error(("queries", name, "filters", place), str(error)))
    ids = [part.id for part in found.report.sections]
    for place, part in enumerate(found.report.sections):
        if part.query is not None and part.query not in found.report.queries:
            known = ", ".join(found.report.queries) or "none"
            problems.append(found.error(("sections", place, "query"), f"there is no query {part.query!r}; the queries are: {known}"))
        if ids.count(part.id) > 1 or part.id == "coverage":
            problems.append(found.error(("sections", place, "id"), f"the id {part.id!r} is taken"))
    if problems:
        raise ConfigError("\n".join(map(str, problems)))
    return found


def files(settings: config.Config) -> dict[str, Path]:
    """Return the files of the configuration's own reports by name. Raises ConfigError for a pattern without files, and a name taken."""
    found: dict[str, Path] = {}
    for pattern in settings.reports.files:
        listed = sorted(path for path in pattern.parent.glob(pattern.name) if path.is_file())
        if not listed:
            raise ConfigError(f"reports.files: {pattern}: there is no such file")
        for path in listed:
            if path.stem in found or path.stem in config.READY_REPORTS:
                raise ConfigError(f"reports.files: {path}: the name {path.stem!r} is taken by another report")
            found[path.stem] = path
    return found


def text_of(settings: config.Config, name: str) -> tuple[str, str] | None:
    """Return the text and the path of an own report's file, checked; None if there is none of that name. Raises ConfigError."""
    path = files(settings).get(name)
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    parse(text, path)
    return text, str(path)


def report(reader: Reader) -> Report:
    """Return the report. Raises ConfigError for a column that a query does not have, AccessDeniedError, LakeError."""
    definition = parse(reader.request.settings, Path(reader.request.source))
    answers = {name: _answer(reader, definition, name) for name in definition.report.queries}
    sections = [_section(definition, place, answers) for place in range(len(definition.report.sections))]
    return Report(
        title=definition.report.title,
        summary=tuple(_paragraphs(definition.report.text)),
        sections=[*sections, observed(reader)],
    )


def _answer(reader: Reader, definition: Definition, name: str) -> Answer:
    query = definition.report.queries[name]
    limits = Limits(seconds=LIMITS.seconds, rows=query.limit)
    try:
        if query.sql is not None:
            answer = reader.ask(OwnSql(text=query.sql, window=reader.window, limits=limits, confined=True))
            return answer if _ORDERED.search(query.sql) else _sorted(answer)
        wanted = reader.flows(conditions=tuple(conditions.parse(text) for text in query.filters))
        answer = reader.ask(QUESTIONS[query.question or ""](wanted, limits))
        return _without(answer, _UNSTABLE) if query.question == "edges" else answer
    except QueryError as error:
        raise definition.error(("queries", name), str(error)) from error


def _sorted(answer: Answer) -> Answer:
    """Return an answer in an order that does not depend on how the lake is stored."""
    order = sorted(range(answer.rows.num_rows), key=[str(row) for row in answer.rows.to_pylist()].__getitem__)
    return replace(answer, rows=answer.rows.take(pa.array(order, pa.int64())))


def _without(answer: Answer, names: tuple[str, ...]) -> Answer:
    return replace(answer, rows=answer.rows.drop_columns([name for name in names if name in answer.rows.column_names]))


def _section(definition: Definition, place: int, answers: dict[str, Answer]) -> Section:
    part = definition.report.sections[place]
    answer = answers[part.query] if part.query is not None else None
    if answer is not None:
        for where, names in (("columns", part.columns), ("chart", (part.chart.names, *part.chart.values) if part.chart else ())):
            for name in names:
                if name not in answer.rows.column_names:
                    known = ", ".join(answer.rows.column_names)
                    raise definition.error(("sections", place, where), f"the query {part.query!r} has no column {name!r}; it has: {known}")
    chart = _chart(definition, place, part.chart, answer.rows) if part.chart and answer is not None else None
    return Section(
        id=part.id,
        title=part.title,
        text=tuple(_paragraphs(part.text)),
        chart=chart,
        rows=None if answer is None else answer.rows,
        names={name: name for name in part.columns},
        cut=answer is not None and answer.cut,
    )


def _chart(definition: Definition, place: int, drawn: Drawn, rows: pa.Table) -> Chart | None:
    listed = rows.select(list(dict.fromkeys((drawn.names, *drawn.values)))).to_pylist()
    if not listed:
        return None
    numbers = ("one", "two", "three", "four", "five", "six")

    def series(taken: list[dict[str, Any]]) -> tuple[Series, ...]:
        for name in drawn.values:
            for row in taken:
                if not isinstance(row[name], int | float | None):
                    raise definition.error(("sections", place, "chart", "values"), f"the column {name!r} has no numbers: {row[name]!r}")
        return tuple(
            Series(name=name, values=tuple(max(0.0, float(row[name] or 0)) for row in taken), tone=tone)
            for name, tone in zip(drawn.values, numbers, strict=False)
        )

    title = drawn.title or ", ".join(drawn.values)
    if drawn.kind == "bars":
        top = listed[: drawn.most]
        return Bars(title=title, names=tuple(str(row[drawn.names]) for row in top), series=series(top), unit="")
    if not pa.types.is_timestamp(rows.schema.field(drawn.names).type):
        raise definition.error(("sections", place, "chart", "names"), f"the column {drawn.names!r} has no times, which columns need")
    ordered = sorted((row for row in listed if row[drawn.names] is not None), key=lambda row: row[drawn.names])
    return Columns(title=title, starts=tuple(row[drawn.names] for row in ordered), series=series(ordered), unit="") if ordered else None


def _paragraphs(text: str) -> list[str]:
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
