"""The DAG `policy_watch` in real Airflow: a drop that a change causes is recorded once, however often it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.modules import load
from warehouse import config

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
PROPOSALS = ROOT / "tests" / "pipelines" / "proposals"
PROGRAM = """
    import json, sys
    from airflow.dag_processing.dagbag import DagBag

    bag = DagBag(sys.argv[1])
    assert not bag.import_errors, bag.import_errors
    dag = bag.dags["policy_watch"]
    dag.deadline = None  # Airflow 3.3.2's dag.test() cannot look them up: it has not stored the DAG
    states = [str(dag.test().state) for _ in range(2)]
    print("RESULT", json.dumps({"states": states, "doc": bool(dag.doc_md), "owner": dag.default_args["owner"]}))
"""


def test_two_runs_record_a_drop_once(tmp_path: Path) -> None:
    made, watching = (load(PROPOSALS / f"{name}.py") for name in ("conftest", "test_watching"))
    central = load(PROPOSALS.parent / "central" / "test_watching.py")
    office = made.Office(tmp_path)
    office.flows("shop/batch", "shop/web")
    office.configure(proposals={"approval": "none"})
    proposal = watching.applied(office, made.CLOSED)
    change = central.published(office)
    office.flows("shop/batch", "shop/web", ago=5, times=4, verdict="DROPPED")
    environment = config.environment(
        AIRFLOW_HOME=str(tmp_path / "airflow"),
        HINDCAST_CONFIG=str(office.file),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    )
    migrate = [str(Path(sys.executable).with_name("airflow")), "db", "migrate"]
    subprocess.run(migrate, env=environment, check=True, capture_output=True, timeout=900)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ROOT / "dags")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(lines[0].removeprefix("RESULT ")) == {"states": ["success", "success"], "doc": True, "owner": "platform"}
    assert [row["event"] for row in office.rows(proposal)].count("watched") == 1
    assert central.events(office, change).count("watched") == 1
