"""Prints the drift found by `hindcast blueprint drift`, and reports clusters that were never evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import typer

from hindcast.console import messages
from hindcast.output import Format, write_rows
from warehouse.wording import counted


def print_drift(rows: pa.Table, output: Format, file: Path | None, *, never: Sequence[str]) -> None:
    """Print drift and exit with code 1 if there is any, or if there are clusters that were `never` evaluated."""
    shown = rows
    if output is Format.TABLE and file is None:
        shown = rows.select(["severity", "cluster", "drift", "namespace", "kind", "name", "since", "changed_by", "paths", "summary"])
    write_rows(shown, output, file)
    clusters = len(set(rows["cluster"].to_pylist()))
    messages.print(f"{rows.num_rows} open in {counted(clusters, 'cluster')}" if clusters else "" if never else "no drift", style="dim")
    if never:
        messages.print(f"not evaluated by then, so their state is unknown: {', '.join(never)}", markup=False, style="yellow")
    if clusters or never:
        raise typer.Exit(1)
