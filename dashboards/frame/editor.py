"""An editor with line numbers, colours and completion. CodeMirror, as a Streamlit component of ours.

Its script is bundled from `dashboards/editor/` (`make editor`) and served by the dashboard itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from dashboards.frame import assets

_HTML = '<div class="editor"></div>'


@dataclass(frozen=True, kw_only=True)
class Editor:
    """One editor of a page; what is written in it stays in the session."""

    name: str
    language: str
    """sql or policy."""
    label: str
    """What a screen reader calls it."""
    height: int
    """Pixels."""
    patience_ms: int = 0
    """After this long without a key the text is sent to the server; with 0 only when the editor is left, or on Ctrl + Enter."""

    def text(self) -> str:
        """Return what is written, as far as the browser has sent it."""
        sent = (st.session_state.get(self._key()) or {}).get("written") or {}
        if sent.get("round") == st.session_state.get(self._key("round"), 0):
            return str(sent["text"])
        return str(st.session_state.get(self._key("text"), ""))

    def put(self, written: str) -> None:
        """Replace what is written."""
        st.session_state[self._key("text")] = written
        st.session_state[self._key("round")] = st.session_state.get(self._key("round"), 0) + 1

    def insert(self, word: str) -> None:
        """Insert a word where the cursor is."""
        _, number = st.session_state.get(self._key("insert"), ("", 0))
        st.session_state[self._key("insert")] = (word, number + 1)

    def draw(self, on_run: Callable[[], None], more: Mapping[str, Any]) -> None:
        """Draw it; `on_run` is called for Ctrl + Enter, when `text` returns what is to be run.

        `more` is what the language needs: see dashboards/editor/editor.js.
        """
        word, number = st.session_state.get(self._key("insert"), ("", 0))
        data = {
            "language": self.language,
            "text": self.text(),
            "round": st.session_state.get(self._key("round"), 0),
            "insert": word,
            "insertRound": number,
            "label": self.label,
            "patience": self.patience_ms,
            **more,
        }
        self._component()(key=self._key(), data=data, on_written_change=lambda: None, on_run_change=on_run)

    def _component(self) -> Any:
        # The height also keeps the room free while the script is on its way.
        css = f".editor {{--editor-height: {self.height}px; min-height: {self.height + 2}px}}"
        return st.components.v2.component(f"hindcast_{self.name}_editor", html=_HTML, css=css, js=assets.script("editor.js", "editor"))

    def _key(self, part: str = "") -> str:
        return f"{self.name} editor {part}".strip()
