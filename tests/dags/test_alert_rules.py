"""The DAG in real Airflow: it is read without error, evaluates the rules, and a second run of the same minute changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import yaml

from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import ALERTS

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
PROGRAM = """
    import json, sys
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(sys.argv[1])
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags["alert_rules"]
    dag.deadline = None  # Airflow 3.3.2's dag.test() cannot look them up: it has not stored the DAG
    print("RESULT", json.dumps([str(dag.test().state) for _ in range(2)]))
"""


def test_the_dag_evaluates_the_rules(tmp_path: Path) -> None:
    rule = {"alert": "Always", "expr": "SELECT 'x' AS x, 1 AS value", "min_coverage": 0}
    cover = {"alert": "Silent", "expr": "collector_silent()"}
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "rules": [rule, cover]}]}))
    clusters = [{"name": "c1", "hubble": {"address": "127.0.0.1:9", "plaintext": True}}]
    document = {"lake": {"url": "lake"}, "clusters": clusters, "alerts": {"rules": [{"files": "rules.yaml"}]}}
    (tmp_path / "hindcast.yaml").write_text(json.dumps(document))
    environment = config.environment(
        AIRFLOW_HOME=str(tmp_path / "airflow"),
        HINDCAST_CONFIG=str(tmp_path / "hindcast.yaml"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    )
    migrate = [str(Path(sys.executable).with_name("airflow")), "db", "migrate"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=900)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")] or [done.stdout + done.stderr]
    assert json.loads(line.removeprefix("RESULT ")) == ["success", "success"]
    rows = Lake.open(config.load_config(tmp_path / "hindcast.yaml").lake).read(ALERTS).to_pylist()
    assert sorted((row["rule"], row["state"]) for row in rows) == [
        (f"g/{name}", state) for name in ("Always", "Silent") for state in ("evaluated", "firing")
    ]
