"""Which engine answers a question: the configured one if the question is too large for the embedded one, in the same SQL and scope."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import structlog

from warehouse import config, engine
from warehouse.access.sight import Sight
from warehouse.engines import opening
from warehouse.engines.opening import Engine
from warehouse.errors import EngineError, QueryError, QueryLimitError
from warehouse.schema import Table

T = TypeVar("T")
_log = structlog.get_logger()


def answered(settings: config.Engine, sight: Sight, table: Table, ask: Callable[[Any], T]) -> T:
    """Return what `ask` makes of a connection to the engine that suits a question about a table.

    If the configured engine cannot be used, fails, or has no translation of the SQL, the log says so and the embedded engine
    answers; `ask` is then called a second time. Raises what it raises, and LakeError.
    """
    on = engine_for(settings, sight, table)
    if on is not None:
        try:
            with on.connect() as connection:
                return ask(connection)
        except QueryLimitError:
            raise
        except (EngineError, QueryError) as error:
            _log.warning("the engine failed; the embedded engine answers this question", engine=str(on), reason=str(error))
    with engine.connect_warm() as connection:
        return ask(connection)


def engine_for(settings: config.Engine, sight: Sight, table: Table) -> Engine | None:
    """Return the engine if the table's files in the window are larger than it is configured for, and it can be used. Raises LakeError."""
    if settings.spark is None or settings.questions_over_bytes is None:
        return None
    window = sight.window
    files = sight.lake.contents(table, clusters=sight.clusters or None, since=window.since, until=window.until)
    return opening.usable(settings) if sum(file.size for file in files) > settings.questions_over_bytes else None
