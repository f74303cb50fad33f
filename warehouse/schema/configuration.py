"""The tables of configuration history: what each cluster's network configuration was, and when. It does no I/O.

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
    """A table of versions; all of them have the same columns."""
    columns: tuple[Column, ...] = (
        partition_columns()[0],
        column("valid_from", TIMESTAMP, "When the version began, as far as it can be known: see `valid_from_source`"),
        column("valid_to", TIMESTAMP, "When it ended, exclusive; null while it is in force. See `valid_to_source`"),
        column("kind", _S, "Kubernetes kind, or one of Hindcast's own: PodLabels, CiliumAgents, ClusterVersion, ManifestFile"),
        column("namespace", _S, "Namespace of the object, of a Namespace its own; null for one of the whole cluster"),
        column("name", _S, "Name of the object"),
        column(
            "uid", _S, "The object's uid: a deleted and re-created object has another. Null from manifests and for Hindcast's own kinds"
        ),
        column("recorded", TIMESTAMP, "When the lake learned that the version began"),
        column("ended_recorded", TIMESTAMP, "When the lake learned that it ended; null until then"),
        column("hash", _S, "SHA-256 of `manifest` and `status`, in hexadecimal: equal versions have equal hashes"),
        column("api_version", _S, "API group and version it was read in, e.g. cilium.io/v2"),
        column(
            "valid_from_source",
            _S,
            "Where `valid_from` comes from: audit (the API server's audit log), managed_fields (last change of the object that is "
            "noted in it), created (its creation), watch (the event came then), snapshot (it was first seen then and is at most as old "
            "as the snapshot before)",
        ),
        column(
            "valid_to_source", _S, "Where `valid_to` comes from: as `valid_from_source`; snapshot means that it ended since the one before"
        ),
        column(
            "ended_how", _S, "How it ended: changed, deleted, or recreated (deleted and made anew under the same name); null while in force"
        ),
        column("changed_by", _S, "Who made the version: the user of the audit log, else the field manager; null if there is no telling"),
        column("ended_by", _S, "Who ended it, likewise"),
        column("source", _S, "How the lake learned of it: snapshot, watch or manifests"),
        column(
            "manifest",
            _S,
            "The object as JSON with sorted keys, without what the API server manages; of workloads only what selectors and policies need",
        ),
        column("status", _S, "What the cluster says of it, as JSON: the conditions of a policy; null where nothing is kept"),
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
    "Versions of what policies select: Deployment, StatefulSet, DaemonSet, ReplicaSet, CronJob, Job, Node (its labels), and PodLabels, "
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
    doc="The ledger of configuration history: when each cluster was looked at, and which kinds could not be seen. "
    "Between two rows `observed` what did not change in both was in force; a time without any is not known, never empty.",
    columns=(
        partition_columns()[0],
        column("from", TIMESTAMP, "When reading began; of a watch, since when it had no gap"),
        column("to", TIMESTAMP, "When reading ended"),
        column(
            "state",
            _S,
            "observed (read whole), partial (only in part: nothing was taken for deleted), absent (the cluster has no such kind), "
            "forbidden (reading it is not allowed), unreachable (the API server did not answer), refused (credentials are not valid), "
            "failed (anything else)",
        ),
        column("kinds", STRINGS, "The kinds this is true of"),
        column("source", _S, "How it was looked at: snapshot, watch or manifests"),
        column("objects", pa.int64(), "Objects seen; null where that makes no sense", unit="objects"),
        column("versions_written", pa.int64(), "Versions that began or ended; null where nothing could be read", unit="versions"),
        column("detail", _S, "A sentence for people: why a kind was not observed, or which files of manifests could not be read"),
        column("recorded", TIMESTAMP, "When the row was recorded"),
    ),
    partition_by=("cluster",),
    time_column="from",
    recorded='coalesce(recorded, "to")',
)
