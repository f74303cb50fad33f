"""What is recorded of every event in `policy_changes`, whether of a proposal or of a change of a blueprint. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """One event: its number among the events of the same thing, who did it and when, and what came of it."""

    number: int
    """From 1."""
    time: datetime
    actor: str
    result: str = "noted"
    detail: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    """What is recorded of the event, by name."""
