"""The DAG in real Airflow: it is read without error, and a second run of it records nothing."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration import manifests
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FINDINGS

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
PROGRAM = """
    import json, sys
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(sys.argv[1])
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags["policy_daily"]
    dag.deadline = None  # Airflow 3.3.2's dag.test() cannot look them up: it has not stored the DAG
    states = [str(dag.test().state) for _ in range(2)]
    print("RESULT", json.dumps({
        "states": states, "doc": bool(dag.doc_md), "owner": dag.default_args["owner"],
        "tasks": sorted(task.task_id for task in dag.tasks), "retries": [task.retries for task in dag.tasks],
    }))
"""
OBJECTS = """
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: open, namespace: shop}
spec: {podSelector: {}, ingress: [{}]}
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


def test_two_runs_record_what_is_found_once(tmp_path: Path) -> None:
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "shop.yaml").write_text(OBJECTS)
    cluster = {"name": "c1", "kubernetes": {"manifests": "objects"}}
    (tmp_path / "hindcast.yaml").write_text(json.dumps({"lake": {"url": "lake"}, "clusters": [cluster]}))
    settings = config.load_config(tmp_path / "hindcast.yaml")
    lake = Lake.open(settings.lake)
    for _ in range(2):  # what two observations agree on was in force between them
        manifests.take(lake, settings.clusters[0], now=lambda: dt.datetime.now(dt.UTC))
    result = run(tmp_path)
    assert all("success" in state.lower() for state in result["states"])
    assert result["tasks"] == ["audit", "recommend"]
    assert (result["doc"], result["owner"], set(result["retries"])) == (True, "platform", {3})
    rows = lake.read(FINDINGS).to_pylist()
    assert [(row["kind"], row["state"], row["source"]) for row in rows] == [("allow_all", "open", "dag policy_daily")]
