"""The table `saved_views`: what people saved of the dashboard, under a name. It does no I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column

SAVED_VIEWS = Table(
    name="saved_views",
    doc="Views and queries that people saved in the dashboard: one row each time one is saved, renamed, shared or deleted; the newest "
    "row of an `id` counts. A view is the state of a page's address, a query its text: neither holds anyone's flows.",
    columns=(
        column("kind", pa.string(), "view or query"),
        column("id", pa.string(), "What stays the same when it is renamed or shared"),
        column("time", TIMESTAMP, "When it was saved, or changed"),
        column("name", pa.string(), "Its name, for people"),
        column("page", pa.string(), "The page it opens, e.g. flows"),
        column("state", pa.string(), "The page's state as in its address, e.g. last=1d&f=ns%3Dshop; of a query the SQL"),
        column("owner", pa.string(), "Who saved it: a user, or group:NAME"),
        column(
            "shared_with",
            STRINGS,
            "Whose it is to open besides: owners of cluster/namespace (with * and ?), * for everyone who sees anything; empty for nobody",
        ),
        column("deleted", pa.bool_(), "Whether this row takes it away"),
    ),
    partition_by=("kind",),
    recorded='"time"',
)
