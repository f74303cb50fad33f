"""What a report consists of, whatever form it takes: sections with text, figures, a chart and rows. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Literal

import pyarrow as pa

from warehouse.questions.exports import plain

Tone = Literal["plain", "good", "attention", "bad"]


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A number or word with its name, shown large."""

    name: str
    value: str
    note: str = ""
    tone: Tone = "plain"


@dataclass(frozen=True, kw_only=True)
class Series:
    """The values of one kind in a chart."""

    name: str
    values: tuple[float, ...]
    tone: str
    """The colour class of the series: a verdict in lower case, or `one` to `six`."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """A chart of stacked columns over equal parts of time."""

    title: str
    starts: tuple[datetime, ...]
    """Start of each part, in order; parts without values are included."""
    series: tuple[Series, ...]
    """From the bottom up; each has one value for each start."""
    unit: str = "flows"


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A chart of horizontal bars, one for each name."""

    title: str
    names: tuple[str, ...]
    series: tuple[Series, ...]
    """From left to right; each has one value for each name."""
    unit: str = "flows"
    most: float | None = None
    """The value of a bar of full width; the greatest sum if None."""


Chart = Columns | Bars


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of a report."""

    id: str
    """Part of the names of its data files, and its anchor: lower-case words joined by dashes."""
    title: str
    text: tuple[str, ...] = ()
    """Paragraphs of plain text."""
    figures: tuple[Figure, ...] = ()
    chart: Chart | None = None
    rows: pa.Table | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    """The columns shown in the page, with their headings; all columns if empty. Data files have every column."""
    shown: int = 40
    """The most rows that the page shows."""
    cut: bool = False
    """Whether there are more rows than `rows` holds."""
    empty: str = "Nothing was found in this window."
    """What the page says if there are no rows."""

    @property
    def hash(self) -> str:
        """SHA-256 of everything the section says, in hexadecimal."""
        chart = None if self.chart is None else {"kind": type(self.chart).__name__, **asdict(self.chart)}
        said = {
            "id": self.id,
            "title": self.title,
            "text": self.text,
            "figures": [asdict(figure) for figure in self.figures],
            "chart": chart,
            "columns": [] if self.rows is None else self.rows.column_names,
            "rows": [] if self.rows is None else [list(row.values()) for row in self.rows.to_pylist()],
            "cut": self.cut,
        }
        return hashlib.sha256(json.dumps(said, default=plain, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Report:
    """A report without its manifest."""

    title: str
    summary: tuple[str, ...] = ()
    """Paragraphs at the beginning."""
    sections: Sequence[Section]
