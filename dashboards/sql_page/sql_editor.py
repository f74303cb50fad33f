"""The SQL page's editor: lines, colours, completion of tables and columns. CodeMirror, as a Streamlit component of ours.

Its script is bundled from `dashboards/editor/` (`make editor`) and served by the dashboard itself.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import streamlit as st

from warehouse.schema import TABLES

ASSETS = Path(__file__).parents[1] / "assets"
ADDRESS = "/assets"
"""Where the server has the folder."""
_TEXT, _ROUND, _INSERT = "sql text", "sql round", "sql insert"
_KEY = "sql editor"
# The script is fetched once and kept by the browser, instead of being sent with each drawing.
_JS = f"""export default function(component) {{
  import(new URL({ADDRESS + "/sql-editor.js"!r}, window.location.origin).href).then((editor) => editor.draw(component));
}}"""
_HTML = '<div class="editor"></div>'
_CSS = ".editor {min-height: 222px}"
"""The room that it takes, while its script is on its way."""


def text() -> str:
    """What is written, as far as the server has been told: since the editor was left, or the query was run."""
    told = (st.session_state.get(_KEY) or {}).get("written") or {}
    if told.get("round") == st.session_state.get(_ROUND, 0):
        return str(told["text"])
    return str(st.session_state.get(_TEXT, ""))


def put(written: str) -> None:
    """Write this instead."""
    st.session_state[_TEXT] = written
    st.session_state[_ROUND] = st.session_state.get(_ROUND, 0) + 1


def insert(word: str) -> None:
    """Insert a word where the cursor is."""
    _, number = st.session_state.get(_INSERT, ("", 0))
    st.session_state[_INSERT] = (word, number + 1)


def draw(on_run: Callable[[], None]) -> None:
    """Draw it; `on_run` is called for Ctrl + Enter, when `text` tells what is to be run."""
    word, number = st.session_state.get(_INSERT, ("", 0))
    data = {
        "text": text(),
        "round": st.session_state.get(_ROUND, 0),
        "insert": word,
        "insertRound": number,
        "label": "Query, in DuckDB's SQL; Ctrl + Enter runs it",
        "tables": _tables(),
    }

    _component()(key=_KEY, data=data, on_written_change=lambda: None, on_run_change=on_run)


def _component() -> Any:
    return st.components.v2.component("hindcast_sql_editor", html=_HTML, css=_CSS, js=_JS)


def _tables() -> dict[str, list[tuple[str, str, str]]]:
    return {table.name: [(column.name, type_name(column.type), column.doc) for column in table.columns] for table in TABLES.values()}


def type_name(arrow: Any) -> str:
    """A type as DuckDB calls it."""
    name = str(arrow)
    if name.startswith("list<"):
        return f"{type_name(arrow.value_type)}[]"
    if name.startswith("struct<"):
        return "STRUCT"
    if name.startswith("timestamp"):
        return "TIMESTAMPTZ"
    known = {
        "string": "VARCHAR", "bool": "BOOLEAN", "double": "DOUBLE", "float": "FLOAT", "date32[day]": "DATE", "binary": "BLOB",
        "int8": "TINYINT", "int16": "SMALLINT", "int32": "INTEGER", "int64": "BIGINT",
        "uint8": "UTINYINT", "uint16": "USMALLINT", "uint32": "UINTEGER", "uint64": "UBIGINT",
    }  # fmt: skip
    return known.get(name, name.upper())
