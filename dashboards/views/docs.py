"""The documentation of the version that runs."""

from __future__ import annotations

import re
from importlib.metadata import version
from pathlib import Path

import streamlit as st

from dashboards import head, url_state
from dashboards.asking import Visit

_INSTALLED = Path(__file__).parents[1] / "docs"
FOLDER = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "docs"
"""Beside this package in a wheel; in the tree where it is worked on."""


def page(visit: Visit) -> None:
    """Draw the page."""
    head.draw(visit, "Docs", with_time=False)
    pages = {file.stem: file for file in sorted(FOLDER.glob("*.md"))}
    shown = url_state.get("page") if url_state.get("page") in pages else "operating" if "operating" in pages else next(iter(pages), "")
    if not shown:
        st.write("This installation carries no documentation.")
        return
    st.session_state["docs page"] = shown
    st.pills(
        "Pages",
        list(pages),
        key="docs page",
        required=True,
        label_visibility="collapsed",
        wrap=True,
        format_func=lambda name: name.replace("-", " ").replace("_", " ").capitalize(),
        on_change=lambda: url_state.put("page", st.session_state["docs page"]),
    )
    st.caption(f"Of version {version('hindcast-flows')}, the one that runs here")
    with st.container(border=True):
        st.markdown(_readable(pages[shown].read_text(encoding="utf-8")))


def _readable(text: str) -> str:
    """Markdown whose links to files beside it, which the browser cannot follow, are plain names."""
    return re.sub(r"\[([^\]]+)\]\((?!https?://)[^)]+\)", r"**\1**", text)
