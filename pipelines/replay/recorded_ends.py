"""A pod of which no flow was recorded, as an end of a connection: its labels from the configuration history of a time.

Cilium gives a pod its own labels, those of its namespace, its service account and its cluster. Where history does not say all of them,
the end has those that are known, and the verdict is uncertain if others decide.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pipelines.policy.labels import KUBERNETES, SERVICE_ACCOUNT
from pipelines.policy.topology import is_identity_relevant
from pipelines.replay.ends import NOT_YOURS, End, namespace_labels
from pipelines.replay.in_force import History
from warehouse.engine import Window
from warehouse.errors import ConfigError
from warehouse.questions.record_questions import Configuration, ConfigurationCoverage
from warehouse.schema import NAMESPACES, WORKLOADS

_PODS, _NAMESPACE = "PodLabels", "Namespace"
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Asked:
    """The time and the cluster of the ends."""

    at: datetime
    cluster: str
    cluster_name: str
    """The cluster as the labels of its pods name it."""


def pod_labels(manifest: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the labels that Cilium gives the pods of a recorded PodLabels, without those of their namespace and cluster."""
    labels = manifest["metadata"].get("labels") or {}
    found = [f"{KUBERNETES}:{key}={value}" for key, value in labels.items() if is_identity_relevant(key)]
    account = (manifest.get("spec") or {}).get("serviceAccountName")
    return (*found, *([f"{KUBERNETES}:{SERVICE_ACCOUNT}={account}"] if account else []))


def workload_of(manifest: Mapping[str, Any]) -> str:
    """Return the name of the workload that the pods of a recorded PodLabels belong to."""
    return str(((manifest.get("spec") or {}).get("workload") or {}).get("name") or manifest["metadata"]["name"])


def pod_end(history: History, asked: Asked, namespace: str, workload: str) -> End:
    """Return the end of a connection that a workload's pods were at a time, as far as configuration history says and the principal may see.

    Raises ConfigError if the pods have the identity of their node, AccessDeniedError, QueryError, LakeError.
    """
    window = Window(since=asked.at, until=asked.at + _INSTANT)
    question = Configuration(
        window=window, tables=(WORKLOADS, NAMESPACES), clusters=(asked.cluster,), kinds=(_PODS, _NAMESPACE), namespaces=(namespace,)
    )
    manifests = [(row["kind"], json.loads(row["manifest"])) for row in history.answer(question).rows.to_pylist()]
    coverage = history.answer(ConfigurationCoverage(at=asked.at, clusters=(asked.cluster,)))
    covered = {one.kind for one in coverage if one.before is not None and one.after is not None}
    pods = [manifest for kind, manifest in manifests if kind == _PODS and workload_of(manifest) == workload] if _PODS in covered else []
    spaces = [manifest for kind, manifest in manifests if kind == _NAMESPACE] if _NAMESPACE in covered else []
    _check_network(pods, f"{namespace}/{workload}")
    owned = history.door.scope(history.principal).owns(asked.cluster, namespace, asked.at)
    own = [frozenset(pod_labels(one)) for one in pods]
    of_space = namespace_labels(namespace, asked.cluster_name, (spaces[0]["metadata"].get("labels") or {}) if spaces else {})
    known = tuple(sorted({*of_space, *(frozenset.intersection(*own) if own else ())}))
    missing = _missing(own, spaces, f"{namespace}/{workload}") if owned else NOT_YOURS
    return End(
        cluster=asked.cluster,
        namespace=namespace,
        workload=workload,
        labels=None if missing else known,
        some_labels=known if missing else (),
        missing=missing,
        is_hidden=not owned,
    )


def _missing(own: Sequence[frozenset[str]], spaces: Sequence[Mapping[str, Any]], title: str) -> str:
    """Return what is not known of a pod's labels, in words; nothing if all of them are known."""
    if not own:
        return f"the labels of the pods of {title}, which configuration history does not have at that time"
    if len(set(own)) > 1:
        return f"which of its {len(set(own))} sets of labels a pod of {title} has"
    if not spaces:
        return f"the labels of namespace {title.partition('/')[0]}, which configuration history does not have at that time"
    return ""


def _check_network(pods: Sequence[Mapping[str, Any]], title: str) -> None:
    if any((one.get("spec") or {}).get("hostNetwork") for one in pods):
        raise ConfigError(f"pods of {title} run on the network of their node, so policies see the node: name it as host or remote-node")
