"""The DAGs in real Airflow: they are read without error, care for a lake, and tell of what goes wrong."""

import datetime as dt
import http.server
import json
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from collectors.simulator.fleet import build_fleet
from collectors.simulator.history import backfill
from collectors.simulator.story import Story
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import COVERAGE, EDGES_1H, FINDINGS, FLOWS

pytestmark = pytest.mark.airflow

ROOT = Path(__file__).parents[2]
NOW = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
IMPORT_SECONDS = 1.0

# One process for all: Airflow is slow to start. Each step's answer is printed as a line of JSON.
PROGRAM = """
    import json, os, sys
    from airflow.dag_processing.dagbag import DagBag
    from airflow.sdk.execution_time.callback_supervisor import execute_callback

    broken = sys.argv[2]
    bag = DagBag(sys.argv[1])
    answer = {"errors": bag.import_errors, "files": {s.file: s.duration.total_seconds() for s in bag.dagbag_stats}, "dags": {}}
    for name, dag in bag.dags.items():
        answer["dags"][name] = {
            "doc": dag.doc_md or "", "tags": sorted(dag.tags), "paused": dag.is_paused_upon_creation, "catchup": dag.catchup,
            "deadlines": [alert.interval.total_seconds() for alert in dag.deadline or []],
            "late": [alert.callback.path for alert in dag.deadline or []], "timetable": type(dag.timetable).__name__,
            "tasks": {task.task_id: {"owner": task.owner, "retries": task.retries, "timeout": task.execution_timeout.total_seconds(),
                "alerts": [type(callback).__name__ for callback in task.on_failure_callback or []],
                "outlets": [asset.uri for asset in task.outlets], "mapped": task.is_mapped or bool(task.get_closest_mapped_task_group())}
                for task in dag.tasks},
        }
    def run(name):
        dag = bag.dags[name]
        dag.deadline = None  # Airflow 3.3.2's dag.test() cannot look them up: it has not stored the DAG
        for task in dag.tasks:
            if task.is_mapped:
                task.partial_kwargs["retries"] = 0
            else:
                task.retries = 0
        done = dag.test()
        states = {}
        for instance in done.get_task_instances():
            states.setdefault(instance.task_id, []).append(str(instance.state))
        return {"state": str(done.state), "tasks": states}
    answer["hourly"] = run("lake_hourly")
    answer["daily"] = run("lake_daily")
    answer["again"] = run("lake_hourly")
    os.environ["HINDCAST_CONFIG"] = broken
    answer["broken"] = run("lake_hourly")
    import structlog
    context = {"dag_run": {"dag_id": "lake_hourly", "dag_run_id": "r1", "state": "running", "partition_key": "2026-03-02T12"},
               "deadline": {"id": "1", "deadline_time": "2026-03-02T13:57:00Z"}}
    answer["late"] = execute_callback("dags.alerts.late", {"context": context}, "", None, structlog.get_logger())
    print("RESULT", json.dumps(answer))
"""


class Webhook(http.server.BaseHTTPRequestHandler):
    """Keeps what is posted."""

    posted: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.posted.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("dags")


@pytest.fixture(scope="module")
def ran(folder: Path) -> dict[str, Any]:
    """What the program says of a lake with an hour of two clusters, and of a second lake with a file that cannot be read."""
    posted: list[dict[str, Any]] = []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Posted", (Webhook,), {"posted": posted}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (folder / "webhook").write_text(f"http://127.0.0.1:{server.server_port}/secret-path")
    fleet = build_fleet(1, clusters=("c1", "c2"))
    for name in ("lake", "broken"):
        lake = Lake.open(config.Lake(url=str(folder / name)))
        backfill(lake, fleet, Story.before(NOW), since=NOW, until=NOW + dt.timedelta(hours=1), flows_per_second=0.1, seed=1)
        # Retention goes by the real clock, to which all of this is old.
        settings: dict[str, Any] = {"lake": {"url": str(folder / name)}, "alerts": {"webhook_file": "webhook"}}
        settings["retention"] = {
            "flows": "9y",
            "coverage": "9y",
            "edges_1h": "9y",
            "timeline_1m": "9y",
            "label_sets": "9y",
            "dns_names": "9y",
        }
        settings["retention"]["overrides"] = [{"cluster": "c2", "flows": "1d"}]
        (folder / f"{name}.yaml").write_text(json.dumps(settings))
    flows = Lake.open(config.Lake(url=str(folder / "lake"))).rows(FLOWS)
    unreadable = next(path for path in (folder / "broken" / "flows" / "cluster=c2").rglob("*.parquet"))
    unreadable.write_bytes(unreadable.read_bytes()[:1000])
    environment = config.environment(
        AIRFLOW_HOME=str(folder / "airflow"),
        HINDCAST_CONFIG=str(folder / "lake.yaml"),
        AIRFLOW__CORE__LOAD_EXAMPLES="False",
        AIRFLOW__CORE__DAGS_FOLDER=str(ROOT / "dags"),
    )
    airflow = [Path(sys.executable).with_name("airflow"), "db", "migrate"]
    subprocess.run(airflow, env=environment, check=True, capture_output=True, timeout=900)
    command = [sys.executable, "-c", textwrap.dedent(PROGRAM), str(ROOT / "dags"), str(folder / "broken.yaml")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    server.shutdown()
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    assert lines, done.stdout[-6000:] + done.stderr[-6000:]
    return json.loads(lines[0].removeprefix("RESULT ")) | {"posted": posted, "flows": flows}


def test_every_dag_is_read_without_error_in_a_second(ran: dict[str, Any]) -> None:
    assert ran["errors"] == {}
    assert {"lake_hourly", "lake_daily"} <= ran["dags"].keys()
    assert max(ran["files"].values()) <= IMPORT_SECONDS, ran["files"]


def test_every_dag_says_what_it_is_who_owns_it_and_what_happens_when_it_fails(ran: dict[str, Any]) -> None:
    for name, dag in ran["dags"].items():
        assert "Safe to run again" in dag["doc"], name
        assert "Owner" in dag["doc"], name
        assert "hindcast" in dag["tags"], name
        assert (dag["paused"], dag["catchup"]) == (False, False), name
        assert dag["deadlines"], name
        assert dag["late"] == ["dags.alerts.late"], name
        for task, told in dag["tasks"].items():
            assert told["owner"] == "platform", task
            assert told["retries"] >= 2, task
            assert told["timeout"] > 0, task
            assert told["alerts"] == ["FailureAlert"], task


def test_runs_have_partition_keys_assets_and_a_task_for_each_part_of_the_fleet(ran: dict[str, Any]) -> None:
    hourly, daily = ran["dags"]["lake_hourly"], ran["dags"]["lake_daily"]
    assert hourly["timetable"] == daily["timetable"] == "CronPartitionTimetable"
    assert hourly["tasks"]["publish"]["outlets"] == ["hindcast://lake/hour"]
    assert daily["tasks"]["statistics"]["outlets"] == ["hindcast://lake/day"]
    assert hourly["tasks"]["care.compact"]["mapped"]
    assert daily["tasks"]["retain"]["mapped"]


def test_a_run_compacts_the_closed_hours_of_every_cluster_and_a_second_finds_nothing(ran: dict[str, Any], folder: Path) -> None:
    assert ran["hourly"]["state"] == "success"
    assert ran["hourly"]["tasks"] == {
        "groups": ["success"],
        "care.compact": ["success"],
        "care.roll_up": ["success"],
        "merge": ["success"],
        "publish": ["success"],
    }
    assert ran["again"]["state"] == "success"
    assert ran["again"]["tasks"]["publish"] == ["success"]
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    assert lake.files(FLOWS)
    assert sum(lake.read(EDGES_1H, ["flows"])["flows"].to_pylist()) == ran["flows"], "also of flows that went since"
    names = [Path(file).name for table in (FLOWS, COVERAGE) for file in lake.files(table)]
    assert all(name.startswith("day-") for name in names), "the day is long over"


def test_a_run_takes_out_what_has_had_its_time(ran: dict[str, Any], folder: Path) -> None:
    assert ran["daily"]["state"] == "success"
    assert ran["daily"]["tasks"]["retain"] == ["success"]
    assert set(Lake.open(config.Lake(url=str(folder / "lake"))).read(FLOWS, ["cluster"])["cluster"].to_pylist()) == {"c1"}
    assert list((folder / "lake" / "flows" / "_delta_log").glob("*.checkpoint.parquet"))


def test_a_task_that_fails_leaves_a_finding_and_notifies_the_webhook(ran: dict[str, Any], folder: Path) -> None:
    assert ran["broken"]["state"] == "failed"
    assert ran["broken"]["tasks"]["publish"] == ["upstream_failed"], "the hour is not called cared for"
    found = Lake.open(config.Lake(url=str(folder / "broken"))).read(FINDINGS).to_pylist()
    (failed,) = [row for row in found if row["kind"] == "pipeline_failed"]
    assert (failed["severity"], failed["source"]) == ("high", "dag lake_hourly")
    assert failed["subject"] == "task/lake_hourly.care.compact[0]"
    assert "failed after 1 tries: " in failed["summary"]
    assert "cluster=c2" in failed["summary"], "the file that cannot be read is named"
    told = [message for message in ran["posted"] if message["kind"] == "pipeline_failed"]
    assert [message["text"] for message in told] == [f"Hindcast: {failed['summary']}"]


def test_a_run_that_is_late_leaves_a_finding_and_notifies_the_webhook(ran: dict[str, Any], folder: Path) -> None:
    assert ran["late"] == [True, None]
    found = Lake.open(config.Lake(url=str(folder / "broken"))).read(FINDINGS).to_pylist()
    (late,) = [row for row in found if row["kind"] == "pipeline_late"]
    assert "lake_hourly has not ended by its deadline, 2026-03-02T13:57:00Z; the run is r1" in late["summary"]
    assert [message["subject"] for message in ran["posted"] if message["kind"] == "pipeline_late"] == ["dag/lake_hourly"]
