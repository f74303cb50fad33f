"""A watch records every change within seconds, in order, and says until when it has seen everything."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration.watch import ClusterWatch
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import versions
from warehouse.schema import CONFIG_COVERAGE

pytestmark = pytest.mark.peers


def netpol(name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": name, "namespace": "watched"},
        "spec": {"podSelector": {}, **spec},
    }


class Watched:
    """A cluster that is watched into a lake."""

    def __init__(self, folder: Path, cluster: Any, wait: Callable[..., Any]) -> None:
        self.lake, self.cluster, self.wait = Lake.open(config.Lake(url=str(folder / "lake"))), cluster, wait
        self.begin, self.looks = datetime.now(UTC), 0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch inside of the block."""
        settings = config.Cluster(name="c1", kubernetes=config.Kubernetes(kubeconfig=self.cluster.kubeconfig()))
        stop, looked, failures = threading.Event(), threading.Event(), list[BaseException]()

        def on_snapshot(_taken: Any) -> None:
            self.looks += 1
            looked.set()

        def run() -> None:
            try:
                ClusterWatch(self.lake, settings, flush_seconds=0.3, pause_seconds=0.3, on_snapshot=on_snapshot).run(stop)
            except BaseException as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            assert looked.wait(600)
            yield
        finally:
            stop.set()
            thread.join(60)
        assert not thread.is_alive()
        assert not failures

    def versions(self, name: str) -> list[dict[str, Any]]:
        since = self.begin - timedelta(minutes=5)
        until, named = datetime.now(UTC) + timedelta(days=1), versions.Selection(names=[name], namespaces=["watched"])
        rows: list[dict[str, Any]] = versions.between(self.lake, since, until, named).to_pylist()
        return rows

    def wait_for_versions(self, name: str, count: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.wait(
            lambda: rows if len(rows := self.versions(name)) >= count else None, what=f"{count} versions of {name}", seconds=600
        )
        return found


@pytest.fixture
def watched(tmp_path: Path, clusters: dict[str, Any], wait: Callable[..., Any]) -> Watched:
    """Cluster two, with the namespace `watched`."""
    clusters["two"].apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "watched"}})
    clusters["two"].kubectl("delete", "netpol", "--all", "-n", "watched")
    return Watched(tmp_path, clusters["two"], wait)


def test_each_change_becomes_a_version_also_two_within_a_moment_and_a_watch_after_it_adds_none(watched: Watched) -> None:
    two = watched.cluster
    place = "/apis/networking.k8s.io/v1/namespaces/watched/networkpolicies"
    with watched.watching():
        two.request("POST", place, netpol("web"))
        two.request("PUT", f"{place}/web", netpol("web", policyTypes=["Egress"]))
        two.request("PUT", f"{place}/web", netpol("web", policyTypes=["Ingress"]))
        two.request("DELETE", f"{place}/web")
        two.request("POST", place, netpol("web"))
        found = watched.wait_for_versions("web", 4)
    assert [row["ended_how"] for row in found] == ["changed", "changed", "deleted", None]
    assert [row["source"] for row in found] == ["watch"] * 4
    assert all(row["valid_from"] < row["valid_to"] for row in found[:-1])
    assert found[2]["uid"] != found[3]["uid"]
    (line,) = [row for row in watched.lake.read(CONFIG_COVERAGE).to_pylist() if row["source"] == "watch"]
    assert (line["state"], line["versions_written"]) == ("observed", 7)
    assert {"NetworkPolicy", "PodLabels"} <= set(line["kinds"])
    with watched.watching():
        pass
    assert len(watched.versions("web")) == 4


def test_a_pod_s_labels_come_and_go_with_the_first_and_the_last_pod_that_has_them(watched: Watched) -> None:
    two = watched.cluster

    def pod(name: str) -> dict[str, Any]:
        owner = {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "db", "uid": "u", "controller": True}
        metadata = {"name": name, "namespace": "watched", "labels": {"app": "db"}, "ownerReferences": [owner]}
        return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "c", "image": "i"}]}}

    two.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default", "namespace": "watched"}})
    with watched.watching():
        for name in ("db-0", "db-1"):
            two.request("POST", "/api/v1/namespaces/watched/pods", pod(name))

        def sets() -> list[dict[str, Any]]:
            since = watched.begin - timedelta(minutes=5)
            until = datetime.now(UTC) + timedelta(days=1)
            return versions.between(watched.lake, since, until, versions.Selection(kinds=["PodLabels"], namespaces=["watched"])).to_pylist()

        watched.wait(sets, what="labels of pods")
        two.request("DELETE", "/api/v1/namespaces/watched/pods/db-0?gracePeriodSeconds=0")
        two.request("DELETE", "/api/v1/namespaces/watched/pods/db-1?gracePeriodSeconds=0")
        (version,) = watched.wait(lambda: [row for row in sets() if row["valid_to"]], what="an end", seconds=600)
    assert version["name"].startswith("statefulset.db.")
    assert version["ended_how"] == "deleted"


def test_an_api_server_that_is_away_leaves_a_gap_and_what_changed_in_it_is_found_afterwards(watched: Watched) -> None:
    two = watched.cluster
    two.apply(netpol("before"))
    with watched.watching():
        two.kill()
        two.start()
        two.apply(netpol("after"))
        watched.wait_for_versions("after", 1)
        watched.wait(lambda: watched.looks >= 2, what="a second look", seconds=600)
    assert [row["ended_how"] for row in watched.versions("before")] == [None]
