"""`hindcast import`: exporter files into the lake, with progress and a summary."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from hindcast.console import ConfigOption, LakeOption, lake_settings, messages
from warehouse import config
from warehouse.errors import ImportFailedError


def import_files(
    paths: Annotated[list[str], typer.Argument(help="Exporter files, plain or .gz; folders of them; - for standard input.")],
    cluster: Annotated[str, typer.Option("--cluster", help="Cluster the flows belong to.")],
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    quarantine: Annotated[Path, typer.Option(help="File that malformed lines are added to.")] = Path("hindcast-quarantine.tsv"),
) -> None:
    """Import files that Cilium agents' Hubble exporters wrote. Importing one again adds nothing."""
    from collectors.importing import importer
    from warehouse.lake.tables import Lake

    settings = lake_settings(config_path, lake_url)
    redact = config.Redact() if lake_url and not config_path else config.load_config(config_path).collect.redact
    config.check_cluster_name(cluster)
    files = importer.find_files(paths)
    lake = Lake.open(settings)
    outcomes, unreadable = [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files · {task.fields[lines]:,} lines"))
    with Progress(*columns, console=messages) as progress:
        task = progress.add_task("importing", total=len(files), lines=0)
        for file in files:

            def advance(lines: int) -> None:
                progress.update(task, lines=progress.tasks[0].fields["lines"] + lines)

            try:
                outcomes.append(
                    importer.import_file(lake, file, cluster=cluster, recorded=datetime.now(UTC), progress=advance, redact=redact)
                )
            except ImportFailedError as error:
                unreadable += 1
                messages.print(str(error), markup=False, style="red")
            progress.advance(task)
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    for problem in problems[:10]:
        messages.print(f"{problem.place}: {problem.reason}", markup=False)
    if problems:
        with quarantine.open("a", encoding="utf-8") as file_of_problems:
            file_of_problems.writelines(f"{problem.place}\t{problem.reason}\t{problem.text}\n" for problem in problems)
        messages.print(f"{len(problems)} lines set aside in {quarantine}", markup=False)
    total = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in ("lines", "added", "known", "other")}
    typer.echo(
        f"{total['lines']} lines of {len(outcomes)} files: {total['added']} flows added, {total['known']} known already, "
        f"{total['other']} other events, {len(problems)} lines with problems"
    )
    if problems or unreadable:
        raise typer.Exit(1)
