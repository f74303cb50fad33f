"""A fictional company: teams, their namespaces and services, and the pods that run them in every cluster.

The same seed gives the same fleet: names, addresses, identities and placement.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass

from collectors.hubble_api.flow import flow_pb2

# namespace: team, then each service as name:protocol:port
NAMESPACES: dict[str, tuple[str, tuple[str, ...]]] = {
    "kube-system": ("platform", ("coredns:dns:53",)),
    "ingress": ("platform", ("gateway:http:8443",)),
    "monitoring": ("platform", ("prometheus:http:9090", "alertmanager:http:9093")),
    "messaging": ("platform", ("kafka:kafka:9092",)),
    "storefront": ("web", ("web:http:8080", "bff:http:8081")),
    "search": ("web", ("search-api:grpc:9000", "indexer:grpc:9001")),
    "catalog": ("catalog", ("catalog-api:grpc:9000", "catalog-db:postgres:5432")),
    "pricing": ("catalog", ("pricing-api:grpc:9000",)),
    "inventory": ("catalog", ("inventory-api:http:8080", "inventory-db:postgres:5432")),
    "cart": ("checkout", ("cart-api:http:8080", "cart-db:postgres:5432")),
    "checkout": ("checkout", ("checkout-api:http:8080",)),
    "orders": ("checkout", ("orders-api:grpc:9000", "orders-db:postgres:5432")),
    "payments": ("payments", ("payments-api:grpc:9000", "ledger-db:postgres:5432")),
    "fraud": ("payments", ("fraud-scorer:grpc:9000",)),
    "identity": ("security", ("login:http:8080", "users-db:postgres:5432")),
    "vault": ("security", ("vault:http:8200",)),
    "shipping": ("logistics", ("shipping-api:http:8080", "tracker:http:8082")),
    "notifications": ("growth", ("mailer:http:8080",)),
    "analytics": ("data", ("collector:http:8080", "warehouse-db:postgres:5432")),
    "ml-features": ("data", ("features:grpc:9000",)),
}

CALLS: tuple[tuple[str, str], ...] = (
    ("gateway", "web"), ("gateway", "bff"), ("gateway", "login"), ("bff", "search-api"), ("bff", "catalog-api"),
    ("bff", "cart-api"), ("bff", "checkout-api"), ("search-api", "indexer"), ("indexer", "kafka"), ("catalog-api", "catalog-db"),
    ("catalog-api", "pricing-api"), ("pricing-api", "features"), ("inventory-api", "inventory-db"), ("cart-api", "cart-db"),
    ("cart-api", "pricing-api"), ("checkout-api", "orders-api"), ("checkout-api", "payments-api"), ("checkout-api", "inventory-api"),
    ("orders-api", "orders-db"), ("orders-api", "kafka"), ("payments-api", "ledger-db"), ("payments-api", "fraud-scorer"),
    ("payments-api", "vault"), ("fraud-scorer", "features"), ("login", "users-db"), ("login", "vault"), ("shipping-api", "kafka"),
    ("tracker", "shipping-api"), ("mailer", "kafka"), ("collector", "kafka"), ("collector", "warehouse-db"),
    ("prometheus", "alertmanager"), ("prometheus", "web"), ("prometheus", "orders-api"),
)  # fmt: skip

# Attempts that no policy allows; the endpoints that the audited ones call are in audit mode, which lets them in.
DENIED: tuple[tuple[str, str], ...] = (("web", "ledger-db"), ("collector", "users-db"), ("mailer", "vault"), ("tracker", "orders-db"))
BLOCKED_HOST = ("indexer", ("updates.tracker.example", "198.51.100.77"))
"""A service that tries to reach a host on the internet, which no policy allows."""
AUDITED: tuple[tuple[str, str], ...] = (("indexer", "inventory-db"), ("features", "warehouse-db"))
IN_AUDIT_MODE = frozenset(called for _, called in AUDITED)

OUTSIDE: dict[str, tuple[str, str]] = {  # a service's named host on the internet, and its address
    "payments-api": ("api.card-network.example", "198.51.100.20"),
    "mailer": ("smtp-relay.mail.example", "198.51.100.41"),
    "shipping-api": ("rates.parcel.example", "203.0.113.77"),
    "login": ("accounts.sso.example", "203.0.113.9"),
}


GENERATED = str.maketrans("0123456789abcdef", "2456789bcdfghjkl")
"""Maps hexadecimal digits to the characters of Kubernetes' generated names: no vowels, and none that look alike."""


@dataclass(frozen=True, slots=True)
class Pod:
    """One pod: where it runs, and everything Hubble reports about it."""

    service: str
    protocol: str
    port: int
    node: str
    ip: str
    mac: str
    endpoint: flow_pb2.Endpoint  # as its own node sees it, with ID and workloads

    def seen_from(self, node: str) -> flow_pb2.Endpoint:
        """Return its endpoint as a node reports it: ID and workloads are known only on the pod's own node."""
        if node == self.node:
            return self.endpoint
        remote = flow_pb2.Endpoint()
        remote.CopyFrom(self.endpoint)
        remote.ClearField("ID")
        remote.ClearField("workloads")
        return remote


@dataclass(frozen=True, slots=True)
class Fleet:
    """The nodes, and the pods of every service by cluster."""

    clusters: tuple[str, ...]
    nodes: tuple[str, ...]
    pods: dict[tuple[str, str], tuple[Pod, ...]]

    def drifts(self, cluster: str) -> bool:
        """Whether the story's drift is in this cluster: the last one."""
        return cluster == self.clusters[-1]


def build_fleet(
    seed: int,
    clusters: tuple[str, ...] = ("eu-central", "us-east"),
    nodes_per_cluster: int = 3,
    namespaces: Mapping[str, tuple[str, tuple[str, ...]]] = NAMESPACES,
) -> Fleet:
    """Build the company's fleet; a cluster named "default" has nodes without a prefix, as in Cilium.

    `namespaces` may rename the company's namespaces, but not change their services.
    """
    if not clusters or nodes_per_cluster < 1 or len(set(clusters)) != len(clusters):
        raise ValueError("a fleet needs distinct clusters and at least one node in each")
    chance = random.Random(f"{seed}/fleet")
    nodes: list[str] = []
    pods: dict[tuple[str, str], tuple[Pod, ...]] = {}
    for index, cluster in enumerate(clusters):
        names = [f"worker-{number:03d}" for number in range(1, nodes_per_cluster + 1)]
        own = [name if cluster == "default" else f"{cluster}/{name}" for name in names]
        nodes += own
        count = 0
        for namespace, (team, services) in namespaces.items():
            for written in services:
                service, protocol, port = written.split(":")
                identity = (index << 16) + chance.randrange(256, 65_536)
                made = []
                for _ in range(1 if service.endswith("-db") else chance.randint(2, 4)):
                    node = chance.randrange(len(own))
                    count += 1
                    ip = f"10.{index}.{node % 256}.{10 + count % 240}"
                    mac = ":".join(f"{chance.randrange(256):02x}" for _ in range(6))
                    endpoint = _endpoint(chance, cluster, namespace, team, service, identity)
                    made.append(Pod(service, protocol, int(port), own[node], ip, mac, endpoint))
                pods[cluster, service] = tuple(made)
    return Fleet(clusters, tuple(nodes), pods)


def _endpoint(chance: random.Random, cluster: str, namespace: str, team: str, service: str, identity: int) -> flow_pb2.Endpoint:
    stateful = service.endswith("-db") or service == "kafka"
    suffix = "0" if stateful else f"{chance.getrandbits(36):09x}-{chance.getrandbits(20):05x}".translate(GENERATED)
    labels = [
        f"k8s:app.kubernetes.io/name={service}",
        f"k8s:app.kubernetes.io/part-of={namespace}",
        f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}",
        f"k8s:io.cilium.k8s.namespace.labels.team={team}",
        f"k8s:io.cilium.k8s.policy.cluster={cluster}",
        f"k8s:io.cilium.k8s.policy.serviceaccount={service}",
        f"k8s:io.kubernetes.pod.namespace={namespace}",
        f"k8s:team={team}",
    ]
    workload = flow_pb2.Workload(name=service, kind="StatefulSet" if stateful else "Deployment")
    return flow_pb2.Endpoint(
        ID=chance.randrange(1, 65_536),
        identity=identity,
        cluster_name=cluster,
        namespace=namespace,
        labels=labels,
        pod_name=f"{service}-{suffix}",
        workloads=[workload],
    )
