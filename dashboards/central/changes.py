"""The changes of blueprints that were published by central editing: all of them, or one with what became of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from dashboards.central import planned, steps
from dashboards.frame import clickable, clock, summary, theme, url_state
from dashboards.proposals import acting
from dashboards.visit import Visit
from dashboards.whatif import edge_rows
from pipelines.central import acting as publishing
from pipelines.central import aftermath, handing_over, rights, store
from pipelines.central.model import Change, Entry, Status
from pipelines.proposals.desk import Desk
from pipelines.proposals.steps import LONGEST_REASON
from pipelines.proposals.watching import Watched
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.questions.proposal_questions import BlueprintChanges
from warehouse.wording import counted

SHOW = "changes"
"""The value of `show` in the address."""
_STATES = {
    Status.PLANNED: ("… planned", "gray"),
    Status.CANARY: ("▸ canary", "yellow"),
    Status.PUBLISHING: ("… publishing", "yellow"),
    Status.PUBLISHED: ("✓ published", "green"),
    Status.FAILED: ("⊘ failed", "red"),
    Status.STOPPED: ("■ stopped", "gray"),
    Status.ROLLING_BACK: ("… rolling back", "yellow"),
    Status.ROLLED_BACK: ("↺ rolled back", "gray"),
}
_OPEN = (Status.PLANNED, Status.CANARY, Status.FAILED)
_ROUND = "central changes round"


def of(visit: Visit) -> list[Change]:
    """Return the changes that the visitor may see, the newest first. Raises AccessDeniedError, LakeError."""
    answer = visit.answer(BlueprintChanges())
    visit.answers.remove(answer)
    return store.changes_of(answer.rows)


def draw(visit: Visit) -> None:
    """Draw the list, or the change that the address names. Raises HindcastError."""
    found = of(visit)
    wanted = url_state.get("change")
    one = next((change for change in found if change.id == wanted), None)
    acting.told()
    if one is not None:
        _one(visit, one)
    elif wanted:
        summary.empty("No such change", "There is none of this id that you may see.", "link_off", ("All changes", lambda: _go_to(None)))
    elif not found:
        text = "Open a policy under Across clusters and edit it for many clusters. Changes of clusters that you see whole are listed here."
        summary.empty("No change of a blueprint", text, "edit_note")
    else:
        _list(found)


def _go_to(change: str | None) -> None:
    url_state.put("change", change)


def _list(found: Sequence[Change]) -> None:
    name = f"changes table {st.session_state.get(_ROUND, 0)}"
    place = clickable.clicked(name, len(found))
    if place is not None:
        st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1
        _go_to(found[place].id)
        st.rerun()
    clickable.table(
        [
            {
                "State": [_STATES[one.status][0]],
                "Blueprint": f"{one.blueprint} {one.version}",
                "Published to": ", ".join(one.published),
                "Waiting": ", ".join(one.rest),
                "By": one.author,
                "Begun": one.time,
                "Why": one.reason,
            }
            for one in found
        ],
        key=name,
        alt="Changes of blueprints",
        columns={
            "State": st.column_config.MultiselectColumn(
                options=[words for words, _ in _STATES.values()], color=[colour for _, colour in _STATES.values()], width=130
            ),
            "Begun": clock.column("Begun", "DD MMM HH:mm", width=110),
        },
    )


def _one(visit: Visit, change: Change) -> None:
    desk = acting.desk_of(visit)
    words, colour = _STATES[change.status]
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.button("All changes", icon=":material/arrow_back:", type="tertiary", on_click=_go_to, args=(None,), key="to all changes")
        st.badge(words, color=colour)  # type: ignore[arg-type]
        st.markdown(f"**blueprint {change.blueprint} {change.version}** on {', '.join(change.clusters)}", width="content")
    st.caption(f"{change.id} · by {theme.no_link(change.author)} · {clock.dated(change.time)}")
    if change.reason:
        st.text(change.reason)
    drops = _drops_by_cluster(visit, desk, change)
    if all(rights.may(desk, name) for name in change.clusters):
        _buttons(visit, desk, change, drops)
    _clusters(change, drops)
    _drops(drops)
    if not change.is_at_once:
        planned.file_difference(change.text_before, change.text, change.source.name)
    st.subheader("What happened", anchor=False)
    for entry in change.entries:
        _entry(entry)


def _entry(entry: Entry) -> None:
    where = ", ".join(entry.about.get("clusters", ()))
    text = f"**{clock.dated(entry.time)}** · {entry.event.value.replace('_', ' ')} by {theme.no_link(entry.actor)}"
    st.markdown(text + (f" · {where}" if where else ""))
    if entry.detail:
        st.text(entry.detail)


def _drops_by_cluster(visit: Visit, desk: Desk, change: Change) -> Mapping[str, Watched]:
    if not change.published or change.status is Status.ROLLED_BACK:
        return {}
    try:
        return visit.ask(f"aftermath of {change.id}", lambda: aftermath.seen(desk, change), change.published)
    except (AccessDeniedError, QueryError) as error:
        st.caption(str(error))
        return {}


def _clusters(change: Change, drops: Mapping[str, Watched]) -> None:
    rows = []
    for name in change.clusters:
        plan = change.plan(name)
        effect, seen = plan.get("effect"), drops.get(name)
        is_back = change.status is Status.ROLLED_BACK and name in change.published
        rows.append(
            {
                "Cluster": name + (" (canary)" if name in change.canary else ""),
                "State": "↺ rolled back" if is_back else "✓ published" if name in change.published else "… waiting",
                "Planned": ", ".join(f"{plan[part]} {part}" for part in ("create", "update", "delete") if plan.get(part)) or "nothing",
                "Foreseen": f"{effect['newly_denied']:,} denied, {effect['newly_allowed']:,} allowed"
                if effect
                else plan.get("unknown", ""),
                "Dropped since": seen.in_words if seen is not None and seen.is_judged else "not known" if seen is not None else "",
                "Watched until": seen.until if seen is not None else None,
            }
        )
    st.subheader("Clusters", anchor=False)
    st.dataframe(
        rows,
        hide_index=True,
        row_height=28,
        alt="Clusters of the change",
        column_config={"Watched until": clock.column("Watched until", "DD MMM HH:mm:ss", width=150)},
    )


def _drops(drops: Mapping[str, Watched]) -> None:
    rows = [
        {"Cluster": cluster, "Edge": edge_rows.of_row(edge.row()), "Flows": edge.flows, "Last seen": edge.last_seen}
        for cluster, watched in drops.items()
        for edge in watched.drops
    ]
    for note in dict.fromkeys(f"{cluster}: {note}" for cluster, watched in drops.items() for note in watched.notes):
        st.caption(theme.plain(note))
    if rows:
        st.warning("Flows are dropped because of it.", icon=":material/warning:")
        st.dataframe(
            rows,
            hide_index=True,
            row_height=28,
            alt="Edges that the change dropped",
            column_config={"Last seen": clock.column("Last seen", "DD MMM HH:mm:ss", width=150)},
        )
    elif drops and all(watched.is_judged for watched in drops.values()):
        until = min(watched.until for watched in drops.values())
        st.markdown(f":green[:material/check_circle:] No flow was dropped because of it until {clock.second(until)}.")


def _buttons(visit: Visit, desk: Desk, change: Change, drops: Mapping[str, Watched]) -> None:
    def fresh() -> Change:
        return store.visible_one(desk, change.id)

    is_open = change.status in _OPEN or change.is_stuck(desk.now)
    is_done = bool(change.published) and (change.status not in (Status.ROLLED_BACK, Status.PUBLISHING) or change.is_stuck(desk.now))
    with st.container(horizontal=True, wrap=True, key="change buttons"):
        if is_open and change.rest and not change.is_at_once:
            dropped = sum(watched.flows for watched in drops.values())
            warning = f" It has dropped {counted(dropped, 'flow')} where it is published." if dropped else ""
            steps.confirmed(
                visit, "Publish to the rest", "play_arrow",
                f"This changes {', '.join(change.rest)} as {desk.who.user}.{warning}",
                lambda: publishing.go_on(desk, fresh()), "Published to the rest.", primary=not dropped,
            )  # fmt: skip
        if is_open:
            _with_reason(visit, "Stop", "stop_circle", lambda reason: publishing.stop(desk, fresh(), reason), "Stopped.")
        if is_done:
            _roll_back(visit, desk, change, fresh)
        if desk.settings.proposals.git is not None and not change.is_at_once:
            steps.confirmed(
                visit, "Commit", "commit",
                f"This pushes the changed file to {desk.settings.proposals.git.repository}, on a branch of its own.",
                lambda: handing_over.commit(desk, fresh()), "Handed over as a commit.",
            )  # fmt: skip


def _with_reason(visit: Visit, label: str, icon: str, step: Callable[[str], object], done: str) -> None:
    with st.popover(label, icon=f":material/{icon}:", key=f"change {label}"):
        reason = st.text_input("Why", key=f"change reason {label}", max_chars=LONGEST_REASON)
        steps.button(visit, f"{label} it", icon, lambda: step(reason), done)


def _roll_back(visit: Visit, desk: Desk, change: Change, fresh: Callable[[], Change]) -> None:
    with st.popover("Roll back", icon=":material/undo:", key="change roll back"):
        st.write(f"This puts back in {', '.join(change.published)} what was in force before, as {desk.who.user}.")
        force = st.checkbox("Also if somebody has changed an object since", key="change even if changed")
        steps.button(
            visit, "Roll back now", "undo", lambda: publishing.roll_back(desk, fresh(), even_if_changed=force), "Rolled back.", primary=True
        )
