"""Colours that everyone can read and tell apart, numbers that are not rounded into a lie."""

import tomllib
from datetime import UTC, datetime, timedelta
from itertools import combinations
from pathlib import Path

import pytest

from dashboards.frame import clock, theme
from dashboards.frame.theme import DARK, LIGHT, Palette

CONFIG = tomllib.loads((Path(theme.__file__).parents[1] / ".streamlit" / "config.toml").read_text())["theme"]
DEUTAN = ((0.367, 0.861, -0.228), (0.280, 0.673, 0.047), (-0.012, 0.043, 0.969))
PROTAN = ((0.152, 1.053, -0.205), (0.115, 0.786, 0.099), (-0.004, -0.048, 1.052))
TRITAN = ((1.256, -0.077, -0.179), (-0.078, 0.931, 0.148), (0.005, 0.691, 0.304))
PLAIN = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))


def linear(colour: str) -> list[float]:
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    return [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]


def contrast(one: str, other: str) -> float:
    light, dark = sorted((sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear(x), strict=True)) for x in (one, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def lab(colour: str, seen: tuple[tuple[float, ...], ...]) -> list[float]:
    rgb = [max(0.0, min(1.0, sum(m * c for m, c in zip(row, linear(colour), strict=True)))) for row in seen]
    x, y, z = (
        sum(m * c for m, c in zip(row, rgb, strict=True))
        for row in ((0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505))
    )
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (x / 0.9505, y, z / 1.089)]
    return [116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])]


@pytest.mark.parametrize(("palette", "name"), [(LIGHT, "light"), (DARK, "dark")])
def test_python_and_streamlit_have_the_same_colours(palette: Palette, name: str) -> None:
    tokens = CONFIG[name]
    assert (palette.background, palette.surface, palette.text) == (
        tokens["backgroundColor"],
        tokens["secondaryBackgroundColor"],
        tokens["textColor"],
    )
    assert (palette.border, palette.primary, palette.muted) == (tokens["borderColor"], tokens["primaryColor"], tokens["grayColor"])
    assert palette.verdicts["DROPPED"] == tokens["redColor"]


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_text_can_be_read_and_marks_can_be_seen(palette: Palette) -> None:
    assert contrast(palette.text, palette.background) >= 7
    assert contrast(palette.muted, palette.background) >= 4.5
    assert contrast(palette.denied_text, palette.denied) >= 4.5
    assert contrast(palette.text, palette.own) >= 4.5
    for colour in palette.verdicts.values():
        assert contrast(colour, palette.background) >= 3


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("seen", [PLAIN, DEUTAN, PROTAN, TRITAN], ids=["plain", "deutan", "protan", "tritan"])
def test_verdicts_are_distinguished_with_any_colour_vision(palette: Palette, seen: tuple[tuple[float, ...], ...]) -> None:
    for one, other in combinations(palette.verdicts.values(), 2):
        distance = sum((a - b) ** 2 for a, b in zip(lab(one, seen), lab(other, seen), strict=True)) ** 0.5
        assert distance >= 20, (one, other)


@pytest.mark.parametrize("name", ["light", "dark"])
@pytest.mark.parametrize("colour", ["red", "yellow", "green", "blue", "violet", "gray"])
def test_badges_can_be_read(name: str, colour: str) -> None:
    assert contrast(CONFIG[name][f"{colour}TextColor"], CONFIG[name][f"{colour}BackgroundColor"]) >= 4.5


def test_verdicts_have_a_word_a_sign_and_an_icon_besides_their_colour() -> None:
    assert set(theme.LABELS) == set(theme.ICONS) == set(theme.BADGES) == set(LIGHT.verdicts) == set(DARK.verdicts)
    assert len(theme.CHIPS) == len(theme.LABELS)


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (412, "412"), (999, "999"), (1_000, "1K"), (1_740, "1.74K"), (81_100, "81.1K"), (999_600, "1M"), (1_310_000, "1.31M")],
)
def test_numbers_are_short(number: int, text: str) -> None:
    assert theme.compact(number) == text


@pytest.mark.parametrize(("share", "text"), [(0, "0 %"), (1, "100 %"), (0.9999, "> 99.9 %"), (0.0001, "< 0.1 %"), (0.987, "98.7 %")])
def test_a_share_is_never_rounded_to_all_or_nothing(share: float, text: str) -> None:
    assert theme.percent(share) == text


def test_spans_are_written_for_people() -> None:
    at = datetime(2026, 11, 22, 9, tzinfo=UTC)
    assert clock.span(at, at + timedelta(hours=6)) == "22 Nov 09:00 \u2013 15:00 UTC"
    assert clock.span(at, at + timedelta(days=1)) == "22 Nov 09:00 \u2013 23 Nov 09:00 UTC"
    assert theme.duration(timedelta(days=2, hours=3, minutes=5)) == "2 d 3 h"
