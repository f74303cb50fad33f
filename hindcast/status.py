"""`hindcast status`: shows whether every node of every cluster is being recorded, and since when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import typer

from hindcast.console import ConfigOption, LakeOption
from hindcast.output import Format, OutputOption, write_rows
from hindcast.query_options import AsOption, GroupOption, open_door, principal

if TYPE_CHECKING:
    from warehouse.questions.door import Door

RATE_MINUTES = 5


def status(
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    output: OutputOption = Format.TABLE,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Show for each cluster and node since when it is observed, the last flow, rate, coverage and flows known lost; and the lake's size."""
    door, who, now = open_door(config_path, lake_url, "status"), principal(user, groups), datetime.now(UTC)
    rows = _nodes(door, who, now)
    write_rows(rows, output)
    if output is Format.TABLE:
        from warehouse.questions.record_questions import SizeOfLake

        lake = door.answer(who, SizeOfLake())
        span = f"flows from {_short(lake.oldest)} to {_short(lake.newest)}" if lake.newest else "no flow yet"
        size = "" if lake.bytes is None else f"lake: {lake.bytes / 1e6:,.1f} MB in {lake.files:,} files · "
        typer.echo(f"\n{size}{span}")


def _nodes(door: Door, who: Any, now: datetime) -> pa.Table:
    from warehouse.engine import Window
    from warehouse.questions.record_questions import Ledger

    hours = {}
    for name, span in (("1h", timedelta(hours=1)), ("24h", timedelta(days=1)), ("rate", timedelta(minutes=RATE_MINUTES))):
        answer = door.answer(who, Ledger(window=Window(since=now - span, until=now)))
        hours[name] = {(node.cluster, node.node_name): node for node in answer.coverage}
    rows = []
    for key, node in hours["24h"].items():
        recent, hour = hours["rate"].get(key), hours["1h"].get(key)
        rows.append(
            {
                "cluster": node.cluster,
                "node": node.node_name,
                "observed_since": _short(node.connected_since),
                "last_flow": _short(node.last),
                "flows_per_second": round(recent.flows_received / (RATE_MINUTES * 60), 1) if recent else 0.0,
                "covered_1h": f"{hour.covered if hour else 0:.1%}",
                "lost_1h": hour.flows_lost if hour else 0,
                "covered_24h": f"{node.covered:.1%}",
                "lost_24h": node.flows_lost,
            }
        )
    names = ["cluster", "node", "observed_since", "last_flow", "flows_per_second", "covered_1h", "lost_1h", "covered_24h", "lost_24h"]
    return pa.Table.from_pylist(rows) if rows else pa.table({name: pa.array([], pa.string()) for name in names})


def _short(moment: datetime | None) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S UTC") if moment else "-"
