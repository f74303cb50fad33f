"""The one control of time, in the head of every page: a preset that ends now, or two moments; arrows shift it by its own length.

The window is in the address, in UTC, as `last=6h`, or as `from=` and `until=`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import streamlit as st

from dashboards.frame import clock, theme, url_state
from warehouse import config

PRESETS = {
    "5m": "5 min", "15m": "15 min", "30m": "30 min", "1h": "1 h", "2h": "2 h", "6h": "6 h", "12h": "12 h", "1d": "1 d", "2d": "2 d",
    "1w": "1 w", "2w": "2 w", "yesterday": "Yesterday",
}  # fmt: skip
DEFAULT = "1h"
LONGEST = timedelta(days=400)
STALE = timedelta(seconds=60)
"""A window that ends now is moved on when a page is entered after this long; until then the same answers serve."""
_ANCHOR = "window ends"


@dataclass(frozen=True, kw_only=True)
class TimeRange:
    """The window that is looked at."""

    since: datetime
    until: datetime
    preset: str | None = None
    """Its name among PRESETS; None for two moments."""
    problem: str | None = None
    """What is wrong with the address, where this window stands in for it."""

    @property
    def ends_now(self) -> bool:
        """Whether refreshing shows more."""
        return self.preset is not None and self.preset != "yesterday"

    @property
    def length(self) -> timedelta:
        """How long it is."""
        return self.until - self.since

    @property
    def label(self) -> str:
        """Range, date and zone, always."""
        name = "Yesterday" if self.preset == "yesterday" else f"Last {PRESETS[self.preset]}" if self.preset else theme.duration(self.length)
        return f"**{name}** · {clock.span(self.since, self.until)}"


def parse_moment(text: str) -> datetime | None:
    """A moment as the address holds it; UTC where no zone is named, None for what is none."""
    try:
        given = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)


def written(moment: datetime) -> str:
    """A moment as the address holds it."""
    return moment.astimezone(UTC).isoformat(timespec="seconds" if not moment.microsecond else "microseconds").replace("+00:00", "Z")


def current(*, entered: bool) -> TimeRange:
    """The window of the address."""
    if not any(url_state.get(name) for name in ("from", "until", "last")):
        url_state.put("last", DEFAULT)  # so that an address that is written is whole, and a bare one is on its way to be
    return window(_anchor(entered=entered))


def window(now: datetime) -> TimeRange:
    """The window that the address names at a moment."""
    begin, end = url_state.get("from"), url_state.get("until")
    if begin or end:
        since, until = parse_moment(begin), parse_moment(end)
        if since is None or until is None:
            wrong = begin if since is None else end
            return _default(now, f"{wrong!r} in the address is no time: write 2026-03-02T14:00Z")
        if since >= until:
            return _default(now, f"From ({clock.span(since, since)}) is not before To")
        if until - since > LONGEST:
            return _default(now, f"{theme.duration(until - since)} is longer than {LONGEST.days} days, the longest window")
        return TimeRange(since=since, until=until)
    name = url_state.get("last", DEFAULT)
    if name == "yesterday":
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        return TimeRange(since=midnight - timedelta(days=1), until=midnight, preset=name)
    if name not in PRESETS:
        return _default(now, f"last={name!r} in the address is none of {', '.join(PRESETS)}")
    length = config.parse_duration(name)
    # To the full minute: so rollups of minutes add up to the window's very flows.
    until = _up(now) if length >= timedelta(hours=1) else now
    return TimeRange(since=until - length, until=until, preset=name)


def set_range(since: datetime, until: datetime) -> None:
    """Look at the time between two moments."""
    url_state.put("last", None)
    url_state.put("from", written(since))
    url_state.put("until", written(until))


def set_preset(name: str) -> None:
    """Look at a window that ends now."""
    url_state.put("from", None)
    url_state.put("until", None)
    url_state.put("last", name)
    refresh()


def refresh() -> None:
    """Let a window that ends now end now."""
    st.session_state[_ANCHOR] = datetime.now(UTC).replace(microsecond=0)


def control(shown: TimeRange, on_refresh: Callable[[], None]) -> None:
    """Draw it, into the head's horizontal container. `on_refresh` is called when a window that ends now is to end now again."""
    st.button("", key="earlier", icon=":material/chevron_left:", help="Earlier by one window", on_click=_shift, args=(shown, -1))
    with st.popover(shown.label, icon=":material/schedule:", key="time"):
        st.session_state["preset"] = shown.preset
        st.pills("Last", list(PRESETS), format_func=PRESETS.__getitem__, key="preset", on_change=_choose, wrap=True, width=340)
        url_state.choose(st.segmented_control, "Zone", clock.ZONES, "zone", "utc")
        st.session_state["moment from"] = clock.local(shown.since).replace(tzinfo=None, second=0, microsecond=0)
        st.session_state["moment until"] = clock.local(_up(shown.until)).replace(tzinfo=None)
        with st.form("moments", border=False):
            # Above the moments, since an open calendar covers what is below them.
            st.form_submit_button("Apply the moments below", on_click=_apply, width="stretch")
            st.datetime_input(f"From ({clock.name()})", value=None, key="moment from", step=60, format="YYYY-MM-DD")
            st.datetime_input(f"To ({clock.name()})", value=None, key="moment until", step=60, format="YYYY-MM-DD")
        if problem := st.session_state.pop("moments problem", None):
            st.warning(problem, icon=":material/warning:")
    last = shown.ends_now or shown.until >= datetime.now(UTC)
    st.button("", key="later", icon=":material/chevron_right:", help="Later by one window", on_click=_shift, args=(shown, 1), disabled=last)
    help_text = "Refresh" if shown.ends_now else "Only a window that ends now can be refreshed"
    st.button("", key="refresh", icon=":material/refresh:", help=help_text, on_click=on_refresh, disabled=not shown.ends_now)


def _anchor(*, entered: bool) -> datetime:
    now = datetime.now(UTC).replace(microsecond=0)
    anchor: datetime | None = st.session_state.get(_ANCHOR)
    if anchor is None or (entered and now - anchor > STALE):
        st.session_state[_ANCHOR] = anchor = now
    return anchor


def _default(now: datetime, problem: str) -> TimeRange:
    return TimeRange(since=now - config.parse_duration(DEFAULT), until=now, preset=DEFAULT, problem=problem)


def _up(moment: datetime) -> datetime:
    """The full minute that is not before a moment."""
    whole = moment.replace(second=0, microsecond=0)
    return whole if whole == moment else whole + timedelta(minutes=1)


def _choose() -> None:
    if chosen := st.session_state["preset"]:
        set_preset(chosen)


def shifted(shown: TimeRange, windows: int, *, now: datetime) -> tuple[datetime, datetime]:
    """The window a number of its own lengths later (earlier if negative), as long as it was; it ends no later than now."""
    until = min(shown.until + windows * shown.length, max(now, shown.until))
    return until - shown.length, until


def _shift(shown: TimeRange, windows: int) -> None:
    set_range(*shifted(shown, windows, now=datetime.now(UTC)))


def _apply() -> None:
    since, until = st.session_state["moment from"], st.session_state["moment until"]
    if since is None or until is None or since >= until:
        st.session_state["moments problem"] = "Give both moments, From before To."
        return
    set_range(clock.to_utc(since), clock.to_utc(until))
