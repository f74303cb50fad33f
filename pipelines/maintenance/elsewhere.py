"""Work that a configured engine may do in place of the embedded one: it is tried there, and done here if that fails."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import structlog

from warehouse.engines.opening import Engine
from warehouse.errors import EngineError, QueryError

T = TypeVar("T")
_log = structlog.get_logger()


def tried(on: Engine | None, there: Callable[[Engine], T], here: Callable[[], T]) -> T:
    """Return what the engine makes of some work or, without an engine or if it fails, what the embedded engine makes of it.

    Neither commits anything, so work that failed half way leaves nothing. Raises what `here` raises.
    """
    if on is not None:
        try:
            return there(on)
        except (EngineError, QueryError) as error:
            _log.warning("the engine failed; the embedded engine does this work", engine=str(on), reason=str(error))
    return here()
