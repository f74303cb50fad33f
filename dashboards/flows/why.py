"""Why a flow was allowed or dropped: the policies in force then, rule by rule, whether Hubble agrees, and what would allow it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import streamlit as st

from dashboards.frame import clock, navigation, theme, url_state
from dashboards.visit import Visit
from dashboards.whatif import editing, starting
from pipelines.central import splicing
from pipelines.policy.verdict import Verdict
from pipelines.policy.walk import Step, Walk
from pipelines.replay import explaining
from pipelines.replay.explaining import Explanation
from pipelines.replay.in_force import History
from warehouse.errors import ConfigError

_COLOURS = {Verdict.ALLOWED: "green", Verdict.DENIED: "red", Verdict.UNCERTAIN: "yellow", Verdict.NOT_ENFORCED: "gray"}
_ICONS = {Verdict.ALLOWED: "check", Verdict.DENIED: "block", Verdict.UNCERTAIN: "help", Verdict.NOT_ENFORCED: "remove"}


def button() -> None:
    """Draw the button that asks, or that hides the answer."""
    is_shown = url_state.get("why") == "1"
    st.button(
        "Hide why" if is_shown else "Why?",
        key="why",
        icon=":material/psychology_alt:",
        on_click=lambda: url_state.put("why", None if is_shown else "1"),
        help="The policies in force at its time, and the rule that decided",
    )


def draw(visit: Visit, flow: Mapping[str, Any]) -> None:
    """Draw the explanation of a flow that was read with all of its columns, if it was asked for."""
    if url_state.get("why") != "1":
        return
    history = History(visit.door, visit.who)
    try:
        found = visit.ask("explanation", lambda: explaining.explain_row(history, flow), flow["cluster"], flow["uuid"], flow["time"])
    except ConfigError as error:
        st.warning(str(error), icon=":material/help:")
        return
    with st.container(border=True, key="explanation"):
        _verdict(found)
        for one in found.walks:
            _walk(one, found)
        _changes(found)
        for note in found.notes:
            st.caption(f":material/help: {theme.plain(note)}")


def _verdict(found: Explanation) -> None:
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.badge(f"Policies say {found.verdict.value}", icon=f":material/{_ICONS[found.verdict]}:", color=_COLOURS[found.verdict])  # type: ignore[arg-type]
        st.caption(f"in {found.cluster}, as of {clock.second(found.at)}")
    if found.agreement:
        icon = "warning" if found.disagrees else "info"
        st.markdown(f":material/{icon}: {theme.plain(found.agreement[0].upper() + found.agreement[1:])}.")


def _walk(one: Walk, found: Explanation) -> None:
    decision = one.decision
    st.markdown(
        f":{_COLOURS[decision.verdict]}[:material/{_ICONS[decision.verdict]}:] **{one.direction.value.capitalize()}** at "
        f"{theme.plain(one.subject)}: **{decision.verdict.value}**"
    )
    st.text(decision.reason)
    if one.direction in found.attributions:
        st.caption(theme.plain(found.attributions[one.direction].text))
    shown = [step for step in one.steps if step.selects]
    if shown:
        with st.expander(f"The walk: rules that select this end ({len(shown)} of {len(one.steps)})"):
            for number, step in enumerate(shown, 1):
                _step(number, step)


def _step(number: int, step: Step) -> None:
    tier = "" if step.tier.name == "NORMAL" else f"{step.tier.name.capitalize()} tier, "
    isolates = ", isolates" if step.isolates else ""
    why = f": {step.why_not}" if step.why_not else ""
    st.text(f"{number}. {step.rule} ({tier}{step.action.value}{isolates}) {step.outcome.value}{why}")


def _changes(found: Explanation) -> None:
    """The smallest change that would allow it, and the way to try all of it on recorded traffic."""
    for number, change in enumerate(found.changes, 1):
        st.markdown(f"**What would allow it{f' ({number})' if len(found.changes) > 1 else ''}:** {theme.plain(change.text)}")
        st.code(splicing.written(change.part), language="yaml", wrap_lines=True)
    if found.changes and navigation.exists("what-if"):
        text = "---\n".join(starting.plain_yaml(change.manifest) for change in found.changes)
        query = url_state.link(policy=editing.part_of(text), in_=found.cluster)
        navigation.link("what-if", "Open in What-if", query=query, icon="experiment")
