"""Who collects what: a function of the units and the living collectors alone, so that all of them come to the same answer."""

from __future__ import annotations

from collections.abc import Collection
from hashlib import blake2b


def assign(units: Collection[str], members: Collection[str]) -> dict[str, str]:
    """Return the member that collects each unit; empty without members.

    No member gets more than one unit more than another. Each unit goes to the member that comes first in an order of the unit's own,
    as long as that member has room: so most units stay where they are when a member joins or leaves.
    """
    if not members:
        return {}
    least, extra = divmod(len(units), len(members))
    counts = dict.fromkeys(members, 0)
    found: dict[str, str] = {}
    for unit in sorted(units, key=_number):
        for member in sorted(members, key=lambda member, unit=unit: _number(unit, member), reverse=True):  # type: ignore[misc]
            if counts[member] < least or (counts[member] == least and extra > 0):
                extra -= counts[member] == least
                counts[member] += 1
                found[unit] = member
                break
    return found


def _number(*texts: str) -> bytes:
    return blake2b("\0".join(texts).encode(), digest_size=8).digest()
