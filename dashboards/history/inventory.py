"""The fleet's inventory on the page of policies: the same object across clusters, where it differs, what it decides."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from dashboards.central import editor
from dashboards.frame import clock, navigation, summary, theme, url_state
from dashboards.history import manifests
from dashboards.visit import Visit
from dashboards.whatif import editing, starting
from pipelines.replay import inventory
from pipelines.replay.inventory import FleetObject, Variant
from warehouse.wording import counted

SHOWN_DECISIONS = 400
"""Objects of which the table says what they decide; a policy is compiled for each."""
_DIFFERS, _SAME, _ONE = "≠ differs", "= same", "· one cluster"


def draw(visit: Visit, found: Sequence[FleetObject]) -> None:
    """Draw the table, and the object that was chosen."""
    if not found:
        summary.empty("No policy", "No policy that you may see, and that fits what is searched for, was in force then.", "policy")
        return
    differing = sum(len(one.variants) > 1 for one in found)
    several = sum(len(one.clusters) > 1 for one in found)
    st.caption(
        f"**{counted(len(found), 'object')}** · **{several:,}** of them in several clusters · **{differing:,}** not the same everywhere"
    )
    shown = sorted(found, key=lambda one: (-(len(one.variants) > 1), one.name[1] or "", one.name[2], one.name[0]))
    name = f"inventory table {st.session_state.get('policies round', 0)}"
    picked = _picked(name, shown)
    grid = st.grid(3, gap="small", min_column_width=390)
    with grid.cell(column_span=1 if picked else "all"):
        st.dataframe(
            [_row(one, with_decision=place < SHOWN_DECISIONS) for place, one in enumerate(shown)],
            key=name,
            hide_index=True,
            row_height=28,
            height=min(560, 37 + 28 * len(shown)),
            on_select="rerun",
            selection_mode="single-cell",
            alt="Policies across clusters",
            column_config={
                "Clusters": st.column_config.NumberColumn(width=70),
                "State": st.column_config.MultiselectColumn(options=[_DIFFERS, _SAME, _ONE], color=["orange", "green", "gray"], width=110),
                "Decides": st.column_config.TextColumn(width=420),
            },
        )
    if picked:
        with grid.cell(column_span=2):
            _panel(visit, picked)


def _row(one: FleetObject, *, with_decision: bool) -> dict[str, object]:
    kind, namespace, name = one.name
    return {
        "Namespace": namespace or "the whole cluster",
        "Name": name,
        "Kind": kind,
        "Clusters": len(one.clusters),
        "State": [_DIFFERS if len(one.variants) > 1 else _SAME if len(one.clusters) > 1 else _ONE],
        "Where it differs": ", ".join(one.differing[:4]) + ("…" if len(one.differing) > 4 else ""),
        "Decides": inventory.decides(one.variants[0].manifest) if with_decision else "",
    }


def _key(one: FleetObject) -> str:
    return "|".join(part or "" for part in one.name)


def _picked(table: str, shown: Sequence[FleetObject]) -> FleetObject | None:
    cells = st.session_state.get(table, {}).get("selection", {}).get("cells", [])
    if cells and int(cells[0][0]) < len(shown):
        url_state.put("object", _key(shown[int(cells[0][0])]))
        return shown[int(cells[0][0])]
    asked = url_state.get("object")
    return next((one for one in shown if _key(one) == asked), None) if asked else None


def _close() -> None:
    url_state.put("object", None)
    st.session_state["policies round"] = st.session_state.get("policies round", 0) + 1


def _panel(visit: Visit, one: FleetObject) -> None:
    kind, namespace, name = one.name
    with st.container(border=True, key="panel"):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.badge(kind, color="blue")
            st.markdown(
                f"**{'/'.join(filter(None, (namespace, name)))}** in {counted(len(one.clusters), 'cluster')}",
                width="content",
            )
            st.space("stretch")
            st.button("", icon=":material/close:", type="tertiary", key="close panel", help="Close", on_click=_close)
        first = one.variants[0]
        st.markdown(theme.plain(inventory.decides(first.manifest)))
        _variant(first, "The same in" if len(one.variants) == 1 else "As most have it, in")
        editor.opener(visit, one, first.manifest, one.clusters)
        st.code(starting.plain_yaml(first.manifest), language="yaml", wrap_lines=True)
        for variant, differences in one.differences():
            _variant(variant, "Differs in")
            st.caption(", ".join(difference.path for difference in differences))
            st.caption(theme.plain(inventory.decides(variant.manifest)))
            manifests.draw_difference(starting.plain_yaml(first.manifest), starting.plain_yaml(variant.manifest))


def _variant(variant: Variant, words: str) -> None:
    newest = max(variant.versions, key=lambda version: version["valid_from"])
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.markdown(f"{words} **{', '.join(variant.clusters)}**", width="content")
        st.caption(f"newest since {clock.dated(newest['valid_from'])} by {manifests.who(newest)}", width="content")
        if navigation.exists("what-if"):
            query = url_state.link(policy=editing.part_of(starting.plain_yaml(variant.manifest)), in_=list(variant.clusters), object=None)
            navigation.link("what-if", "Open in What-if", query=query, icon="experiment")
