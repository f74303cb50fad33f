"""The tables of configuration history: what each cluster's network configuration was, and when. No I/O.

The tables only grow. A version is one row; when it ends, the same row is appended again with its end, and of the two
the one that has an end counts (`folded_by`). Compaction puts the second in the place of the first, which loses nothing:
`recorded` and `ended_recorded` tell what the lake knew at any time. One append is one commit, so a process that is
killed leaves a version whole or not at all.
"""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Column, Table, column, partition_columns

_S = pa.string()


def _versions(name: str, doc: str) -> Table:
    """Return a version table; all version tables have the same columns."""
    columns: tuple[Column, ...] = (
        partition_columns()[0],
        column("valid_from", TIMESTAMP, "When the version began, as far as known: see `valid_from_source`"),
        column("valid_to", TIMESTAMP, "When it ended, exclusive; null while it is in force. See `valid_to_source`"),
        column("kind", _S, "Kubernetes kind, or one of Hindcast's own: PodLabels, CiliumAgents, ClusterVersion, ManifestFile"),
        column("namespace", _S, "Namespace of the object; for a Namespace its own name; null if it is cluster-scoped"),
        column("name", _S, "Name of the object"),
        column(
            "uid", _S, "The object's uid: a deleted and re-created object has another. Null from manifests and for Hindcast's own kinds"
        ),
        column("recorded", TIMESTAMP, "When the lake learned that the version began"),
        column("ended_recorded", TIMESTAMP, "When the lake learned that the version ended; null until then"),
        column("hash", _S, "SHA-256 of `manifest` and `status`, in hexadecimal: equal versions have equal hashes"),
        column("api_version", _S, "API group and version it was read in, e.g. cilium.io/v2"),
        column(
            "valid_from_source",
            _S,
            "Where `valid_from` comes from: audit (the API server's audit log), managed_fields (last change recorded in the "
            "object), created (its creation), watch (time of the event), snapshot (it was first seen then, and began after the "
            "previous snapshot)",
        ),
        column(
            "valid_to_source",
            _S,
            "Where `valid_to` comes from: as `valid_from_source`; snapshot means that it ended after the previous snapshot",
        ),
        column(
            "ended_how",
            _S,
            "How it ended: changed, deleted, or recreated (deleted and created again with the same name); null while in force",
        ),
        column("changed_by", _S, "Who made the version: the user of the audit log, else the field manager; null if unknown"),
        column("ended_by", _S, "Who ended it, likewise"),
        column("source", _S, "How the lake learned of it: snapshot, watch or manifests"),
        column(
            "manifest",
            _S,
            "The object as JSON with sorted keys, without fields managed by the API server; for workloads only what selectors and policies need",
        ),
        column("status", _S, "The object's status as JSON: the conditions of a policy; null if no status is stored"),
    )
    return Table(
        name=name,
        doc=doc,
        columns=columns,
        partition_by=("cluster",),
        time_column="valid_from",
        folded_by=("cluster", "kind", "namespace", "name", "valid_from"),
        recorded="recorded",
        ends=("valid_to", "ended_recorded", "valid_to_source", "ended_how", "ended_by"),
    )


POLICY_VERSIONS = _versions(
    "policies",
    "Versions of network policies: NetworkPolicy, CiliumNetworkPolicy, CiliumClusterwideNetworkPolicy, CiliumCIDRGroup, "
    "AdminNetworkPolicy, BaselineAdminNetworkPolicy, ClusterNetworkPolicy; and the ValidatingAdmissionPolicies, with their bindings, that "
    "blueprints publish.",
)
NAMESPACES = _versions("namespaces", "Versions of namespaces, with labels and annotations.")
WORKLOADS = _versions(
    "workloads",
    "Versions of objects that policies select: Deployment, StatefulSet, DaemonSet, ReplicaSet, CronJob, Job, Node (its labels), and PodLabels, "
    "one for each distinct set of labels, service account, host network and named ports that a workload's pods have.",
)
SERVICES = _versions("services", "Versions of Services.")
ROLE_BINDINGS = _versions(
    "role_bindings", "Versions of RoleBindings and ClusterRoleBindings that name users or groups, other than Kubernetes' own."
)
CLUSTER_SETTINGS = _versions(
    "cluster_settings",
    "Versions of a cluster's own state: ConfigMap kube-system/cilium-config, CiliumAgents (image, version and readiness of Cilium's "
    "DaemonSet), ClusterVersion (of Kubernetes) and, of a cluster read from manifests, ManifestFile (by path: the objects a file holds).",
)
VERSION_TABLES = (POLICY_VERSIONS, NAMESPACES, WORKLOADS, SERVICES, ROLE_BINDINGS, CLUSTER_SETTINGS)
"""The tables whose rows are versions, in the order a snapshot writes them."""

CONFIG_COVERAGE = Table(
    name="config_coverage",
    doc="The ledger of configuration history: when each cluster was read, and which kinds could not be read. "
    "What is the same in two `observed` rows was in force in between; a time without rows is unknown, not empty.",
    columns=(
        partition_columns()[0],
        column("from", TIMESTAMP, "When reading began; for a watch, since when it had no gap"),
        column("to", TIMESTAMP, "When reading ended"),
        column(
            "state",
            _S,
            "observed (read completely), partial (read in part, so nothing was considered deleted), absent (the cluster has no such kind), "
            "forbidden (reading it is not allowed), unreachable (the API server did not answer), refused (credentials are not valid), "
            "failed (anything else)",
        ),
        column("kinds", STRINGS, "The kinds that the row is about"),
        column("source", _S, "How the cluster was read: snapshot, watch or manifests"),
        column("objects", pa.int64(), "Objects seen; null if not applicable", unit="objects"),
        column("versions_written", pa.int64(), "Versions that began or ended; null if nothing could be read", unit="versions"),
        column("detail", _S, "Description for users: why a kind was not observed, or which files of manifests could not be read"),
        column("recorded", TIMESTAMP, "When the row was recorded"),
    ),
    partition_by=("cluster",),
    time_column="from",
    recorded='coalesce(recorded, "to")',
)
