"""Checks a proposal and tries it on recorded traffic: what is in force, what is wrong, what it would have done, what is risky."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pipelines.blueprints import model
from pipelines.blueprints.planning import owner as blueprint_of
from pipelines.objects.canonical import Manifest
from pipelines.objects.compare import Verdict, compare
from pipelines.objects.names import Key
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.reading import Document
from pipelines.proposals import guard_rails, live, risks, rules
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Check, Needs, ProposedObject
from pipelines.proposals.reading import Asked
from pipelines.replay import whatif
from pipelines.replay.in_force import Compiler, History, Period
from pipelines.replay.outcomes import Change
from pipelines.replay.whatif import Result, WhatIf
from warehouse.engine import Window
from warehouse.errors import ClusterError, ClusterUnreachableError, ConfigError, ProposalError, QueryError
from warehouse.questions.record_questions import Configuration
from warehouse.schema import NAMESPACES, POLICY_VERSIONS

if TYPE_CHECKING:
    from pipelines.cluster_access import ClusterAccess

INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What was found about a proposal."""

    objects: tuple[ProposedObject, ...]
    checks: tuple[Check, ...]
    risks: tuple[str, ...] = ()
    needs: Needs = Needs.PLATFORM
    result: Result | None = None
    """The simulation; None if the proposal is refused, or could not be simulated."""
    about: Mapping[str, Any] = field(default_factory=dict)
    """What is recorded of the judgement."""

    @property
    def refusals(self) -> tuple[Check, ...]:
        """The checks that fail."""
        return tuple(check for check in self.checks if check.is_met is False)


def judge(desk: Desk, cluster: str, asked: Sequence[Asked]) -> Judged:
    """Check and simulate objects of one namespace, or of the whole cluster, as far as the user may see.

    Raises ProposalError if nothing would change, ConfigError, AccessDeniedError, LakeError.
    """
    api, checks = _api(desk, cluster)
    try:
        objects, more = _objects(desk, cluster, asked, api)
        checks += more
        period = period_now(desk, cluster)
        after = compiled(period, [one.document for one in asked if one.document is not None])
        checks += _schema(after)
        namespace = asked[0].key.namespace
        files = model.load(desk.settings.blueprints) if desk.settings.blueprints else []
        failed = guard_rails.check(files, desk.cluster(cluster), namespace, _labels(desk, cluster, namespace), after)
        checks += failed or [Check(check="guard-rail", is_met=True, text=_rails_in_words(files))]
        if api is not None and not any(check.is_met is False for check in checks):
            checks += _admission(desk, api, objects)
    finally:
        if api is not None:
            api.close()
    if any(check.is_met is False for check in checks):
        return Judged(objects=objects, checks=tuple(checks), about={"checks": [asdict(check) for check in checks]})
    result, note = _simulated(desk, cluster, asked)
    found = _risks(desk, cluster, objects, period, after, result)
    if note:
        found.append(f"it could not be simulated: {note}")
    needs = rules.needed(desk.settings.proposals.approval, found)
    about = {
        "checks": [asdict(check) for check in checks],
        "risks": found,
        "needs": needs.value,
        "simulation": _in_numbers(desk, result),
        "groups": sorted(desk.who.groups),
        "expires": (desk.now + desk.settings.proposals.approval_expires).isoformat(),
    }
    return Judged(objects=objects, checks=tuple(checks), risks=tuple(found), needs=needs, result=result, about=about)


def _api(desk: Desk, cluster: str) -> tuple[ClusterAccess | None, list[Check]]:
    api = desk.api(cluster)
    if api is None:
        text = f"cluster {cluster} has no API server in the configuration, so it was not asked whether it would accept this"
        return None, [Check(check="admission", is_met=None, text=text)]
    return api, []


def _objects(desk: Desk, cluster: str, asked: Sequence[Asked], api: ClusterAccess | None) -> tuple[tuple[ProposedObject, ...], list[Check]]:
    """The objects with what is in force: from the API server, or from configuration history where it cannot be asked."""
    made, checks = [], []
    for one in asked:
        before: Manifest | None = None
        is_live = False
        if api is not None:
            try:
                before, is_live = live.read(api, one.key, one.manifest), True
            except ClusterUnreachableError as error:
                checks.append(Check(check="admission", is_met=None, text=f"the API server was not asked: {error}"))
            except ClusterError as error:
                checks.append(Check(check="admission", is_met=False, text=live.in_words(error, desk.who.user)))
        if not is_live:
            before = _recorded(desk, cluster, one.key)
        made.append(_object(one, before, is_live=is_live))
    if all(one.action == "unchanged" for one in made) and not any(check.is_met is False for check in checks):
        raise ProposalError(f"{made[0].key} in cluster {cluster} is already as proposed: nothing would change")
    return tuple(one for one in made if one.action != "unchanged") or tuple(made), checks


def _object(asked: Asked, before: Manifest | None, *, is_live: bool) -> ProposedObject:
    wanted = asked.manifest
    if wanted is None and before is None:
        raise ProposalError(f"{asked.key} cannot be deleted: there is none")
    action = "delete" if wanted is None else "create" if before is None else "update"
    if wanted is not None and before is not None and compare(wanted, before).verdict is Verdict.EQUAL:
        action = "unchanged"
    uid, resource_version = live.version_of(before)
    if before is not None:
        before = {**before, "metadata": {name: value for name, value in before["metadata"].items() if name != "managedFields"}}
    return ProposedObject(
        key=asked.key, action=action, before=before, after=wanted, uid=uid, resource_version=resource_version if is_live else None
    )


def _recorded(desk: Desk, cluster: str, key: Key) -> Manifest | None:
    """The object as configuration history has it now, as far as the user may see."""
    question = Configuration(
        window=Window(since=desk.now - INSTANT, until=desk.now),
        tables=(POLICY_VERSIONS,),
        clusters=(cluster,),
        kinds=(key.kind,),
        names=(key.name,),
    )
    rows = desk.door.answer(desk.who, question).rows.to_pylist()
    found = next((row for row in rows if row["namespace"] == key.namespace), None)
    if found is None:
        return None
    manifest: Manifest = {"apiVersion": found["api_version"], **json.loads(found["manifest"])}
    return {**manifest, "metadata": {**manifest["metadata"], **({"uid": found["uid"]} if found["uid"] else {})}}


def _labels(desk: Desk, cluster: str, namespace: str | None) -> Mapping[str, str]:
    if namespace is None:
        return {}
    window = Window(since=desk.now - INSTANT, until=desk.now)
    rows = desk.door.answer(desk.who, Configuration(window=window, tables=(NAMESPACES,), clusters=(cluster,), names=(namespace,))).rows
    name = {"kubernetes.io/metadata.name": namespace}
    found = [json.loads(row["manifest"]).get("metadata", {}).get("labels") or {} for row in rows.to_pylist()]
    return name | (found[-1] if found else {})


def period_now(desk: Desk, cluster: str) -> Period:
    """Return what is in force in the cluster now, as far as the user may see; the agent's defaults where nothing is known."""
    now, compiler = desk.now, Compiler()
    found = History(desk.door, desk.who).periods(Window(since=now - INSTANT, until=now), clusters=(cluster,), compiler=compiler)
    periods = found.periods.get(cluster, ())
    return periods[-1] if periods else Period(cluster=cluster, since=now - INSTANT, until=now, compiler=compiler)


def compiled(period: Period, documents: Sequence[Document]) -> PolicySet:
    """Return policies compiled as they would be in a period: with its settings and surroundings."""
    return period.compiler.compile(documents, period.settings, period.surroundings)


def _schema(after: PolicySet) -> list[Check]:
    if not after.refusals:
        return [Check(check="schema", is_met=True, text="the policy engine accepts every field")]
    return [
        Check(check="schema", is_met=False, text=f"{one.kind} {one.name}: {one.path}: {one.reason} (the {one.by} would refuse it)",
              path=one.path, line=one.line)
        for one in after.refusals
    ]  # fmt: skip


def _rails_in_words(files: Sequence[model.BlueprintFile]) -> str:
    count = sum(len(file.blueprint.guard_rails) for file in files)
    return "no blueprint has guard-rails" if not count else "no guard-rail of a blueprint forbids it"


def _admission(desk: Desk, api: ClusterAccess, objects: Sequence[ProposedObject]) -> list[Check]:
    """Whether the API server would accept the change from this user: a dry run on the server."""
    found = []
    for one in objects:
        try:
            if one.after is not None:
                live.put(api, one.after, one.before, dry_run=True)
            elif one.before is not None:
                live.remove(api, one.before, dry_run=True)
        except ClusterUnreachableError as error:
            return [Check(check="admission", is_met=None, text=f"the API server was not asked: {error}")]
        except ClusterError as error:
            found.append(Check(check="admission", is_met=False, text=f"{one.key}: {live.in_words(error, desk.who.user)}"))
    return found or [Check(check="admission", is_met=True, text=f"the API server would accept it from {desk.who.user} (dry run)")]


def _simulated(desk: Desk, cluster: str, asked: Sequence[Asked]) -> tuple[Result | None, str]:
    """The simulation, or why there is none."""
    now = desk.now
    wanted = WhatIf(
        window=Window(since=now - desk.settings.proposals.simulate, until=now),
        clusters=(cluster,),
        namespaces=tuple({one.key.namespace for one in asked if one.key.namespace}),
        documents=tuple(one.document for one in asked if one.document is not None),
        removed=tuple((one.key.kind, one.key.namespace or "", one.key.name) for one in asked if one.document is None),
        with_examples=False,
    )
    try:
        return whatif.simulate(History(desk.door, desk.who), wanted), ""
    except (ConfigError, QueryError) as error:
        return None, str(error)


def _risks(
    desk: Desk, cluster: str, objects: Sequence[ProposedObject], period: Period, after: PolicySet, result: Result | None
) -> list[str]:
    namespace = objects[0].key.namespace
    owns = risks.owned_with(desk.scope, desk.door.grants(), cluster, namespace, desk.now)
    before = compiled(period, [Document(one.before) for one in objects if one.before is not None])
    found = risks.of_simulation(result, owns) if result is not None else []
    found += risks.of_rules(before, after, namespace, owns)
    for one in objects:
        blueprint = blueprint_of(one.before) if one.before is not None else None
        if blueprint is not None:
            found.append(f"{one.key} belongs to the blueprint {blueprint}, which will change it back")
    return found


def _in_numbers(desk: Desk, result: Result | None) -> dict[str, Any] | None:
    """The simulation as it is recorded: its window, sums and confidence, without the edges."""
    if result is None:
        return None
    since, until = result.answer.window.since, result.answer.window.until
    counts = {change.value: dict(zip(("flows", "edges"), result.count(change), strict=True)) for change in Change}
    return {
        "since": None if since is None else since.isoformat(),
        "until": None if until is None else until.isoformat(),
        "changes": counts,
        "confidence": result.agreement.share,
        "uncertain_share": result.concerned.uncertain_share,
        "coverage": result.answer.shares,
        "alone": result.alone,
        "notes": list(result.notes),
        "as_seen_by": desk.who.user,
    }
