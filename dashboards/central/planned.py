"""What a change would do: in each cluster by the API server and by the engine, in the blueprint's file, and the step to publish it."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import streamlit as st

from dashboards.central import editor, steps
from dashboards.frame import summary, theme, url_state
from dashboards.history import manifests
from dashboards.proposals import acting
from dashboards.sql_page import running
from dashboards.visit import Visit
from dashboards.whatif import starting
from pipelines.blueprints.planning import Change
from pipelines.central import acting as publishing
from pipelines.central import editing, previewing
from pipelines.central.previewing import ClusterPreview, Preview
from pipelines.proposals.steps import LONGEST_REASON
from warehouse.errors import CancelledError, ConfigError, QueryError

JOB = "central-plan"
_MOST_DIFFERENCES = 12
_ACTIONS = {"create": "+ create", "update": "~ change", "delete": "− delete"}  # noqa: RUF001 - a sign
_COLOURS = {"create": "green", "update": "yellow", "delete": "red"}


def draw(visit: Visit) -> None:
    """Draw it. Raises HindcastError."""
    try:
        wanted = editor.asked()
        if wanted is None:
            summary.empty(
                "Nothing planned yet", "Edit the policy, choose the clusters, and plan it: nothing is changed by that.", "fact_check"
            )
            return
        found = _found(visit, wanted)
    except CancelledError:
        st.info("Cancelled. Plan starts it again.", icon=":material/stop_circle:")
        running.leave(JOB)
        return
    except (ConfigError, QueryError) as error:
        st.error(str(error), icon=":material/block:")
        return
    if found is None:
        return
    for warning in found.warnings:
        st.caption(f":material/info: {theme.plain(warning)}")
    for refusal in found.refusals:
        st.error(refusal, icon=":material/block:")
    _clusters(found)
    _publish(visit, found, wanted.canary)
    _differences(found)
    file_difference(found.edited.before, found.edited.text, found.edited.file.source.name)


def _found(visit: Visit, wanted: editing.Edit) -> Preview | None:
    desk, files = acting.desk_of(visit), editor.blueprints(visit)

    def work(cancelled: threading.Event) -> Preview:
        edited = editing.edited(wanted, files, desk.settings.clusters, folder=previewing.folder_of(desk.settings))
        found = previewing.preview(desk, edited, wanted.clusters)
        if cancelled.is_set():
            raise CancelledError("cancelled")
        return found

    key = (visit.who, desk.scope, wanted, editor.rounds())
    return running.answer(JOB, key, work, advice="Each cluster's API server is asked, and seven days of its traffic are replayed.")


def _clusters(found: Preview) -> None:
    """What happens in each cluster: object by object, and together."""
    rows = [_row(one, change) for one in found.clusters for change in one.plan.changes if change.action != "unchanged" or change.problem]
    if not rows:
        if found.clusters and not found.refusals:
            st.caption("Every chosen cluster already is as the changed file wants it.")
        return
    st.subheader("What is done in each cluster", anchor=False)
    for one in found.clusters:
        st.markdown(_in_words(one))
        for text in one.against_rails:
            st.markdown(f":orange[:material/warning:] {one.cluster}: {theme.plain(text)}")
    st.dataframe(
        rows,
        hide_index=True,
        row_height=28,
        height=min(420, 37 + 28 * len(rows)),
        alt="Planned changes in each cluster",
        column_config={
            "Action": st.column_config.MultiselectColumn(
                options=list(_ACTIONS.values()), color=[_COLOURS[name] for name in _ACTIONS], width=100
            ),
            "Object": st.column_config.TextColumn(width=260),
            "Newly denied": st.column_config.NumberColumn(width=100, help="Flows of 7 days that this change alone would have denied"),
            "Newly allowed": st.column_config.NumberColumn(width=100),
            "Uncertain": st.column_config.NumberColumn(width=80),
        },
    )


def _in_words(one: ClusterPreview) -> str:
    counts = {name: sum(change.action == name for change in one.plan.changes) for name in _ACTIONS}
    done = ", ".join(f"{count} {_ACTIONS[name][2:]}" for name, count in counts.items() if count) or "nothing to do"
    together = one.foreseen.together
    if together is not None:
        told = (
            f"of the flows of 7 days **{together.newly_denied:,}** newly denied, **{together.newly_allowed:,}** newly allowed, "
            f"**{together.uncertain:,}** uncertain"
        )
    else:
        told = (
            f"what it would deny or allow is not known: {theme.plain(one.foreseen.unknown)}"
            if one.foreseen.unknown
            else "no policy changes"
        )
    return f"**{one.cluster}**: {done} · {told}"


def _row(one: ClusterPreview, change: Change) -> dict[str, object]:
    effect = one.foreseen.each.get(change.key)
    return {
        "Cluster": one.cluster,
        "Action": [_ACTIONS.get(change.action, change.action)],
        "Object": str(change.key),
        "Newly denied": effect.newly_denied if effect else None,
        "Newly allowed": effect.newly_allowed if effect else None,
        "Uncertain": effect.uncertain if effect else None,
        "Where": ", ".join(difference.path for difference in change.differences[:4]),
        "Note": change.problem or change.note or "",
    }


def _publish(visit: Visit, found: Preview, canary: tuple[str, ...]) -> None:
    names = [one.cluster for one in found.clusters]
    first = [name for name in names if name in canary]
    if found.refusals or not names or found.changes_nothing:
        return
    if not first:
        st.caption(":material/info: Choose a canary among the clusters: the change is published there first.")
        return
    rest = [name for name in names if name not in first]
    with st.popover("Publish to the canary", icon=":material/play_arrow:", type="primary", key="publish to canary"):
        later = f" {', '.join(rest)} {'waits' if len(rest) == 1 else 'wait'} until you go on." if rest else ""
        st.write(f"This changes {', '.join(first)} as {visit.who.user}.{later}")
        reason = st.text_input("Why", key="central reason", max_chars=LONGEST_REASON)
        steps.button(
            visit, "Publish now", "play_arrow", lambda: _begin(visit, found, first, reason), "Published to the canary.", primary=True
        )


def _begin(visit: Visit, found: Preview, first: list[str], reason: str) -> None:
    change = publishing.begin(acting.desk_of(visit), found, first, reason=reason)
    editor.leave()
    url_state.put("show", "changes")
    url_state.put("change", change.id)


def _differences(found: Preview) -> None:
    """How each object changes, once for clusters in which it changes in the same way."""
    grouped: dict[tuple[str, str, str], list[str]] = {}
    for cluster, name, before, after in _texts(found):
        grouped.setdefault((name, before, after), []).append(cluster)
    for (name, before, after), clusters in list(grouped.items())[:_MOST_DIFFERENCES]:
        with st.expander(f"{name} in {', '.join(clusters)}", expanded=len(grouped) <= 2):
            manifests.draw_difference(before, after)
    if len(grouped) > _MOST_DIFFERENCES:
        st.caption(f"and {len(grouped) - _MOST_DIFFERENCES} more objects")


def _texts(found: Preview) -> Iterator[tuple[str, str, str, str]]:
    for one in found.clusters:
        for change in one.plan.changes:
            if change.action != "unchanged":
                before, after = ("" if each is None else starting.plain_yaml(each) for each in (change.before, change.manifest))
                yield one.cluster, str(change.key), before, after


def file_difference(before: str, after: str, name: str) -> None:
    """Draw how the blueprint's file changes, and offer the changed file."""
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.subheader("The blueprint's file", anchor=False, width="content")
        st.space("stretch")
        st.download_button(
            name, after, file_name=name, mime="application/yaml", icon=":material/download:", on_click="ignore", key="changed file"
        )
    manifests.draw_difference(before, after)
