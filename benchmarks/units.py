"""Unit costs that benchmarks measure: kept in hindcast/unit_costs.json with the machine and the day, for `hindcast capacity`."""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import stand

FILE = stand.ROOT / "hindcast" / "unit_costs.json"


def note(name: str, value: float, unit: str, basis: str) -> None:
    """Keep what was measured, instead of what an earlier run measured; `basis` says of what it is the cost."""
    costs = json.loads(FILE.read_text()) if FILE.exists() else {}
    costs[name] = {
        "value": float(f"{value:.4g}"),
        "unit": unit,
        "basis": basis,
        "benchmark": Path(sys.argv[0]).stem,
        "machine": _machine(),
        "load": round(os.getloadavg()[1], 1),
        "measured": datetime.now(UTC).date().isoformat(),
    }
    FILE.write_text(json.dumps(dict(sorted(costs.items())), indent=1) + "\n")


def _machine() -> str:
    """Return the processor's model and the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{model}, {os.cpu_count()} cores, shared"
