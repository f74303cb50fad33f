"""A lake with configuration history and flows, written as a watch and a collector would."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines.maintenance import rollup
from pipelines.policy.documents import read_documents
from pipelines.replay.in_force import History, InForce
from pipelines.replay.whatif import Result, WhatIf, simulate
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import CONFIG_COVERAGE, FLOWS, POLICY_VERSIONS, Table

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ConfigMap", "CiliumAgents", "PodLabels"]


class Recorded:
    """A lake to which versions and coverage are written as a watch would."""

    def __init__(self, folder: Path) -> None:
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))
        grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]}]
        self.door = Door(self.lake, config.Ownership.model_validate({"grants": grants}), purpose="test")

    def version(
        self,
        table: Table,
        kind: str,
        name: str,
        begin: int,
        end: int | None = None,
        *,
        namespace: str | None = "shop",
        cluster: str = "c1",
        **content: Any,
    ) -> None:
        manifest = {"kind": kind, "metadata": {"name": name, **({"namespace": namespace} if namespace else {})}, **content}
        text = json.dumps(manifest, sort_keys=True)
        row = {
            "cluster": cluster,
            "kind": kind,
            "namespace": namespace,
            "name": name,
            "valid_from": START + begin * HOUR,
            "valid_to": None if end is None else START + end * HOUR,
            "recorded": START + begin * HOUR,
            "ended_recorded": None if end is None else START + end * HOUR,
            "hash": str(hash(text)),
            "manifest": text,
        }
        self._put(table, row)

    def observed(self, begin: int, end: int, *, kinds: list[str] = KINDS, cluster: str = "c1", state: str = "observed") -> None:
        span = {"from": START + begin * HOUR, "to": START + end * HOUR}
        self._put(CONFIG_COVERAGE, {"cluster": cluster, **span, "state": state, "kinds": kinds, "source": "watch", "recorded": span["to"]})

    def _put(self, table: Table, row: dict[str, Any]) -> None:
        files = self.lake.write_files(table, pa.Table.from_pylist([row], schema=table.schema))
        self.lake.commit(table, files, transactions={}, metadata={})

    def policy(self, name: str, begin: int, end: int | None = None, *, port: int = 80, **more: Any) -> None:
        rule = {"toPorts": [{"ports": [{"port": str(port), "protocol": "TCP"}]}]}
        self.version(POLICY_VERSIONS, "CiliumNetworkPolicy", name, begin, end, spec={"endpointSelector": {}, "ingress": [rule]}, **more)

    def in_force(self, begin: int = 0, end: int = 24, *, who: Principal = OPERATOR, **options: Any) -> InForce:
        return History(self.door, who).periods(Window(since=START + begin * HOUR, until=START + end * HOUR), **options)

    def flow(
        self,
        source: dict[str, Any],
        destination: dict[str, Any],
        port: int | None = 80,
        *,
        at: float = 1,
        times: int = 1,
        cluster: str = "c1",
        direction: str = "INGRESS",
        **more: Any,
    ) -> list[str]:
        """Store flows a second apart, from an hour of the day on, and return their uuids."""
        rows: list[dict[str, Any]] = []
        for number in range(times):
            moment = START + at * HOUR + timedelta(seconds=number)
            row = {
                "cluster": cluster, "date": moment.date(), "time": moment, "uuid": str(uuid.uuid4()), "flow_count": 1,
                "verdict": "FORWARDED", "traffic_direction": direction, "l4_protocol": "TCP", "source_port": 40_000,
                "destination_port": port, "is_reply": False, "event_type": 4, "node_name": f"{cluster}/n1",
            }  # fmt: skip
            row |= {f"source_{name}": value for name, value in source.items()}
            row |= {f"destination_{name}": value for name, value in destination.items()}
            if more.get("verdict") == "DROPPED":
                row |= {"is_reply": None, "event_type": 5, "drop_reason_desc": "POLICY_DENIED"}
            rows.append(row | more)
        files = self.lake.write_files(FLOWS, pa.Table.from_pylist(rows, schema=FLOWS.schema))
        self.lake.commit(FLOWS, files, transactions={}, metadata={})
        return [row["uuid"] for row in rows]

    def roll_up(self) -> None:
        """Sum up the day's hours."""
        rollup.roll_up_closed_hours(self.lake, config.Rollups(), now=START + 48 * HOUR)

    def lose_flows(self) -> None:
        """Delete the flows and keep their rollups, as retention does."""
        rollup.seal(self.lake, "c1", START)
        for file in self.lake.contents(FLOWS):
            self.lake.replace(FLOWS, [file], [], guard="test", whole=None)

    def simulate(self, *texts: str, begin: float = 0, end: float = 24, who: Principal = OPERATOR, **options: Any) -> Result:
        documents = [document for text in texts for document in read_documents(text, "candidate.yaml")]
        window = Window(since=START + begin * HOUR, until=START + end * HOUR)
        return simulate(History(self.door, who), WhatIf(window=window, documents=tuple(documents), **options))


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded(tmp_path)


def pod(namespace: str, name: str, cluster: str = "c1", labelled_cluster: str = "", **labels: str) -> dict[str, Any]:
    """One end of a flow: a pod with the labels that Cilium gives it."""
    texts = [f"k8s:{key}={value}" for key, value in {"app": name, **labels}.items()]
    texts += [f"k8s:io.kubernetes.pod.namespace={namespace}", f"k8s:io.cilium.k8s.policy.cluster={labelled_cluster or cluster}"]
    texts.append(f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}")
    return {
        "namespace": namespace,
        "pod_name": f"{name}-0",
        "workload_name": name,
        "workload_kind": "Deployment",
        "labels": sorted(texts),
        "identity": 1000 + hash((namespace, name)) % 1000,
        "cluster_name": cluster,
        "ip": "10.0.0.1",
    }


def world(address: str, *names: str) -> dict[str, Any]:
    """One end of a flow: an address outside."""
    return {"ip": address, "identity": 2, "labels": ["reserved:world"], "names": list(names) or None}


@pytest.fixture
def ends() -> Any:
    """Makes ends of flows."""

    class Ends:
        pod = staticmethod(pod)
        world = staticmethod(world)

    return Ends
