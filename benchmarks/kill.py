"""The kill test: a collector is killed 20 times at random moments while 2,000 flows/s arrive; then every flow is accounted for.

Run: .venv/bin/python -m benchmarks.kill [KILLS] [--store s3]. With `--store s3` the lake is in a bucket of a server that is itself killed
and started again at random moments. Exit code 1 if a flow is stored twice, or missing without a declared gap.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks import stand
from benchmarks.bucket import bucket
from warehouse.lake.tables import Lake

RATE = 2_000
UP_SECONDS, UP_SECONDS_S3 = (2.0, 7.0), (6.0, 15.0)
"""How long a collector runs before it is killed; with a store that fails it also takes longer to begin."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", nargs="?", type=int, default=20)
    parser.add_argument("--store", choices=["disk", "s3"], default="disk")
    given = parser.parse_args()
    kills = given.kills
    running: Any = stand.peers()
    chance = random.Random(time.time_ns())
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        nodes = [stack.enter_context(running.hubble_node(folder, name=f"test/node-{n}", rate=RATE / 2, ring=4_095)) for n in range(2)]
        store = stack.enter_context(bucket(folder)) if given.store == "s3" else None
        lake_settings = store.settings() if store else None
        addresses = [node.address for node in nodes]
        wanted = stand.settings(folder, {"bench": addresses}, lake=lake_settings, flush_every="2s", spool=str(folder / "spool"))
        command = [sys.executable, "-m", "hindcast", "collect", "--config", str(folder / "hindcast.yaml")]

        def start(*arguments: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen([*command, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        with store.failing() if store else contextlib.nullcontext():
            for _ in range(kills):
                collector = start()
                time.sleep(chance.uniform(*(UP_SECONDS if store is None else UP_SECONDS_S3)))
                collector.kill()
                collector.wait()
        start("--for", "8s" if store is None else "30s").wait()
        found = stand.account(Lake.open(wanted.lake), nodes)
    outages = f" and {store.outages} outages of the store" if store else ""
    print(f"{kills} kills{outages}, {found}")
    print(f"ratio of flows stored or declared to flows sent: {(found.sent - found.undeclared) / found.sent:.6f}")
    sys.exit(not found.is_good)


if __name__ == "__main__":
    main()
