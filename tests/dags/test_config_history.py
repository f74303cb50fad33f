"""The DAG of configuration history in real Airflow: a run records what each cluster's configuration is."""

import json
import subprocess
import sys
import textwrap
from datetime import UTC, datetime
from pathlib import Path

import pytest

from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import versions

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]

PROGRAM = """
    import json, sys
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(sys.argv[1])
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags["config_history"]
    dag.deadline = None  # Airflow 3.3.2's dag.test() cannot look them up: it has not stored the DAG
    run = dag.test()
    print("RESULT", json.dumps({
        "state": str(run.state), "doc": bool(dag.doc_md), "owner": dag.default_args["owner"],
        "tasks": sorted(task.task_id for task in dag.tasks),
    }))
"""


def test_a_run_records_the_configuration_of_every_cluster_that_can_be_read(tmp_path: Path) -> None:
    for name in ("c1", "c2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    clusters = [{"name": name, "kubernetes": {"manifests": name}} for name in ("c1", "c2")]
    document = {"lake": {"url": "lake"}, "clusters": [*clusters, {"name": "c3"}]}
    (tmp_path / "hindcast.yaml").write_text(json.dumps(document))
    environment = config.environment(
        AIRFLOW_HOME=str(tmp_path / "airflow"),
        HINDCAST_CONFIG=str(tmp_path / "hindcast.yaml"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    )
    subprocess.run(
        [Path(sys.executable).with_name("airflow"), "db", "migrate"], env=environment, check=True, capture_output=True, timeout=900
    )
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    result = json.loads(lines[0].removeprefix("RESULT "))
    assert "success" in result["state"].lower()
    assert result["tasks"] == ["clusters", "compact", "snapshot"]
    assert (result["doc"], result["owner"]) == (True, "platform")
    found = versions.in_force(Lake.open(config.Lake(url=str(tmp_path / "lake"))), datetime.now(UTC))
    assert found.select(["cluster", "kind", "name"]).to_pylist() == [
        {"cluster": name, "kind": "Namespace", "name": "shop"} for name in ("c1", "c2")
    ]
