"""The maintainer beside a collector: a lake that is away, a second one, and what a round leaves."""

from __future__ import annotations

import datetime as dt
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

from pipelines.maintenance import maintainer, merging
from pipelines.maintenance.maintainer import Maintainer
from warehouse import config
from warehouse.errors import LakeError
from warehouse.lake import log
from warehouse.lake.tables import Lake
from warehouse.schema import FLOWS


def settings_of(folder: Path) -> config.Config:
    return config.Config.model_validate(
        {"lake": {"url": str(folder / "lake")}, "clusters": [{"name": "c1", "hubble": {"nodes": ["127.0.0.1:1"], "plaintext": True}}]}
    )


def append(lake: Lake, now: dt.datetime, files: int, *, cluster: str = "c1") -> None:
    begin = now.replace(minute=0, second=0, microsecond=0)
    for number in range(files):
        row = {"cluster": cluster, "date": begin.date(), "time": begin, "uuid": f"{cluster}-{number}"}
        lake.commit(FLOWS, lake.write_files(FLOWS, pa.Table.from_pylist([row], schema=FLOWS.schema)), transactions={}, metadata={})


def on_disk(lake: Lake) -> set[str]:
    return {path.name for path in Path(lake.address(FLOWS)).glob("cluster=*/date=*/*.parquet")}


def test_a_round_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rounds = threading.Semaphore(0)

    def failing(self: Maintainer, *, now: dt.datetime) -> list[merging.Merged]:
        rounds.release()
        raise LakeError("the lake is away")

    monkeypatch.setattr(Maintainer, "round", failing)
    stop = threading.Event()
    thread = threading.Thread(target=Maintainer(settings_of(tmp_path)).run, args=(stop,), kwargs={"every_seconds": 0.0})
    thread.start()
    for _ in range(3):
        rounds.acquire()
    stop.set()
    thread.join()


def test_only_the_clusters_of_its_configuration_are_merged(tmp_path: Path) -> None:
    settings, now = settings_of(tmp_path), dt.datetime.now(dt.UTC)
    lake = Lake.open(settings.lake)
    append(lake, now, 4)
    append(lake, now, 4, cluster="of another collector")
    assert [len(done.replaced) for done in Maintainer(settings).round(now=now)] == [4]
    assert len(lake.files(FLOWS)) == 5


def test_replaced_files_leave_the_disk_when_their_time_is_over_and_not_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, now = settings_of(tmp_path), dt.datetime.now(dt.UTC)
    lake, worker = Lake.open(settings.lake), Maintainer(settings)
    append(lake, now, 4)
    worker.round(now=now)
    assert len(on_disk(lake)) == 5
    began = time.monotonic()
    monkeypatch.setattr(maintainer.time, "monotonic", lambda: began + maintainer.REPLACED_STAY.total_seconds() + 60)
    worker.round(now=now)
    assert on_disk(lake) == {Path(path).name for path in lake.files(FLOWS)}
    assert lake.rows(FLOWS) == 4


def test_logs_are_tidied_when_they_have_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, now = settings_of(tmp_path), dt.datetime.now(dt.UTC)
    lake = Lake.open(settings.lake)
    append(lake, now, 8)
    monkeypatch.setattr(log, "MOST_BYTES", 0)
    monkeypatch.setattr(log, "CHECKPOINT_EVERY", 1)
    entries = Path(lake.address(FLOWS), "_delta_log")
    before = len(list(entries.glob("*.json")))
    Maintainer(settings).round(now=now + log.LEAST_AGE + dt.timedelta(minutes=5))
    assert len(list(entries.glob("*.json"))) < before
    assert Lake.open(settings.lake).rows(FLOWS) == 8
