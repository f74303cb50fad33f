"""SQL over what the principal may see: an editor, the schema beside it, the limits, and the rows."""

from __future__ import annotations

from functools import partial

import streamlit as st

from dashboards import export, head, summary, theme, url_state
from dashboards.asking import Visit
from warehouse.engine import Limits, Window
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.query import Answer
from warehouse.schema import TABLES

ROWS = 10_000
SECONDS = 60.0
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
    grid = st.grid(4, gap="small", min_column_width=250)
    with grid.cell(column_span=3):
        text = _editor()
    with grid.cell():
        _schema()
    if text.strip() and url_state.get("run") == "1":
        _run(visit, text.strip().rstrip(";"))


def _editor() -> str:
    st.session_state.setdefault("sql text", url_state.get("q") or EXAMPLES["Top talkers"])
    if st.session_state.get("sql shown") != url_state.get("q") and url_state.get("q"):
        st.session_state["sql text"] = url_state.get("q")
    st.session_state["sql shown"] = url_state.get("q")
    text: str = st.text_area("Query (DuckDB's SQL)", key="sql text", height=210)
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.button("Run", type="primary", icon=":material/play_arrow:", on_click=_asked, key="run sql")
        st.menu_button("Examples", list(EXAMPLES), key="sql example", icon=":material/lightbulb:", on_click=_example)
        st.menu_button("Insert a column", _words(), key="sql word", icon=":material/add:", on_click=_insert)
        st.space("stretch")
        st.caption(f"Within your window and your namespaces · at most {ROWS:,} rows, {SECONDS:.0f} s · one query that reads")
    return text


def _words() -> list[str]:
    return [f"{table.name}.{column.name}" for table in TABLES.values() for column in table.columns]


def _asked() -> None:
    url_state.put("q", st.session_state["sql text"])
    url_state.put("run", "1")
    st.session_state["sql shown"] = st.session_state["sql text"]
    st.session_state["sql run"] = st.session_state.get("sql run", 0) + 1


def _example() -> None:
    if chosen := st.session_state["sql example"]:
        st.session_state["sql text"] = EXAMPLES[chosen]
        url_state.put("run", None)
        url_state.put("q", None)


def _insert() -> None:
    if chosen := st.session_state["sql word"]:
        name = chosen.partition(".")[2]
        quoted = f'"{name}"' if name in ("time", "from", "to", "date") else name
        st.session_state["sql text"] = f"{st.session_state['sql text'].rstrip()} {quoted}"


def _schema() -> None:
    """Tables and columns with what they mean."""
    names = list(TABLES)
    st.session_state.setdefault("schema table", names[0])
    table = TABLES[st.selectbox("Tables", names, key="schema table") or names[0]]
    looked_for = st.text_input("Find a column", key="schema find", placeholder="e.g. policy", label_visibility="collapsed").lower()
    rows = [
        {"Column": column.name, "Type": str(column.type), "Meaning": column.doc}
        for column in table.columns
        if looked_for in column.name or looked_for in column.doc.lower()
    ]
    st.dataframe(
        rows,
        hide_index=True,
        row_height=26,
        height=210,
        alt=f"Columns of {table.name}",
        column_config={"Column": st.column_config.TextColumn(width=150), "Type": st.column_config.TextColumn(width=80)},
    )


def _run(visit: Visit, text: str) -> None:
    window = Window(since=visit.time.since, until=visit.time.until)
    limits = Limits(rows=ROWS, seconds=SECONDS)
    try:
        with st.spinner("Running", show_time=True):
            answer = visit.ask(
                "sql",
                partial(visit.door.sql, visit.who, text, window=window, limits=limits),
                text,
                window,
                st.session_state.get("sql run", 0),
            )
    except AccessDeniedError:
        raise
    except QueryError as error:
        st.error(str(error), icon=":material/error:")
        return
    _answer(visit, answer)


def _answer(visit: Visit, answer: Answer) -> None:
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        with st.container(width="content"):
            summary.line(visit, [f"**{answer.rows.num_rows:,}** rows" + summary.cut(answer, "rows")], limit=ROWS)
        st.space("stretch")
        for form in export.FORMATS:
            export.button(visit, form, "sql", partial(export.encode, answer.rows, form, is_cut=answer.cut), key=f"export sql {form}")
        summary.coverage_link(visit, answer)
    if answer.rows.num_rows:
        st.dataframe(
            answer.rows, hide_index=True, row_height=28, alt="The query's rows", key=f"sql rows {st.session_state.get('sql run', 0)}"
        )
    else:
        summary.empty(
            "No row",
            f"The query ran over {theme.span(visit.time.since, visit.time.until)} and what you may see of it, and gave none.",
            "table_rows",
        )
