"""How `hindcast blueprint drift` shows what it found, and when it gives no all-clear."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import typer

from hindcast.console import messages
from hindcast.output import Format, write_rows


def print_drift(rows: pa.Table, output: Format, file: Path | None, *, never: Sequence[str]) -> None:
    """Print drift; without any, an all-clear is given for clusters that were evaluated, and `never` names the others."""
    shown = rows
    if output is Format.TABLE and file is None:
        shown = rows.select(["severity", "cluster", "drift", "namespace", "kind", "name", "since", "changed_by", "paths", "summary"])
    write_rows(shown, output, file)
    clusters = len(set(rows["cluster"].to_pylist()))
    messages.print(f"{rows.num_rows} open in {clusters} clusters" if clusters else "" if never else "no drift", style="dim")
    if never:
        messages.print(f"never evaluated until then, so nothing is known of: {', '.join(never)}", markup=False, style="yellow")
    if clusters or never:
        raise typer.Exit(1)
