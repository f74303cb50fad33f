"""Builds observed edges for tests of the recommender: pods, nodes and addresses, and traffic between them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from typing import Any

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Side
from pipelines.policy.settings import AgentSettings
from pipelines.recommend.manifests import PolicyKind
from pipelines.recommend.observed import End, ObservedEdge, Seen
from pipelines.recommend.recommendation import Recommendation, Subject, Traffic, recommend

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
MONTH = Seen(BEGIN, BEGIN + timedelta(days=40), covered=1.0)
DAYS = frozenset((BEGIN + timedelta(days=n)).date() for n in range(30))
CLUSTER = "default"


def pod(namespace: str, workload: str, *, cluster: str = "", hidden: bool = False, labels: dict[str, str] | None = None) -> End:
    """A pod; its label `app` has the workload's name unless labels are given."""
    texts = [f"k8s:{key}={value}" for key, value in (labels if labels is not None else {"app": workload}).items()]
    texts += [
        f"k8s:io.kubernetes.pod.namespace={namespace}",
        f"k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name={namespace}",
        f"k8s:io.cilium.k8s.policy.cluster={cluster or CLUSTER}",
        f"k8s:io.cilium.k8s.policy.serviceaccount={workload or 'default'}",
    ]
    found = None if hidden else LabelSet(texts)
    return End(Side(f"{namespace}/{workload}", subject=found, seen_as=found), namespace, workload, cluster)


def entity(*names: str, address: str = "") -> End:
    """A node or another end with reserved labels."""
    side = Side(names[0], enforced=False, seen_as=LabelSet(f"reserved:{one}" for one in names))
    return End(side if not address else Side(names[0], enforced=False, seen_as=side.seen_as, address=ip_address(address)))


def outside(address: str = "", *names: str, label: str = "world", range: str = "", inferred: bool = False) -> End:
    """An address outside of the cluster."""
    parsed = ip_address(address) if address else None
    networks = (ip_network(range),) if range else ()
    labels = LabelSet([f"reserved:{label}"])
    side = Side(address or range or "world", enforced=False, seen_as=labels, address=parsed, names=names, networks=networks)
    return End(side, names_inferred=inferred)


def edge(source: End, destination: End, port: int | None = 8080, protocol: str = "TCP", **changes: Any) -> ObservedEdge:
    """An edge that was seen on every day of a month."""
    facts: dict[str, Any] = {"flows": 1000, "first_seen": BEGIN, "last_seen": BEGIN + timedelta(days=30), "days": DAYS, **changes}
    return ObservedEdge(source, destination, protocol, port, **facts)


def recommended(
    edges: Iterable[ObservedEdge],
    namespace: str = "shop",
    workload: str = "",
    *,
    kind: PolicyKind = PolicyKind.CILIUM,
    seen: Seen = MONTH,
    settings: AgentSettings | None = None,
    include_one_offs: bool = False,
    **traffic: Any,
) -> Recommendation:
    """The recommendation for some edges; the engine must not refuse any of its policies."""
    subject = Subject(namespace, workload, kind, include_one_offs)
    found = recommend(Traffic(list(edges), seen, **traffic), subject, settings)
    assert not found.check.refusals
    return found


def only(recommendation: Recommendation, index: int = 0) -> dict[str, Any]:
    """The spec of one policy."""
    spec: dict[str, Any] = recommendation.policies[index].manifest["spec"]
    return spec
