"""The commands that docs/installing.md calls tried are run here, as they stand, against a real API server with Cilium installed."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

pytestmark = pytest.mark.peers

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "installing.md").read_text(encoding="utf-8")


@pytest.fixture
def fresh(peers: ModuleType, server: Any, cluster_helm: Any, cilium_chart: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with this tree's chart and the programs on its path, and a cluster with Cilium and without Hindcast."""
    more = ["--set", "hubble.relay.enabled=true", "--set", "hubble.tls.auto.method=helm"]
    cluster_helm("upgrade", "--install", "cilium", str(cilium_chart), "-n", "kube-system", *more)
    (tmp_path / "bin").mkdir()
    for name in ("helm", "kubectl"):
        (tmp_path / "bin" / name).symlink_to(peers.program(name))
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    yield tmp_path
    cluster_helm("uninstall", "cilium", "-n", "kube-system")


def test_each_block_of_commands_does_what_the_page_says(fresh: Path, server: Any) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) > 7
    environment = {"HOME": str(fresh), "KUBECONFIG": str(server.kubeconfig()), "PATH": f"{fresh / 'bin'}:/usr/bin:/bin"}
    printed = []
    for block in blocks:
        # Other tests install into the namespace of the page; and the other cluster is this one, too.
        space = "hindcast-other" if "recorded-from-elsewhere" in block else "hindcast-page"
        script = re.sub(r"(-n |namespace:? )hindcast\b", rf"\1{space}", block)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script], cwd=fresh, capture_output=True, text=True, check=False, env=environment
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        assert "Warning" not in done.stderr, done.stderr
        printed.append(done.stdout)
    assert "hubble-relay" in printed[0]
    assert "persistentvolumeclaim" not in printed[-1].split("uninstalled")[0]
    assert "hindcast-lake" in printed[-1].split("uninstalled")[1]


def test_what_check_says_is_what_the_page_explains() -> None:
    sources = "".join(
        (ROOT / path).read_text() for path in ("hindcast/reaching.py", "hindcast/check.py", "pipelines/configuration/looking.py")
    )
    said = [text for row in re.findall(r"^\| (`.*?`) \|", PAGE, re.MULTILINE) for text in re.findall(r"`(.*?)`", row)]
    texts = [part.strip(" ,:") for text in said for part in re.split(r"\*\.hubble\S*|\.\.\.|NetworkPolicy", text)]
    assert len(texts) > 10
    assert [text for text in texts if text not in sources and "PodSecurity" not in text and text != "Pending"] == []
