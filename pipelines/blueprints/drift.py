"""Finds where a cluster differs from what its blueprints want. A pure function of the wanted and the recorded state.

It judges objects, Cilium's version and settings, whether the cluster was observed at all, and whether another policy opens what a
blueprint closes, for which `pipelines.blueprints.effect` asks the policy engine.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from pipelines.blueprints.effect import NEEDED as EFFECT_NEEDS
from pipelines.blueprints.effect import Effect, judge_effect
from pipelines.blueprints.effect import summary as summary_of_effect
from pipelines.blueprints.render import BLUEPRINT_LABEL, MANAGED_BY, Wanted, WantedObject
from pipelines.blueprints.state import POLICY_KINDS, Agents, ClusterState, Coverage, StoredObject
from pipelines.objects.compare import ABSENT, Difference, Verdict, compare
from pipelines.objects.names import Key

STALE_AFTER = timedelta(hours=2)
"""A cluster not observed for this long counts as not reporting: its present state is unknown."""
CRITICAL_SETTINGS = frozenset({"enable-policy", "policy-audit-mode", "enable-non-default-deny-policies"})
"""Settings with which policies are not enforced at all, or not as written."""
WHOLE_CLUSTER_DRIFTS = frozenset({"not_reporting", "configuration_stale"})
"""Drifts about how much of a cluster is known, rather than about its state. They are judged in every evaluation."""
DEFEATED = "defeated"
"""The drift of a policy that defeats a blueprint."""
_OURS = frozenset({f'metadata.labels["{MANAGED_BY}"]', f'metadata.labels["{BLUEPRINT_LABEL}"]', "metadata.labels"})
_NAMESPACED = ("NetworkPolicy", "CiliumNetworkPolicy")


@dataclass(frozen=True, kw_only=True)
class Drift:
    """One open drift. Columns of the table `drift`."""

    cluster: str
    drift: str
    blueprint: str | None
    blueprint_version: str | None
    control: str | None
    kind: str | None
    namespace: str | None
    name: str | None
    severity: str
    since: datetime
    changed_by: str | None
    paths: tuple[str, ...]
    before: str | None
    after: str | None
    summary: str

    @property
    def id(self) -> tuple[str | None, ...]:
        """The key that stays the same while the drift is open."""
        return (self.cluster, self.drift, self.blueprint, self.kind, self.namespace, self.name)

    @property
    def flows(self) -> str | None:
        """The command that shows the traffic since the drift began."""
        if self.namespace is None:
            return None
        since = self.since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return shlex.join(["hindcast", "flows", "--cluster", self.cluster, "--namespace", self.namespace, "--since", since])


def find_drift(
    wanted: Wanted, state: ClusterState, *, versions: Mapping[str, str], stale_after: timedelta = STALE_AFTER, effect: Effect | None = None
) -> list[Drift]:
    """Return every drift of a cluster. `versions` are the blueprints' own. Kinds not observed recently are reported, not judged.

    `effect` is what became of the blueprints' policies, if the caller has judged it already.
    """
    return [
        *_not_reporting(wanted, state, stale_after),
        *_objects(wanted, state, stale_after),
        *_cilium(wanted, state, versions, stale_after),
        *_defeated(wanted, state, versions, stale_after, effect),
    ]


def judged_kinds(state: ClusterState, stale_after: timedelta = STALE_AFTER) -> frozenset[str]:
    """Return the kinds that were observed well enough to judge."""
    return frozenset(kind for kind in state.coverage if state.knows(kind, within=stale_after))


def _not_reporting(wanted: Wanted, state: ClusterState, stale_after: timedelta) -> Iterator[Drift]:
    """Return one row for a cluster that cannot be reached, else one for each kind that could not be read."""
    needed = {"Namespace", *(key.kind for key in wanted.objects)}
    needed |= {"ConfigMap"} if wanted.settings else set()
    needed |= {"CiliumAgents"} if any(cilium.version for cilium in wanted.cilium.values()) else set()
    kinds = sorted(needed | {kind for kind in state.coverage if kind in POLICY_KINDS})
    away = [kind for kind in kinds if not state.knows(kind, within=stale_after)]
    seen = {kind: state.coverage.get(kind, Coverage(state="never", at=state.at, observed=None)) for kind in kinds}
    if "Namespace" in away or len(away) == len(kinds):
        last = max((one.observed for one in seen.values() if one.observed), default=None)
        when = f"last seen {_stamp(last)}" if last else "never seen"
        because = _because({one.state for one in seen.values()})
        if state.flows_until is None:
            summary = f"{state.cluster} does not report: {when}{because}"
            yield _whole(state, "not_reporting", None, since=last or state.at, summary=summary)
        else:
            summary = (
                f"the configuration of {state.cluster} was {when}{because}, so it is not judged; its flows arrive "
                f"(until {_stamp(state.flows_until)}): run hindcast config snapshot, or look at the DAG config_history"
            )
            yield _whole(state, "configuration_stale", None, since=last or state.at, summary=summary)
        return
    for kind in away:
        one = seen[kind]
        when = f"last seen {_stamp(one.observed)}" if one.observed else "never seen"
        summary = f"{kind} objects of {state.cluster} cannot be judged: {when}" + _because({one.state})
        yield _whole(state, "not_reporting", kind, since=one.observed or state.at, summary=summary)


def _because(states: set[str]) -> str:
    reasons = sorted(states - {"observed", "absent", "never"})
    return f" ({', '.join(reasons)})" if reasons else ""


def _stamp(moment: datetime | None) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC") if moment else "never"


def _whole(state: ClusterState, drift: str, kind: str | None, *, since: datetime, summary: str) -> Drift:
    return Drift(
        cluster=state.cluster,
        drift=drift,
        blueprint=None,
        blueprint_version=None,
        control=None,
        kind=kind,
        namespace=None,
        name=None,
        severity="high",
        since=since,
        changed_by=None,
        paths=(),
        before=None,
        after=None,
        summary=summary,
    )


def _objects(wanted: Wanted, state: ClusterState, stale_after: timedelta) -> Iterator[Drift]:
    judged = judged_kinds(state, stale_after) if state.knows("Namespace", within=stale_after) else frozenset()
    for key, one in wanted.objects.items():
        if key.kind not in judged:
            continue
        live = state.policies.get(key)
        if live is None:
            yield _missing(one, key, state)
            continue
        comparison = compare(one.manifest, live.manifest, bodies=(one.body, live.body))
        if comparison.verdict is Verdict.DRIFT:
            yield _modified(one, key, live, state, comparison.differences)
        if live.is_rejected:
            reason = next((str(c.get("message") or c.get("reason") or "") for c in live.conditions if c.get("type") == "Valid"), "")
            yield _drift(one, key, live, state, "rejected", "high", (), f"{key} is rejected by the agent and enforces nothing: {reason}")
    for key, live in state.policies.items():
        if key in wanted.objects or key in wanted.waived or key.kind not in judged:
            continue
        owner = live.labels.get(BLUEPRINT_LABEL) if live.labels.get(MANAGED_BY) == "hindcast" else None
        if owner is not None:
            left = WantedObject(manifest={}, body=live.body, blueprint=owner, version="", drift="notify", template="")
            yield _drift(
                left, key, live, state, "extra", "low", (), f"{key} was published by blueprint {owner}, and no blueprint wants it any more"
            )
        elif key.kind in _NAMESPACED and key.namespace in wanted.locked:
            locked = WantedObject(
                manifest={}, body=live.body, blueprint=wanted.locked[key.namespace], version="", drift="notify", template=""
            )
            difference = Difference(path="$", before=ABSENT, after=live.manifest)
            yield _drift(
                locked, key, live, state, "extra", "medium", (difference,), f"{key} is in no blueprint, and its namespace is locked"
            )


def _defeated(
    wanted: Wanted, state: ClusterState, versions: Mapping[str, str], stale_after: timedelta, effect: Effect | None
) -> Iterator[Drift]:
    if not state.knows(*EFFECT_NEEDS, within=stale_after):
        return
    for one in (effect or judge_effect(wanted, state)).defeated:
        live = state.policies[one.key]
        paths = sorted({defeat.rule.origin.path for defeat in one.defeats})
        yield Drift(
            cluster=state.cluster,
            drift=DEFEATED,
            blueprint=one.blueprint,
            blueprint_version=versions.get(one.blueprint),
            control="BP-EFFECT",
            kind=one.key.kind,
            namespace=one.key.namespace,
            name=one.key.name,
            severity="high",
            since=live.valid_from,
            changed_by=live.changed_by,
            paths=tuple(paths),
            before=None,
            after=_values({path: summary_of_effect(one) for path in paths}),
            summary=summary_of_effect(one),
        )


def _missing(one: WantedObject, key: Key, state: ClusterState) -> Drift:
    end = state.ended.get(key)
    namespace_from = state.namespaces_from.get(key.namespace or "")
    since = end.at if end else namespace_from or state.at
    summary = f"{key} was deleted" if end else f"{key} is not there"
    difference = Difference(path="$", before=one.manifest, after=ABSENT)
    return _row(one, key, state, "missing", "high", (difference,), summary, since=since, by=end.by if end else None)


def _modified(one: WantedObject, key: Key, live: StoredObject, state: ClusterState, differences: tuple[Difference, ...]) -> Drift:
    paths = {difference.path for difference in differences}
    if paths <= _OURS:
        return _drift(
            one, key, live, state, "ownership_lost", "medium", differences, f"{key} no longer carries the labels of its blueprint"
        )
    spec = any(not path.startswith("metadata.") for path in paths)
    summary = f"{key} is not as the blueprint wants it: {', '.join(sorted(paths)[:3])}" + (" and more" if len(paths) > 3 else "")
    return _drift(one, key, live, state, "modified", "high" if spec else "low", differences, summary)


def _drift(
    one: WantedObject,
    key: Key,
    live: StoredObject,
    state: ClusterState,
    drift: str,
    severity: str,
    differences: tuple[Difference, ...],
    summary: str,
) -> Drift:
    return _row(one, key, state, drift, severity, differences, summary, since=live.valid_from, by=live.changed_by)


def _row(
    one: WantedObject,
    key: Key,
    state: ClusterState,
    drift: str,
    severity: str,
    differences: tuple[Difference, ...],
    summary: str,
    *,
    since: datetime,
    by: str | None,
) -> Drift:
    return Drift(
        cluster=state.cluster,
        drift=drift,
        blueprint=one.blueprint,
        blueprint_version=one.version or None,
        control="BP-INVALID" if drift == "rejected" else "BP-OBJ",
        kind=key.kind,
        namespace=key.namespace,
        name=key.name,
        severity=severity,
        since=since,
        changed_by=by,
        paths=tuple(difference.path for difference in differences),
        before=_values({difference.path: difference.before for difference in differences}),
        after=_values({difference.path: difference.after for difference in differences}),
        summary=summary,
    )


def _values(values: dict[str, Any]) -> str | None:
    """Return JSON of path to value; null means absent."""
    return json.dumps({path: None if value is ABSENT else value for path, value in values.items()}, sort_keys=True) if values else None


def _cilium(wanted: Wanted, state: ClusterState, versions: Mapping[str, str], stale_after: timedelta) -> Iterator[Drift]:
    if state.knows("ConfigMap", within=stale_after):
        found = state.cilium_config
        for key, (value, blueprint) in wanted.settings.items():
            if found.get(key) != value:
                severity = "critical" if key in CRITICAL_SETTINGS else "medium"
                actual = f"is {found[key]!r}" if key in found else "is not set"
                summary = f"Cilium's setting {key} {actual}, and should be {value!r}"
                yield _setting(state, "setting", key, blueprint, versions, severity, value, found.get(key), state.settings, summary)
    if state.knows("CiliumAgents", within=stale_after):
        for blueprint, cilium in wanted.cilium.items():
            running = state.agents.version if state.agents else None
            if cilium.version is not None and not _within(running, cilium.version):
                actual = f"Cilium is version {running}" if running else "no Cilium was found"
                summary = f"{actual}, and should be {cilium.version}"
                yield _setting(state, "version", "cilium", blueprint, versions, "medium", cilium.version, running, state.agents, summary)


def _within(version: str | None, wanted: str) -> bool:
    try:
        return version is not None and SpecifierSet(wanted).contains(Version(version.removeprefix("v")), prereleases=True)
    except InvalidVersion:
        return False


def _setting(
    state: ClusterState,
    drift: str,
    name: str,
    blueprint: str,
    versions: Mapping[str, str],
    severity: str,
    value: str,
    found: str | None,
    source: StoredObject | Agents | None,
    summary: str,
) -> Drift:
    return Drift(
        cluster=state.cluster,
        drift=drift,
        blueprint=blueprint,
        blueprint_version=versions.get(blueprint),
        control="BP-CILIUM",
        kind="cilium-config" if drift == "setting" else "CiliumAgents",
        namespace=None,
        name=name,
        severity=severity,
        since=source.valid_from if source else state.at,
        changed_by=source.changed_by if source else None,
        paths=(name,),
        before=_values({name: value}),
        after=_values({name: ABSENT if found is None else found}),
        summary=summary,
    )
