"""The documentation of the version that runs."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import streamlit as st

from dashboards.frame import head, url_state
from dashboards.visit import Visit

_INSTALLED = Path(__file__).parents[1] / "docs"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "docs"
"""Beside this package in a wheel; in the tree where it is worked on."""


def page(visit: Visit) -> None:
    """Draw the page."""
    head.draw(visit, "Docs", with_time=False)
    pages = {file.stem: file for file in sorted(FOLDER.glob("*.md"))}
    if not pages:
        st.write("This installation carries no documentation.")
        return
    titles = {name: name.replace("-", " ").replace("_", " ").capitalize() for name in pages}
    shown = url_state.choose(st.pills, "Pages", titles, "page", "operating" if "operating" in pages else next(iter(pages)))
    st.caption(f"Of version {version('hindcast-flows')}, the one that runs here")
    with st.container(border=True):
        st.markdown(_readable(pages[shown].read_text(encoding="utf-8")))


def _readable(text: str) -> str:
    """Markdown whose links to files beside it, which the browser cannot follow, are plain names."""
    return re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]+\)", r"**\1**", text)
