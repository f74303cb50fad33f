"""Who made which file: Streamlit keeps files that are made at a click under a hash of their content, for whoever knows it.

A file is noted when it is made and forgotten after a while; the server's middleware asks here before it gives one away.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

from streamlit.runtime.memory_media_file_storage import _calculate_file_id

from warehouse.access.principals import Principal

LIFETIME_SECONDS = 3_600.0
MOST = 10_000
_LOCK = threading.Lock()
_MADE: OrderedDict[str, tuple[float, frozenset[Principal]]] = OrderedDict()


def note(data: bytes, kind: str, name: str, who: Principal) -> None:
    """Remember that a principal made a file of this content, MIME type and name."""
    file_id = _calculate_file_id(data, kind, name)
    with _LOCK:
        _, before = _MADE.pop(file_id, (0.0, frozenset[Principal]()))
        _MADE[file_id] = (time.monotonic(), before | {who})
        while len(_MADE) > MOST:
            _MADE.popitem(last=False)


def makers(file_id: str) -> frozenset[Principal]:
    """Who made it lately."""
    with _LOCK:
        made, who = _MADE.get(file_id, (0.0, frozenset[Principal]()))
    return who if time.monotonic() - made < LIFETIME_SECONDS else frozenset()
