"""The DAGs of reports in real Airflow: one for each schedule; a second run makes and sends nothing anew."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import DELIVERIES, FLOWS, REPORTS

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
PROGRAM = """
    import datetime as dt, json, sys
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(sys.argv[1])
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags["report_owners"]
    dag.deadline = None  # Airflow 3.3.2's dag.test() cannot look them up: it has not stored the DAG
    monday = dt.datetime(2026, 3, 9, 6, tzinfo=dt.UTC)
    times = [monday, monday + dt.timedelta(minutes=30), monday + dt.timedelta(days=7)]
    states = [str(dag.test(logical_date=time).state) for time in times]
    print("RESULT", json.dumps({
        "states": states, "doc": bool(dag.doc_md), "owner": dag.default_args["owner"],
        "reports": sorted(name for name in bag.dags if "report" in name),
        "retries": [task.retries for task in dag.tasks],
    }))
"""


def run(folder: Path) -> dict[str, Any]:
    environment = config.environment(
        AIRFLOW_HOME=str(folder / "airflow"),
        HINDCAST_CONFIG=str(folder / "hindcast.yaml"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    )
    migrate = [str(Path(sys.executable).with_name("airflow")), "db", "migrate"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=900)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    result: dict[str, Any] = json.loads(lines[0].removeprefix("RESULT "))
    return result


def test_each_schedule_is_a_dag_and_a_report_is_made_once_for_each_time(tmp_path: Path) -> None:
    grants = [{"subject": name, "role": "namespace-owner", "namespaces": [name]} for name in ("shop", "pay")]
    schedule = {"name": "owners", "report": "owner", "cron": "0 6 * * 1", "window": "7d", "subjects": ["shop"], "deliver_to": ["shop"]}
    document = {
        "lake": {"url": "lake"},
        "ownership": {"grants": grants},
        "deliveries": [{"name": "shop", "subjects": ["shop"], "folder": {"url": "sent"}}],
        "reports": {"schedules": [schedule]},
    }
    (tmp_path / "hindcast.yaml").write_text(json.dumps(document))
    lake = Lake.open(config.load_config(tmp_path / "hindcast.yaml").lake)
    at = dt.datetime(2026, 3, 5, tzinfo=dt.UTC)
    row = {"cluster": "c1", "date": at.date(), "time": at, "uuid": "a", "verdict": "DROPPED", "flow_count": 1, "source_namespace": "shop"}
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist([row], schema=FLOWS.schema)), transactions={}, metadata={})
    result = run(tmp_path)
    assert all("success" in state.lower() for state in result["states"])
    assert result["reports"] == ["report_owners", "report_weekly"]
    assert (result["doc"], result["owner"], set(result["retries"])) == (True, "platform", {3})
    rows = lake.read(REPORTS).sort_by("time").to_pylist()
    assert [(one["event"], one["made_for"], f"{one['until']:%m-%d %H}") for one in rows] == [
        ("made", "shop", "03-09 06"),
        ("made", "shop", "03-16 06"),
        ("identical", "shop", "03-09 06"),
    ]
    assert [one["outcome"] for one in lake.read(DELIVERIES).to_pylist()] == ["delivered"] * 2
    pages = sorted(path.name for path in (tmp_path / "sent").rglob("*.html"))
    assert pages == ["owner-shop-2026-03-09.html", "owner-shop-2026-03-16.html"]
