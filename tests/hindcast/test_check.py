"""`hindcast check`: what the configuration names is tried, and what does not answer is said."""

import json
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HINDCAST = [sys.executable, "-m", "hindcast"]


def check(folder: Path, document: dict[str, Any], *arguments: str) -> subprocess.CompletedProcess[str]:
    file = folder / "hindcast.yaml"
    file.write_text(json.dumps(document))
    command = [*HINDCAST, "check", "--config", str(file), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def test_a_relay_that_is_not_there_is_a_failure_and_the_rest_is_tried(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    clusters = [{"name": "away", "hubble": {"address": address, "plaintext": True}}, {"name": "none"}]
    done = check(tmp_path, {"clusters": clusters})
    assert done.returncode == 1
    assert f"✕ cluster away {address}: " in done.stdout
    assert "cannot be reached" in done.stdout
    assert "✓ lake" in done.stdout
    assert "- cluster none" in done.stdout


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"clusterz": []}, "unknown key; did you mean 'clusters'?"),
        ({"lake": {"url": "s3://bucket/lake", "options": {"aws_region": "env:NOT_THERE"}}}, "NOT_THERE"),
    ],
)
def test_a_configuration_that_is_wrong_is_reported_with_its_place(tmp_path: Path, document: dict[str, Any], said: str) -> None:
    done = check(tmp_path, document)
    assert done.returncode in (1, 2)
    assert said in done.stdout + done.stderr


def test_what_answers_is_printed_with_its_contents(tmp_path: Path) -> None:
    command = [*HINDCAST, "simulate", "--clusters", "1", "--nodes", "1", "--rate", "50", "--write-config", str(tmp_path / "fleet.json")]
    fleet = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert fleet.stdout is not None
        while next(iter(fleet.stdout)).strip() != "ready":
            pass
        document = json.loads((tmp_path / "fleet.json").read_text())
        done = check(tmp_path, document, "--output", "json")
    finally:
        fleet.terminate()
        fleet.wait(150)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["state"] for row in rows} == {"ok"}
    assert "1 node" in rows[1]["found"]


def test_a_folder_of_manifests_is_read_and_a_kubeconfig_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "gitops").mkdir()
    (tmp_path / "gitops" / "a.yaml").write_text("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n")
    clusters = [
        {"name": "git", "kubernetes": {"manifests": "gitops"}},
        {"name": "lost", "kubernetes": {"kubeconfig": "nowhere"}},
    ]
    done = check(tmp_path, {"clusters": clusters})
    assert done.returncode == 1
    assert "manifests: 1 object" in done.stdout
    assert "✕ cluster lost" in done.stdout
    assert f"the file {tmp_path / 'nowhere'}" in done.stdout
