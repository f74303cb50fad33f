"""Groups rows by several columns of whole numbers. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_MOST = 2**62
"""A packed key has fewer values, so that it fits into 64 bits."""


def grouped(columns: Sequence[Ints]) -> tuple[Ints, Ints]:
    """Return the place of the first row of each group, and for each row the number of its group.

    Groups are in the order of their values, the first column first. Columns have the same length. The columns are packed into one
    number, since sorting that is many times as fast as sorting rows of several columns.
    """
    packed, size = np.zeros(len(columns[0]), np.int64), 1
    if not len(packed):
        return packed, packed
    for column in columns:
        low, high = int(column.min()), int(column.max())
        code, width = column - low, high - low + 1
        if size * width >= _MOST:
            (packed, size), (code, width) = _dense(packed), _dense(code)
        packed, size = packed * width + code, size * width
    _, first, place = np.unique(packed, return_index=True, return_inverse=True)
    return first, place.reshape(-1)


def _dense(column: Ints) -> tuple[Ints, int]:
    """Return numbers in the same order without gaps between them, and how many there are."""
    values, code = np.unique(column, return_inverse=True)
    return code.reshape(-1).astype(np.int64), len(values)
