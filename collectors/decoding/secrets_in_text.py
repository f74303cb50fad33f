"""Removes secrets from text of any format that is set aside, however it is escaped.

The text may be JSON, JSON within JSON, Python's notation, percent-encoded, or truncated anywhere. It is searched in an unescaped
view, and matches are cut out of the original. If it is uncertain where a secret ends, more is removed rather than less.
Columns of flows are handled by collectors.decoding.secrets.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from warehouse import config

MARK = "REDACTED"

_ESCAPE = re.compile(
    r"(?P<slashes>\\+)(?:u00(?P<unicode>[0-9a-fA-F]{2})|x(?P<hex>[0-9a-fA-F]{2})|(?P<letter>[\"'/nrt]))?"
    r"|%(?P<percent>[0-9a-fA-F]{2})"
    r"|&(?P<entity>quot|amp|apos|lt|gt|#\d{2,3}|#x[0-9a-fA-F]{2});"
)
_LETTERS = {"n": "\n", "r": "\n", "t": " "}
_ENTITIES = {"quot": '"', "amp": "&", "apos": "'", "lt": "<", "gt": ">"}
_QUOTES = "\"'`"
_MOST_LAYERS = 16


class _View:
    """An unescaped text, with the position of each of its characters in the original."""

    def __init__(self, original: str) -> None:
        self.original = original
        self.text = original
        self._begins = list(range(len(original)))
        self._ends = list(range(1, len(original) + 1))
        self._levels = [0] * len(original)
        for _ in range(_MOST_LAYERS):
            if not self._unescape():
                break

    def _unescape(self) -> bool:
        """Remove one layer of escapes; return whether there was one."""
        parts: list[str] = []
        begins: list[int] = []
        ends: list[int] = []
        levels: list[int] = []
        position = 0
        for found in _ESCAPE.finditer(self.text):
            begin, end = found.span()
            plain = _plain(found)
            parts += [self.text[position:begin], plain]
            begins += self._begins[position:begin]
            ends += self._ends[position:begin]
            levels += self._levels[position:begin]
            if plain:
                begins.append(self._begins[begin])
                ends.append(self._ends[end - 1])
                levels.append(max(self._levels[begin:end]) + bool(found["percent"]))
            position = end
        if not parts:
            return False
        self.text = "".join([*parts, self.text[position:]])
        self._begins = begins + self._begins[position:]
        self._ends = ends + self._ends[position:]
        self._levels = levels + self._levels[position:]
        return True

    def level(self, place: int) -> int:
        """Return how often the character was percent-encoded."""
        return self._levels[place]

    def spelling(self, place: int) -> str:
        """Return the character with its escapes, which distinguishes the quotes of a nested text from those around it."""
        return self.original[self._ends[place - 1] if place else 0 : self._ends[place]].lower()

    def source(self, place: int) -> int:
        """Return where a character begins in the original."""
        return self._begins[place] if place < len(self._begins) else len(self.original)


def _plain(found: re.Match[str]) -> str:
    if found["slashes"]:
        if found["unicode"] or found["hex"]:
            return _shown(int(found["unicode"] or found["hex"], 16))
        return _LETTERS.get(found["letter"], found["letter"]) if found["letter"] else ""
    if found["percent"]:
        return _shown(int(found["percent"], 16))
    entity = found["entity"]
    if entity in _ENTITIES:
        return _ENTITIES[entity]
    return _shown(int(entity[2:], 16) if entity[1] == "x" else int(entity[1:]))


def _shown(code: int) -> str:
    """Return the character of a code; control characters end values as line ends do."""
    return chr(code) if code >= 0x20 else "\n"


def out_of_text(text: str, settings: config.Redact) -> str:
    """Return the text with its secrets replaced by a mark."""
    if not _may_hold_secrets(settings).search(text):
        return text
    view = _View(text)
    headers = [(begin + (view.text[begin] in _QUOTES), end) for begin, end in _header_values(view, settings)]
    spans = [*headers, *_url_secrets(view, settings)]
    pieces, position = [], 0
    for begin, end in sorted((view.source(begin), view.source(end)) for begin, end in spans if end > begin):
        if begin >= position:
            pieces += [text[position:begin], MARK]
        position = max(position, end)
    return "".join(pieces) + text[position:]


@functools.lru_cache(maxsize=16)
def _may_hold_secrets(settings: config.Redact) -> re.Pattern[str]:
    """Return cheaply whether text may contain a secret at all; any escape may hide one."""
    names = [re.escape(name) for name in settings.headers]
    return re.compile("|".join([r"[?&;%\\@]", "value", *names]), re.IGNORECASE)


# Headers --------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=16)
def _header_patterns(settings: config.Redact) -> tuple[re.Pattern[str], re.Pattern[str]] | None:
    if not settings.headers:
        return None
    names = "|".join(sorted(map(re.escape, settings.headers), key=len, reverse=True))
    quote = f"[{_QUOTES}]?"
    forward = (
        rf"(?<![\w?&;-])(?:{names})(?![\w-]){quote}[\s+]*(?:[:,=]|=>)?[\s+]*(?:{quote}(?<![\w-])value{quote}[\s+]*[:=][\s+]*)?[\[({{\s+]*"
    )
    backward = rf"[\s+]*[,;]?[\s+]*{quote}(?:key|name){quote}[\s+]*[:=][\s+]*{quote}(?:{names})(?![\w-])"
    return re.compile(forward, re.IGNORECASE), re.compile(backward, re.IGNORECASE)


_VALUE = re.compile(rf"(?<![\w-])value[{_QUOTES}]?[\s+]*[:=][\s+]*(?=[{_QUOTES}])", re.IGNORECASE)
_CUT_OFF = re.compile(rf"[\s+,;]*[{_QUOTES}]?[\w-]*[{_QUOTES}]?[\s+]*[:=]?[\s+]*[{_QUOTES}]?[\w-]*$")
_KEY = re.compile(rf"(?<![\w-])(?:key|name)[{_QUOTES}]?[\s+]*[:=]", re.IGNORECASE)
_KEY_BEFORE = re.compile(rf"(?<![\w-])(?:key|name)[{_QUOTES}]?[\s+]*[:=][\s+]*[{_QUOTES}]?$", re.IGNORECASE)
_HAS_SEPARATOR = re.compile(r"[:,=]|[\s+][\"'`]?value")


def _header_values(view: _View, settings: config.Redact) -> Iterator[tuple[int, int]]:
    patterns = _header_patterns(settings)
    if patterns is None:
        return
    forward, backward = patterns
    for found in forward.finditer(view.text):
        if _HAS_SEPARATOR.search(found[0]) and found.end() < len(view.text):
            yield found.end(), _value_end(view, found.end())
        if not _KEY_BEFORE.search(view.text, max(found.start() - 40, 0), found.start()):
            continue
        # Other members of the object may come between a header's name and its value, in either order.
        begin, end = view.text.rfind("{", 0, found.start()), view.text.find("}", found.end())
        for value in _VALUE.finditer(view.text, max(begin, 0), end if end >= 0 else len(view.text)):
            yield value.end(), _value_end(view, value.end())
    for found in _VALUE.finditer(view.text):
        end = _value_end(view, found.end())
        after = min(end + 1, len(view.text))
        begin = max(view.text.rfind("{", 0, found.start()), 0)
        is_cut_off = _CUT_OFF.match(view.text, after) and not _KEY.search(view.text, begin, found.start())
        if backward.match(view.text, after) or is_cut_off:
            yield found.end(), end


def _value_end(view: _View, begin: int) -> int:
    """Return where a value ends: at its own closing quote, spelled as the opening one; unquoted, with its line or enclosing text."""
    text = view.text
    if text[begin] in _QUOTES:
        spelling = view.spelling(begin)
        end = text.find(text[begin], begin + 1)
        while end >= 0 and view.spelling(end) != spelling:
            end = text.find(text[begin], end + 1)
        return end if end >= 0 else len(text)
    for found in re.compile(rf"\n|[{_QUOTES}](?=\s*(?:[,}}\])]|$))|[}}\]](?=\s*(?:[,}}\]]|$))").finditer(text, begin):
        return found.start()
    return len(text)


# URLs -----------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=16)
def _parameter_pattern(settings: config.Redact) -> re.Pattern[str] | None:
    if settings.url_query:
        return re.compile(r"\?")
    if not settings.url_parameters:
        return None
    return re.compile(rf"[?&;](?:{'|'.join(map(re.escape, settings.url_parameters))})=", re.IGNORECASE)


def _url_secrets(view: _View, settings: config.Redact) -> Iterator[tuple[int, int]]:
    if settings.url_user_info:
        for found in re.finditer("://", view.text):
            end = _url_end(view, found.end(), "/?#@", view.level(found.start() + 1))
            is_cut_off = end == len(view.text) and not re.fullmatch(r"[^:]*(?::\d{0,5})?", view.text[found.end() : end])
            if is_cut_off or view.text[end : end + 1] == "@":
                yield found.end(), end
    parameter = _parameter_pattern(settings)
    if parameter is not None:
        stops = "#" if settings.url_query else "&;#"
        for found in parameter.finditer(view.text):
            yield found.end(), _url_end(view, found.end(), stops, view.level(found.end() - 1))


def _url_end(view: _View, begin: int, stops: str, level: int) -> int:
    """Return where a part of a URL ends: at one of `stops` that is encoded no more than the URL itself, or with the URL."""
    for found in re.compile(rf"[{re.escape(stops)}\s{_QUOTES}]").finditer(view.text, begin):
        if view.level(found.start()) <= level:
            return found.start()
    return len(view.text)
