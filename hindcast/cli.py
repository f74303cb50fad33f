"""The `hindcast` command: its subcommands, and how errors become messages and exit codes.

Exit codes: 0 done, 1 findings or failures, 2 usage or configuration. Each subcommand has a module beside this one,
which imports what it needs when it runs; the work itself is in the other packages.
"""

from __future__ import annotations

import sys

import typer

from hindcast import airflow_server, blueprint_fleet, check, collect, dashboard, demo, edges, flows, import_files, simulate, sql, status
from hindcast.access import access
from hindcast.config_history import config_history
from hindcast.console import messages
from hindcast.maintain import maintain
from warehouse.errors import HindcastError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="The memory of Kubernetes networking.")


@app.callback()
def _commands() -> None:
    """Hindcast keeps every Hubble flow of a fleet of clusters in an open Parquet lake."""


app.command("airflow", epilog="Example: hindcast airflow --config hindcast.yaml --home ./airflow")(airflow_server.airflow)
app.command("check", epilog="Example: hindcast check --config hindcast.yaml")(check.check)
app.command("collect", epilog="Example: hindcast collect --config hindcast.yaml")(collect.collect)
app.command("import", epilog="Example: hindcast import --cluster prod-eu-1 /var/run/cilium/hubble")(import_files.import_files)
app.command("dashboard", epilog="Example: hindcast dashboard --config hindcast.yaml")(dashboard.dashboard)
app.command("demo", epilog="Example: hindcast demo --for 60s --headless")(demo.demo)
app.command("simulate", epilog="Example: hindcast simulate --clusters 2 --rate 500 --write-config hindcast.yaml")(simulate.simulate)
app.command("edges", epilog="Example: hindcast edges --since 24h --namespace shop")(edges.edges)
app.command("flows", epilog="Example: hindcast flows --since 1h --namespace shop --verdict DROPPED --follow")(flows.flows)
app.command("sql", epilog='Example: hindcast sql "SELECT verdict, count(*) FROM flows WHERE time > now() - INTERVAL 1 HOUR GROUP BY 1"')(
    sql.sql
)
app.command("status", epilog="Example: hindcast status --output json")(status.status)
app.add_typer(access, name="access")
app.add_typer(blueprint_fleet.blueprint, name="blueprint")
app.add_typer(config_history, name="config")
app.add_typer(maintain, name="maintain")


def main() -> None:
    """Run the command; an error of ours is printed without a traceback."""
    try:
        app()
    except HindcastError as error:
        messages.print(f"hindcast: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # whoever read, such as head, has enough
        sys.stderr.close()
