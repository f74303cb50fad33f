"""Rolling up on an engine elsewhere: the rows are those of the embedded engine, whichever server computes them."""

import datetime as dt
from typing import Any

from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.schema import ROLLUPS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
LATER = NOON + dt.timedelta(hours=6)
SETTINGS = config.Rollups(ports_per_edge=3)


def test_rollups_are_the_embedded_engines_row_by_row(twins: Any, server: Any, told: list[Any]) -> None:
    twins.append(3000)
    for lake, on in ((twins.here, None), (twins.there, server)):
        (done,) = roll_up_closed_hours(lake, SETTINGS, now=LATER, on=on)
        assert done.flows > 0
    assert not told, "no work fell back to the embedded engine"
    twins.assert_equal(*ROLLUPS)
    assert roll_up_closed_hours(twins.there, SETTINGS, now=LATER, on=server) == [], "a second run finds nothing to do"
