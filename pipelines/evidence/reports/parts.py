"""The sums of two windows of flows, and what reports need of them: volume over time, edges of either window, denials. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

KEY = ("cluster", "source_namespace", "source_name", "destination_namespace", "destination_name", "port", "protocol")
"""What makes two edges of different windows the same."""
_DENIED = pa.array(["DROPPED", "ERROR"])


@dataclass(frozen=True)
class Parts:
    """Rows of `warehouse.questions.two_windows`: of both windows' edges, and of the window's volume."""

    rows: pa.Table
    timeline: pa.Table
    """`start`, `verdict`, `flows` and `repeats` of the window, in order."""

    def edges(self, *, before: bool = False) -> pa.Table:
        """Return the edges of the window, or of the one before, most flows first: KEY, `flows`, `denied`, `first`, `last`."""
        rows = self.rows.filter(pc.field("before") == before)
        denied = pc.if_else(pc.is_in(rows["verdict"], _DENIED), rows["flows"], 0)
        return _summed(rows.append_column("denied", denied), KEY, ("flows", "denied"))

    def denials(self) -> pa.Table:
        """Return the denied edges of the window by reason, most flows first: KEY, `reason`, `flows`, `first`, `last`."""
        denied = ~pc.field("before") & pc.field("verdict").isin(_DENIED)
        return _summed(self.rows.filter(denied), (*KEY, "reason"), ("flows",))


def _summed(rows: pa.Table, key: tuple[str, ...], sums: tuple[str, ...]) -> pa.Table:
    made = rows.group_by(list(key)).aggregate([*((name, "sum") for name in sums), ("first", "min"), ("last", "max")])
    names = {**{f"{name}_sum": name for name in sums}, "first_min": "first", "last_max": "last"}
    ordered = [("flows", "descending"), *((name, "ascending") for name in key)]
    return made.rename_columns(names).select([*key, *sums, "first", "last"]).sort_by(ordered)
