"""The tables of posture: drift from blueprints, audit controls, and what was published. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column, partition_columns

_S, _L = pa.string(), pa.int64()

DRIFT = Table(
    name="drift",
    doc="Drift from blueprints: one row when a drift is found, when its details change, and when it is gone. The newest "
    "row of a (cluster, drift, blueprint, kind, namespace, name) is its current state.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When the cluster was compared with the blueprint, and as of when"),
        column(
            "drift",
            _S,
            "missing, modified, extra (a policy in no blueprint, in a locked namespace or left over), ownership_lost (it no longer "
            "carries the blueprint's labels), defeated (it opens what a blueprint closes, or denies what it opens), rejected (the agent rejects "
            "the policy), version, setting, not_reporting (neither configuration "
            "nor flows arrive, or a kind cannot be read), configuration_stale (flows arrive, but the configuration was not read recently)",
        ),
        column("state", _S, "open, or closed: it is gone since `time`"),
        column("blueprint", _S, "Blueprint that the object differs from; null if the cluster does not report"),
        column("blueprint_version", _S, "Version of that blueprint"),
        column("control", _S, "Published id of the control that it fails, e.g. BP-OBJ; null for not_reporting and configuration_stale"),
        column("kind", _S, "Kind of the object; cilium-config for a setting, whose key is `name`; null for the whole cluster"),
        column("namespace", _S, "Namespace of the object; null if it is cluster-scoped"),
        column("name", _S, "Name of the object"),
        column("severity", _S, "low, medium, high or critical"),
        column("since", TIMESTAMP, "Start of the drift, as far as known from configuration history; constant while the drift is open"),
        column("changed_by", _S, "Who made the change, according to configuration history; null if unknown"),
        column("paths", STRINGS, "Where the objects differ, e.g. spec.ingress[0].ports[1]"),
        column("before", _S, "Values in the blueprint, as JSON: path to value"),
        column("after", _S, "Values in the cluster, as JSON: path to value"),
        column("summary", _S, "Description for users"),
        column("flows", _S, "The command that shows the flows of the namespace since then; null for the whole cluster"),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)

POSTURE = Table(
    name="posture",
    doc="Audit controls: one row per cluster, control and evaluation. The newest rows before a time are the fleet's matrix at that time.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When the control was evaluated, and as of when"),
        column("control", _S, "Published id, e.g. C-0206 or BP-OBJ; docs/blueprints.md describes what each requires"),
        column("status", _S, "pass, fail, unknown (not enough of the cluster was observed) or not_evaluated (`detail` has the reason)"),
        column(
            "checked", _L, "Number of things checked: namespaces, label sets of pods or policies, depending on the control", unit="things"
        ),
        column("failed", _L, "Number of things that fail", unit="things"),
        column("failing", STRINGS, "The first things that fail, sorted"),
        column("detail", _S, "Description for users; null if there is none"),
        column("observed", TIMESTAMP, "When the cluster was last observed completely; null for never"),
        column(
            "blueprints",
            STRINGS,
            "Name and version of each blueprint the cluster was compared with; empty for none, null in rows from before this was recorded",
        ),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)

POLICY_CHANGES = Table(
    name="policy_changes",
    doc="Changes of clusters' policies that were made or proposed through Hindcast: one row per object, or chart, of each publication, "
    "one row per object of each event of a proposal, and one row, of the cluster *, per event of a blueprint's change. Rows are only ever added.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When the change was made, or attempted"),
        column("run", _S, "Id of the publication, of the proposal's event, or of the blueprint's change, shared by all its rows"),
        column("cause", _S, "publish, revert, helm, proposal, change (an event of a blueprint's change), or roll_back (of such a change)"),
        column("actor", _S, "Who did it: the name given to Hindcast, else the user of the operating system"),
        column("blueprint", _S, "Blueprint that contains the object; null for an object that is deleted because no blueprint contains it"),
        column("blueprint_version", _S, "Version of that blueprint"),
        column("action", _S, "create, update, delete, unchanged, install or upgrade"),
        column("kind", _S, "Kind of the object; HelmRelease for a chart, Blueprint for an event of a blueprint's change"),
        column("namespace", _S, "Namespace of the object; null for one of the whole cluster"),
        column("name", _S, "Name of the object"),
        column(
            "result",
            _S,
            "done, failed, skipped (the publication had stopped), limited (too many reverts in an hour), or noted (an event "
            "that changes nothing in the cluster)",
        ),
        column("before", _S, "The object before, as JSON; null if there was none"),
        column("after", _S, "The object after, as JSON; null if there is none"),
        column(
            "detail", _S, "Why the change failed or was skipped, or what was said about a proposal or a blueprint's change; null otherwise"
        ),
        column("proposal", _S, "Id of the proposal; null for publications"),
        column(
            "event",
            _S,
            "What happened to the proposal: refused, proposed, judged, approved, rejected, applying, applied, failed, handed_over, "
            "rolling_back, rolled_back or watched; to a blueprint's change: begun, publishing, published, failed, stopped, rolling_back, "
            "rolled_back, handed_over or watched; null for what was done to an object by publishing",
        ),
        column(
            "record",
            _S,
            "More about the event, as a JSON object: docs/proposals.md and docs/blueprints.md list its fields; null for what was done by "
            "publishing",
        ),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
    version=2,
)

PROPOSED_EDGES = Table(
    name="proposed_edges",
    doc="What the simulation of a proposal says of recorded edges: one row for each edge that it would deny, would allow, or cannot tell "
    "of, as far as the proposal's author could see it.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "The hour in which the edge was first seen in the window of the simulation"),
        column("source_namespace", _S, "Namespace of the source; null if it has none"),
        column("destination_namespace", _S, "Namespace of the destination; null if it has none"),
        column("source_cluster_name", _S, "Cluster of the source, as Cilium names it"),
        column("source_workload_name", _S, "Workload of the source"),
        column("source_entity", _S, "Cilium's reserved entity of the source, such as world or host"),
        column("source_dns_name", _S, "DNS name of the source"),
        column("source_cidr", _S, "Range of addresses of the source, if it is outside of the cluster"),
        column("destination_cluster_name", _S, "Cluster of the destination, as Cilium names it"),
        column("destination_workload_name", _S, "Workload of the destination"),
        column("destination_entity", _S, "Cilium's reserved entity of the destination"),
        column("destination_dns_name", _S, "DNS name of the destination"),
        column("destination_cidr", _S, "Range of addresses of the destination, if it is outside of the cluster"),
        column("destination_port", pa.int32(), "Port of the destination"),
        column("l4_protocol", _S, "Protocol, such as TCP"),
        column("change", _S, "newly_denied, newly_allowed or uncertain"),
        column("verdict_before", _S, "The recorded verdict: allowed or denied"),
        column("verdict_after", _S, "The verdict after the change: allowed, denied or uncertain"),
        column("flows", _L, "Flows in the window of the simulation", unit="flows"),
        column("first_seen", TIMESTAMP, "When the edge was first seen in that window"),
        column("last_seen", TIMESTAMP, "When it was last seen in it"),
        column("reason", _S, "Which rules decide after the change, and why"),
        column("proposal", _S, "Id of the proposal"),
        column("judgement", _L, "Number of the proposal's event that the simulation belongs to"),
    ),
    partition_by=("cluster", "date"),
)
