"""Measures one evaluation of 200 alert rules on a generated lake, against the limit of 30 seconds.

    python -m benchmarks.alert_rules [--rules 200] [--flows 1000000]

Half of the rules are SQL over the window, each over another namespace; the others are the built-ins, with arguments that differ. The
evaluation commits the state of what fires; nothing is sent. The first evaluation is measured, and a second one five minutes later.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import structlog
import yaml

from collectors.simulator.bulk import Plan, generate
from pipelines.evidence.rules import running
from pipelines.maintenance import rollup
from warehouse import config
from warehouse.access import access_log
from warehouse.lake.tables import Lake

LIMIT_SECONDS = 30.0
SINCE = datetime(2026, 3, 2, tzinfo=UTC)
END = SINCE + timedelta(days=7, hours=20)
"""An hour of the last generated day, so that a week of history lies before it."""
BUILT_IN = (
    "drops_spike(factor={factor}, weeks=1)",
    "first_seen_edge(source='*-{number}', lookback='6d')",
    "egress_to_new_name(namespace='*-{number}', lookback='6d')",
    "coverage_below(share=0.{number:02})",
    "collector_silent(after='{minutes}m')",
    "drift_opened(severity='high')",
)
SQL = (
    "SELECT cluster, source_namespace AS namespace, count(*) AS value FROM flows "
    "WHERE verdict = 'DROPPED' AND destination_port <> {number} GROUP BY ALL HAVING count(*) > 0"
)


def main() -> None:
    """Generate, evaluate, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rules", type=int, default=200)
    parser.add_argument("--flows", type=int, default=1_000_000)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with tempfile.TemporaryDirectory(prefix="hindcast-bench-") as name:
        folder = Path(name)
        (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": list(map(_rule, range(options.rules)))}]}))
        document = {"lake": {"url": "lake"}, "alerts": {"rules": [{"files": "rules.yaml"}], "lag": "0s"}}
        settings = config.parse_config(json.dumps(document), source=folder / "hindcast.yaml")
        lake, plan = Lake.open(settings.lake), Plan(flows=options.flows, since=SINCE, days=8)
        for cluster in plan.clusters:
            generate(lake, plan, cluster)
        for task in rollup.plan(lake, now=END + timedelta(days=2)):
            rollup.roll_up(lake, task, settings.rollups)
        for place in range(2):
            began, busy = time.perf_counter(), time.process_time()
            done = running.run(settings, lake, now=END + place * timedelta(minutes=5), source="benchmark")
            took, cpu = time.perf_counter() - began, time.process_time() - busy
            failed = [one for one in done.evaluations if one.failure]
            assert not failed, failed[0].failure
            print(
                f"alert rules: {len(done.evaluations)} rules over {options.flows:,} flows, evaluation {place + 1}: {took:.1f} s "
                f"({cpu:.1f} s CPU), {took / LIMIT_SECONDS:.2f} of the limit of {LIMIT_SECONDS:g} s; {len(done.live)} alerts"
            )
        access_log.flush()  # while there is a lake to take it


def _rule(number: int) -> dict[str, str]:
    if number % 2:
        expr = SQL.format(number=number)
    else:
        which = BUILT_IN[number // 2 % len(BUILT_IN)]
        expr = which.format(number=number // 2, factor=2 + number / 100, minutes=10 + number)
    return {"alert": f"Rule{number}", "expr": expr}


if __name__ == "__main__":
    main()
