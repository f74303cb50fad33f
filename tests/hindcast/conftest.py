"""What commands about policies are run on: the traffic of the last minutes of a simulated cluster."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from collectors.decoding.decode import decode
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS


@pytest.fixture(scope="session")
def record_minutes() -> Callable[[Path, str, int], list[Any]]:
    """Stores so many flows of a cluster, which begin 20 minutes ago, in the lake of a folder, and returns them."""

    def record(folder: Path, cluster: str, count: int) -> list[Any]:
        lake = Lake.open(config.Lake(url=str(folder / "lake")))
        begin = datetime.now(UTC) - timedelta(minutes=20)
        flows = list(itertools.islice(Traffic(build_fleet(1, clusters=(cluster,)), 1, begin, 5.0).flows(), count))
        rows = decode([flow.SerializeToString() for flow in flows], cluster=cluster, recorded=begin, live=False).rows
        lake.commit(FLOWS, lake.write_files(FLOWS, rows), transactions={}, metadata={})
        return flows

    return record


@pytest.fixture(scope="session")
def run_policy() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `hindcast policy` in a folder, as people do."""

    def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from hindcast.cli import main; main()", "policy", *arguments]
        return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600, check=False)

    return run
