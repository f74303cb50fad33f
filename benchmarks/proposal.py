"""How long a proposal takes to be judged on a lake like the demo's: checks and simulation, against the limit of 3 s.

    python -m benchmarks.proposal

Writes the demo's lake (three clusters, two days of traffic, configuration history), proposes one policy as the owner of its namespace
and one for a whole cluster, and prints the median of each with its ratio to the limit. Nothing is asked of an API server.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.stand import median
from hindcast import demo_files, demo_history
from hindcast.simulate import CLUSTERS
from pipelines.policy.documents import read_documents
from pipelines.proposals import reading, steps
from pipelines.proposals.desk import Desk
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door

LIMIT_SECONDS = 3.0
RUNS = 5
OWN = """
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: benchmark-%s, namespace: payments}
spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: nobody}}]}]}
"""
WIDE = """
apiVersion: cilium.io/v2
kind: CiliumClusterwideNetworkPolicy
metadata: {name: benchmark-%s}
spec: {endpointSelector: {}, ingress: [{fromEndpoints: [{matchLabels: {app: nobody}}]}]}
"""


def main() -> None:
    """Write the lake, propose, print."""
    with tempfile.TemporaryDirectory() as name:
        settings = write(Path(name))
        lake = Lake.open(settings.lake)
        door = Door(lake, settings.ownership, settings.rollups, purpose="benchmark")
        for what, user, text in (("one namespace, as its owner", "paula", OWN), ("a whole cluster", "ada", WIDE)):
            desk = Desk(settings=settings, lake=lake, door=door, who=Principal(user=user))
            seconds = [timed(lambda number=number, desk=desk, text=text: propose(desk, text % number)) for number in range(RUNS)]
            middle = median(seconds)
            print(f"a proposal for {what}: median {middle:.2f} s of {RUNS} (first {seconds[0]:.2f} s), limit {LIMIT_SECONDS:.0f} s, "
                  f"ratio {middle / LIMIT_SECONDS:.2f}")  # fmt: skip


def write(folder: Path) -> config.Config:
    """Write the demo's history, and return its configuration with an owner."""
    names = CLUSTERS[:3]
    file = folder / "hindcast.yaml"
    document = {
        "lake": {"url": str(folder / "lake")},
        "clusters": [{"name": name} for name in names],
        "blueprints": demo_files.write(folder)["blueprints"],
        "ownership": {
            "grants": [
                {"subject": "ada", "role": "platform-admin"},
                {"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]},
            ]
        },
    }
    file.write_text(json.dumps(document))
    settings = config.load_config(file)
    began = time.monotonic()
    demo_history.fill(Lake.open(settings.lake), settings, now=datetime.now(UTC))
    print(f"the demo's lake was written in {time.monotonic() - began:.0f} s")
    return settings


def propose(desk: Desk, text: str) -> None:
    """Propose, and see that it was simulated."""
    (asked,) = reading.read(read_documents(text, "benchmark.yaml"))
    made = steps.propose(desk, CLUSTERS[0], asked)
    assert made.judged.result is not None, made.judged.risks
    assert made.judged.result.edges


def timed(work: Callable[[], None]) -> float:
    """Return how many seconds it takes."""
    began = time.monotonic()
    work()
    return time.monotonic() - began


if __name__ == "__main__":
    main()
