"""Policies as of any time: what was in force, each object's versions with what changed and by whom, and the flows it decided."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.central import changes, editor, planned
from dashboards.frame import clickable, clock, head, navigation, summary, url_state
from dashboards.history import causes, inventory, manifests, policy_findings
from dashboards.proposals import acting
from dashboards.visit import Visit, not_future
from dashboards.whatif import editing, starting
from pipelines.central import rights
from pipelines.replay import inventory as fleet
from warehouse.engine import Window
from warehouse.errors import AccessDeniedError
from warehouse.questions.answers import Answer
from warehouse.questions.record_questions import Configuration, ConfigurationCoverage
from warehouse.schema import POLICY_VERSIONS
from warehouse.wording import counted

Version = Mapping[str, Any]
Key = tuple[str, str, str | None, str]
INSTANT = timedelta(microseconds=1)
_FLEET = "fleet"


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Policies")
    if url_state.get("show") == editor.SHOW:
        _edit(visit)
        return
    at = not_future(visit.time.until)
    window = Window(since=visit.time.since, until=max(at, visit.time.since + INSTANT))
    try:
        answer = visit.answer(Configuration(window=window, tables=(POLICY_VERSIONS,)))
    except AccessDeniedError:
        summary.denied(visit)
        return
    versions: list[Version] = answer.rows.to_pylist()
    objects = _by_object(versions)
    in_force = {key: listed[-1] for key, listed in objects.items() if listed[-1]["valid_to"] is None or listed[-1]["valid_to"] > at}
    changed = {key for key, listed in objects.items() if _changes(listed, visit.time.since, at)}
    shown = _controls(objects, in_force, changed)
    if url_state.get("show") == changes.SHOW:
        changes.draw(visit)
        return
    if url_state.get("show") == _FLEET:
        _not_known(visit, at)
        inventory.draw(visit, fleet.of(in_force[key] for key in shown))
        return
    _line(visit, answer, in_force, changed, at)
    _not_known(visit, at)
    if not shown:
        summary.empty(
            "No policy",
            f"No policy that you may see was in force at {clock.second(at)}, or changed in the window.",
            "policy",
        )
        return
    _result(visit, shown, objects, in_force, at)


def _edit(visit: Visit) -> None:
    """One policy for many clusters: the editor, and what the change would do."""
    acting.told()
    desk = acting.desk_of(visit)
    st.button("Across clusters", icon=":material/arrow_back:", type="tertiary", on_click=editor.leave, key="to the inventory")
    if not rights.able(desk):
        text = "A policy is edited for many clusters by their platform-admins, where the configuration has their API servers."
        summary.empty("Not yours to edit", text, "lock")
        return
    grid = st.grid(3, gap="small", min_column_width=390)
    with grid.cell():
        editor.card(visit)
    with grid.cell(column_span=2):
        planned.draw(visit)


def _by_object(versions: Sequence[Version]) -> dict[Key, list[Version]]:
    found: dict[Key, list[Version]] = {}
    for version in versions:
        found.setdefault((version["cluster"], version["kind"], version["namespace"], version["name"]), []).append(version)
    return {key: sorted(listed, key=lambda version: version["valid_from"]) for key, listed in found.items()}


def _changes(listed: Sequence[Version], since: datetime, until: datetime) -> int:
    """How often an object changed in the window: versions that began, and the end of one that none followed."""
    begun = sum(since <= version["valid_from"] < until for version in listed)
    last = listed[-1]
    is_deleted = last["ended_how"] == "deleted" and since <= last["valid_to"] < until
    return int(begun) + bool(is_deleted)


def _controls(objects: Mapping[Key, Any], in_force: Mapping[Key, Any], changed: set[Key]) -> list[Key]:
    sorts = {
        "force": f"In force **{len(in_force)}**",
        "changed": f"Changed in the window **{len(changed)}**",
        "gone": f"Gone **{len(objects) - len(in_force)}**",
        _FLEET: "Across clusters",
        changes.SHOW: "Changes of blueprints",
    }
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        chosen = url_state.choose(st.pills, "Show", sorts, "show", "force", clears="change")
        st.session_state["find policy"] = url_state.get("find")
        st.text_input(
            "Find", key="find policy", placeholder="Find by name or namespace", label_visibility="collapsed", width=260,
            on_change=lambda: url_state.put("find", st.session_state["find policy"]),
        )  # fmt: skip
    wanted = {"force": set(in_force), _FLEET: set(in_force), changes.SHOW: set(), "changed": changed, "gone": set(objects) - set(in_force)}[
        chosen
    ]
    text = url_state.get("find").lower()
    return sorted((key for key in wanted if text in f"{key[2] or ''}/{key[3]}".lower()), key=lambda key: (key[2] or "", key[3], key[0]))


def _line(visit: Visit, answer: Answer, in_force: Mapping[Key, Any], changed: set[Key], at: datetime) -> None:
    st.caption(
        f"**{len(in_force)}** in force at {clock.second(at)} · **{len(changed)}** changed since {clock.minute(visit.time.since)} · "
        f"from configuration history, {counted(answer.rows.num_rows, 'version')} · {answer.seconds:.2f} s"
    )


def _not_known(visit: Visit, at: datetime) -> None:
    """Say of which clusters and kinds the configuration of that time is not known."""
    coverage = visit.answer(ConfigurationCoverage(at=at))
    unknown: dict[str, list[str]] = {}
    for kind in coverage:
        if not kind.is_known and "Polic" in kind.kind:
            unknown.setdefault(f"{kind.cluster} ({kind.state})", []).append(kind.kind)
    if unknown:
        told = "; ".join(f"{where}: {', '.join(sorted(kinds))}" for where, kinds in sorted(unknown.items()))
        st.warning(f"Not known for this time, so it may be missing below: {told}", icon=":material/help:")


def _result(
    visit: Visit, shown: Sequence[Key], objects: Mapping[Key, Sequence[Version]], in_force: Mapping[Key, Version], at: datetime
) -> None:
    grid = st.grid(3, gap="small", min_column_width=390)
    name = f"policies table {st.session_state.get('policies round', 0)} {url_state.get('show')}"
    picked = _picked(name, shown)
    findings = policy_findings.by_policy(visit, at)
    rows = [
        {
            "Namespace": key[2] or "the whole cluster",
            "Name": key[3],
            "Kind": key[1],
            "Cluster": key[0],
            "Findings": len(findings.get(key, ())),
            "Changes": _changes(objects[key], visit.time.since, at),
            "Version since": objects[key][-1]["valid_from"],
            "By": objects[key][-1]["changed_by"] or "",
            "State": ["✓ in force" if key in in_force else "− gone"],  # noqa: RUF001 - a sign
        }
        for key in shown
    ]
    with grid.cell(column_span=1 if picked else "all"):
        clickable.table(
            rows,
            key=name,
            most_height=560,
            alt="Policies",
            columns={
                "Version since": clock.column("Version since", "DD MMM YYYY HH:mm:ss", width=170),
                "State": st.column_config.MultiselectColumn(options=["✓ in force", "− gone"], color=["green", "gray"], width=100),  # noqa: RUF001
                "Findings": st.column_config.NumberColumn(width=80, help="Of audits, such as rules that nothing used; open at this time"),
                "Changes": st.column_config.NumberColumn(width=80, help="In the window"),
            },
        )
    if picked:
        with grid.cell(column_span=2):
            _panel(objects[picked], findings.get(picked, ()), is_in_force=picked in in_force)


def _picked(name: str, shown: Sequence[Key]) -> Key | None:
    place = clickable.clicked(name, len(shown))
    if place is not None:
        key = shown[place]
        url_state.put("object", "|".join(part or "" for part in key))
        return key
    asked = url_state.get("object")
    return next((key for key in shown if "|".join(part or "" for part in key) == asked), None) if asked else None


def _close() -> None:
    url_state.put("object", None)
    st.session_state["policies round"] = st.session_state.get("policies round", 0) + 1


def _panel(listed: Sequence[Version], findings: Sequence[Mapping[str, Any]], *, is_in_force: bool) -> None:
    last = listed[-1]
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(last["kind"], color="blue")
            st.markdown(f"**{manifests.object_name(last)}** on {last['cluster']}", width="content")
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        state = (
            "in force since" if is_in_force else f"{last['ended_how'] or 'ended'} at {clock.second(last['valid_to'])}; last version since"
        )
        st.markdown(f"{state} **{clock.dated(last['valid_from'])}** · by {manifests.who(last)}")
        with st.container(horizontal=True, wrap=True):
            policy = [f"policy={manifests.object_name(last)}"]
            navigation.link("flows", "Flows it decided", query=url_state.link(f=policy), icon="bar_chart")
            navigation.link("flows", "What its rules denied", query=url_state.link(f=policy, verdict="DROPPED"), icon="block")
            _denied_by_default(last)
            if is_in_force and navigation.exists("what-if"):
                query = url_state.link(policy=editing.part_of(starting.as_written(last)), in_=last["cluster"])
                navigation.link("what-if", "Open in What-if", query=query, icon="experiment")
            text = manifests.as_yaml(last)
            name = f"{last['cluster']}-{last['name']}.yaml"
            st.download_button(
                "YAML", text, file_name=name, mime="application/yaml", icon=":material/download:", on_click="ignore", key="yaml"
            )
        policy_findings.draw(findings)
        shown, history = st.tabs(["YAML", f"History ({len(listed)})"])
        with shown:
            st.code(text, language="yaml", wrap_lines=True)
            if last["status"]:
                st.caption("What the cluster says of it")
                st.code(last["status"], language="json", wrap_lines=True)
        with history:
            _history(listed)


def _denied_by_default(version: Version) -> None:
    """Links to the drops of the pods that the policy selects: Hubble names no policy for a drop by default deny."""
    found = [(reach.direction, reach.conditions()) for reach in causes.reaches(version)]
    for number, (direction, wanted) in enumerate(found):
        more = f", rule set {number + 1}" if sum(other == direction for other, _ in found) > 1 else ""
        if wanted is None:
            st.caption(f"What it denied by default ({direction}{more}) cannot be filtered: its selector has no form as filters.")
            continue
        query = url_state.link(f=[*map(str, wanted), "reason=POLICY_DENIED,POLICY_DENY"], verdict="DROPPED", match=None, both=None)
        hint = "Drops of the pods it selects. All policies that select a pod deny together what none of them allows."
        navigation.link("flows", f"What it denied by default ({direction}{more})", query=query, icon="block", help_text=hint)


def _history(listed: Sequence[Version]) -> None:
    st.caption("Versions that were in force in the window, the newest first; an earlier window shows earlier ones.")
    for place in range(len(listed) - 1, -1, -1):
        version = listed[place]
        until = f" to {clock.second(version['valid_to'])}" if version["valid_to"] else ", still in force"
        st.markdown(f"**{clock.dated(version['valid_from'])}{until}** · by {manifests.who(version)}")
        told = {"managed_fields": "the object's managed fields", "audit": "the audit log"}.get(
            version["valid_from_source"], version["valid_from_source"]
        )
        st.caption(f"time known from {told}; learned {clock.second(version['recorded'])} by {version['source']}")
        if place:
            manifests.draw_difference(manifests.as_yaml(listed[place - 1]), manifests.as_yaml(version))
