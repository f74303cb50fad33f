"""What a proposed policy can start from: a policy in force, or an example."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dashboards.visit import Visit, not_future
from pipelines.central import splicing
from pipelines.policy.policy_set import READERS
from warehouse.engine import Window
from warehouse.questions.record_questions import Configuration
from warehouse.schema import POLICY_VERSIONS

EXAMPLES = {
    "Only these clients": """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: {app}-clients
  namespace: {namespace}
spec:
  endpointSelector:
    matchLabels:
      app: {app}
  ingress:
    - fromEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: {namespace}
      toPorts:
        - ports:
            - port: "8080"
              protocol: TCP
""",
    "Nothing into the namespace": """apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: deny-ingress
  namespace: {namespace}
spec:
  podSelector: {{}}
  policyTypes:
    - Ingress
""",
    "Nothing out but DNS": """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: egress-dns-only
  namespace: {namespace}
spec:
  endpointSelector: {{}}
  egress:
    - toEndpoints:
        - matchLabels:
            k8s:io.kubernetes.pod.namespace: kube-system
            k8s:k8s-app: kube-dns
      toPorts:
        - ports:
            - port: "53"
              protocol: ANY
""",
    "Never the world": """apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata:
  name: deny-world
  namespace: {namespace}
spec:
  endpointSelector: {{}}
  egressDeny:
    - toEntities:
        - world
""",
}
"""Examples by what they do, with places for a namespace and an application."""
Version = Mapping[str, Any]


def example(name: str, namespace: str) -> str:
    """Return an example for a namespace."""
    return EXAMPLES[name].format(namespace=namespace, app=namespace.rsplit("-", 1)[0] + "-api")


def in_force(visit: Visit) -> list[Version]:
    """The policies in force at the window's end that the principal may see, by namespace and name."""
    at = not_future(visit.time.until)
    answer = visit.answer(Configuration(window=Window(since=min(visit.time.since, at), until=at), tables=(POLICY_VERSIONS,)))
    visit.answers.remove(answer)
    found = [row for row in answer.rows.to_pylist() if row["kind"] in READERS and (row["valid_to"] is None or row["valid_to"] > at)]
    return sorted(found, key=lambda row: (row["namespace"] or "", row["name"], row["kind"], row["cluster"]))


def title(version: Version, *, with_cluster: bool) -> str:
    """A policy as the menu names it."""
    name = f"{version['namespace']}/{version['name']}" if version["namespace"] else version["name"]
    return f"{name} · {version['kind']}" + (f" · {version['cluster']}" if with_cluster else "")


def as_written(version: Version) -> str:
    """A version's manifest as one would write it: without what the API server adds."""
    return plain_yaml(json.loads(version["manifest"]))


def plain_yaml(manifest: Mapping[str, Any]) -> str:
    """A manifest as YAML without what the API server adds, its fields in the usual order."""
    metadata = manifest.get("metadata") or {}
    kept = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if metadata.get(key)}
    order = {"apiVersion": manifest.get("apiVersion"), "kind": manifest.get("kind"), "metadata": kept}
    rest = {key: manifest[key] for key in ("spec", "specs") if manifest.get(key) is not None}
    return splicing.written(order | rest)
