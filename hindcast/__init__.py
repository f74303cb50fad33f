"""The `hindcast` command, the Python client and the demo. This package is thin: the work is done in the other packages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hindcast.client import connect

__all__ = ["connect"]


def __getattr__(name: str) -> Any:
    """Import the Python client when it is first used: the command must start without what the client needs."""
    if name == "connect":
        from hindcast.client import connect

        return connect
    raise AttributeError(f"module 'hindcast' has no attribute {name!r}")
