"""Charts of the dashboard, and the colours and words of verdicts. It asks nothing of the lake."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import altair as alt
import pyarrow as pa

COLOURS = {"FORWARDED": "#6C8EB5", "DROPPED": "#B02E0C", "REDIRECTED": "#6D45C0", "AUDIT": "#BD8B00", "ERROR": "#6E1244"}
"""At least 3:1 on the light background, and told apart with any colour vision."""
OTHER = "#5A6577"
LABELS = {"FORWARDED": "✓ Forwarded", "DROPPED": "✕ Dropped", "REDIRECTED": "↷ Redirected", "AUDIT": "◉ Audit", "ERROR": "! Error"}
CHIPS = ["blue", "#A63A12", "violet", "yellow", "red"]
HEIGHT = 120


def histogram(timeline: pa.Table, since: datetime, until: datetime, width: timedelta) -> Any:
    """Flows in equal parts of a window, stacked by verdict: columns `start`, `verdict`, `flows`; each part is `width` long."""
    rows: list[dict[str, Any]] = timeline.to_pylist()
    known = [verdict for verdict in COLOURS if any(row["verdict"] == verdict for row in rows)]
    others = sorted({row["verdict"] for row in rows} - set(known))
    order = [*known, *others]
    # Stacked here: Vega stacks no bars that have two ends on the axis of time.
    heights: dict[datetime, int] = {}
    data = []
    for row in sorted(rows, key=lambda row: order.index(row["verdict"])):
        low = heights.get(row["start"], 0)
        heights[row["start"]] = low + row["flows"]
        ends = row["start"], row["start"] + width
        data.append(
            {
                "begin": _ms(ends[0]),
                "end": _ms(ends[1]),
                "low": low,
                "high": low + row["flows"],
                "verdict": row["verdict"],
                "flows": row["flows"],
            }
        )
    bars: Any = alt.Chart(alt.InlineData(values=data)).mark_rect(clip=True)
    return (
        bars.encode(
            x=alt.X(
                "begin:T",
                scale=alt.Scale(type="utc", domain=[_ms(since), _ms(until)]),
                axis=alt.Axis(title=None, grid=False, format="%d %b %H:%M", tickCount=12, labelOverlap=True),
            ),
            x2="end:T",
            y=alt.Y("low:Q", axis=alt.Axis(title=None, tickCount=3, format="~s")),
            y2="high:Q",
            color=alt.Color(
                "verdict:N",
                scale=alt.Scale(domain=order, range=[COLOURS.get(verdict, OTHER) for verdict in order]),
                legend=alt.Legend(title=None, orient="top"),
            ),
            tooltip=[alt.Tooltip("begin:T", format="%d %b %H:%M:%S"), "verdict:N", alt.Tooltip("flows:Q", format=",")],
        )
        .properties(
            height=HEIGHT,
            width="container",
            padding={"left": 0, "right": 2, "top": 2, "bottom": 2},
            usermeta={"embedOptions": {"renderer": "canvas"}},
        )
        .configure(background="transparent")
    )


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
