"""The table `tokens`: personal tokens, by which other tools sign in. It does no I/O."""

from __future__ import annotations

import pyarrow as pa

from warehouse.schema.model import STRINGS, TIMESTAMP, Table, column

TOKENS = Table(
    name="tokens",
    doc="Personal tokens: one row each time one is made or revoked; the newest row of an `id` counts. The token itself is not stored.",
    columns=(
        column("kind", pa.string(), "personal"),
        column("id", pa.string(), "The token's public part, which names it"),
        column("time", TIMESTAMP, "When it was made, or revoked"),
        column("name", pa.string(), "What its user calls it, e.g. laptop"),
        column("user", pa.string(), "On whose behalf its bearer asks"),
        column("groups", STRINGS, "The user's groups when it was made"),
        column("expires", TIMESTAMP, "From when on it is refused"),
        column("salt", pa.string(), "Salt of the hash, hexadecimal"),
        column("hash", pa.string(), "scrypt of the token's secret part, hexadecimal"),
        column("revoked", pa.bool_(), "Whether this row ends it"),
        column("changed_by", pa.string(), "Who made or revoked it"),
    ),
    partition_by=("kind",),
    recorded='"time"',
)
