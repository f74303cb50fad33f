"""Decides which flows of a cluster are already stored: relay replays, resumed streams overlap, and no flow may be stored twice.

Most flows are newer than all earlier ones of their node and need no look-up. The others are looked up among the remembered
keys and, where those do not reach back far enough, in the lake.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from collectors.decoding.keys import flow_keys

LookUp = Callable[[Sequence[str] | None, datetime, datetime], pa.Table]
"""Stored flows of the cluster with since <= time < until: the columns named, or all of them."""

KEYS_REMEMBERED = 300_000
APART_US = 60_000_000
"""Suspects further apart in time than this are looked up by two reads."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = -(2**62)


@dataclass(frozen=True, slots=True)
class _Remembered:
    """The keys of some flows, and their first and last time in microseconds since 1970."""

    keys: pa.Array
    first: int
    last: int
    last_steady: int


class KnownFlows:
    """Remembers the flows of one cluster. Not thread-safe."""

    def __init__(
        self, look_up: LookUp, *, until_us: Mapping[str | None, int], floor_us: int | None, remembered: int = KEYS_REMEMBERED
    ) -> None:
        """`until_us`: time of each node's last stored flow. `floor_us`: any flow up to here may be stored; None if none is."""
        self._look_up = look_up
        self._until = dict(until_us)
        self._floor = _NEVER if floor_us is None else floor_us
        self._forgotten = _NEVER  # time of the last flow of all nodes that were forgotten
        self._horizon = self._floor  # flows up to this time are looked up in the lake, because not all their keys are remembered
        self._memory: deque[_Remembered] = deque()
        self._remembered = 0
        self._limit = remembered

    def new(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Return whether each row (all columns of `flows`) is new, and remember the rows.

        Raises LakeError if the lake has to be read and cannot be; nothing has changed then.
        """
        count = rows.num_rows
        if not count:
            return np.ones(0, bool)
        keys = flow_keys(rows)
        times = rows.column("time").cast(pa.int64()).to_numpy()
        steady = is_steady(rows)
        names, codes = node_codes(rows)
        until = np.array([max(self._until.get(name, self._forgotten), self._floor) for name in names])
        fresh = np.ones(count, bool)
        numbers = keys.dictionary_encode()
        if len(numbers.dictionary) < count:
            fresh[:] = False
            fresh[np.unique(numbers.indices.to_numpy(), return_index=True)[1]] = True
        suspects = np.flatnonzero(((times <= until[codes]) | ~steady) & fresh)
        if suspects.size:
            stored = self._are_stored(
                keys.take(pa.array(suspects)), times[suspects], steady[suspects], all_have_uuid=not rows["uuid"].null_count
            )
            fresh[suspects[stored]] = False
        self._remember(keys, times, steady, fresh)
        for code, name in enumerate(names):
            of_node = times[(codes == code) & fresh & steady]
            if of_node.size:
                self._until[name] = max(self._until.get(name, _NEVER), int(of_node.max()))
        return fresh

    def forget(self, node: str | None) -> None:
        """Forget a node that left. If it returns, its earlier flows are looked up like any others."""
        self._forgotten = max(self._forgotten, self._until.pop(node, _NEVER))

    def _are_stored(
        self, keys: pa.Array, times: npt.NDArray[np.int64], steady: npt.NDArray[np.bool_], *, all_have_uuid: bool
    ) -> npt.NDArray[np.bool_]:
        first, last = int(times.min()), int(times.max())
        hits = [some.keys.filter(pc.is_in(some.keys, value_set=keys)) for some in self._memory if some.last >= first and some.first <= last]
        found = _among(keys, hits)
        unknown = np.flatnonzero(~found & ((times <= self._horizon) | ~steady))
        unknown = unknown[np.argsort(times[unknown], kind="stable")]
        columns = ["uuid"] if all_have_uuid else None
        for part in np.split(unknown, np.flatnonzero(np.diff(times[unknown]) > APART_US) + 1):
            if not part.size:
                continue
            since, until = (_EPOCH + timedelta(microseconds=int(times[part[end]])) for end in (0, -1))
            stored = self._look_up(columns, since, until + timedelta(microseconds=1))
            # Stored flows without uuid cannot be one of those that have one.
            known = stored["uuid"].drop_null().combine_chunks() if all_have_uuid else flow_keys(stored)
            if len(known):
                found[part] = _among(keys.take(pa.array(part)), [known])
        return found

    def _remember(self, keys: pa.Array, times: npt.NDArray[np.int64], steady: npt.NDArray[np.bool_], fresh: npt.NDArray[np.bool_]) -> None:
        if not fresh.any():
            return
        kept, of_steady = times[fresh], times[fresh & steady]
        last_steady = int(of_steady.max()) if of_steady.size else _NEVER
        self._memory.append(_Remembered(keys.filter(pa.array(fresh)), int(kept.min()), int(kept.max()), last_steady))
        self._remembered += kept.size
        while self._remembered - len(self._memory[0].keys) >= self._limit:
            forgotten = self._memory.popleft()
            self._remembered -= len(forgotten.keys)
            self._horizon = max(self._horizon, forgotten.last_steady)


def is_steady(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Return whether each flow's time is reliable: the agent sent it, and it is close to our clock."""
    sure = pc.and_(rows.column("time_ns").is_valid(), pc.invert(rows.column("clock_skew").fill_null(False)))
    steady: npt.NDArray[np.bool_] = sure.to_numpy()
    return steady


def node_codes(rows: pa.Table) -> tuple[list[str | None], npt.NDArray[np.int64]]:
    """The names of the nodes in `rows`, and for each row the position of its node among them."""
    encoded = pc.dictionary_encode(rows.column("node_name"), null_encoding="encode").combine_chunks()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.chunk(0)
    return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int64)


def _among(keys: pa.Array, sets: list[pa.Array]) -> npt.NDArray[np.bool_]:
    if not sets:
        return np.zeros(len(keys), bool)
    found: npt.NDArray[np.bool_] = pc.is_in(keys, value_set=pa.concat_arrays(sets)).to_numpy(zero_copy_only=False)
    return np.array(found)
