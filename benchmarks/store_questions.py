"""Five questions over a lake on S3, beside the same lake on a disk: with nothing copied, and warm with the copies of `lake.cache`.

Run: .venv/bin/python -m benchmarks.store_questions --lake DIR, where DIR is a compacted lake (benchmarks.compaction makes one). The server
is versitygw on loopback over the same files, so that its network costs nothing: a cold question in a real store takes a round trip more
for each request. Milliseconds of wall time, medians of 3; the ratio is of warm questions, S3 to disk (limit 1.5).
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import questions
from benchmarks.bucket import bucket
from warehouse import config
from warehouse.access.access_log import flush
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS

RUNS, LIMIT = 3, 1.5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lake", type=Path, required=True)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, bucket(Path(name)) as store:
        shutil.copytree(given.lake, Path(name, "objects", "bucket", "lake"))
        disk, remote = Lake.open(config.Lake(url=str(given.lake))), Lake.open(store.settings())
        until = disk.span(FLOWS)[1]
        assert until is not None
        questions._roll_up(disk, until)
        questions._roll_up(remote, until)
        print(f"{disk.rows(FLOWS):,} flows in {disk.size(FLOWS)[1]} files, {disk.size(FLOWS)[0]:,} bytes")
        print(f"{'':16}{'disk':>8}{'S3 cold':>9}{'S3 warm':>9}{'ratio':>7}")
        worst = 0.0
        for question in questions._questions(until):
            namespace = questions._namespaces(disk, until, question.of)["middle"]
            here, there = (questions._at_door(lake, question, namespace) for lake in (disk, remote))
            shutil.rmtree(store.settings().cache or "", ignore_errors=True)
            questions._forget()
            cold = _ms(there)
            warm, local = _warm(there), _warm(here)
            worst = max(worst, warm / local)
            print(f"{question.name:16}{local:8.0f}{cold:9.0f}{warm:9.0f}{warm / local:7.2f}", flush=True)
        flush()
    print(f"worst ratio {worst:.2f} of {LIMIT}: {worst / LIMIT:.2f}")


def _warm(ask: Callable[[], Any]) -> float:
    ask()
    return statistics.median(_ms(ask) for _ in range(RUNS))


def _ms(ask: Callable[[], Any]) -> float:
    began = time.monotonic()
    ask()
    return dt.timedelta(seconds=time.monotonic() - began) / dt.timedelta(milliseconds=1)


if __name__ == "__main__":
    main()
