"""The `hindcast` command: its subcommands, and how errors become messages and exit codes.

Exit codes: 0 done, 1 findings or failures, 2 usage or configuration. The work is in the other packages.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from warehouse import config
from warehouse.errors import HindcastError, ImportFailedError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The memory of Kubernetes networking.")
_messages = Console(stderr=True, highlight=False, soft_wrap=True)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="Configuration file; $HINDCAST_CONFIG or ./hindcast.yaml when absent.")]


@app.callback()
def _commands() -> None:
    """Hindcast keeps every Hubble flow of a fleet of clusters in an open Parquet lake."""


@app.command("import", epilog="Example: hindcast import --cluster prod-eu-1 /var/run/cilium/hubble")
def import_files(
    paths: Annotated[list[str], typer.Argument(help="Exporter files, plain or .gz; folders of them; - for standard input.")],
    cluster: Annotated[str, typer.Option("--cluster", help="Cluster the flows belong to.")],
    config_path: ConfigOption = None,
    lake_url: Annotated[str | None, typer.Option("--lake", help="Lake to import into, instead of the configuration's.")] = None,
    quarantine: Annotated[Path, typer.Option(help="File that malformed lines are added to.")] = Path("hindcast-quarantine.tsv"),
) -> None:
    """Import files that Cilium agents' Hubble exporters wrote. Importing one again adds nothing."""
    from collectors import importer
    from warehouse.tables import Lake

    if lake_url:
        settings = config.Lake(url=lake_url if "://" in lake_url else str(Path(lake_url).absolute()))
    else:
        settings = config.load_config(config_path).lake
    config.check_cluster_name(cluster)
    files = importer.find_files(paths)
    lake = Lake.open(settings)
    outcomes, unreadable = [], 0
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("files · {task.fields[lines]:,} lines"))
    with Progress(*columns, console=_messages) as progress:
        task = progress.add_task("importing", total=len(files), lines=0)
        for file in files:

            def advance(lines: int) -> None:
                progress.update(task, lines=progress.tasks[0].fields["lines"] + lines)

            try:
                outcomes.append(importer.import_file(lake, file, cluster=cluster, recorded=datetime.now(UTC), progress=advance))
            except ImportFailedError as error:
                unreadable += 1
                _messages.print(str(error), markup=False, style="red")
            progress.advance(task)
    problems = [problem for outcome in outcomes for problem in outcome.problems]
    for problem in problems[:10]:
        _messages.print(f"{problem.place}: {problem.reason}", markup=False)
    if problems:
        with quarantine.open("a", encoding="utf-8") as file_of_problems:
            file_of_problems.writelines(f"{problem.place}\t{problem.reason}\t{problem.text}\n" for problem in problems)
        _messages.print(f"{len(problems)} lines set aside in {quarantine}", markup=False)
    total = {name: sum(getattr(outcome, name) for outcome in outcomes) for name in ("lines", "added", "known", "other")}
    typer.echo(
        f"{total['lines']} lines of {len(outcomes)} files: {total['added']} flows added, {total['known']} known already, "
        f"{total['other']} other events, {len(problems)} lines with problems"
    )
    if problems or unreadable:
        raise typer.Exit(1)


def main() -> None:
    """Run the command; an error of ours is printed without a traceback."""
    try:
        app()
    except HindcastError as error:
        _messages.print(f"hindcast: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
