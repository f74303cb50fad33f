"""The page of flows: a window of time, filters, a histogram, the table, and one flow's details beside it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import streamlit as st

from dashboards import charts
from warehouse import config
from warehouse.access import Principal
from warehouse.engine import Limits
from warehouse.errors import AccessDeniedError
from warehouse.query import Answer, Door, FlowFilter, bucket_width

LIMIT = 400
PRESETS = {"15m": "15 min", "1h": "1 h", "6h": "6 h", "24h": "24 h", "2d": "2 d", "custom": "custom"}
VERDICTS = ("FORWARDED", "DROPPED", "REDIRECTED", "AUDIT", "ERROR")
COLUMNS = (
    "time", "verdict", "cluster", "source_namespace", "source_workload_name", "source_pod_name", "source_ip", "source_labels",
    "source_names", "destination_namespace", "destination_workload_name", "destination_pod_name", "destination_ip",
    "destination_labels", "destination_names", "destination_port", "l4_protocol", "drop_reason_desc", "traffic_direction", "is_reply",
    "event_type", "l7_type", "l7_http_method", "l7_http_url", "l7_http_code", "l7_dns_query", "node_name", "source_identity",
    "destination_identity", "tcp_flags", "summary", "uuid",
)  # fmt: skip


def page(door: Door, who: Principal) -> None:
    """Draw the page for a principal. Raises LakeError."""
    try:
        summary = door.lake_summary(who)
        wanted = _controls(door, who)
        if wanted is None:
            return
        timeline = door.timeline(who, replace(wanted, verdicts=()))
    except AccessDeniedError:
        _empty("Nothing here is yours", f"{_name(who)} owns no namespace. Ownership is given in `ownership.grants` of the configuration.")
        return
    counts = _counts(timeline)
    verdicts = st.pills(
        "Verdicts",
        [verdict for verdict in VERDICTS if verdict in counts or verdict in st.session_state.get("verdict", [])],
        selection_mode="multi",
        key="verdict",
        bind="query-params",
        format_func=str,
        label_visibility="collapsed",
    )
    if verdicts:
        wanted = replace(wanted, verdicts=tuple(verdicts))
    answer = door.flows(who, wanted, columns=COLUMNS, limits=Limits(rows=LIMIT))
    st.altair_chart(
        charts.histogram(timeline.rows, wanted.since, wanted.until, bucket_width(wanted)), theme=None, alt="Flows in time by verdict"
    )
    _summary(answer, sum(counts[verdict] for verdict in counts if not wanted.verdicts or verdict in wanted.verdicts), wanted)
    if answer.rows.num_rows:
        _table(answer)
    else:
        _why_empty(door, who, wanted, answer, has_flows=summary.newest is not None)


# Controls -----------------------------------------------------------------------------------------------------


def _controls(door: Door, who: Principal) -> FlowFilter | None:
    """The window and the filters, all of them in the address; None if the window makes no sense."""
    now = datetime.now(UTC)
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=True):
        preset = st.pills("Last", list(PRESETS), default="1h", required=True, key="last", bind="query-params") or "1h"
        if preset == "custom":
            since = _moment(st.text_input("From (UTC)", key="from", bind="query-params", placeholder="2026-03-02 14:00", width=190))
            until = _moment(st.text_input("Until (UTC)", key="until", bind="query-params", placeholder="2026-03-02 15:00", width=190))
        else:
            since, until = now - config.parse_duration(preset), now
    if since is None or until is None or since >= until:
        _empty("Which window?", "Give both times as `2026-03-02 14:00`, the first before the second.")
        return None
    window = FlowFilter(since=since, until=until)
    with st.container(border=True, horizontal=True, vertical_alignment="bottom", wrap=True):
        clusters = st.multiselect("Cluster", _choices(door, who, window, "cluster"), key="cluster", bind="query-params", width=180)
        namespaces = st.multiselect("Namespace, either side", _namespaces(door, who, window), key="ns", bind="query-params", width=260)
        pod = st.text_input("Pod begins with", key="pod", bind="query-params", width=150)
        ip = st.text_input("IP", key="ip", bind="query-params", width=140)
        port = st.text_input("Port", key="port", bind="query-params", width=90)
    if port and not port.isdigit():
        st.warning(f"{port!r} is no port: it is left out", icon=":material/warning:")
        port = ""
    return replace(
        window,
        clusters=tuple(clusters),
        namespaces=tuple(namespaces),
        pods=(pod,) if pod else (),
        ips=(ip,) if ip else (),
        ports=(int(port),) if port else (),
    )


def _choices(door: Door, who: Principal, window: FlowFilter, column: str) -> list[str]:
    """Values that the principal sees in the window, and those chosen already."""
    found = set(door.values(who, column, window).rows["value"].to_pylist())
    return sorted(found | set(st.session_state.get("cluster" if column == "cluster" else "ns", [])))


def _namespaces(door: Door, who: Principal, window: FlowFilter) -> list[str]:
    return sorted({*_choices(door, who, window, "source_namespace"), *_choices(door, who, window, "destination_namespace")})


def _moment(text: str | None) -> datetime | None:
    try:
        given = datetime.fromisoformat((text or "").strip())
    except ValueError:
        return None
    return given if given.tzinfo else given.replace(tzinfo=UTC)


# Answers ------------------------------------------------------------------------------------------------------


def _counts(timeline: Answer) -> dict[str, int]:
    counts: dict[str, int] = {}
    for verdict, flows in zip(timeline.rows["verdict"].to_pylist(), timeline.rows["flows"].to_pylist(), strict=True):
        counts[verdict] = counts.get(verdict, 0) + flows
    return counts


def _summary(answer: Answer, total: int, wanted: FlowFilter) -> None:
    """The line above the table: what these rows are, and how much of their time was observed."""
    shown = answer.rows.num_rows
    rows = f"**{shown:,}** newest of **{total:,}** flows" if answer.cut else f"**{shown:,}** flows"
    span = f"{wanted.since:%d %b %H:%M} to {wanted.until:%d %b %H:%M} UTC"
    observed = " · ".join(f"{cluster} {share:.1%} observed" for cluster, share in answer.shares.items()) or "not observed"
    lost = f" · **{answer.flows_lost:,}** flows known lost" if answer.flows_lost else ""
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        st.caption(f"{rows} · {span} · limit {LIMIT} · raw flows, {answer.files} files · {answer.seconds:.2f} s · {observed}{lost}")


def _table(answer: Answer) -> None:
    rows = answer.rows.to_pylist()
    shown = [
        {
            "Time (UTC)": row["time"],
            "Verdict": [charts.LABELS.get(row["verdict"], row["verdict"])],
            "Source": _end(row, "source"),
            "Destination": _end(row, "destination"),
            "Port": f"{row['destination_port']}/{row['l4_protocol']}" if row["destination_port"] else row["l4_protocol"] or "",
            "Drop reason": (row["drop_reason_desc"] or "").replace("_", " ").capitalize(),
            "Cluster": row["cluster"],
        }
        for row in rows
    ]
    grid = st.grid(3, gap="small", min_column_width=390)
    picked = _picked(len(rows))
    with grid.cell(column_span=2 if picked is not None else "all"):
        st.dataframe(
            shown,
            key="flows",
            hide_index=True,
            height=560,
            row_height=28,
            on_select="rerun",
            selection_mode="single-cell",
            alt="Flows, newest first",
            column_config={
                "Time (UTC)": st.column_config.DatetimeColumn(format="DD MMM HH:mm:ss.SSS", timezone="UTC", width=150),
                "Verdict": st.column_config.MultiselectColumn(options=list(charts.LABELS.values()), color=charts.CHIPS, width=120),
            },
        )
    if picked is not None:
        with grid.cell():
            _details(rows[picked])


def _picked(count: int) -> int | None:
    """The row whose cell was clicked."""
    cells = st.session_state.get("flows", {}).get("selection", {}).get("cells", [])
    row = int(cells[0][0]) if cells else None
    return row if row is not None and row < count else None


def _details(row: dict[str, Any]) -> None:
    """Every field that the principal may see of one flow."""
    with st.container(border=True):
        st.subheader(f"{charts.LABELS.get(row['verdict'], row['verdict'])} · {row['time']:%H:%M:%S.%f} UTC", anchor=False)
        fields = {name.replace("_", " "): _plain(value) for name, value in row.items() if value not in (None, [], "")}
        st.table(fields, border="horizontal")


def _end(row: dict[str, Any], side: str) -> str:
    namespace = row[f"{side}_namespace"]
    name = row[f"{side}_workload_name"] or row[f"{side}_pod_name"] or ", ".join(row[f"{side}_names"] or ()) or row[f"{side}_ip"]
    if namespace:
        return f"{namespace}/{name}" if name else namespace
    reserved = [label.removeprefix("reserved:") for label in row[f"{side}_labels"] or () if label.startswith("reserved:")]
    return " ".join(part for part in (*reserved[:1], name) if part) or "unknown"


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


# Emptiness ----------------------------------------------------------------------------------------------------


def _why_empty(door: Door, who: Principal, wanted: FlowFilter, answer: Answer, *, has_flows: bool) -> None:
    """Say which of the reasons it is: no data at all, not observed, too narrow a filter, nothing of one's own."""
    if not has_flows:
        _empty("No flow yet", "The lake is empty. Start `hindcast collect`, or `hindcast import` files of the agents' exporters.")
        return
    unfiltered = door.timeline(who, FlowFilter(since=wanted.since, until=wanted.until))
    total = sum(_counts(unfiltered).values())
    if total:
        _empty("No flow matches", f"{total:,} flows of this window are yours to see, and none of them matches the filters above.")
    elif not answer.shares or max(answer.shares.values()) == 0:
        _empty("Not observed", "No collector recorded this window, so nothing can be said about its flows. Choose another time.")
    else:
        _empty("No flow of yours", f"The window was observed, and held no flow from or to a namespace that {_name(who)} owns.")


def _empty(title: str, text: str) -> None:
    with st.container(border=True):
        st.subheader(title, anchor=False)
        st.write(text)


def _name(who: Principal) -> str:
    return who.user or ", ".join(sorted(who.groups))
