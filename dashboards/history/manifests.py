"""Manifests of configuration history as people read them: YAML, and the lines that differ between two. Pure but for drawing."""

from __future__ import annotations

import difflib
import html
import json
from collections.abc import Mapping
from typing import Any

import streamlit as st
import yaml

from dashboards.frame import theme

CONTEXT = 3
"""Unchanged lines shown around a change."""


def as_yaml(version: Mapping[str, Any]) -> str:
    """A version's manifest as YAML."""
    return yaml.safe_dump(json.loads(version["manifest"]), sort_keys=False, allow_unicode=True, width=120)


def object_name(version: Mapping[str, Any]) -> str:
    """namespace/name, or the name of an object of the whole cluster."""
    return f"{version['namespace']}/{version['name']}" if version["namespace"] else str(version["name"])


def who(version: Mapping[str, Any]) -> str:
    """Who made a version, as Markdown in which an address is no link."""
    return theme.no_link(version["changed_by"] or "somebody unknown")


def draw_difference(before: str, after: str) -> None:
    """The lines that differ, with their neighbours."""
    lines = list(difflib.unified_diff(before.splitlines(), after.splitlines(), lineterm="", n=CONTEXT))[2:]
    if not lines:
        st.caption("No line differs.")
        return
    shades = theme.DARK if theme.is_dark() else theme.LIGHT
    added = "#10332A" if theme.is_dark() else "#E3F4EC"
    colours = {"+": f"background:{added}", "-": f"background:{shades.denied}", "@": f"color:{shades.muted}"}
    written = "".join(f'<div style="{colours.get(line[:1], "")}">{html.escape(_signed(line))}</div>' for line in lines)
    st.html(f'<div class="hc-diff" tabindex="0" role="region" aria-label="Lines that differ">{written}</div>')


def _signed(line: str) -> str:
    return "⋯" if line.startswith("@@") else line
