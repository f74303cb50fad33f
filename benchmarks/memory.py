"""Memory of a collector that receives flows as fast as four clusters can send, beside the limit of 600 MB; and its growth.

Run: .venv/bin/python -m benchmarks.memory [MINUTES]. One real Cilium node represents each cluster.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks import stand, units

CLUSTERS = 4
LIMIT_MB = 600.0


def main() -> None:
    """Measure and print."""
    minutes = float(sys.argv[1]) if len(sys.argv) > 1 else 10.0
    running: Any = stand.peers()
    samples: list[float] = []
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        clusters = {}
        for number in range(CLUSTERS):
            node = stack.enter_context(running.hubble_node(folder, name=f"c{number}/node", rate=20_000, ring=65_535))
            clusters[f"c{number}"] = [node.address]
        wanted = stand.settings(folder, clusters)
        command = [sys.executable, "-m", "hindcast", "collect", "--config", str(folder / "hindcast.yaml")]
        collector = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        process = psutil.Process(collector.pid)
        began = time.monotonic()
        while time.monotonic() - began < minutes * 60:
            time.sleep(1)
            samples.append(process.memory_info().rss / 1e6)
        collector.terminate()
        collector.wait(20)
        flows = stand.stored(wanted)
    if not flows:
        sys.exit("no flow was stored in this time, so nothing was measured: give more minutes")
    settled = np.array(samples[len(samples) // 3 :])
    grown = float(np.polyfit(np.arange(len(settled)), settled, 1)[0] * 60)
    print(f"{flows:,} flows of {CLUSTERS} clusters in {minutes:g} min ({flows / minutes / 60:,.0f} flows/s)")
    print(f"resident: median {np.median(settled):.0f} MB, greatest {max(samples):.0f} MB, trend {grown:+.1f} MB a minute")
    basis = f"the greatest in {minutes:g} min, {flows / minutes / 60:,.0f} flows/s of {CLUSTERS} clusters"
    units.note("collector_memory_mb", max(samples), "MB", basis)
    print(f"ratio of the greatest to the limit of {LIMIT_MB:g} MB: {max(samples) / LIMIT_MB:.2f}")


if __name__ == "__main__":
    main()
