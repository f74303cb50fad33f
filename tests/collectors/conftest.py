"""What several tests of the collector collect from."""

from collections.abc import Iterator

import pytest

from collectors.simulator.node import SimulatedNode


@pytest.fixture
def node() -> Iterator[SimulatedNode]:
    with SimulatedNode("c1/n1") as running:
        yield running
