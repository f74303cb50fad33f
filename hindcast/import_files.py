"""`hindcast import`: imports files of flows into the lake, with progress, problems and a summary."""

from __future__ import annotations

import collections
import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from warehouse import config
from warehouse.errors import ImportFailedError
from warehouse.wording import counted

if TYPE_CHECKING:
    from collectors.importing.importer import Outcome, Problem

_REASONS_SHOWN = 20


def import_files(
    paths: Annotated[list[str], typer.Argument(help="Files of flows, plain or compressed; folders of them; - for standard input.")],
    cluster: Annotated[str, typer.Option("--cluster", help="Cluster the flows belong to.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    quarantine: Annotated[Path, typer.Option(help="File to which unreadable lines are appended.")] = Path("hindcast-quarantine.tsv"),
) -> None:
    """Import files that Hubble's exporters, `hubble observe` or a log pipeline wrote. Importing one again adds nothing.

    The exit code is 1 if anything was not read; each file and line is named with the reason.
    """
    from collectors.importing import importer, sources
    from warehouse.lake.tables import Lake

    settings = lake_settings(config_path, lake_url)
    redact = config.Redact() if lake_url and not config_path else config.load_config(config_path).collect.redact
    config.check_cluster_name(cluster)
    found = sources.find_files(paths, leave_out=[quarantine])
    lake = Lake.open(settings)
    failures = [str(unread) for unread in found.unread]
    outcomes: list[Outcome] = []
    bad_lines = _BadLines(quarantine)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files · {task.fields[lines]:,} lines"))
    with Progress(*columns, console=messages) as progress:
        task = progress.add_task("importing", total=len(found.files), lines=0)

        def advance(lines: int) -> None:
            progress.update(task, lines=progress.tasks[0].fields["lines"] + lines)

        for file in found.files:
            target = importer.Target(
                lake=lake, cluster=cluster, recorded=datetime.now(UTC), redact=redact, on_lines=advance, on_problem=bad_lines.add
            )
            try:
                outcomes.append(importer.import_file(target, file))
            except ImportFailedError as error:
                failures.append(str(error))
            progress.advance(task)
    failures += [outcome.failure for outcome in outcomes if outcome.failure]
    for outcome in outcomes:
        _warn(outcome)
    bad_lines.report()
    for failure in failures:
        _print(f"not read: {failure}", style="red")
    total = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in ("lines", "added", "known", "other", "problem_count")}
    not_read = f", {len(failures)} not read" if failures else ""
    typer.echo(
        f"{counted(total['lines'], 'line')} of {counted(len(outcomes), 'file')}: {counted(total['added'], 'flow')} added, "
        f"{total['known']} known already, "
        f"{counted(total['other'], 'other event')}, {counted(total['problem_count'], 'line')} with problems{not_read}"
    )
    if total["problem_count"] or failures:
        raise typer.Exit(1)


def _warn(outcome: Outcome) -> None:
    """Print notes about flows that were stored but have peculiarities; they do not affect the exit code."""
    for name, count in outcome.unknown.most_common():
        what = "kept as JSON, since its type is" if name.startswith("extension ") else "left out of the flows that had it, since it is"
        _print(f"{outcome.source}: {count:,} x {name}: {what} not known to this version")
    if outcome.flagged:
        what = "flows with a time before 2019 or in the future: flagged clock_skew, left out of the coverage"
        _print(f"{outcome.source}: {outcome.flagged:,} {what}")


def _print(text: str, *, style: str | None = None) -> None:
    """Print a message with control characters, which may come from files and names, replaced."""
    shown = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    messages.print(shown, markup=False, style=style)


class _BadLines:
    """Writes unreadable lines to the quarantine file, each once, and counts them per file and reason."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._there: set[bytes] | None = None
        self._first: dict[tuple[str, str], str] = {}
        self._counts: collections.Counter[tuple[str, str]] = collections.Counter()
        self._failure: OSError | None = None

    def add(self, problem: Problem) -> None:
        """Add one line to the quarantine."""
        key = problem.place.rpartition(":")[0], problem.reason
        if key in self._first or len(self._first) < 10 * _REASONS_SHOWN:
            self._first.setdefault(key, problem.place)
            self._counts[key] += 1
        line = f"{problem.place}\t{problem.reason}\t{problem.text}".replace("\n", " ").encode("utf-8", "backslashreplace") + b"\n"
        try:
            self._write(line)
        except OSError as error:
            self._failure = self._failure or error

    def _write(self, line: bytes) -> None:
        if self._there is None:
            self._there = set()
            if self._file.exists():
                with self._file.open("rb") as written:
                    self._there.update(_hash(one) for one in written)
            else:
                self._file.touch(mode=0o600)
        if _hash(line) in self._there:
            return
        with self._file.open("ab") as file:
            file.write(line)
        self._there.add(_hash(line))

    def report(self) -> None:
        """Print for each file and reason where it first occurred and how often."""
        shown = list(self._first.items())[:_REASONS_SHOWN]
        for key, place in shown:
            more = f" (and {counted(self._counts[key] - 1, 'more line')} of this file)" if self._counts[key] > 1 else ""
            _print(f"{place}: {key[1]}{more}")
        if len(self._first) > len(shown):
            _print(f"... and {len(self._first) - len(shown)} other reasons")
        if self._failure is not None:
            _print(f"{self._file}: lines could not be set aside: {self._failure.strerror}", style="red")
        elif self._first:
            _print(f"{counted(sum(self._counts.values()), 'line')} set aside in {self._file}")


def _hash(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=16).digest()
