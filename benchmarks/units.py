"""Unit costs that benchmarks measure: kept in hindcast/unit_costs.json with the machine and the day, for `hindcast capacity`.

They are kept only if the environment has HINDCAST_KEEP_UNIT_COSTS=1: costs measured on a busy machine should not be shipped.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import stand
from warehouse import config

KEEP = "HINDCAST_KEEP_UNIT_COSTS"
FILE = stand.ROOT / "hindcast" / "unit_costs.json"


def note(name: str, value: float, unit: str, basis: str) -> None:
    """Keep what was measured, instead of what an earlier run measured, or print it; `basis` says of what it is the cost."""
    if config.environment().get(KEEP) != "1":
        print(f"unit cost {name}: {value:.4g} {unit}; not kept without {KEEP}=1")
        return
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
