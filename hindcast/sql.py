"""`hindcast sql`: runs queries on the lake, once or at a prompt."""

from __future__ import annotations

import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption, Format, OutputOption, write_rows, write_stream
from hindcast.query_options import AsOfOption, AsOption, GroupOption, footer, known_at, moment, open_door, principal, refuse_silence
from warehouse.errors import ConfigError, HindcastError
from warehouse.schema import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable

SHOWN = 10_000
"""How many rows are shown as a table by default."""
KEYWORDS = (
    "SELECT FROM WHERE GROUP BY ORDER LIMIT AND OR NOT IN BETWEEN LIKE AS ON JOIN LEFT USING HAVING WITH DISTINCT COUNT SUM MIN MAX AVG "
    "ALL DESC ASC NULL IS INTERVAL NOW EXPLAIN DESCRIBE"
)


def sql(
    query: Annotated[str | None, typer.Argument(help="The query; - reads it from standard input; opens a prompt by default.")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
    file: FileOption = None,
    since: Annotated[str | None, typer.Option("--since", help="Only rows since this age or time; with --as, 24h by default.")] = None,
    until: Annotated[str | None, typer.Option("--until", help="Only rows before this age or time.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Maximum number of rows; 10,000 by default for a table, otherwise all.")
    ] = None,
    timeout: Annotated[float, typer.Option("--timeout", min=0.1, help="Seconds after which the query is stopped.")] = 60.0,
    as_of: AsOfOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    from warehouse.engine import EVERY_ROW, Limits, Window
    from warehouse.questions.sql_question import OwnSql, SqlStream

    door, who = open_door(config_path, lake_url, "sql"), principal(user, groups)
    is_shown = output is Format.TABLE and file is None
    limits = Limits(rows=limit or (SHOWN if is_shown else EVERY_ROW), seconds=timeout)

    def answer(text: str) -> None:
        now = datetime.now(UTC)
        window = Window(
            since=moment(since, "--since", now=now) if since else None,
            until=moment(until, "--until", now=now) if until else None,
            as_of=known_at(door, who, "sql", as_of, now=now),
        )
        if is_shown:
            found = door.answer(who, OwnSql(text=text, window=window, limits=limits))
            write_rows(found.rows, output)
            footer(found)
            return
        question, began = SqlStream(text=text, window=window, limits=limits), time.monotonic()
        with door.reading(who, question.name, question.subject) as reading, reading.answer(question) as streamed:
            reading.rows, cut = write_stream(streamed.rows, output, file, most=limit)
        footer(replace(streamed.about, cut=cut, seconds=time.monotonic() - began), rows=reading.rows)
        refuse_silence(output, cut=cut, limit=limit)

    if query is None and sys.stdin.isatty():
        _prompt(answer)
        return
    text = sys.stdin.read() if query in ("-", None) else query
    if not text or not text.strip():
        raise ConfigError("there is no query: give one as an argument, or - to read it from standard input")
    answer(text.strip().rstrip(";"))


sql.__doc__ = (
    f"Query the lake in SQL (DuckDB). The views are {', '.join(TABLES)}; docs/tables.md lists their columns. "
    "--since and --until limit each view to rows that overlap that time: flows within it, and overlapping intervals and versions."
)


def _prompt(answer: Callable[[str], None]) -> None:
    """Read and run queries until the end of input. Each query ends with a semicolon; an error ends only that query."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory
    from prompt_toolkit.lexers import PygmentsLexer
    from pygments.lexers.sql import SqlLexer

    words = [*KEYWORDS.split(), *TABLES, *sorted({column.name for table in TABLES.values() for column in table.columns})]
    history = Path.home() / ".local" / "state" / "hindcast" / "sql_history"
    history.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    session: PromptSession[str] = PromptSession(
        history=FileHistory(str(history)), completer=WordCompleter(words, ignore_case=True), lexer=PygmentsLexer(SqlLexer)
    )
    messages.print("End a query with ; · Tab completes · Ctrl-D leaves", style="dim")
    written = ""
    while True:
        try:
            line = session.prompt("... " if written else "sql> ")
        except KeyboardInterrupt:
            written = ""
            continue
        except EOFError:
            return
        written = f"{written}\n{line}".strip()
        if not written.endswith(";"):
            continue
        text, written = written.rstrip(";").strip(), ""
        if text.lower() in ("exit", "quit"):
            return
        try:
            answer(text)
        except HindcastError as error:
            messages.print(str(error), markup=False, style="red")
        except KeyboardInterrupt:
            messages.print("stopped", style="red")
