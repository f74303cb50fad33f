"""A lake, a clock that is told what time it is, and objects as they are seen."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration import kinds
from pipelines.configuration.recording import Look, Recorder, note_looks
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import versions

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)


def policy(name: str = "web", *, port: int = 80, namespace: str = "shop", uid: str = "u1", **metadata: Any) -> dict[str, Any]:
    """A NetworkPolicy as the API gives it."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": "7", **metadata},
        "spec": {"podSelector": {}, "ingress": [{"ports": [{"port": port}]}]},
    }


class History:
    """The history of one cluster, written by looks at made-up states."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))

    def look(self, at: datetime, *objects: dict[str, Any], cluster: str = "c1", **options: Any) -> int:
        """Look at a cluster that has these objects and no others; gives how many versions were written."""
        recorder = Recorder(self.lake, cluster, source="snapshot", **options)
        seen = [kinds.observe(kinds.BY_NAME[item["kind"]], item) for item in objects]
        for each in seen:
            assert each is not None
            recorder.saw(each, at=at)
        for kind in kinds.BY_NAME:
            recorder.missed_others(kind, {each.key for each in seen if each is not None}, at=at)
        recorder.commit(recorded=at)
        look = Look(state="observed", kinds=tuple(kinds.BY_NAME), objects=len(seen))
        note_looks(self.lake, cluster, [look], source="snapshot", begin=at, end=at, recorded=at)
        return recorder.written.versions

    def at(self, at: datetime, **options: Any) -> list[dict[str, Any]]:
        """The versions in force at a time, with manifests as objects."""
        rows: list[dict[str, Any]] = versions.in_force(self.lake, at, versions.Selection(**options)).to_pylist()
        return [{**row, "manifest": json.loads(row["manifest"])} for row in rows]

    def all(self, **options: Any) -> list[dict[str, Any]]:
        """Every version there is."""
        rows: list[dict[str, Any]] = versions.between(
            self.lake, NOON - timedelta(days=9999), NOON + timedelta(days=9999), versions.Selection(**options)
        ).to_pylist()
        return rows

    def stored_rows(self) -> int:
        """Rows as they are stored."""
        from warehouse.schema import VERSION_TABLES

        return sum(self.lake.rows(table) for table in VERSION_TABLES)


@pytest.fixture
def history(tmp_path: Path) -> History:
    """An empty lake to write the history of clusters to."""
    return History(tmp_path)


@pytest.fixture
def new_history(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], History]:
    """Makes further ones."""
    return lambda: History(tmp_path_factory.mktemp("history"))


@pytest.fixture(name="policy")
def policy_fixture() -> Callable[..., dict[str, Any]]:
    """Makes a NetworkPolicy."""
    return policy


@pytest.fixture
def noon() -> datetime:
    """A time."""
    return NOON
