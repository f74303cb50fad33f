"""Collectors' signs of life as Lease objects of an API server: one for each collector, as `kubectl get leases` shows them.

What signs of life say, and what follows from them, belongs to collectors.sharing.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipelines.cluster_access import ClusterAccess
from warehouse import config
from warehouse.errors import ClusterMissingError, ConfigError

LABELS = {"app.kubernetes.io/name": "hindcast", "app.kubernetes.io/component": "collector"}
PREFIX = "hindcast-collector-"
MANAGER = "hindcast-collector"
_SIGN = "hindcast.io/sign"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_PATIENCE_SECONDS = 2.0
"""How long a request is tried again: the next sign of life comes soon anyway."""


class LeaseBoard:
    """The Lease objects of one namespace. Methods raise ClusterError."""

    def __init__(self, settings: config.LeaseObjects) -> None:
        """Raises ConfigError if the credentials cannot be used, or the pod's namespace is not known. Asks nothing yet."""
        self._access = ClusterAccess(settings.access, cluster="of the leases", patience_seconds=_PATIENCE_SECONDS)
        self._path = f"/apis/coordination.k8s.io/v1/namespaces/{settings.namespace or _own_namespace()}/leases"

    def write(self, name: str, text: str) -> None:
        """Create or change a collector's Lease."""
        sign = json.loads(text)
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": _object_name(name), "labels": LABELS, "annotations": {_SIGN: text}},
            "spec": {
                "holderIdentity": name,
                "leaseDurationSeconds": max(1, round(sign["seconds"])),
                "renewTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            },
        }
        query = {"fieldManager": MANAGER, "force": "true"}
        path = f"{self._path}/{_object_name(name)}"
        self._access.request("PATCH", path, query=query, body=lease, content_type="application/apply-patch+yaml")

    def read(self) -> dict[str, str]:
        """Return every collector's sign of life by the collector's name."""
        selector = ",".join(f"{key}={value}" for key, value in LABELS.items())
        found: dict[str, str] = {}
        for page in self._access.list_pages(self._path, query={"labelSelector": selector}):
            if page.begins:
                found.clear()
            found |= {_holder(lease): lease["metadata"].get("annotations", {}).get(_SIGN, "") for lease in page.items}
        return found

    def remove(self, name: str) -> None:
        """Delete a collector's Lease; one that is not there is fine."""
        try:
            self._access.request("DELETE", f"{self._path}/{_object_name(name)}")
        except ClusterMissingError:
            return


def _holder(lease: dict[str, Any]) -> str:
    return str(lease.get("spec", {}).get("holderIdentity") or lease["metadata"]["name"])


def _object_name(name: str) -> str:
    """Return a name that Kubernetes takes."""
    return (PREFIX + re.sub(r"[^a-z0-9.-]+", "-", name.lower()))[:253].rstrip("-.")


def _own_namespace() -> str:
    try:
        return _NAMESPACE_FILE.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"collect.leases.kubernetes: {_NAMESPACE_FILE} cannot be read, so this is no pod with a service account: give namespace"
        ) from error
