"""SQL over what the principal may see: an editor, the schema beside it, the limits, and the rows."""

from __future__ import annotations

import threading
from functools import partial

import streamlit as st

from dashboards.frame import clock, export, head, saved, summary, url_state
from dashboards.sql_page import running, sql_editor
from dashboards.sql_page.sql_editor import EDITOR
from dashboards.visit import Visit
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, CancelledError, QueryError
from warehouse.questions.answers import Answer
from warehouse.questions.sql_question import OwnSql
from warehouse.schema import TABLES
from warehouse.wording import counted

ROWS = 10_000
SECONDS = 60.0
_SHOWN, _RUN, _PICKED = "sql shown", "sql run", "sql picked"
EXAMPLES = {
    "Top talkers": """SELECT source_namespace, destination_namespace, sum(flow_count) AS flows
FROM flows
GROUP BY ALL ORDER BY flows DESC LIMIT 20""",
    "Drops by reason and hour": """SELECT time_bucket(INTERVAL 1 HOUR, "time") AS hour, drop_reason_desc, sum(flow_count) AS drops
FROM flows
WHERE verdict = 'DROPPED'
GROUP BY ALL ORDER BY ALL""",
    "Who was denied by which policy": """SELECT source_namespace, destination_namespace, policy.namespace AS policy_namespace,
    policy.name AS policy, count(*) AS flows
FROM flows, unnest(list_concat(egress_denied_by, ingress_denied_by)) AS denied(policy)
GROUP BY ALL ORDER BY flows DESC""",
    "Slowest HTTP requests": """SELECT "time", source_pod_name, destination_pod_name, l7_http_method, l7_http_url, l7_http_code,
    l7_latency_ns / 1e6 AS milliseconds
FROM flows
WHERE l7_latency_ns IS NOT NULL
ORDER BY milliseconds DESC LIMIT 50""",
    "Names asked of DNS": """SELECT l7_dns_query, count(*) AS queries, count(DISTINCT source_pod_name) AS pods
FROM flows
WHERE l7_dns_query IS NOT NULL
GROUP BY ALL ORDER BY queries DESC""",
    "What was not observed": """SELECT cluster, node_name, state, "from", "to", flows_lost, detail
FROM coverage
WHERE state <> 'connected'
ORDER BY "from" DESC""",
}


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "SQL")
    if visit.door.scope(visit.who).is_empty:
        summary.denied(visit)
        return
    _take_from_address()
    grid = st.grid(4, gap="small", min_column_width=250)
    with grid.cell(column_span=3):
        _editor(visit)
    with grid.cell():
        _schema()
    text = url_state.get("q").strip().rstrip(";")
    if text and url_state.get("run") == "1":
        _run(visit, text)


def _take_from_address() -> None:
    """A query that came by a link is written into the editor once."""
    asked = url_state.get("q")
    if st.session_state.get(_SHOWN, "") != asked:
        st.session_state[_SHOWN] = asked
        if asked:
            EDITOR.put(asked)
    if not EDITOR.text():
        EDITOR.put(asked or EXAMPLES["Top talkers"])


def _editor(visit: Visit) -> None:
    sql_editor.draw(_asked)
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.button("Run", type="primary", icon=":material/play_arrow:", on_click=_asked, key="run sql", help="Ctrl + Enter in the editor")
        st.menu_button("Examples", list(EXAMPLES), key="sql example", icon=":material/lightbulb:", on_click=_example)
        with st.popover("Saved queries", icon=":material/bookmarks:", key="saved queries"):
            saved.menu(visit, "query", page="sql", state=EDITOR.text())
        st.space("stretch")
        st.caption(f"Within your window and your namespaces · at most {ROWS:,} rows, {SECONDS:.0f} s · one query that reads")


def _asked() -> None:
    url_state.put("q", EDITOR.text())
    url_state.put("run", "1")
    st.session_state[_SHOWN] = EDITOR.text()
    st.session_state[_RUN] = st.session_state.get(_RUN, 0) + 1


def _example() -> None:
    if chosen := st.session_state["sql example"]:
        EDITOR.put(EXAMPLES[chosen])
        url_state.put("run", None)
        url_state.put("q", None)
        st.session_state[_SHOWN] = ""


def _schema() -> None:
    """Tables and columns with what they mean; a click on a column writes it into the query."""
    names = list(TABLES)
    st.session_state.setdefault("schema table", names[0])
    with st.container(horizontal=True, gap="small"):
        table = TABLES[st.selectbox("Tables", names, key="schema table", label_visibility="collapsed") or names[0]]
        st.text_input("Find a column", key="schema find", placeholder="Find a column", label_visibility="collapsed")
    looked_for = st.session_state["schema find"].lower()
    columns = [column for column in table.columns if looked_for in column.name or looked_for in column.doc.lower()]
    st.dataframe(
        [{"Column": column.name, "Type": sql_editor.type_name(column.type), "Meaning": column.doc} for column in columns],
        key=f"schema columns {st.session_state.get(_PICKED, 0)}",
        hide_index=True,
        row_height=26,
        height=222,
        on_select=lambda: _insert([column.name for column in columns]),
        selection_mode="single-cell",
        alt=f"Columns of {table.name}; a click writes one into the query",
        column_config={
            "Column": st.column_config.TextColumn(width=150),
            "Type": st.column_config.TextColumn(width=92),
            "Meaning": st.column_config.TextColumn(width=420),
        },
    )
    st.caption(table.doc)


def _insert(names: list[str]) -> None:
    number = st.session_state.get(_PICKED, 0)
    cells = st.session_state[f"schema columns {number}"]["selection"]["cells"]
    if cells and int(cells[0][0]) < len(names):
        name = names[int(cells[0][0])]
        EDITOR.insert(f'"{name}"' if name in ("time", "from", "to", "date") else name)
        st.session_state[_PICKED] = number + 1


def _run(visit: Visit, text: str) -> None:
    window = Window(since=visit.time.since, until=visit.time.until)
    limits = Limits(rows=ROWS, seconds=SECONDS)

    def work(cancelled: threading.Event) -> Answer:
        return visit.door.answer(visit.who, OwnSql(text=text, window=window, limits=limits), cancelled=cancelled)

    # With the scope in its key, rows are kept until the next run, but no longer than what they were read under holds.
    key = (visit.who, visit.door.scope(visit.who), text, window, st.session_state.get(_RUN, 0))
    try:
        answer = running.answer("sql", key, work, advice="A shorter window, or a condition on a namespace or cluster, reads less.")
    except AccessDeniedError:
        raise
    except CancelledError:
        st.info("Cancelled: nothing of it is kept. Run starts it again.", icon=":material/stop_circle:")
        return
    except QueryError as error:
        st.error(str(error), icon=":material/error:")
        return
    if answer is not None:
        visit.answers.append(answer)
        _answer(visit, answer)


def _answer(visit: Visit, answer: Answer) -> None:
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        with st.container(width="content"):
            summary.line(visit, [f"**{counted(answer.rows.num_rows, 'row')}**" + summary.cut(answer, "rows")], limit=ROWS)
        st.space("stretch")
        for form in export.FORMATS:
            export.button(visit, form, "sql", partial(export.encode, answer.rows, form, is_cut=answer.cut), key=f"export sql {form}")
        summary.coverage_link(visit, answer)
    if answer.rows.num_rows:
        st.dataframe(answer.rows, hide_index=True, row_height=28, alt="The query's rows", key=f"sql rows {st.session_state.get(_RUN, 0)}")
    else:
        summary.empty(
            "No row",
            f"The query ran over {clock.span(visit.time.since, visit.time.until)} and what you may see of it, and gave none.",
            "table_rows",
        )
