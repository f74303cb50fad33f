"""`hindcast policy simulate`: names of the columns, exit codes, what it reads and what it refuses."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from hindcast.cli import app
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

START = datetime(2026, 3, 2, 12, tzinfo=UTC)
CANDIDATE = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec: {endpointSelector: {matchLabels: {app: web}}, ingress: [{fromEndpoints: [{matchLabels: {app: api}}]}]}
"""
COLUMNS = [
    "cluster", "source_namespace", "source_workload_name", "source_entity", "source_dns_name", "source_cidr", "destination_namespace",
    "destination_workload_name", "destination_entity", "destination_dns_name", "destination_cidr", "destination_port", "l4_protocol",
    "before", "after", "change", "flows", "first_seen", "last_seen", "rules", "reason",
]  # fmt: skip


def end(side: str, name: str) -> dict[str, Any]:
    labels = [f"k8s:app={name}", "k8s:io.kubernetes.pod.namespace=shop"]
    return {f"{side}_namespace": "shop", f"{side}_pod_name": f"{name}-0", f"{side}_workload_name": name, f"{side}_labels": labels}


@pytest.fixture
def simulated(tmp_path: Path) -> Any:
    """Runs the command on a lake in which `api` and `batch` have called `web`."""
    lake = Lake.open(config.Lake(url=str(tmp_path / "lake")))
    rows = [
        {
            "cluster": "c1", "date": START.date(), "time": START + timedelta(seconds=number), "uuid": f"u{number}", "flow_count": 1,
            "verdict": "FORWARDED", "traffic_direction": "INGRESS", "l4_protocol": "TCP", "source_port": 40_000, "destination_port": 80,
            "is_reply": False, "event_type": 4, "node_name": "c1/n1", **end("source", name), **end("destination", "web"),
        }
        for number, name in enumerate(("api", "batch"))
    ]  # fmt: skip
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema)), transactions={}, metadata={})

    def run(*arguments: str, given: str = CANDIDATE) -> Any:
        window = ["--since", START.isoformat(), "--until", (START + timedelta(hours=1)).isoformat()]
        return CliRunner().invoke(app, ["policy", "simulate", *arguments, "--lake", str(tmp_path / "lake"), *window], input=given)

    return run


def test_a_policy_that_does_not_parse_is_named_with_its_line(simulated: Any) -> None:
    done = simulated("-", given="kind: CiliumNetworkPolicy\nspec: [\n")
    assert done.exception is not None
    assert "standard input:" in str(done.exception)


def test_a_file_without_a_policy_is_refused_and_counted(simulated: Any, tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("kind: ConfigMap\nmetadata: {name: x}\n")
    done = simulated(str(tmp_path / "other.yaml"))
    assert "there is no network policy" in str(done.exception)
    assert "1 document passed over, not a policy: ConfigMap" in done.stderr


def test_a_folder_is_read_without_its_templates(simulated: Any, tmp_path: Path) -> None:
    folder = tmp_path / "policies"
    folder.mkdir()
    (folder / "web.yaml").write_text(CANDIDATE)
    (folder / "template.yaml").write_text("kind: NetworkPolicy\nmetadata: {name: {{ .Values.name }}}\n")
    done = simulated(str(folder), "--output", "json")
    assert "passed over 1 template of Helm" in done.stderr
    assert done.exit_code == 1


def test_rows_have_the_names_of_edges_and_a_denial_is_exit_code_1(simulated: Any) -> None:
    done = simulated("-", "--output", "json")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [{row["change"], row["source_workload_name"]} for row in rows] == [{"newly_denied", "batch"}, {"unchanged", "api"}]
    assert set(COLUMNS) <= set(rows[0])
    assert rows[0]["uuids"] == ["u1"]
    assert rows[0]["before"], rows[0]["after"] == ("allowed", "denied")
    assert done.exit_code == 1
    assert "judged alone" in done.stderr.splitlines()[0]


def test_a_change_that_denies_nothing_is_exit_code_0(simulated: Any) -> None:
    done = simulated("-", "--output", "csv", given=CANDIDATE.replace("{matchLabels: {app: api}}", "{}"))
    assert done.exit_code == 0, done.output
    assert [row["change"] for row in csv.DictReader(io.StringIO(done.stdout))] == ["unchanged", "unchanged"]


def test_the_table_leaves_out_what_does_not_change(simulated: Any) -> None:
    lines = simulated("-").stdout.splitlines()
    assert len(lines) == 2
    assert "shop/batch" in lines[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--remove", "Deployment", "shop/web"], "'Deployment' is not a kind of policy"),
        (["--remove", "CiliumNetworkPolicy", "web"], "--remove CiliumNetworkPolicy NAMESPACE/NAME"),
        (["--remove", "CiliumNetworkPolicy", "shop/web"], "no such policy was in force"),
        (["--policies-of", "yesterday"], "--policies-of"),
        ([], "nothing to simulate"),
    ],
)
def test_bad_options_say_what_to_write(simulated: Any, arguments: list[str], message: str) -> None:
    done = simulated(*arguments)
    assert message in str(done.exception)
    assert getattr(done.exception, "exit_code", None) == 2
