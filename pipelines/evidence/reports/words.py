"""Shares and times as reports write them for people. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta


def share(part: float) -> str:
    """Return a share of 1 in percent; what is not all is never rounded to 100 %, nor what is something to 0 %."""
    value = part * 100
    if 0 < value < 0.05:
        return "< 0.1 %"
    if 99.95 <= value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %".replace(".0 %", " %")


def moment(at: datetime | None) -> str:
    """Return a time to the minute, in UTC."""
    return "" if at is None else f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def span(length: timedelta) -> str:
    """Return a length of time: `2 d 3 h`, `12 min`, `40 s`."""
    seconds = int(length.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "min")]
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2])


def reason(name: str | None) -> str:
    """Return a drop reason as Hubble names it, for people."""
    return name.replace("_", " ").capitalize() if name else "No reason given (L7)"
