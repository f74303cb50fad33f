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
    """Rows of `warehouse.questions.two_windows`."""

    rows: pa.Table

    def timeline(self) -> pa.Table:
        """Return `start`, `verdict`, `flows` and `repeats` of the window, in order."""
        within = self.rows.filter(pc.field("start").is_valid())
        summed = within.group_by(["start", "verdict"]).aggregate([("flows", "sum"), ("repeats", "sum")])
        named = summed.rename_columns({"flows_sum": "flows", "repeats_sum": "repeats"})
        return named.select(["start", "verdict", "flows", "repeats"]).sort_by([("start", "ascending"), ("verdict", "ascending")])

    def edges(self, *, before: bool = False) -> pa.Table:
        """Return the edges of the window, or of the one before, most flows first: KEY, `flows`, `denied`, `first`, `last`."""
        rows = self.rows.filter(pc.field("start").is_null() if before else pc.field("start").is_valid()).filter(
            pc.field("first").is_valid()
        )
        denied = pc.if_else(pc.is_in(rows["verdict"], _DENIED), rows["flows"], 0)
        return _summed(rows.append_column("denied", denied), KEY, ("flows", "denied"))

    def denials(self) -> pa.Table:
        """Return the denied edges of the window by reason, most flows first: KEY, `reason`, `flows`, `first`, `last`."""
        within = pc.field("start").is_valid() & pc.field("first").is_valid() & pc.field("verdict").isin(_DENIED)
        return _summed(self.rows.filter(within), (*KEY, "reason"), ("flows",))


def _summed(rows: pa.Table, key: tuple[str, ...], sums: tuple[str, ...]) -> pa.Table:
    made = rows.group_by(list(key)).aggregate([*((name, "sum") for name in sums), ("first", "min"), ("last", "max")])
    names = {**{f"{name}_sum": name for name in sums}, "first_min": "first", "last_max": "last"}
    ordered = [("flows", "descending"), *((name, "ascending") for name in key)]
    return made.rename_columns(names).select([*key, *sums, "first", "last"]).sort_by(ordered)
