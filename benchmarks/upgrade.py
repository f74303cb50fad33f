"""An upgrade under load: collectors of an older version, of both versions side by side, then of this one, on one lake.

Run: .venv/bin/python -m benchmarks.upgrade REVISION [SECONDS]. The older version is a revision of this repository's history, such as
HEAD~100, which is unpacked into a temporary folder and run with the packages that are installed here. Four real Cilium nodes, a
cluster each, send 1,000 flows/s together. Each of five stages takes SECONDS (20): two older collectors; a new one joins them; an older
one leaves; another new one joins; the last older one leaves. Collectors of both versions merge small files meanwhile. Exit code 1 if a
flow is stored twice, or missing without a declared gap, or the older version neither reads the lake afterwards nor refuses it clearly.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import stand
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

RATE, NODES, SECONDS = 1_000, 4, 20.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("revision", help="the older version, e.g. HEAD~100")
    parser.add_argument("seconds", nargs="?", type=float, default=SECONDS)
    given = parser.parse_args()
    running: Any = stand.peers()
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder, older = Path(name), Path(name, "older")
        archive = subprocess.run(["git", "archive", given.revision], cwd=stand.ROOT, stdout=subprocess.PIPE, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as unpacked:
            unpacked.extractall(older, filter="data")
        nodes = [stack.enter_context(running.hubble_node(folder, name=f"c{n}/node", rate=RATE / NODES, ring=65_535)) for n in range(NODES)]
        fleet = Fleet(folder, {f"c{n}": [node.address] for n, node in enumerate(nodes)})
        stack.callback(fleet.kill)
        first, second = fleet.start(older), fleet.start(older)
        stand.wait_for(lambda: len(list(Path(fleet.lake.url, FLOWS.name).glob("cluster=*"))) == NODES)
        time.sleep(given.seconds)
        third = fleet.start(stand.ROOT)
        time.sleep(given.seconds)
        fleet.stop(first)
        time.sleep(given.seconds)
        fourth = fleet.start(stand.ROOT)
        time.sleep(given.seconds)
        fleet.stop(second)
        time.sleep(given.seconds)
        for process in (third, fourth):
            fleet.stop(process)
        lake = Lake.open(fleet.lake)
        found = stand.account(lake, nodes)
        print(f"{given.revision}, then both versions, then this one; load {os.getloadavg()[0]:.1f}: {found}")
        print(f"{lake.size(FLOWS)[1]} files of flows after merging by both")
        is_clear = fleet.show_older(older)
    print(f"ratio of flows stored or declared to flows sent: {(found.sent - found.undeclared) / found.sent:.6f}")
    sys.exit(not (found.is_good and is_clear))


class Fleet:
    """Collectors of several versions that share clusters and a lake."""

    def __init__(self, folder: Path, clusters: dict[str, list[str]]) -> None:
        self._folder, self._clusters = folder, clusters
        self.lake = config.Lake(url=str(folder / "lake"))
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, tree: Path) -> subprocess.Popen[bytes]:
        """Start a collector of the version in a folder, with a spool of its own."""
        own = self._folder / f"collector-{len(self._processes)}"
        own.mkdir()
        stand.settings(own, self._clusters, lake=self.lake, flush_every="2s", spool=str(own / "spool"))
        command = [sys.executable, "-m", "hindcast", "collect", "--config", str(own / "hindcast.yaml")]
        with (own / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=tree, stdout=log, stderr=log)
        self._processes.append(process)
        return process

    def stop(self, process: subprocess.Popen[bytes]) -> None:
        """End a collector as its service manager would; say so if it does not end well, as older ones may while the lake is slow."""
        process.terminate()
        if process.wait(timeout=300):
            print(f"collector {self._processes.index(process)} ended with {process.returncode}", flush=True)

    def kill(self) -> None:
        """End what still runs."""
        for process in self._processes:
            process.kill()
            process.wait()

    def show_older(self, tree: Path) -> bool:
        """Print what the older version says of the lake now; return whether it reads it or refuses it clearly."""
        command = [sys.executable, "-m", "hindcast", "status", "--config", str(self._folder / "collector-0" / "hindcast.yaml")]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
        refused = "was written by a newer Hindcast" in done.stderr
        said = "refuses it clearly" if refused else "reads it" if not done.returncode else f"fails: {done.stderr[-500:]}"
        print(f"the older version {said}")
        return refused or not done.returncode


if __name__ == "__main__":
    main()
