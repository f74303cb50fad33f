"""Rows of the table `coverage`, as collectors and the import write them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from warehouse import schema

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def coverage_row(
    cluster: str,
    interval: tuple[datetime, datetime],
    node: str | None,
    state: str,
    source: str,
    received: int | None,
    lost: int | None,
    detail: str | None,
    recorded: datetime | None = None,
) -> dict[str, Any]:
    """A row of `coverage`."""
    values = (cluster, interval[0].date(), *interval, node, state, source, received, lost, detail, recorded)
    return dict(zip(schema.COVERAGE.schema.names, values, strict=True))


def moment(microseconds: int) -> datetime:
    """The time so many microseconds after the start of 1970."""
    return _EPOCH + timedelta(microseconds=microseconds)
