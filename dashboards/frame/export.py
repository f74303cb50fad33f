"""Files of what a page shows: CSV, JSON and Parquet, made when asked for, within what the principal may see.

Nothing is made beforehand. Said when there was more than a file holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import partial

import pyarrow as pa
import streamlit as st

from dashboards.access import made_files
from dashboards.flows import flow_rows, open_as_sql, sorting
from dashboards.frame import navigation, url_state
from dashboards.visit import Visit
from warehouse.engine import Limits
from warehouse.questions import exports, flow_questions
from warehouse.questions.flow_filter import FlowFilter

ROWS = 100_000
PICTURES = {"SVG": ("svg", "image/svg+xml")}
FORMATS = {"CSV": ("csv", "text/csv"), "JSON": ("jsonl", "application/x-ndjson"), "Parquet": ("parquet", "application/vnd.apache.parquet")}


def menu(visit: Visit, wanted: FlowFilter) -> None:
    """Files of the flows that match, and the same as SQL."""
    st.divider()
    st.markdown("**Export the flows that match**")
    every = st.toggle("All columns, not only those shown", key="export all")
    columns = tuple(name for name in flow_rows.needed(flow_rows.chosen())) if not every else None
    with st.container(horizontal=True, wrap=True):
        for form in FORMATS:
            button(visit, form, "flows", partial(_flows, visit, wanted, columns, form), key=f"export {form}")
    st.caption(f"At most {ROWS:,} rows, in the order that is chosen; a file that was cut says so in its name.")
    if navigation.exists("sql"):
        navigation.link("sql", "Open as SQL", query=url_state.link(q=open_as_sql.flows(wanted, sorting.chosen())), icon="terminal")


def button(visit: Visit, form: str, what: str, make: Callable[[], bytes], *, key: str) -> None:
    """A button that makes a file when it is clicked, for nobody but who clicks."""
    suffix, kind = (FORMATS | PICTURES)[form]
    name = f"hindcast-{what}-{datetime.now(UTC):%Y%m%dT%H%M}.{suffix}"

    def noted() -> bytes:
        data = make()
        made_files.note(data, kind, name, visit.who)
        return data

    st.download_button(form, noted, file_name=name, mime=kind, key=key, on_click="ignore", icon=":material/download:")


def encode(rows: pa.Table, form: str, *, is_cut: bool = False) -> bytes:
    """Rows as a file of one of FORMATS; one that was cut says so at its end (in Parquet in the metadata)."""
    forms: dict[str, exports.Form] = {"CSV": "csv", "JSON": "json", "Parquet": "parquet"}
    return exports.encode(rows, forms[form], is_cut=is_cut)


def _flows(visit: Visit, wanted: FlowFilter, columns: Sequence[str] | None, form: str) -> bytes:
    limits = Limits(rows=ROWS, seconds=120)
    answer = visit.door.answer(visit.who, flow_questions.ordered(wanted, sorting.chosen(), columns=columns, limits=limits))
    return encode(answer.rows, form, is_cut=answer.cut)
