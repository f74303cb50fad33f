"""Shared by the commands that ask questions: the principal, the window, and the summary line below the rows."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import lake_settings, messages
from hindcast.output import Format
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from warehouse.access.principals import Principal
    from warehouse.lake.time_travel import AsOf
    from warehouse.questions.answers import Answer
    from warehouse.questions.door import Door

AsOption = Annotated[str | None, typer.Option("--as", help="Ask as this user, within what ownership.grants allows the user to see.")]
GroupOption = Annotated[list[str] | None, typer.Option("--group", help="A group of that user; repeatable.")]


def open_door(config_path: Path | None, lake_url: str | None, command: str) -> Door:
    """Open the query door for a command, on the lake that the options select; with only --lake there are no grants."""
    from warehouse.lake.tables import Lake
    from warehouse.questions.door import Door

    settings = config.Config() if lake_url and not config_path else config.load_config(config_path)
    purpose = f"hindcast {command}"
    return Door(
        Lake.open(lake_settings(config_path, lake_url)),
        settings.ownership,
        settings.rollups,
        purpose=purpose,
        engine_settings=settings.engine,
    )


def principal(user: str | None, groups: list[str] | None) -> Principal:
    """Return the principal: the operator, unless --as names a user."""
    from warehouse.access.principals import OPERATOR, Principal

    return Principal(user=user, groups=frozenset(groups or ())) if user else OPERATOR


def refuse_silence(how: Format, *, cut: bool, limit: int | None) -> None:
    """End the command with exit code 1 and a note if what it wrote for a program or a file is not all there is."""
    if cut and how is not Format.TABLE:
        messages.print(f"this is not everything: only the first {limit:,} rows were written; leave --limit out for all", style="yellow")
        raise typer.Exit(1)


def moment(text: str, option: str, *, now: datetime) -> datetime:
    """Parse a time given as an age (`90m`), a date, or an RFC 3339 time; UTC if there is no zone. Raises ConfigError."""
    try:
        if re.fullmatch(r"[\d.]+(ms|[smhdwy]).*", text):
            return now - config.parse_duration(text)
        given = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"{option}: {text!r} is neither an age like 90m or 2d nor a time like 2026-03-02T14:00Z") from error
    return given if given.tzinfo else given.replace(tzinfo=UTC)


AsOfOption = Annotated[
    str | None,
    typer.Option("--as-of", help="As the lake knew it at this age or time, or in this version (a whole number) of the table flows."),
]


def known_at(door: Door, who: Principal, question: str, text: str | None, *, now: datetime) -> AsOf | None:
    """Parse --as-of for a question; a refusal is recorded in the access log. Raises ConfigError, QueryError, LakeError."""
    if text is None:
        return None
    if re.fullmatch(r"\d+", text):
        with door.refusals(who, question, f"--as-of {text}"):
            return door.as_of(int(text))
    instant = moment(text, "--as-of", now=now)
    if instant > now:
        raise ConfigError(f"--as-of: {text!r} is in the future")
    return door.as_of(instant)


def footer(answer: Answer, *, rows: int | None = None) -> None:
    """Print the summary of an answer: the number of rows, the source, the time it took, and the coverage of the window.

    `rows` is given where the rows are not in the answer, because they were written as they came.
    """
    parts = [counted(answer.rows.num_rows if rows is None else rows, "row") + (" (limit reached; there are more)" if answer.cut else "")]
    parts.append(f"source: {answer.source}")
    parts.append(f"{counted(answer.files, 'file')}, {answer.seconds:.2f} s")
    if answer.window.as_of is not None:
        parts.append(str(answer.window.as_of))
    if answer.shares:
        parts.append("observed " + ", ".join(f"{cluster} {share:.1%}" for cluster, share in answer.shares.items()))
        parts.append(answer.losses or "no flow known lost")
    elif answer.window.since is not None:
        parts.append("not observed: the ledger has no rows for this time")
    messages.print(" · ".join(parts), markup=False, style="dim")
