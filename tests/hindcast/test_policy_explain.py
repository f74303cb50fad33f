"""`hindcast policy explain` on a lake with a simulated cluster's traffic, as people run it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, record_minutes: Any) -> Path:
    """A configuration and a lake with the traffic of the last minutes, without configuration history."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "hindcast.yaml").write_text("{}")
    flows = record_minutes(folder, "c1", 500)
    (folder / "uuid").write_text(flows[10].uuid)
    return folder


@pytest.fixture(scope="module")
def run(run_policy: Any) -> Any:
    """Runs the command in a folder."""
    return lambda folder, *arguments: run_policy(folder, "explain", *arguments)


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
def test_a_wrong_request_is_refused_with_what_to_do(run: Any, arguments: list[str], words: str, folder: Path) -> None:
    done = run(folder, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_flow_without_configuration_history_is_uncertain_in_text_and_json(run: Any, folder: Path) -> None:
    uuid = (folder / "uuid").read_text()
    text = run(folder, uuid)
    assert text.returncode == 0
    assert "uncertain" in text.stdout.splitlines()[0]
    assert "recorded" in text.stdout.splitlines()[1]
    assert "configuration history does not cover this window" in text.stdout
    data = json.loads(run(folder, uuid, "--output", "json").stdout)
    assert data["recorded"]["uuid"] == uuid
    assert [walk["direction"] for walk in data["walks"]] == ["egress", "ingress"]
