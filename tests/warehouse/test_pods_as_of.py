"""The workloads of pods that were learned as of a moment are remembered for what they were learned from, as far as there is room."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from warehouse import config, engine
from warehouse.access.principals import OPERATOR
from warehouse.lake import time_travel
from warehouse.lake.tables import Lake
from warehouse.questions import pods_as_of
from warehouse.questions.door import Door
from warehouse.questions.edges_in_time import edges_in_time
from warehouse.questions.flow_filter import FlowFilter
from warehouse.schema import FLOWS

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


def put(lake: Lake, uuid: str, workload: str | None) -> None:
    row: dict[str, Any] = {"cluster": "c1", "date": NOON.date(), "time": NOON, "uuid": uuid, "verdict": "FORWARDED", "flow_count": 1}
    row |= {"source_namespace": "shop", "source_pod_name": "web-x", "source_workload_name": workload, "destination_namespace": "shop"}
    row |= {"destination_pod_name": "db-0", "destination_port": 80, "l4_protocol": "TCP", "is_reply": False}
    lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist([row], schema=FLOWS.schema)), transactions={}, metadata={})


def test_what_was_learned_is_used_until_the_table_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pods_as_of, "MEMORY", pods_as_of.Memory())
    lake = Lake.open(config.Lake(url=str(tmp_path)))
    door = Door(lake, config.Ownership())
    wanted = FlowFilter(since=NOON, until=NOON + timedelta(hours=1), as_of=time_travel.at_instant(datetime.now(UTC)))

    def sources() -> list[str]:
        return sorted(row["source_name"] for row in door.answer(OPERATOR, edges_in_time(wanted)).rows.to_pylist())

    put(lake, "a", None)
    assert sources() == sources() == ["web-x"]
    put(lake, "b", "web")
    assert sources() == ["web"], "the flow that came later names the pod's workload"


def test_no_more_is_kept_than_there_is_room_for() -> None:
    memory = pods_as_of.Memory(most_bytes=0)
    connection = engine.connect_warm()
    connection.execute("CREATE TEMP TABLE pods AS SELECT 'web' AS pod")
    memory.keep(connection, "pods", "key")
    assert not memory.recall(engine.connect_warm(), "pods", "key")
