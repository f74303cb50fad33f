"""Tables of which a row is picked by a click on any of its cells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

ROW_HEIGHT = 28


def clicked(key: str, count: int) -> int | None:
    """Return the place of the row that was clicked in the table with this key, which has so many rows; None without a click."""
    cells = st.session_state.get(key, {}).get("selection", {}).get("cells", [])
    return int(cells[0][0]) if cells and int(cells[0][0]) < count else None


def table(rows: Sequence[Mapping[str, Any]], *, key: str, alt: str, columns: Mapping[str, Any], most_height: int = 420) -> None:
    """Draw the rows; `columns` says how each column is shown."""
    st.dataframe(
        list(rows),
        key=key,
        hide_index=True,
        row_height=ROW_HEIGHT,
        height=min(most_height, 37 + ROW_HEIGHT * len(rows)),
        on_select="rerun",
        selection_mode="single-cell",
        alt=alt,
        column_config=dict(columns),
    )
