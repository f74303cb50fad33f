"""The tables of posture: drift from blueprints, audit controls, and what was published. It does no I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column, partition_columns

_S, _L = pa.string(), pa.int64()

DRIFT = Table(
    name="drift",
    doc="Drift from blueprints: a row when a drift is found, when what is known of it changes, and when it is gone. The newest "
    "row of a (cluster, drift, blueprint, kind, namespace, name) says how it stands.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When the comparison was made: as of this time the cluster was looked at"),
        column(
            "drift",
            _S,
            "missing, modified, extra (a policy that no blueprint wants, in a locked namespace or left over), ownership_lost (it no longer "
            "carries the blueprint's labels), rejected (the agent does not take the policy), version, setting, not_reporting (neither configuration "
            "nor flows arrive, or a kind cannot be read), configuration_stale (flows arrive, but the configuration was not read lately)",
        ),
        column("state", _S, "open, or closed: it is gone since `time`"),
        column("blueprint", _S, "Blueprint it is a drift from; null where the cluster does not report"),
        column("blueprint_version", _S, "Version of that blueprint"),
        column("control", _S, "Published id of the control that it fails, e.g. BP-OBJ; null for not_reporting and configuration_stale"),
        column("kind", _S, "Kind of the object; cilium-config for a setting, whose key is `name`; null for the whole cluster"),
        column("namespace", _S, "Namespace of the object; null for one of the whole cluster"),
        column("name", _S, "Name of the object"),
        column("severity", _S, "low, medium, high or critical"),
        column("since", TIMESTAMP, "Since when, as far as configuration history knows; stays the same while the drift is open"),
        column("changed_by", _S, "Who made the change, as configuration history knows it; null if there is no telling"),
        column("paths", STRINGS, "Where the objects differ, e.g. spec.ingress[0].ports[1]"),
        column("before", _S, "What the blueprint wants, as JSON: path to value"),
        column("after", _S, "What there is, as JSON: path to value"),
        column("summary", _S, "A sentence for people"),
        column("flows", _S, "The command that shows the flows of the namespace since then; null for the whole cluster"),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)

POSTURE = Table(
    name="posture",
    doc="Audit controls: one row a cluster, control and evaluation. The newest rows before a time are the fleet's matrix of that time.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When it was evaluated, and as of when"),
        column("control", _S, "Published id, e.g. C-0206 or BP-OBJ; docs/blueprints.md tells what each asks"),
        column("status", _S, "pass, fail, unknown (not enough of the cluster was seen) or not_evaluated (`detail` says why)"),
        column("checked", _L, "What was looked at: namespaces, pods' label sets or policies, as the control asks", unit="things"),
        column("failed", _L, "Those that fail", unit="things"),
        column("failing", STRINGS, "The first of those that fail, sorted"),
        column("detail", _S, "A sentence for people; null for none"),
        column("observed", TIMESTAMP, "When the cluster was last seen whole; null for never"),
        column(
            "blueprints",
            STRINGS,
            "Name and version of each blueprint the cluster was held against; empty for none, null before this was kept",
        ),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)

POLICY_CHANGES = Table(
    name="policy_changes",
    doc="What Hindcast did to clusters' policies: one row an object, or chart, of each publication.",
    columns=(
        *partition_columns(),
        column("time", TIMESTAMP, "When it was done, or tried"),
        column("run", _S, "Id of the publication; its rows share it"),
        column("cause", _S, "publish, revert or helm"),
        column("actor", _S, "Who ran it: the name Hindcast was given, else the operating system's user"),
        column("blueprint", _S, "Blueprint that wants it; null for an object that is pruned because none does"),
        column("blueprint_version", _S, "Version of that blueprint"),
        column("action", _S, "create, update, delete, unchanged, install or upgrade"),
        column("kind", _S, "Kind of the object; HelmRelease for a chart"),
        column("namespace", _S, "Namespace of the object; null for one of the whole cluster"),
        column("name", _S, "Name of the object"),
        column("result", _S, "done, failed, skipped (the publication had stopped) or limited (too many reverts in an hour)"),
        column("before", _S, "The object before, as JSON; null where there was none"),
        column("after", _S, "The object after, as JSON; null where there is none"),
        column("detail", _S, "Why it failed or was left; null for none"),
    ),
    partition_by=("cluster", "date"),
    recorded='"time"',
)
