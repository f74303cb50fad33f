"""What a fleet needs, from unit costs that were measured. A cost that was not measured gives no number.

No I/O but the reading of the unit costs, most of which benchmarks write (benchmarks/units.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from importlib.resources import files

from warehouse.wording import counted

DAY_SECONDS, MONTH_DAYS = 86_400, 30.4
BUSY = 0.7
"""How much of a core is planned to be used on average: bursts need the rest."""


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A fleet's figures."""

    flows_per_second: float
    """Average of all clusters."""
    clusters: int = 1
    largest_share: float = 0.0
    """The share of the flows that the largest cluster has; an even share by default."""
    flows_days: float = 30.0
    rollup_days: float = 400.0
    flush_seconds: float = 10.0
    flush_clusters: int = 200
    on_object_storage: bool = False

    @property
    def largest_flows_per_second(self) -> float:
        """Flows a second of the largest cluster."""
        return self.flows_per_second * max(self.largest_share, 1 / self.clusters)


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What the user pays a month, in any currency; None where it is not known."""

    core: float | None = None
    memory_gb: float | None = None
    disk_gb: float | None = None
    million_writes: float | None = None
    million_reads: float | None = None


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit cost that a benchmark measured."""

    value: float
    unit: str
    basis: str
    benchmark: str
    machine: str
    load: float | None
    """Processes that wanted a core at the time, on average; None if that was not noted."""
    measured: str

    @property
    def said(self) -> str:
        """What it is, for people."""
        return f"{self.value:g} {self.unit} ({self.basis}; {self.measured})"


@dataclass(frozen=True, kw_only=True)
class Need:
    """Something a fleet needs. `amount` is None where a unit cost was not measured."""

    resource: str
    purpose: str
    amount: float | None
    unit: str
    cost_a_month: float | None
    basis: str


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Something that does not grow by adding machines, and how much of it the fleet uses."""

    name: str
    used: float | None
    """As a share of the limit: above 1 it does not suffice. None where a unit cost was not measured."""
    breaks_at_flows_per_second: float | None
    basis: str
    remedy: str


def measured() -> dict[str, Unit]:
    """Return the unit costs that were measured, by name."""
    text = files("hindcast").joinpath("unit_costs.json").read_text(encoding="utf-8")
    known = {field.name for field in fields(Unit)}
    return {name: Unit(**{key: value for key, value in cost.items() if key in known}) for name, cost in json.loads(text).items()}


class Capacity:
    """The needs and limits of a fleet."""

    def __init__(self, fleet: Fleet, prices: Prices, costs: Mapping[str, Unit]) -> None:
        self._fleet = fleet
        self._prices = prices
        self._costs = costs

    @property
    def collectors(self) -> int | None:
        """How many collector processes, of a core each; None if the cost of a flow was not measured."""
        cores = self._times(self._fleet.flows_per_second / 1e6, "collector_cpu_us_per_flow")
        return None if cores is None else max(1, math.ceil(cores / BUSY))

    def needs(self) -> list[Need]:
        """What the fleet needs."""
        return [*self._cores(), *self._memory(), *self._disk(), *self._requests()]

    def limits(self) -> list[Limit]:
        """What the fleet could run into, the first bottleneck first; what was not measured comes last."""
        return sorted(self._limits(), key=lambda limit: (limit.used is None, -(limit.used or 0.0)))

    def _cores(self) -> Iterator[Need]:
        for purpose, name in (
            ("collect", "collector_cpu_us_per_flow"),
            ("compact", "compaction_cpu_us_per_flow"),
            ("roll up", "rollup_cpu_us_per_flow"),
        ):
            cores = self._times(self._fleet.flows_per_second / 1e6 / BUSY, name)
            yield self._need("cores", purpose, cores, f"cores, {BUSY:.0%} busy", self._prices.core, name)

    def _memory(self) -> Iterator[Need]:
        processes = self.collectors
        busy = None if processes is None else self._times(processes / 1e3, "collector_memory_mb")
        yield self._need("memory", f"{processes or '?'} busy collectors", busy, "GB", self._prices.memory_gb, "collector_memory_mb")
        quiet = self._times(self._fleet.clusters / 1e3, "collector_memory_mb_per_quiet_cluster")
        name = "collector_memory_mb_per_quiet_cluster"
        yield self._need("memory", f"streams of {counted(self._fleet.clusters, 'cluster')}", quiet, "GB", self._prices.memory_gb, name)

    def _disk(self) -> Iterator[Need]:
        rows_a_day, fleet = self._fleet.flows_per_second * DAY_SECONDS, self._fleet
        for purpose, days, name in (
            ("today's flows, before their layout", 1.0, "fresh_bytes_per_flow"),
            (f"flows of {fleet.flows_days:g} days", fleet.flows_days, "day_bytes_per_flow"),
            (f"rollups of {fleet.rollup_days:g} days", fleet.rollup_days, "rollup_bytes_per_flow"),
        ):
            yield self._need("disk", purpose, self._times(rows_a_day * days / 1e9, name), "GB", self._prices.disk_gb, name)

    def _requests(self) -> Iterator[Need]:
        if not self._fleet.on_object_storage:
            return
        flushes = None if self.collectors is None else self.collectors * DAY_SECONDS * MONTH_DAYS / self._fleet.flush_seconds
        for purpose, name, price in (
            ("writes of flushes a month", "flush_write_requests", self._prices.million_writes),
            ("reads of flushes a month", "flush_read_requests", self._prices.million_reads),
        ):
            amount = None if flushes is None else self._times(flushes / 1e6, name)
            yield self._need("requests", purpose, amount, "million", price, name)

    def _limits(self) -> Iterator[Limit]:
        largest, fleet = self._fleet.largest_flows_per_second, self._fleet
        yield self._limit(
            "one core collects the largest cluster",
            self._times(largest / 1e6, "collector_cpu_us_per_flow"),
            "collector_cpu_us_per_flow",
            "give its nodes instead of its relay, and divide them: hubble.parts",
        )
        rate, collectors = self._costs.get("commits_per_second"), self.collectors
        commits = None if rate is None or collectors is None else collectors / fleet.flush_seconds / rate.value
        yield self._limit("commits to the table flows", commits, "commits_per_second", "a longer collect.flush_every, or a second lake")
        yield self._limit(
            "one task compacts the largest cluster's hour within an hour",
            self._times(largest / 1e6, "compaction_cpu_us_per_flow"),
            "compaction_cpu_us_per_flow",
            "name the cluster's node pools as clusters of their own",
        )
        waves = math.ceil(fleet.clusters / (fleet.flush_clusters * (collectors or 1)))
        yield Limit(
            name="flows reach the lake within a minute",
            used=waves * fleet.flush_seconds / 60,
            breaks_at_flows_per_second=None,
            basis=f"{counted(fleet.clusters, 'cluster')}, {fleet.flush_clusters} of them with each flush of a collector, computed",
            remedy="more collectors, or a greater collect.flush_clusters",
        )

    def _limit(self, name: str, used: float | None, unit: str, remedy: str) -> Limit:
        breaks = None if not used else self._fleet.flows_per_second / used
        return Limit(name=name, used=used, breaks_at_flows_per_second=breaks, basis=self._basis(unit), remedy=remedy)

    def _need(self, resource: str, purpose: str, amount: float | None, unit: str, price: float | None, name: str) -> Need:
        cost = None if amount is None or price is None else amount * price
        return Need(resource=resource, purpose=purpose, amount=amount, unit=unit, cost_a_month=cost, basis=self._basis(name))

    def _times(self, factor: float, name: str) -> float | None:
        cost = self._costs.get(name)
        return None if cost is None else factor * cost.value

    def _basis(self, name: str) -> str:
        cost = self._costs.get(name)
        return f"not measured ({name})" if cost is None else cost.said
