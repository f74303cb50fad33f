"""Which questions are too large for the embedded engine and go to the configured one, under the same scope and in the same SQL."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from warehouse import config
from warehouse.engine import Window
from warehouse.engines import opening
from warehouse.engines.opening import Engine
from warehouse.errors import EngineError
from warehouse.lake.tables import Lake
from warehouse.schema import Table

_log = structlog.get_logger()


def engine_for(settings: config.Engine, lake: Lake, table: Table, window: Window, clusters: Sequence[str]) -> Engine | None:
    """Return the engine if it is configured for so many bytes and can be used, else None. Raises LakeError."""
    if settings.spark is None or settings.questions_over_bytes is None:
        return None
    files = lake.contents(table, clusters=clusters or None, since=window.since, until=window.until)
    return opening.usable(settings) if sum(file.size for file in files) > settings.questions_over_bytes else None


def say_that_it_failed(on: Engine, error: EngineError) -> None:
    """Log that the embedded engine answers what the other began to."""
    _log.warning("the engine failed; the embedded engine answers this question", engine=str(on), reason=str(error))
