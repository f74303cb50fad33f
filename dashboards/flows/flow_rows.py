"""The table of flows: which columns there are and are shown, and a row's words. Pure but for the column chooser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from dashboards.frame import clock, theme, url_state
from warehouse.questions import edge_rule
from warehouse.questions.conditions import FIELDS, Condition
from warehouse.schema import FLOWS

DEFAULT = ("Time", "Verdict", "Source", "Destination", "Port", "Drop reason", "Policy", "Cluster")
COMPOSED: dict[str, tuple[str, ...]] = {
    "Time": (),
    "Verdict": (),
    "Source": (),
    "Destination": (),
    "Port": (),
    "Drop reason": (),
    "Policy": ("egress_allowed_by", "ingress_allowed_by", "egress_denied_by", "ingress_denied_by"),
    "Cluster": (),
    "L7": ("l7_type", "l7_http_method", "l7_http_url", "l7_http_code", "l7_dns_query", "l7_kafka_topic", "l7_kafka_api_key"),
}
"""Columns made of several of the lake's, and what they need besides ALWAYS."""
ALWAYS = (
    "time", "uuid", "verdict", "cluster", "source_namespace", "source_workload_name", "source_pod_name", "source_ip", "source_labels",
    "source_names", "destination_namespace", "destination_workload_name", "destination_pod_name", "destination_ip", "destination_labels",
    "destination_names", "source_port", "destination_port", "l4_protocol", "drop_reason_desc", "is_reply",
)  # fmt: skip
_WIDTHS = {"Time": 118, "Verdict": 118, "Source": 230, "Destination": 230, "Port": 92, "Drop reason": 150, "Policy": 220, "Cluster": 100}
_OWN = [column.name for column in FLOWS.columns if column.name not in ("rest", "time_ns")]


def chosen() -> tuple[str, ...]:
    """The columns of the address, or the usual ones."""
    known = [name for name in url_state.get("cols").split(",") if name in COMPOSED or name in _OWN]
    return tuple(known) or DEFAULT


def chooser() -> None:
    """Pick columns and their order."""
    st.session_state["columns"] = list(chosen())
    st.multiselect("Columns, in this order", [*COMPOSED, *_OWN], key="columns", on_change=_choose, width=420)
    st.button("The usual columns", key="usual columns", on_click=lambda: url_state.put("cols", None), disabled=chosen() == DEFAULT)


def _choose() -> None:
    picked = st.session_state["columns"]
    url_state.put("cols", None if tuple(picked) == DEFAULT else ",".join(picked))


def needed(columns: Sequence[str]) -> tuple[str, ...]:
    """The lake's columns that these are made of."""
    more = [name for column in columns for name in COMPOSED.get(column, (column,))]
    return tuple(dict.fromkeys([*ALWAYS, *more]))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, list[Any]]:
    """The table's cells by column."""
    return {column: [_cell(row, column) for row in rows] for column in columns}


def time_format(since: datetime, until: datetime) -> str:
    """How the Time column writes moments of a window: with the day where the window crosses midnight."""
    return "HH:mm:ss.SSS" if clock.local(since).date() == clock.local(until).date() else "DD MMM HH:mm:ss.SSS"


def configuration(columns: Sequence[str], since: datetime, until: datetime) -> dict[str, Any]:
    """The formats and widths of columns for flows of a window."""
    form = time_format(since, until)
    configured: dict[str, Any] = {name: st.column_config.TextColumn(width=_WIDTHS[name]) for name in columns if name in _WIDTHS}
    moment = clock.column("Time", form, width=_WIDTHS["Time"] if form.startswith("HH") else 150)
    chips = st.column_config.MultiselectColumn(options=list(theme.LABELS.values()), color=theme.CHIPS, width=_WIDTHS["Verdict"])
    return {**configured, "Time": moment, "Verdict": chips}


def end(row: Mapping[str, Any], side: str) -> str:
    """One end of a flow, as namespace/workload, or what it is outside; an agent names the workloads of its own node's pods only."""
    namespace, pod = row[f"{side}_namespace"], row[f"{side}_pod_name"]
    workload = row[f"{side}_workload_name"] or (edge_rule.workload_in_name(pod) if pod else None)
    name = workload or ", ".join(row[f"{side}_names"] or ()) or row[f"{side}_ip"]
    if namespace:
        return f"{namespace}/{name}" if name else str(namespace)
    reserved = [label.removeprefix("reserved:") for label in row[f"{side}_labels"] or () if label.startswith("reserved:")]
    return " ".join(part for part in (*reserved[:1], name) if part) or "unknown"


def policies(row: Mapping[str, Any]) -> list[tuple[str, str, Mapping[str, Any]]]:
    """The policies that Hubble named: (direction, allowed or denied, policy)."""
    return [
        (direction, decision, policy)
        for decision in ("denied", "allowed")
        for direction in ("egress", "ingress")
        for policy in row.get(f"{direction}_{decision}_by") or ()
    ]


def policy_name(policy: Mapping[str, Any]) -> str:
    """A policy as namespace/name."""
    return f"{policy['namespace']}/{policy['name']}" if policy.get("namespace") else str(policy.get("name") or "unnamed")


def served_port(row: Mapping[str, Any]) -> int | None:
    """The port of the service that was called; None where both ports are clients' and nobody knows who called."""
    return edge_rule.server_port(row["source_port"], row["destination_port"], row["is_reply"])


def conditions_of(row: Mapping[str, Any], column: str) -> list[Condition]:
    """The filters that a cell stands for; none where it holds nothing to filter by."""
    if column in ("Source", "Destination"):
        return _conditions_of_end(row, column.lower())
    if column == "Port":
        served = served_port(row)
        return [_is("port", served)] if served else []
    lake_column = {"Verdict": "verdict", "Drop reason": "drop_reason_desc", "Cluster": "cluster"}.get(column, column)
    if column == "Policy":
        return [_is("policy", policy_name(policy)) for _, _, policy in policies(row)[:1]]
    value = row.get(lake_column)
    if value in (None, [], ""):
        return []
    for field in FIELDS.values():
        for name in field.columns:
            if lake_column == name and not field.has_sides:
                return [_is(field.name, value)]
            for side in ("source", "destination"):
                if field.has_sides and lake_column == f"{side}_{name}":
                    first = value[0] if isinstance(value, list) else value
                    return [_is(field.name, first, side)]
    return []


def _conditions_of_end(row: Mapping[str, Any], side: str) -> list[Condition]:
    if row[f"{side}_namespace"]:
        found = [_is("ns", row[f"{side}_namespace"], side)]
        pod = row[f"{side}_pod_name"]
        workload = row[f"{side}_workload_name"] or (edge_rule.workload_in_name(pod) if pod else None)
        return [*found, _is("workload", workload, side)] if workload else found
    if row[f"{side}_names"]:
        return [_is("name", row[f"{side}_names"][0], side)]
    return [_is("ip", row[f"{side}_ip"], side)] if row[f"{side}_ip"] else []


def _is(field: str, value: Any, side: Any = "either") -> Condition:
    text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
    return Condition(field=field, operator="=", values=(text,), side=side)


def plain(value: Any) -> str:
    """A value of the lake for people."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, list):
        return ", ".join(policy_name(part) if isinstance(part, dict) and "namespace" in part else plain(part) for part in value)
    if isinstance(value, dict):
        return ": ".join(str(part) for part in value.values())
    return value.hex() if isinstance(value, bytes) else str(value)


def _cell(row: Mapping[str, Any], column: str) -> Any:
    match column:
        case "Time":
            return row["time"]
        case "Verdict":
            return [theme.verdict_label(row["verdict"])]
        case "Source" | "Destination":
            return end(row, column.lower())
        case "Port":
            served = served_port(row)
            return f"{served}/{row['l4_protocol']}" if served else row["l4_protocol"] or ""
        case "Drop reason":
            return theme.reason(row["drop_reason_desc"]) if row["drop_reason_desc"] else ""
        case "Policy":
            return ", ".join(policy_name(policy) for _, _, policy in policies(row))
        case "Cluster":
            return row["cluster"]
        case "L7":
            http = [
                row["l7_http_method"],
                row["l7_http_url"],
                row["l7_http_code"],
                row["l7_dns_query"],
                row["l7_kafka_api_key"],
                row["l7_kafka_topic"],
            ]
            return " ".join(str(part) for part in http if part)
    value = row.get(column)
    return "" if value is None else value if isinstance(value, int | float | bool | datetime) else plain(value)
