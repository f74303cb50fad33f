"""`hindcast capacity`: what was not measured is not known; needs follow from unit costs; the first bottleneck is named."""

import datetime as dt
import json
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from hindcast import capacity_model
from hindcast.capacity_model import Capacity, Fleet, Limit, Prices, Unit
from hindcast.cli import app
from warehouse.schema import FLOWS


def unit(value: float) -> Unit:
    return Unit(value=value, unit="u", basis="b", benchmark="n", machine="m", load=1.0, measured="2026-11-29")


COSTS = {
    "collector_cpu_us_per_flow": unit(20.0),
    "commits_per_second": unit(5.0),
    "compaction_cpu_us_per_flow": unit(10.0),
    "day_bytes_per_flow": unit(40.0),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command with unit costs that are known to the test."""
    monkeypatch.setattr("hindcast.capacity.measured", lambda: COSTS)
    runner = CliRunner()
    return lambda *arguments: runner.invoke(app, ["capacity", *arguments], catch_exceptions=True)


def limit(found: list[Limit], word: str) -> Limit:
    return next(one for one in found if word in one.name)


def test_what_was_not_measured_is_not_known_and_says_so() -> None:
    found = Capacity(Fleet(flows_per_second=1e6, clusters=100, on_object_storage=True), Prices(core=20.0, disk_gb=0.1), {})
    assert {need.amount for need in found.needs()} == {None}
    assert {need.cost_a_month for need in found.needs()} == {None}
    assert all("not measured" in need.basis for need in found.needs())
    assert [one.used for one in found.limits()[1:]] == [None] * 3


def test_without_flows_and_without_a_lake_that_has_some_it_asks_for_them(run: Any, stand: Any) -> None:
    answer = run("--lake", str(stand.folder / "lake"))
    assert "--flows" in str(answer.exception)


@pytest.mark.parametrize("arguments", [("--flows", "-1"), ("--clusters", "0"), ("--retention", "soon"), ("--largest", "2")])
def test_figures_that_cannot_be_are_refused_by_name(run: Any, arguments: tuple[str, str]) -> None:
    answer = run("--flows", "1", "--clusters", "1", *arguments)
    assert answer.exit_code != 0
    assert arguments[0] in answer.output + str(answer.exception)


def test_needs_follow_from_unit_costs_and_money_from_prices_alone() -> None:
    fleet = Fleet(flows_per_second=100_000, clusters=10, flows_days=10)
    found = Capacity(fleet, Prices(core=7.0), COSTS)
    needs = {need.purpose: need for need in found.needs()}
    assert needs["collect"].amount == pytest.approx(100_000 * 20 / 1e6 / capacity_model.BUSY)
    assert needs["collect"].cost_a_month == pytest.approx(20.0)
    assert needs["flows of 10 days"].amount == pytest.approx(100_000 * 86_400 * 10 * 40 / 1e9)
    assert needs["flows of 10 days"].cost_a_month is None
    assert needs["roll up"].amount is None
    assert not [need for need in found.needs() if need.resource == "requests"]
    assert found.collectors == 3


def test_the_first_bottleneck_of_an_even_fleet_are_commits_and_of_an_uneven_one_its_largest_cluster() -> None:
    even = Capacity(Fleet(flows_per_second=2e6, clusters=2_000), Prices(), COSTS).limits()
    commits = limit(even, "commits")
    assert commits.used == pytest.approx(58 / 10 / 5)
    assert even.index(commits) < even.index(limit(even, "core collects"))
    uneven = Capacity(Fleet(flows_per_second=2e5, clusters=20, largest_share=0.5), Prices(), COSTS).limits()
    assert uneven[0].name == "one core collects the largest cluster"
    assert uneven[0].used == pytest.approx(2.0)
    assert uneven[0].breaks_at_flows_per_second == pytest.approx(1e5)


def test_many_clusters_of_one_collector_reach_the_lake_late() -> None:
    found = Capacity(Fleet(flows_per_second=100, clusters=2_400), Prices(), COSTS).limits()
    assert found[0].name == "flows reach the lake within a minute"
    assert found[0].used == pytest.approx(2.0)


def test_figures_are_read_from_the_lake_and_given_ones_count_instead(run: Any, stand: Any) -> None:
    now = dt.datetime.now(dt.UTC)
    rows = [
        {"cluster": cluster, "date": at.date(), "time": at}
        for cluster, count in (("a", 300), ("b", 100))
        for at in (now - dt.timedelta(seconds=1_000 - number) for number in range(count))
    ]
    stand.lake.commit(FLOWS, stand.lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema)), transactions={}, metadata={})
    answer = run("--lake", str(stand.folder / "lake"), "-o", "json")
    fleet = json.loads(answer.output)["fleet"]
    assert fleet["flows_per_second"] == pytest.approx(0.4, rel=0.1)
    assert (fleet["clusters"], fleet["largest_share"]) == (2, pytest.approx(0.75))
    answer = run("--lake", str(stand.folder / "lake"), "--flows", "7", "-o", "json")
    assert json.loads(answer.output)["fleet"]["flows_per_second"] == 7


def test_the_table_names_the_first_bottleneck_and_the_sum(run: Any) -> None:
    answer = run("--flows", "100000", "--clusters", "2", "--price-core", "10")
    assert "first bottleneck: one core collects the largest cluster, 100% used" in answer.output
    assert "a month: 42.86, without" in answer.output


def test_each_unit_cost_that_ships_says_when_where_and_by_which_benchmark_it_was_measured() -> None:
    for name, cost in capacity_model.measured().items():
        assert cost.value > 0, name
        assert all((cost.unit, cost.basis, cost.benchmark, cost.machine, cost.measured)), name
