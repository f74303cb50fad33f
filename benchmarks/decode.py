"""CPU for converting encoded flows to table rows, beside Python's own protobuf classes on the same bytes.

Run: .venv/bin/python -m benchmarks.decode. Prints medians of 3 runs, CPU microseconds per flow. The peer only parses
the messages; Hindcast also flattens them and verifies that nothing was lost.
"""

import datetime as dt
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from google.protobuf import json_format

from collectors.decoding import decode
from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2

REAL_FLOWS = Path(__file__).parents[1] / "tests" / "data" / "hubble" / "real_2021_gke.jsonl"
REPEATS = 20
BATCH_FLOWS = 8192


def cpu_us(work: Callable[[], object], flows: int) -> float:
    """Return the median of three, process CPU time, in microseconds per flow."""
    runs = []
    for _ in range(3):
        start = time.process_time()
        work()
        runs.append((time.process_time() - start) / flows * 1e6)
    return statistics.median(runs)


def main() -> None:
    """Measure and print."""
    lines = REAL_FLOWS.read_text().splitlines()
    messages = [json_format.Parse(line, observer_pb2.ExportEvent()).flow.SerializeToString() for line in lines] * REPEATS
    batches = [messages[start : start + BATCH_FLOWS] for start in range(0, len(messages), BATCH_FLOWS)]
    now = dt.datetime.now(dt.UTC)
    ours = cpu_us(lambda: [decode.decode(batch, cluster="c", recorded=now) for batch in batches], len(messages))
    peer = cpu_us(lambda: [flow_pb2.Flow.FromString(message) for message in messages], len(messages))
    size = sum(map(len, messages)) / len(messages)
    print(f"{len(messages)} real flows of {size:.0f} bytes; CPU us a flow, median of 3")
    print(f"decode, flatten, prove lossless (ours)  {ours:6.2f}")
    print(f"protobuf {'FromString only (Python, upb)':<30} {peer:6.2f}")
    print(f"ratio ours / parse only                 {ours / peer:6.2f}")


if __name__ == "__main__":
    main()
