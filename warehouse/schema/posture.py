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
    doc="Changes that Hindcast made to clusters' policies: one row per object, or chart, of each publication.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When the change was made, or attempted"),
        column("run", _S, "Id of the publication, shared by all its rows"),
        column("cause", _S, "publish, revert or helm"),
        column("actor", _S, "Who ran it: the name given to Hindcast, else the user of the operating system"),
        column("blueprint", _S, "Blueprint that contains the object; null for an object that is deleted because no blueprint contains it"),
        column("blueprint_version", _S, "Version of that blueprint"),
        column("action", _S, "create, update, delete, unchanged, install or upgrade"),
        column("kind", _S, "Kind of the object; HelmRelease for a chart"),
        column("namespace", _S, "Namespace of the object; null for one of the whole cluster"),
        column("name", _S, "Name of the object"),
        column("result", _S, "done, failed, skipped (the publication had stopped) or limited (too many reverts in an hour)"),
        column("before", _S, "The object before, as JSON; null if there was none"),
        column("after", _S, "The object after, as JSON; null if there is none"),
        column("detail", _S, "Why the change failed or was skipped; null otherwise"),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)
