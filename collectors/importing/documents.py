"""Reads consecutive JSON values over any number of lines, alone or in an array: pretty-printed output, `jq -s`, API exports.

The text arrives in pieces of any size; each complete object is returned as one line of JSON with the number of its first line.
Only the object that is not complete yet is held in memory.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

LONGEST_VALUE = 8 * 1024**2
"""A single JSON value or line longer than this many characters is not read."""
LONGEST_TOKEN = len(r"\ud83d\ude00")
"""No escape or literal of JSON is longer: an error this close to the end of a piece may be one that is merely cut off."""
LONGEST_BAD_TEXT = 16 * 1024
"""At most this many characters of text that is set aside are stored."""
_SPACE = re.compile(r"[\s,\x00\ufeff]*")
_RESUME = re.compile(r'^[ \t]*[{\[]|\{"flow":', re.MULTILINE)
_COMPACT = '{"flow":{"'
_DECODER = json.JSONDecoder()
_BREAKS_OFF = ("Unterminated string", "Expecting")


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of a file's text: its first line, counted from 1, and its bytes."""

    line: int
    content: bytes


@dataclass(frozen=True, slots=True)
class BadText:
    """Text that cannot be read, and the reason."""

    line: int
    reason: str
    content: bytes


class Document:
    """Reads consecutive JSON values. Once `is_over`, `rest` is the text from line `line` on: other text, or one flow per line."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.rest = ""
        self.is_over = False
        self._in_array = False
        self._skipping = False
        self._found_any = False
        self._counted = 0

    def feed(self, text: str, *, final: bool = False) -> list[Text | BadText]:
        """Return the values that `text` completes; `final` means that no more text follows."""
        self.rest += text
        found: list[Text | BadText] = []
        position = 0
        while True:
            if self._skipping:
                resume = _RESUME.search(self.rest, position)
                if resume is None:
                    self._move(len(self.rest))
                    return found
                position, self._skipping = resume.start(), False
            position = _SPACE.match(self.rest, position).end()  # type: ignore[union-attr]
            if position == len(self.rest):
                break
            here = self.rest[position]
            if here in "[]":
                if (here == "[") == self._in_array:
                    position = self._give_up(found, position, "not JSON: brackets do not match")
                    continue
                self._in_array = here == "["
                position += 1
            elif here == "{":
                if self._found_any and not self._in_array and self._begins_line(position) and self.rest.startswith(_COMPACT, position):
                    self.is_over = True
                    break
                try:
                    end = _DECODER.raw_decode(self.rest, position)[1]
                except (ValueError, RecursionError) as error:
                    if not final and self._may_go_on(error, position):
                        break
                    position = self._give_up(found, position, why_not_json(error))
                    continue
                content = self.rest[position:end].replace("\n", " ").replace("\r", " ")
                found.append(Text(self._line_of(position), content.encode("utf-8", "surrogateescape")))
                self._found_any = True
                position = end
            elif self._in_array:
                position = self._give_up(found, position, "not a flow: an array of something other than objects")
            else:
                self.is_over = True
                break
        self._move(position)
        return found

    def _begins_line(self, position: int) -> bool:
        return self.rest[max(position - 100, 0) : position].rstrip(" \t\r")[-1:] in ("", "\n")

    def _may_go_on(self, error: Exception, position: int) -> bool:
        """Return whether an unreadable value may merely be incomplete."""
        if len(self.rest) - position > LONGEST_VALUE or not isinstance(error, json.JSONDecodeError):
            return False
        return error.msg.startswith("Unterminated string") or error.pos >= len(self.rest.rstrip()) - LONGEST_TOKEN

    def _give_up(self, found: list[Text | BadText], position: int, reason: str) -> int:
        """Set text aside up to where another value may begin; return that position."""
        resume = _RESUME.search(self.rest, position + 1)
        end = resume.start() if resume else len(self.rest)
        self._found_any, self._skipping = True, resume is None
        content = self.rest[position : min(end, position + LONGEST_BAD_TEXT)].replace("\n", " ")
        found.append(BadText(self._line_of(position), reason, content.encode("utf-8", "surrogateescape")))
        return end

    def _line_of(self, position: int) -> int:
        """Return the line of a position, which must not precede an earlier position."""
        self.line += self.rest.count("\n", self._counted, position)
        self._counted = position
        return self.line

    def _move(self, position: int) -> None:
        self._line_of(position)
        self.rest = self.rest[position:]
        self._counted = 0


def why_not_json(error: Exception) -> str:
    """Return a reason that contains none of the text."""
    if isinstance(error, RecursionError):
        return "not JSON that can be read: nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "not JSON: the text is not valid UTF-8"
    if isinstance(error, json.JSONDecodeError):
        if (error.msg.startswith(_BREAKS_OFF) and error.pos >= len(error.doc.rstrip())) or error.msg.startswith("Unterminated string"):
            return "not JSON: it ends in the middle of a value"
        return f"not JSON: {error.msg.split(':')[0]} at character {error.pos + 1}"
    return "not JSON that can be read: a number in it is too long"
