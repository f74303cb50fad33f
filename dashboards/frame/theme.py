"""How things look: colours that Python hands to charts, words and signs of verdicts, numbers for people, and the little CSS there is.

Everything else about the look is in .streamlit/config.toml.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import streamlit as st

STATIC = Path(__file__).parents[1] / "static"

VERDICTS = ("FORWARDED", "DROPPED", "REDIRECTED", "AUDIT", "ERROR")
LABELS = {"FORWARDED": "✓ Forwarded", "DROPPED": "✕ Dropped", "REDIRECTED": "↷ Redirected", "AUDIT": "◉ Audit", "ERROR": "! Error"}
"""A word and a sign: never colour alone."""
CHIPS = ["blue", "#A63A12", "violet", "yellow", "#6E1244"]
"""Colours of LABELS in tables; white on the two saturated ones is readable in both themes."""
BADGES = {"FORWARDED": "blue", "DROPPED": "red", "REDIRECTED": "violet", "AUDIT": "yellow", "ERROR": "red"}
ICONS = {
    "FORWARDED": ":material/check:",
    "DROPPED": ":material/block:",
    "REDIRECTED": ":material/shortcut:",
    "AUDIT": ":material/visibility:",
    "ERROR": ":material/error:",
}


@dataclass(frozen=True, kw_only=True)
class Palette:
    """Colours of one theme, for charts."""

    background: str
    surface: str
    text: str
    muted: str
    border: str
    primary: str
    verdicts: dict[str, str]
    other: str
    observed: str
    gap: str
    own: str
    """Behind what is the principal's own."""
    denied: str
    """Behind what was denied."""
    denied_text: str


LIGHT = Palette(
    background="#FFFFFF",
    surface="#F4F6F9",
    text="#0F1724",
    muted="#5A6577",
    border="#D5DBE4",
    primary="#1F55C4",
    verdicts={"FORWARDED": "#6C8EB5", "DROPPED": "#B02E0C", "REDIRECTED": "#6D45C0", "AUDIT": "#BD8B00", "ERROR": "#6E1244"},
    other="#5A6577",
    observed="#B9C6DA",
    gap="#BD8B00",
    own="#DCE8F8",
    denied="#FCDDCD",
    denied_text="#9C3206",
)
DARK = Palette(
    background="#0E131B",
    surface="#182130",
    text="#E4E9F1",
    muted="#A3AEC0",
    border="#303B4D",
    primary="#8DB2FF",
    verdicts={"FORWARDED": "#5B82B0", "DROPPED": "#FF6F3C", "REDIRECTED": "#9F7BFF", "AUDIT": "#FFDC7A", "ERROR": "#F3F6FB"},
    other="#A3AEC0",
    observed="#3C4A61",
    gap="#FFDC7A",
    own="#1F3557",
    denied="#43230F",
    denied_text="#FFB28A",
)


def is_dark() -> bool:
    """Whether the reader's browser shows the dark theme."""
    return st.context.theme.type == "dark"


def palette() -> Palette:
    """The colours of the theme that is shown."""
    return DARK if is_dark() else LIGHT


def verdict_label(verdict: str | None) -> str:
    """A verdict's sign and word; of one newer than this version its own name."""
    return LABELS.get(verdict or "", verdict or "unknown")


def compact(number: float) -> str:
    """1.31M, 81.1K, 412: two or three digits, as tables print them."""
    for size, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if abs(number) >= size * 0.9995:
            value = number / size
            digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
            text = f"{value:.{digits}f}"
            return (text.rstrip("0").rstrip(".") if "." in text else text) + letter
    return f"{number:,.0f}"


def percent(share: float) -> str:
    """A share of 1 for people; what is not all is never rounded to 100 %, nor what is something to 0 %."""
    value = share * 100
    if 0 < value < 0.05:
        return "< 0.1 %"
    if 99.95 <= value < 100:
        return "> 99.9 %"
    return f"{value:.1f} %".replace(".0 %", " %")


def duration(span: timedelta) -> str:
    """2 d 3 h, 4 h 5 min, 12 min, 40 s."""
    seconds = int(span.total_seconds())
    days, hours, minutes = seconds // 86400, seconds // 3600 % 24, seconds // 60 % 60
    parts = [(days, "d"), (hours, "h"), (minutes, "min")] if seconds >= 60 else [(seconds, "s")]
    written = [f"{number} {unit}" for number, unit in parts if number]
    return " ".join(written[:2]) or "0 s"


def reason(name: str | None) -> str:
    """A drop reason as Hubble names it, for people."""
    return name.replace("_", " ").capitalize() if name else "No reason given"


def no_link(text: str) -> str:
    """Markdown in which the address of a person is no link to a mailbox: a word joiner, which nobody sees, stands before its @."""
    return text.replace("@", "\u2060@")


def plain(text: str) -> str:
    """Text in which Markdown sees no markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]:$~<>#" else letter for letter in text)


def legend(before: str, entries: Sequence[tuple[str, str]]) -> None:
    """A line of text, and names with the very colours that a chart has for them: (name, colour)."""
    dots = "".join(f'<span><i style="background:{colour}"></i>{html.escape(name)}</span>' for name, colour in entries)
    st.html(f'<div class="hc-legend">{html.escape(before)}{dots}</div>', width="content")


_CSS = """
[data-testid="stMainBlockContainer"] {padding-left: 1.5rem; padding-right: 1.5rem}
[data-testid="stMain"] textarea {font-family: "JetBrains Mono", monospace; font-size: 0.8125rem; white-space: pre}
.st-key-attention [data-testid="stPageLink"] a, .st-key-inline [data-testid="stPageLink"] a {padding: 0}
.hc-diff {font: 0.8125rem/1.6 "JetBrains Mono", monospace; border: 1px solid var(--hc-border); border-radius: 0.375rem; overflow-x: auto}
.hc-diff div {white-space: pre; padding: 0 0.75rem}
.hc-legend {display: flex; flex-wrap: wrap; gap: 0.25rem 0.75rem; font-size: 0.875rem}
.hc-legend i {display: inline-block; width: 0.625rem; height: 0.625rem; margin-right: 0.3rem; border-radius: 2px}
[data-testid="stGridCellContent"] > [data-testid="stLayoutWrapper"]:only-child {flex-grow: 1}
.st-key-head {gap: 0.5rem}
.st-key-cards [data-testid="stPageLink"] a {padding: 0}
.hc-spark {display: block; width: 100%; height: 34px}
.st-key-cards [data-testid="stMetricDelta"], .st-key-cards [data-testid="stMetricDelta"] * {white-space: normal; text-overflow: clip}
/* A wide table of the documentation scrolls by itself, and not the page. */
[data-testid="stMarkdownContainer"] table {display: block; max-width: 100%; overflow-x: auto}
/* A long label breaks: a cell must not scroll by itself. */
.st-key-panel [data-testid="stTable"] td, .st-key-panel [data-testid="stTable"] td * {overflow-wrap: anywhere}
@media (max-width: 1000px) {  /* icons alone in the head: their words are for screen readers */
  .st-key-share button p, .st-key-account button p, .st-key-views button p {
    position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  }
  .stGridCell:has(.st-key-changes), .stGridCell:has(.st-key-panel) {grid-column: 1 / -1}  /* below what they are about, as wide */
  .st-key-head [data-testid="stPopoverButton"] div[aria-hidden="true"] {display: none}
  .st-key-head .stMarkdownBadge {
    display: inline-block; width: 1.45rem; overflow: hidden; text-overflow: clip !important; white-space: nowrap;
  }
}
.hc-heat {border-collapse: separate; border-spacing: 3px; font-size: 0.8125rem}
.hc-heat td, .hc-heat th {padding: 0.25rem 0.5rem; text-align: center; font-weight: 400}
.hc-heat th[scope=row] {text-align: left}
"""


def add_css() -> None:
    """The rules that Streamlit has no setting for."""
    shades = palette()
    rules = f":root {{--hc-border: {shades.border}}}" + _CSS
    if is_dark():  # Streamlit always writes white on the primary colour, which the dark one is too light for
        on_primary = (
            '[data-testid="stBaseButton-primary"], [data-testid="stBaseButton-primary"] *, [data-testid="stMultiSelect"] span[title]'
        )
        rules += f"{on_primary} {{color: {shades.background}}}"
    else:  # and keys and texts of code too light for the ground they stand on
        rules += f'[data-testid="stCode"] .token.atrule {{color: {shades.primary}}} [data-testid="stCode"] .token.string {{color: #0F5E43}}'
    st.html(f"<style>{rules}</style>")


def logo() -> str:
    """The wordmark for the theme that is shown."""
    return str(STATIC / ("logo-dark.svg" if is_dark() else "logo-light.svg"))
