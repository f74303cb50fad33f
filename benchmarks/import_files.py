"""Lines a second of `hindcast import`, beside Python's json and protobuf's json_format on the same lines; and its memory a line.

Run: .venv/bin/python -m benchmarks.import_files [LINES]. Simulated flows as an exporter writes them. Memory is measured with files of
an eighth of LINES and of LINES (800,000), with and without uuids, each imported by a process of its own: what the longer file takes
more, divided by the lines that it has more, is what the importer holds a line. Compared is the median while the last half of the time
passes: the peak is printed too, but of a longer run it is greater by chance alone.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format

from benchmarks import stand
from collectors.hubble_api.observer import observer_pb2
from collectors.importing.importer import Target, import_file
from collectors.simulator.fleet import build_fleet
from collectors.simulator.traffic import Traffic
from warehouse import config
from warehouse.lake.tables import Lake

LINES = 20_000
GOAL_LINES = 30_000
MANY_LINES = 800_000
MOST_BYTES = 64
"""How much memory an import may hold for each line that it has read."""
IMPORTER = """
import datetime, statistics, sys, threading, time
import psutil
from collectors.importing.importer import Target, import_file
from warehouse import config
from warehouse.lake.tables import Lake
held, done = [], threading.Event()
def look():
    while not done.wait(0.1):
        held.append(psutil.Process().memory_info().rss)
threading.Thread(target=look, daemon=True).start()
lake = Lake.open(config.Lake(url=sys.argv[2]))
outcome = import_file(Target(lake=lake, cluster="c1", recorded=datetime.datetime.now(datetime.UTC)), sys.argv[1])
done.set()
print(outcome.added, int(statistics.median(held[len(held) // 2:])), max(held))
"""


def lines_a_second(work: Callable[[], object]) -> float:
    """By CPU time of this process."""
    began = time.process_time()
    work()
    return LINES / (time.process_time() - began)


def events(now: dt.datetime, count: int) -> list[str]:
    """Lines as an exporter writes them."""
    flows = itertools.islice(Traffic(build_fleet(1, ("c1",)), 1, now, 1_000.0).flows(), count)
    made = (observer_pb2.ExportEvent(flow=flow, node_name=flow.node_name, time=flow.time) for flow in flows)
    return [json_format.MessageToJson(event, indent=None, preserving_proto_field_name=True) for event in made]


def write_many(file: Path, some: list[str], now: dt.datetime, count: int, *, with_uuid: bool) -> None:
    """Repeat the lines with times, and uuids or none, of their own."""
    with file.open("w") as sink:
        for number, line in enumerate(itertools.islice(itertools.cycle([json.loads(line) for line in some]), count)):
            line["flow"]["time"] = line["time"] = (now + dt.timedelta(milliseconds=number)).isoformat().replace("+00:00", "Z")
            line["flow"].pop("uuid", None)
            if with_uuid:
                line["flow"]["uuid"] = str(uuid.uuid4())
            sink.write(json.dumps(line) + "\n")


def bytes_of(file: Path, lake: Path, lines: int) -> tuple[int, int]:
    """Memory of a process that imports the file: the median of the last half of the time, and the peak."""
    done = subprocess.run([sys.executable, "-c", IMPORTER, str(file), str(lake)], capture_output=True, text=True, check=True)
    added, held, peak = map(int, done.stdout.split())
    assert added == lines, f"{added} of {lines} lines were added"
    return held, peak


def memory(folder: Path, some: list[str], now: dt.datetime, most: int) -> None:
    """Measure and print what an import holds a line."""
    for with_uuid in (True, False):
        found = []
        for count in (most // 8, most):
            file = folder / f"{count}.log"
            write_many(file, some, now - dt.timedelta(hours=1), count, with_uuid=with_uuid)
            found.append(bytes_of(file, folder / f"lake-{with_uuid}-{count}", count))
            file.unlink()
        (few, _), (many, peak) = found
        held, kind = max(0.0, (many - few) / (most - most // 8)), "with" if with_uuid else "without"
        print(
            f"{most:,} lines {kind} uuid: {many / 1e6:.0f} MB (peak {peak / 1e6:.0f}), of an eighth {few / 1e6:.0f} MB; "
            f"{held:.1f} bytes a line held, ratio to the limit of {MOST_BYTES}: {held / MOST_BYTES:.2f}",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else MANY_LINES
    now = dt.datetime.now(dt.UTC)
    some = events(now, LINES)
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "events.log"
        file.write_text("".join(line + "\n" for line in some))
        lines = file.read_bytes().splitlines()
        ours = []
        for run in range(stand.RUNS):
            lake = Lake.open(config.Lake(url=f"{name}/lake-{run}"))
            ours.append(lines_a_second(lambda lake=lake: import_file(Target(lake=lake, cluster="c1", recorded=now), file)))  # type: ignore[misc]
        plain = [lines_a_second(lambda: [json.loads(line) for line in lines]) for _ in range(stand.RUNS)]
        parsed = [
            lines_a_second(lambda: [json_format.Parse(line, observer_pb2.ExportEvent()) for line in lines]) for _ in range(stand.RUNS)
        ]
        memory(Path(name), some, now, most)
    mine = stand.median(ours)
    print(f"{LINES:,} lines; lines a CPU-second, medians of {stand.RUNS}")
    print(f"import {mine:10,.0f}   json.loads alone {stand.median(plain):10,.0f}   json_format.Parse alone {stand.median(parsed):10,.0f}")
    print(f"ratio: {mine / stand.median(parsed):.2f} of json_format alone; {mine / GOAL_LINES:.2f} of the goal of {GOAL_LINES:,}")


if __name__ == "__main__":
    main()
