"""`hindcast status`: shows whether every node of every cluster is being recorded, and since when."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
import typer

from hindcast.console import ConfigOption, LakeOption
from hindcast.output import Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, open_door, principal
from warehouse.wording import counted

if TYPE_CHECKING:
    from warehouse.questions.answers import Answer
    from warehouse.questions.door import Door

RATE_MINUTES = 5
NODES = 20
"""So many nodes of each cluster are printed, those with problems first."""
COLUMNS = (
    "cluster", "node", "state", "observed_since", "last_flow", "flows_per_second", "covered_1h", "lost_1h", "covered_24h", "lost_24h",
)  # fmt: skip
STATES = ("disconnected", "unavailable", "not collected", "quiet", "observed", "imported", "left")
"""The states of nodes, in the order in which they are printed."""
NOT_LIVE = ("import", "simulated")
"""Sources of rows that no running collector recorded."""
_STATES = {"disconnected": "disconnected", "node_unavailable": "unavailable", "left": "left"}
"""The states that a ledger row states itself."""


def status(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
    user: AsOption = None,
    groups: GroupOption = None,
    nodes: Annotated[
        int, typer.Option(min=1, help="Nodes of each cluster in a table, those with problems first. Other formats have all.")
    ] = NODES,
) -> None:
    """Show each node's state, last flow, rate, coverage and flows known lost, in the last 24 hours; and the lake's size.

    States: observed; quiet (collected, but no flow for 5 minutes); not collected (nothing was recorded for 5 minutes); unavailable
    (relay has no stream to it); disconnected (there is no stream to it or to its cluster); left (relay no longer lists it); imported.

    Example: hindcast status --nodes 5
    """
    door, who, now = open_door(config_path, lake_url, "status"), principal(user, groups), datetime.now(UTC)
    rows = _nodes(door, who, now)
    shown = _worst(rows, nodes) if output is Format.TABLE else rows
    write_rows(pa.Table.from_pylist(shown) if shown else pa.table({name: pa.array([], pa.string()) for name in COLUMNS}), output)
    if output is Format.TABLE:
        from warehouse.questions.record_questions import SizeOfLake

        for cluster, left_out in _left_out(rows, shown).items():
            typer.echo(f"{cluster}: {left_out}")
        lake = door.answer(who, SizeOfLake())
        span = f"flows from {_short(lake.oldest)} to {_short(lake.newest)}" if lake.newest else "no flow yet"
        size = "" if lake.bytes is None else f"lake: {lake.bytes / 1e6:,.1f} MB in {counted(lake.files or 0, 'file')} · "
        typer.echo(f"\n{size}{span}")


def _nodes(door: Door, who: Any, now: datetime) -> list[dict[str, Any]]:
    """Return a row for each node that the ledger or imported flows of the last 24 hours name, by cluster, worst first."""
    from warehouse.engine import Window
    from warehouse.questions.record_questions import Ledger

    answers = {
        name: door.answer(who, Ledger(window=Window(since=now - span, until=now)))
        for name, span in (("1h", timedelta(hours=1)), ("24h", timedelta(days=1)), ("rate", timedelta(minutes=RATE_MINUTES)))
    }
    hours = {name: {(node.cluster, node.node_name): node for node in answer.coverage} for name, answer in answers.items()}
    states, imported = _states(answers["24h"], now), _imported(door, who, answers["24h"], now)
    rows = []
    for key in {**states, **hours["24h"], **imported}:
        day, hour, recent = (hours[name].get(key) for name in ("24h", "1h", "rate"))
        last = imported.get(key) or (day.last if day else None)
        rows.append(
            {
                "cluster": key[0],
                "node": key[1],
                "state": "imported" if key in imported else states.get(key, "not collected"),
                "observed_since": _short(day.connected_since if day else None),
                "last_flow": _short(last),
                "flows_per_second": round(recent.flows_received / (RATE_MINUTES * 60), 1) if recent else 0.0,
                "covered_1h": f"{hour.covered if hour else 0:.1%}",
                "lost_1h": hour.flows_lost if hour else 0,
                "covered_24h": f"{day.covered if day else 0:.1%}",
                "lost_24h": day.flows_lost if day else 0,
            }
        )
    return sorted(rows, key=_badness)


def _badness(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the place of a row: by cluster, then nodes that are not observed, then those with most losses and least coverage."""
    return row["cluster"], STATES.index(row["state"]), -row["lost_24h"], float(row["covered_24h"].rstrip("%")), row["node"]


def _states(answer: Answer, now: datetime) -> dict[tuple[str, str], str]:
    """Return the state of each node that the ledger names, from its newest rows and those of its cluster."""
    from warehouse.records.coverage import ALIVE

    states: dict[tuple[str, str], str] = {}
    connected: dict[tuple[str, str], datetime] = {}
    disconnected: dict[str, datetime] = {}
    collected: set[str] = set()
    for row in sorted(answer.rows.to_pylist(), key=lambda row: (row["to"], row["from"])):
        cluster, key = row["cluster"], (row["cluster"], row["node_name"])
        if row["source"] not in NOT_LIVE and row["recorded"] and row["recorded"] > now - ALIVE:
            collected.add(cluster)
        if row["node_name"] is None:
            disconnected |= {cluster: row["to"]} if row["state"] == "disconnected" else {}
        elif row["state"] == "connected":
            states[key], connected[key] = "observed", row["to"]
        else:
            states[key] = _STATES.get(row["state"], states.get(key, "quiet"))
    for key, state in states.items():
        last = connected.get(key)
        if state in ("observed", "quiet"):
            states[key] = "observed" if last and last > now - ALIVE else "quiet" if key[0] in collected else "not collected"
            if key[0] in disconnected and (last is None or disconnected[key[0]] > last):
                states[key] = "disconnected"
    return states


def _imported(door: Door, who: Any, ledger: Answer, now: datetime) -> dict[tuple[str, str], datetime]:
    """Return the last flow of each node of clusters whose nodes the ledger never shows as connected: their flows come from files."""
    from warehouse.questions.flow_filter import FlowFilter
    from warehouse.questions.flow_questions import last_of_nodes

    live = {row["cluster"] for row in ledger.rows.to_pylist() if row["state"] == "connected"}
    since = now - timedelta(days=1)
    others = tuple(cluster for cluster in door.clusters(who) if cluster not in live)
    if not others:
        return {}
    rows = door.answer(who, last_of_nodes(FlowFilter(since=since, until=now, clusters=others))).rows
    return {(row["cluster"], row["node_name"]): row["last"] for row in rows.to_pylist()}


def _worst(rows: list[dict[str, Any]], most: int) -> list[dict[str, Any]]:
    """Return the first rows of each cluster."""
    counts: Counter[str] = Counter()
    shown = []
    for row in rows:
        counts[row["cluster"]] += 1
        if counts[row["cluster"]] <= most:
            shown.append(row)
    return shown


def _left_out(rows: list[dict[str, Any]], shown: list[dict[str, Any]]) -> dict[str, str]:
    """Return in words how many nodes of each cluster are not shown, by state."""
    found: dict[str, Counter[str]] = {}
    for row in rows:
        if row not in shown:
            found.setdefault(row["cluster"], Counter())[row["state"]] += 1
    return {
        cluster: f"{counted(sum(states.values()), 'more node')} ("
        + ", ".join(f"{count:,} {state}" for state, count in states.items())
        + ")"
        for cluster, states in found.items()
    }


def _short(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "-"
