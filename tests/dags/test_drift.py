"""The DAG in real Airflow: it is read without error, and a run records drift and controls."""

import datetime as dt
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from pipelines.configuration import manifests
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import DRIFT, FINDINGS, POSTURE

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
PROGRAM = """
    import json, sys
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(sys.argv[1])
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags["drift"]
    dag.deadline = None  # Airflow 3.3.2's dag.test() cannot look them up: it has not stored the DAG
    run = dag.test()
    print("RESULT", json.dumps({
        "state": str(run.state), "doc": bool(dag.doc_md), "owner": dag.default_args["owner"],
        "tasks": sorted(task.task_id for task in dag.tasks), "retries": [task.retries for task in dag.tasks],
    }))
"""


def test_a_run_records_drift_and_controls(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "shop.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    blueprint = {"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}}
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(blueprint | {"namespaces": [{"policies": [{"template": "default-deny"}]}]}))
    cluster = {"name": "c1", "kubernetes": {"manifests": "objects"}}
    document = {"lake": {"url": "lake"}, "clusters": [cluster], "blueprints": ["base.yaml"]}
    (tmp_path / "hindcast.yaml").write_text(json.dumps(document))
    settings = config.load_config(tmp_path / "hindcast.yaml")
    lake = Lake.open(settings.lake)
    manifests.take(lake, settings.clusters[0], now=lambda: dt.datetime.now(dt.UTC))
    environment = config.environment(
        AIRFLOW_HOME=str(tmp_path / "airflow"),
        HINDCAST_CONFIG=str(tmp_path / "hindcast.yaml"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    )
    migrate = [Path(sys.executable).with_name("airflow"), "db", "migrate"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=900)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(lines[0].removeprefix("RESULT "))
    assert "success" in result["state"].lower()
    assert result["tasks"] == ["evaluate", "publish_reports", "revert"]
    assert result["doc"]
    assert result["owner"] == "platform"
    assert set(result["retries"]) == {3}
    assert [row["drift"] for row in lake.read(DRIFT).to_pylist()] == ["missing"]
    assert lake.read(POSTURE).num_rows == 16
    assert [row["source"] for row in lake.read(FINDINGS).to_pylist()] == ["dag drift"]
