"""The DAG in real Airflow: it is read without error, and a run compacts a lake."""

import datetime as dt
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import Story
from warehouse import config
from warehouse.schema import FLOWS
from warehouse.tables import Lake

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
NOW = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)

PROGRAM = """
    import json, sys, time
    from airflow.dag_processing.dagbag import DagBag

    began = time.monotonic()
    bag = DagBag(sys.argv[1])
    took = time.monotonic() - began
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags["lake_hourly"]
    run = dag.test()
    print("RESULT", json.dumps({
        "state": str(run.state), "seconds": took, "doc": bool(dag.doc_md), "owner": dag.default_args["owner"],
        "tasks": sorted(task.task_id for task in dag.tasks), "retries": [task.retries for task in dag.tasks],
    }))
"""


def test_a_run_compacts_the_closed_hours_of_every_cluster(tmp_path: Path) -> None:
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    fleet = build_fleet(1, clusters=("c1", "c2"))
    backfill(lake, fleet, Story.before(NOW), since=NOW, until=NOW + dt.timedelta(hours=1), flows_per_second=0.1, seed=1)
    before = lake.read(FLOWS, ["uuid"]).num_rows
    (tmp_path / "hindcast.yaml").write_text(json.dumps({"lake": {"url": str(tmp_path / "lake")}}))
    environment = config.environment(
        AIRFLOW_HOME=str(tmp_path / "airflow"),
        HINDCAST_CONFIG=str(tmp_path / "hindcast.yaml"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    )
    subprocess.run(
        [Path(sys.executable).with_name("airflow"), "db", "migrate"], env=environment, check=True, capture_output=True, timeout=120
    )
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(lines[0].removeprefix("RESULT "))
    assert "success" in result["state"].lower()
    assert result["tasks"] == ["clusters", "compact"]
    assert result["doc"]
    assert result["owner"] == "platform"
    assert set(result["retries"]) == {3}
    assert all(Path(file).name.startswith("hour-12-") for file in lake.files(FLOWS))
    assert lake.read(FLOWS, ["uuid"]).num_rows == before
