"""A lake with an hour of traffic and configuration history, owners, and a desk for each of them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from pipelines.policy.documents import read_documents
from pipelines.proposals import reading, steps
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Proposal
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.schema import CONFIG_COVERAGE, FLOWS, POLICY_CHANGES, POLICY_VERSIONS

KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy", "ConfigMap", "CiliumAgents", "PodLabels"]
GRANTS = [
    {"subject": "ada", "role": "platform-admin"},
    {"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]},
    {"subject": "pete", "role": "namespace-owner", "namespaces": ["shop"]},
    {"subject": "carla", "role": "namespace-owner", "namespaces": ["cart"]},
    {"subject": "otto", "role": "auditor"},
]
CLOSED = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
  - fromEndpoints: [{matchLabels: {app: api}}]
"""
"""Lets nobody but api of the same namespace reach web."""


def policy(*peers: dict[str, str], name: str = "web", namespace: str = "shop") -> str:
    """A policy that lets pods with these labels reach web."""
    rules = [{"fromEndpoints": [{"matchLabels": peer}]} for peer in peers]
    manifest = {
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": rules},
    }
    return yaml.safe_dump(manifest, sort_keys=False)


class Office:
    """The lake, its owners, and what they do with proposals."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lake = Lake.open(config.Lake(url=str(folder / "lake")))
        self.now = datetime.now(UTC)
        self.configure()
        span = {"from": self.now - timedelta(days=1), "to": self.now + timedelta(days=1), "recorded": self.now}
        self._put(CONFIG_COVERAGE, {"cluster": "c1", "state": "observed", "kinds": KINDS, "source": "watch", **span})

    def configure(self, **sections: Any) -> None:
        """Write the configuration anew, with more sections."""
        document = {"lake": {"url": str(self.folder / "lake")}, "clusters": [{"name": "c1"}], "ownership": {"grants": GRANTS}, **sections}
        self.file = self.folder / "hindcast.yaml"
        self.file.write_text(json.dumps(document))
        self.settings = config.load_config(self.file)

    def blueprint(self, *rails: dict[str, Any]) -> None:
        """Write a blueprint with guard-rails into the configuration."""
        file = self.folder / "rails.yaml"
        file.write_text(yaml.safe_dump({"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}, "guard_rails": list(rails)}))
        self.configure(blueprints=[str(file)])

    def desk(self, user: str) -> Desk:
        """What one of them acts with."""
        door = Door(self.lake, self.settings.ownership, self.settings.rollups, purpose="test")
        return Desk(settings=self.settings, lake=self.lake, door=door, who=Principal(user=user))

    def propose(self, user: str, *texts: str, removed: tuple[tuple[str, str, str], ...] = (), reason: str = "") -> steps.Made:
        """Make a proposal of texts of one namespace."""
        documents = [document for text in texts for document in read_documents(text, "web.yaml")]
        (asked,) = reading.read(documents, removed)
        return steps.propose(self.desk(user), "c1", asked, reason)

    def rows(self, proposal: Proposal | None = None) -> list[dict[str, Any]]:
        """What is recorded of proposals."""
        found = [row for row in self.lake.read(POLICY_CHANGES).to_pylist() if row["proposal"]]
        return sorted((row for row in found if proposal is None or row["proposal"] == proposal.id), key=lambda row: row["time"])

    def in_force(self, text: str) -> None:
        """Record a policy as in force since yesterday."""
        (document,) = read_documents(text, "")
        kind, namespace, name = document.identity
        begin = self.now - timedelta(days=1)
        manifest = json.dumps(document.manifest, sort_keys=True)
        self._put(
            POLICY_VERSIONS,
            {
                "cluster": "c1", "kind": kind, "namespace": namespace or None, "name": name, "valid_from": begin, "recorded": begin,
                "hash": str(hash(manifest)), "manifest": manifest, "api_version": document.manifest["apiVersion"], "uid": f"uid-of-{name}",
            },
        )  # fmt: skip

    def flows(self, source: str, destination: str, *, ago: float = 30, times: int = 3, **more: Any) -> None:
        """Record flows between workloads, named namespace/name, from some minutes ago on."""
        rows = []
        for number in range(times):
            moment = self.now - timedelta(minutes=ago) + timedelta(seconds=number)
            row = {
                "cluster": "c1", "date": moment.date(), "time": moment, "uuid": str(uuid.uuid4()), "flow_count": 1, "verdict": "FORWARDED",
                "traffic_direction": "INGRESS", "l4_protocol": "TCP", "source_port": 40_000, "destination_port": 80, "is_reply": False,
                "event_type": 4, "node_name": "c1/n1",
            }  # fmt: skip
            if more.get("verdict") == "DROPPED":
                row |= {"is_reply": None, "event_type": 5, "drop_reason_desc": "POLICY_DENIED"}
            rows.append(row | _pod("source", source) | _pod("destination", destination) | more)
        self._put(FLOWS, *rows)

    def _put(self, table: Any, *rows: dict[str, Any]) -> None:
        files = self.lake.write_files(table, pa.Table.from_pylist(list(rows), schema=table.schema))
        self.lake.commit(table, files, transactions={}, metadata={})


def _pod(side: str, where: str) -> dict[str, Any]:
    namespace, _, name = where.partition("/")
    labels = [f"k8s:app={name}", f"k8s:io.kubernetes.pod.namespace={namespace}", "k8s:io.cilium.k8s.policy.cluster=c1"]
    labels.append(f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}")
    about = {
        "namespace": namespace,
        "pod_name": f"{name}-0",
        "workload_name": name,
        "workload_kind": "Deployment",
        "labels": sorted(labels),
    }
    about |= {"identity": 1000 + len(name), "cluster_name": "c1"}
    return {f"{side}_{key}": value for key, value in about.items()}


@pytest.fixture
def office(tmp_path: Path) -> Office:
    """Owners of shop and cart, in whose cluster api and batch of shop, and cart of cart, have called web of shop."""
    office = Office(tmp_path)
    office.flows("shop/api", "shop/web")
    office.flows("shop/batch", "shop/web", times=5)
    office.flows("cart/cart", "shop/web", times=2)
    return office


@pytest.fixture(name="policy")
def policy_fixture() -> Any:
    """What makes policies."""
    return policy


@pytest.fixture
def closed() -> str:
    """A policy that lets nobody but api reach web."""
    return CLOSED
