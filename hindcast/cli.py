"""The `hindcast` command: its subcommands, and how errors become messages and exit codes.

Exit codes: 0 done, 1 findings or failures, 2 usage or configuration. Each subcommand has a module beside this one,
which is imported when it is run; the work itself is in the other packages.
"""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

from hindcast.lazy import Entry, group
from warehouse.errors import HindcastError

app = group(
    Entry(
        "airflow",
        "hindcast.airflow_server:airflow",
        "Run Airflow on loopback with the DAGs that maintain the lake.",
        "hindcast airflow --config hindcast.yaml --home ./airflow",
    ),
    Entry(
        "check",
        "hindcast.check:check",
        "Check the configuration, connect to everything it names, and say what was found and what to do where something does not answer.",
        "hindcast check --config hindcast.yaml",
    ),
    Entry(
        "collect",
        "hindcast.collect:collect",
        "Collect the flows of every cluster in the configuration.",
        "hindcast collect --config hindcast.yaml",
    ),
    Entry(
        "capacity",
        "hindcast.capacity:capacity",
        "Print what a fleet needs (cores, memory, disk, requests, money) and what it would run into first, from measured unit costs.",
        "hindcast capacity --flows 100000 --clusters 50 --retention 30d",
    ),
    Entry(
        "import",
        "hindcast.import_files:import_files",
        "Import files that Hubble's exporters, `hubble observe` or a log pipeline wrote.",
        "hindcast import --cluster prod-eu-1 /var/run/cilium/hubble",
    ),
    Entry("dashboard", "hindcast.dashboard:dashboard", "Serve the dashboard", "hindcast dashboard --config hindcast.yaml"),
    Entry(
        "demo",
        "hindcast.demo:demo",
        "Run a simulated fleet, collectors, maintenance of the lake and the dashboard.",
        "hindcast demo --for 60s --headless",
    ),
    Entry(
        "simulate",
        "hindcast.simulate:simulate",
        "Serve Hubble's Observer and Peer APIs like the nodes of a fleet",
        "hindcast simulate --clusters 2 --rate 500 --write-config hindcast.yaml",
    ),
    Entry(
        "serve",
        "hindcast.serve:serve",
        "Serve the lake's history to `hubble observe --server HOST:PORT`, and follow what collectors add to it.",
        "hindcast serve --plaintext --config hindcast.yaml",
    ),
    Entry("edges", "hindcast.edges:edges", "Print who talks to whom, busiest first.", "hindcast edges --since 24h --namespace shop"),
    Entry(
        "flows",
        "hindcast.flows:flows",
        "Print recorded flows, oldest first.",
        "hindcast flows --since 1h --namespace shop --verdict DROPPED --follow",
    ),
    Entry(
        "sql",
        "hindcast.sql:sql",
        "Query the lake in SQL (DuckDB).",
        'hindcast sql "SELECT verdict, count(*) FROM flows WHERE time > now() - INTERVAL 1 HOUR GROUP BY 1"',
    ),
    Entry(
        "status",
        "hindcast.status:status",
        "Show each node's state, last flow, rate, coverage and flows known lost, in the last 24 hours; and the lake's size.",
        "hindcast status --output json",
    ),
    Entry("alerts", "hindcast.alerts:alerts", "Alert rules: check, run and replay them; list alerts."),
    Entry("findings", "hindcast.findings:findings", "List findings; accept them for a time, and reopen them."),
    Entry("token", "hindcast.token:token", "Make, list and revoke personal tokens, by which other tools sign in."),
    Entry("access", "hindcast.access:access", "Show who may see what and why, test it, and read the access log."),
    Entry(
        "blueprint",
        "hindcast.blueprint_changes:blueprint",
        "Define how clusters should be configured, publish it, and find drift.",
    ),
    Entry(
        "config",
        "hindcast.config_history:config_history",
        "Record the clusters' network configuration, and show it as it was at any time.",
    ),
    Entry("maintain", "hindcast.maintain:maintain", "Keep the lake small and fast."),
    Entry(
        "policy",
        "hindcast.policy:policy",
        "Evaluate network policies: what they allow and deny, by which rule, and why; and what they should allow.",
    ),
    Entry("report", "hindcast.report:report", "Make reports that can be verified: HTML with data files beside it."),
    text="The memory of Kubernetes networking.",
)


class _NoPandas(MetaPathFinder):
    """Blocks the import of pandas: pyarrow imports it if installed, which costs 0.3 s and 40 MB that no command needs."""

    def find_spec(self, name: str, _path: object, _target: object = None) -> None:
        """Raise ImportError for pandas."""
        if name == "pandas":
            raise ModuleNotFoundError("pandas is not imported in commands", name=name)


def main() -> None:
    """Run the command; a HindcastError is printed without a traceback."""
    sys.meta_path.insert(0, _NoPandas())
    try:
        app()
    except HindcastError as error:
        from hindcast.console import messages

        messages.print(f"hindcast: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except ModuleNotFoundError as error:
        from hindcast.extras import missing

        advice = missing(error)
        if advice is None:
            raise
        print(f"hindcast: {advice}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:  # the reader of the output, such as head, has closed the pipe
        sys.stderr.close()
