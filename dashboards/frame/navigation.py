"""The pages there are, and links between them. A page is listed only where what it shows exists."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

Draw = Callable[[], None]
_PAGES = "pages"


def build(sections: Mapping[str, Sequence[tuple[str, str, str, Draw]]]) -> Any:
    """Register pages, given by section as (address, title, icon, function), and give the one that was asked for."""
    made: dict[str, Any] = {}
    listed: dict[str, list[Any]] = {}
    for section, pages in sections.items():
        for address, title, icon, draw in pages:
            made[address] = st.Page(draw, title=title, icon=f":material/{icon}:", url_path=address, default=address == "overview")
            listed.setdefault(section, []).append(made[address])  # a section without pages is not listed
    st.session_state[_PAGES] = made
    return st.navigation(listed, position="top")


def exists(address: str) -> bool:
    """Whether there is such a page here and now."""
    return address in st.session_state.get(_PAGES, {})


def link(address: str, label: str, *, query: Any = None, icon: str | None = None, help_text: str | None = None) -> None:
    """A link to a page, in the same tab; plain text where there is no such page."""
    if exists(address):
        shown = f":material/{icon}:" if icon else ""
        st.page_link(st.session_state[_PAGES][address], label=label, query_params=query, icon=shown, help=help_text or "")
    else:
        st.markdown(label)


def go(address: str, query: Any) -> None:
    """Go to a page."""
    st.switch_page(st.session_state[_PAGES][address], query_params=query)
