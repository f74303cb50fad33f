"""The state of a page in its address, so that a link shows a colleague the same thing. Nothing here knows what the state means.

The address is the truth: widgets are filled from it on each run and write into it when they change. Moving to another
page by the navigation empties the address; what all pages share is put back from the session.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import streamlit as st

SHARED = ("user", "last", "from", "until", "f", "match", "both", "level", "zone")
"""What goes along from page to page."""
_REQUESTED: ContextVar[Mapping[str, Sequence[str]] | None] = ContextVar("requested address", default=None)
_KEPT, _PAGE, _CHANGES = "shared state", "page of the state", "changes of the address"


def get(name: str, default: str = "") -> str:
    """The value of a part of the state."""
    values = get_all(name)
    return values[-1] if values else default


def get_all(name: str) -> list[str]:
    """All values of a part that may be given several times."""
    requested = _REQUESTED.get()
    if requested is not None:
        return list(requested.get(name, ()))
    changes: dict[str, list[str]] = st.session_state.get(_CHANGES, {})
    return list(changes[name]) if name in changes else st.query_params.get_all(name)


@contextmanager
def of_request(parts: Mapping[str, Sequence[str]]) -> Iterator[None]:
    """Context in which `get` and `get_all` read the parts of a requested address, although no page runs and there is no session."""
    token = _REQUESTED.set(parts)
    try:
        yield
    finally:
        _REQUESTED.reset(token)


def put(name: str, value: str | Sequence[str] | None) -> None:
    """Set a part; None or nothing removes it. The address changes at the next `flush`, or at the end of the run."""
    changes: dict[str, list[str]] = st.session_state.setdefault(_CHANGES, {})
    changes[name] = [] if not value else [value] if isinstance(value, str) else list(value)


def flush() -> None:
    """Write all changes into the address at once: each writing is an entry in the browser's history, and a click should make one."""
    changes: dict[str, list[str]] = st.session_state.pop(_CHANGES, {})
    now = {name: st.query_params.get_all(name) for name in st.query_params}
    wanted = {name: values for name, values in {**now, **changes}.items() if values}
    if wanted != now:
        st.query_params.from_dict(wanted)


def begin(page: str) -> bool:
    """Bring the address and the session together at the start of a run; gives whether the page has just been entered."""
    entered = st.session_state.get(_PAGE) != page
    kept: dict[str, list[str]] = st.session_state.get(_KEPT, {})
    if entered and not any(get_all(name) for name in SHARED if name != "user"):
        for name, values in kept.items():
            if not get_all(name):
                put(name, values)
    st.session_state[_PAGE] = page
    return entered


def keep() -> None:
    """Remember, for other pages, what of the address they share, and write what the page changed while it was drawn."""
    flush()
    st.session_state[_KEPT] = {name: values for name in SHARED if (values := get_all(name))}


def chosen(name: str, options: Collection[str], default: str) -> str:
    """The value of a part that is one of several; the default where the address has none of them."""
    return get(name) if get(name) in options else default


def choose(draw: Callable[..., object], label: str, options: Mapping[str, str], name: str, default: str, *, clears: str = "") -> str:
    """Draw a choice of one (`st.pills`, `st.segmented_control`) among options and their words, and give it; it is the address's.

    Another choice takes the part `clears` out of the address.
    """
    key, now = f"choice of {name}", chosen(name, options, default)

    def changed() -> None:
        put(name, None if st.session_state[key] == default else st.session_state[key])
        if clears:
            put(clears, None)

    st.session_state[key] = now
    draw(
        label,
        list(options),
        key=key,
        format_func=options.__getitem__,
        required=True,
        label_visibility="collapsed",
        wrap=True,
        on_change=changed,
    )
    return now


def link(**changed: str | Sequence[str] | None) -> list[tuple[str, str]]:
    """The shared state as parameters of a link to another page, with changes; None leaves a part out."""
    parts: dict[str, Sequence[str]] = {name: values for name in SHARED if (values := get_all(name))}
    for name, value in changed.items():
        key = name.rstrip("_")  # from_ is a word of Python
        parts.pop(key, None)
        if value:
            parts[key] = [value] if isinstance(value, str) else value
    return [(name, value) for name, values in parts.items() for value in values]
