"""Buttons of central editing: each takes one step, and says what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from dashboards.proposals import acting
from dashboards.visit import Visit


def button(visit: Visit, label: str, icon: str, step: Callable[[], Any], done: str, *, primary: bool = False) -> None:
    """Draw a button that takes a step and says what came of it."""
    if st.button(label, icon=f":material/{icon}:", type="primary" if primary else "secondary", key=f"central {label}"):
        with st.spinner(f"{label} …"):
            acting.do(visit, step, done)
        st.rerun()


def confirmed(visit: Visit, label: str, icon: str, text: str, step: Callable[[], Any], done: str, *, primary: bool = False) -> None:
    """Draw a button that first says what the step will do."""
    with st.popover(label, icon=f":material/{icon}:", key=f"confirm {label}", type="primary" if primary else "secondary"):
        st.write(text)
        button(visit, f"{label} now", icon, step, done, primary=True)
