"""Alert rules: as they are written in files, as they are once they were checked, and mistakes in them. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self

from pydantic import ConfigDict, Field, model_validator

from pipelines.evidence.rules.calls import Call
from warehouse.config import Duration, Section

LONGEST_WINDOW = timedelta(days=31)


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
    rules: tuple[Any, ...] = ()
    """Each of them is checked by itself, as RuleText, so that a mistake in one does not stop the others."""


class FileText(Section):
    """A rule file."""

    groups: tuple[Any, ...] = ()
    """Each of them is checked by itself, as GroupText."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule that was checked."""

    group: str
    text: RuleText
    subject: str | None
    """With whose rights it is evaluated; None for the operator."""
    severities: tuple[str, ...] | None = None
    """The severities that its alerts may have; None for all."""
    where: str
    """file:line"""
    call: Call | None
    """The built-in expression; None for SQL."""
    label_columns: tuple[str, ...]
    """Columns of its rows that become labels."""

    @property
    def name(self) -> str:
        """group/alert, after the subject if the rule has one: teams do not share names."""
        return named(self.subject, self.short_name)

    @property
    def short_name(self) -> str:
        """group/alert"""
        return f"{self.group}/{self.text.alert}"


@dataclass(frozen=True, kw_only=True)
class Mistake:
    """What is wrong in a rule file."""

    where: str
    """file:line, or what of the configuration names the file."""
    text: str
    subject: str | None
    """Whose file it is; None for the operator's."""
    rule: str = ""
    """Name of the rule; empty if it is about no single rule that has a name, so that it is not known which rules the file is to have."""

    def __str__(self) -> str:
        return f"{self.where}: {self.text}"

    @property
    def name(self) -> str:
        """The name under which it is recorded: that of the rule, or of the file."""
        return self.rule or named(self.subject, self.where.rpartition(":")[0] or self.where)


def named(subject: str | None, name: str) -> str:
    """Return the name of a rule or file of a subject."""
    return name if subject is None else f"{subject}/{name}"
