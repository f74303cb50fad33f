"""Templates in labels and annotations of rules: `{{ $labels.namespace }}`, `{{ $value }}`, or the name of any column. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

_PLACE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_NAME = re.compile(r"\s*(?:\$labels\.|\$)?([A-Za-z_][A-Za-z0-9_]*)\s*")


def names(template: str) -> list[str]:
    """Return the columns that a template names. Raises ValueError for anything else between double braces."""
    found = []
    for inside in _PLACE.findall(template):
        name = _NAME.fullmatch(inside)
        if name is None:
            raise ValueError(f"{{{{{inside}}}}} is not the name of a column, such as {{{{ $labels.namespace }}}} or {{{{ $value }}}}")
        found.append(name[1])
    return found


def is_one(text: str) -> bool:
    """Whether a text has any place that is filled in."""
    return _PLACE.search(text) is not None


def filled(template: str, row: Mapping[str, Any]) -> str:
    """Return a template with the values of a row; a column that is null, or not there, is left empty."""

    def value(place: re.Match[str]) -> str:
        name = _NAME.fullmatch(place[1])
        return "" if name is None else _text(row.get(name[1]))

    return _PLACE.sub(value, template)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:g}"
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else str(value)
