"""How moments are written: in UTC, or in the browser's zone where the address says `zone=local`. The zone is always named.

Windows, addresses and questions stay in UTC; only what people read and type is converted here.
"""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from dashboards.frame import url_state

ZONES = {"utc": "UTC", "local": "Local time"}


def zone() -> tzinfo:
    """The zone that moments are written in: the browser's if the address asks for it and the browser names one, else UTC."""
    if get_script_run_ctx(suppress_warning=True) is None or url_state.get("zone") != "local":
        return UTC
    try:
        return ZoneInfo(st.context.timezone or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return UTC


def name(at: datetime | None = None) -> str:
    """The zone's short name at a moment (now by default), for example UTC or CET."""
    return (at or datetime.now(UTC)).astimezone(zone()).tzname() or "UTC"


def is_utc() -> bool:
    """Whether moments are written in UTC."""
    return zone() is UTC


def local(at: datetime) -> datetime:
    """A moment in the zone."""
    return at.astimezone(zone())


def minute(at: datetime) -> str:
    """`22 Nov 09:00`, without the zone's name."""
    return f"{local(at):%-d %b %H:%M}"


def second(at: datetime) -> str:
    """`22 Nov 09:00:05 UTC`."""
    return f"{local(at):%-d %b %H:%M:%S} {name(at)}"


def dated(at: datetime) -> str:
    """`22 Nov 2026 09:00:05 UTC`."""
    return f"{local(at):%-d %b %Y %H:%M:%S} {name(at)}"


def time(at: datetime) -> str:
    """`09:00:05 UTC`, without the day."""
    return f"{local(at):%H:%M:%S} {name(at)}"


def span(since: datetime, until: datetime) -> str:
    """`22 Nov 09:00 – 15:00 UTC`: a window, the day written once where both ends share it."""  # noqa: RUF002 - the dash of a range
    first, last = local(since), local(until)
    end = f"{last:%H:%M}" if first.date() == last.date() else minute(until)
    return f"{minute(since)} – {end} {name(until)}"  # noqa: RUF001 - the dash of a range


def to_utc(typed: datetime) -> datetime:
    """The moment that a person means by a time without a zone."""
    return typed.replace(tzinfo=zone()).astimezone(UTC)


def column(label: str, form: str = "DD MMM HH:mm:ss", **more: Any) -> Any:
    """A column of a table that holds moments; its heading names the zone."""
    key = str(getattr(zone(), "key", "UTC"))
    return st.column_config.DatetimeColumn(f"{label} ({name()})", format=form, timezone=key, **more)
