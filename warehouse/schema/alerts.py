"""The table `alerts`: alerts of rules, and whether the rules could be evaluated. No I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import TIMESTAMP, Table, column

EVALUATED = "alert-rules"
"""App id in the log of `alerts`: the time of the newest evaluation, in microseconds since 1970."""

ALERTS = Table(
    name="alerts",
    doc="Alerts of rules: one row each time the state of an alert changes, when a rule is evaluated for the first time, and each time it "
    "can no longer be evaluated, or can be again. The newest row of an `alert` is its current state.",
    columns=(
        column("date", pa.date32(), "Day of `time`, UTC"),
        column("time", TIMESTAMP, "End of the window that was evaluated"),
        column("alert", pa.string(), "What identifies the alert: a digest of the rule and the alert's labels; of a rule itself its name"),
        column("rule", pa.string(), "The rule, as group/alert"),
        column(
            "state",
            pa.string(),
            "pending (true, but not yet for as long as the rule says), firing, resolved, or inactive (it never fired); of a rule itself "
            "evaluated, not_covered (the window was not observed, so it says nothing) or failed",
        ),
        column("since", TIMESTAMP, "Since when it is true"),
        column("fired", TIMESTAMP, "When it began to fire; null if it has not fired"),
        column(
            "absent",
            TIMESTAMP,
            "Since when it is no longer true, while it keeps firing; of a pending one that is not evaluated, when it last was",
        ),
        column("value", pa.float64(), "The value when the state changed"),
        column("labels", pa.string(), "Labels, as a JSON object"),
        column("annotations", pa.string(), "Annotations, as a JSON object"),
        column("made_for", pa.string(), "Subject with whose rights the rule was evaluated"),
        column("detail", pa.string(), "Why a rule could not be evaluated, or why an alert ended if not by itself; null otherwise"),
        column(
            "owners_from",
            TIMESTAMP,
            "Of an alert about a namespace that holds nothing its owner could not ask: how far back it looks. Who owned the namespace then, and "
            "owns it still, may see it; null for all other alerts",
        ),
        column("link", pa.string(), "Page of the dashboard, with the window and the filters, that shows the alert"),
    ),
    partition_by=("date",),
    recorded='"time"',
    version=2,
)
