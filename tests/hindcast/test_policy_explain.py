"""`hindcast policy explain` on a lake with a simulated cluster's traffic, as people run it."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

HINDCAST = [sys.executable, "-c", "from hindcast.cli import main; main()", "policy", "explain"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A configuration and a lake with the traffic of the last minutes, without configuration history."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "hindcast.yaml").write_text("{}")
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    begin = datetime.now(UTC) - timedelta(minutes=20)
    flows = list(itertools.islice(Traffic(build_fleet(1, clusters=("c1",)), 1, begin, 5.0).flows(), 500))
    rows = decode([flow.SerializeToString() for flow in flows], cluster="c1", recorded=begin, live=False).rows
    lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})
    (folder / "uuid").write_text(flows[10].uuid)
    return folder


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*HINDCAST, *arguments], cwd=folder, capture_output=True, text=True, timeout=600, check=False)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "name a flow by its uuid, or a connection"),
        (["u", "--source", "a/b", "--destination", "c/d"], "name either a uuid or --source and --destination"),
        (["nothing"], "no flow nothing from"),
        (["--source", "x", "--destination", "shop/web", "--cluster", "c1"], "'x' is not NAMESPACE/WORKLOAD"),
        (["u", "--at", "soon"], "--at: 'soon'"),
    ],
)
def test_a_wrong_request_is_refused_with_what_to_do(arguments: list[str], words: str, folder: Path) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_flow_without_configuration_history_is_uncertain_in_text_and_json(folder: Path) -> None:
    uuid = (folder / "uuid").read_text()
    text = run(folder, uuid)
    assert text.returncode == 0
    assert "uncertain" in text.stdout.splitlines()[0]
    assert "recorded" in text.stdout.splitlines()[1]
    assert "configuration history does not cover this window" in text.stdout
    data = json.loads(run(folder, uuid, "--output", "json").stdout)
    assert data["recorded"]["uuid"] == uuid
    assert [walk["direction"] for walk in data["walks"]] == ["egress", "ingress"]
