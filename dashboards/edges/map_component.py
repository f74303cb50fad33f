"""The map on the page, a Streamlit component: the SVG that is also saved, with neighbours highlighted and nodes picked by the browser.

Its script is served by the dashboard itself (dashboards/assets/map.js).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.frame import assets

_HTML = '<div class="map"></div>'
_CSS = """
.map {overflow-x: auto}
.map svg {display: block; max-width: 100%; min-width: 640px; height: auto; margin: 0 auto}
.map .save {display: block; margin: 0 4px 4px auto; font: inherit; font-size: 12px; color: inherit; background: none; border: 1px solid
  currentColor; border-radius: 6px; padding: 2px 8px; cursor: pointer; opacity: 0.8}
.map g[data-node] {cursor: pointer}
.map g[data-node]:focus-visible rect {outline: 2px solid currentColor}
.map.faded path[data-from], .map.faded g[data-node] {opacity: 0.12}
.map.faded path.near, .map.faded g.near {opacity: 1}
"""


def draw(wide: str, narrow: str, *, key: str, on_pick: Callable[[str], None]) -> None:
    """Draw a map given for wide and for narrow places; `on_pick` is called with the name of a node that was chosen."""

    def picked() -> None:
        chosen = (st.session_state.get(key) or {}).get("picked")
        if chosen:
            on_pick(str(chosen))

    _component()(key=key, data={"wide": wide, "narrow": narrow}, on_picked_change=picked)


def _component() -> Any:
    return st.components.v2.component("hindcast_map", html=_HTML, css=_CSS, js=assets.script("map.js", "map"))
