"""Extracts Hubble's events from the lines of a file, also when log pipelines have wrapped them.

Supported: one event per line; a bare flow (`-o json` of old versions); JSON arrays and pretty-printed JSON; lines with a prefix
before the event (CRI, `kubectl logs --prefix`, grep, syslog); JSON whose message is the event (Docker's json-file, Loki, Fluent
Bit, Vector, Filebeat, ...). An event that a container runtime split into several lines is reassembled. Anything else is
refused with a description of it. Whether an event fits Hubble's schema is decided by collectors.importing.cleaning.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from collectors.hubble_api.flow import flow_pb2
from collectors.hubble_api.observer import observer_pb2
from collectors.importing.documents import LONGEST_BAD_TEXT, LONGEST_VALUE, BadText, Document, Text, why_not_json
from collectors.importing.text_forms import INCOMPLETE_JSON, describe, message_of_logfmt

_USUAL = b'{"flow":'
_BETWEEN_USUAL = b'}\n{"flow":'
_DOCUMENT_LINES = 200
_DEEPEST = 6
_KINDS = frozenset(
    name for one in observer_pb2.ExportEvent.DESCRIPTOR.oneofs_by_name["response_types"].fields for name in (one.name, one.json_name)
)
_FLOW_NAMES = frozenset(name for one in flow_pb2.Flow.DESCRIPTOR.fields for name in (one.name, one.json_name))
_ONLY_OF_FLOWS = frozenset(
    ("verdict", "IP", "l4", "l7", "event_type", "eventType", "traffic_direction", "trafficDirection", "drop_reason_desc", "is_reply")
)
_MESSAGES = (
    "log", "line", "message", "msg", "MESSAGE", "body", "event", "log_processed", "_source", "jsonPayload", "textPayload", "result",
    "_raw", "@message", "record", "json", "payload", "data", "content", "raw", "parsed",
)  # fmt: skip
"""Keys under which log pipelines put the original message."""
_CRI = re.compile(rb"^\S{10,40} (stdout|stderr) ([PF])(?::\S*)? (.*)$", re.DOTALL)
_ANSI = re.compile(rb"\x1b\[[\d;]*[mK]")


@dataclass(slots=True)
class Pieces:
    """The contents of some text of a file."""

    numbers: list[int] = field(default_factory=list)
    """The lines of `contents`, counted from 1."""
    contents: list[bytes] = field(default_factory=list)
    """Lines of JSON that look like an event with a flow, to be read in bulk."""
    events: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    """Parsed events with their lines."""
    bad: list[BadText] = field(default_factory=list)
    lines: int = 0


@dataclass(slots=True)
class _Unfinished:
    """The beginning of an event that ends in a later line."""

    line: int
    text: bytes


class Unwrapper:
    """Reads one file from beginning to end. Not thread-safe."""

    def __init__(self) -> None:
        self._next_line = 1
        self._rest = b""
        self._skips_line = False
        self._is_amid_line = False
        self._document: Document | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._unfinished: dict[tuple[str, str], _Unfinished] = {}

    def feed(self, block: bytes, *, final: bool = False) -> Pieces:
        """Return the contents of `block`, the next bytes of the text; `final` means that no more bytes follow."""
        pieces = Pieces()
        if self._skips_line:
            _, newline, block = block.partition(b"\n")
            if newline:
                self._skips_line, self._next_line, pieces.lines = False, self._next_line + 1, 1
        text = self._rest + block
        # Test whether all lines but the last look like exporters' lines: a hundredth of the cost of inspecting each.
        is_usual = text.startswith(_USUAL) and text.count(_BETWEEN_USUAL) == text.count(b"\n") - text.endswith(b"}\n")
        lines = text.split(b"\n")
        self._rest = lines.pop()
        if final and self._rest:
            lines.append(self._rest)
            self._rest = b""
        pieces.lines += len(lines)
        self._is_amid_line = self._is_amid_line and not lines
        first, self._next_line = self._next_line, self._next_line + len(lines)
        if self._document is None and is_usual and not final:
            pieces.numbers = list(range(first, first + len(lines)))
            pieces.contents = lines
        else:
            self._read_lines(pieces, lines, first)
        self._read_unfinished(pieces)
        if final:
            self._end(pieces)
        return pieces

    def read_json(self, pieces: Pieces, number: int, line: bytes, depth: int = 0) -> None:
        """Read a line of JSON that could not be read in bulk."""
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            self._read_not_json(pieces, number, line, depth, error)
            return
        self._read_value(pieces, number, value, line, depth)

    # Lines and documents ----------------------------------------------------------------------------------

    def _read_lines(self, pieces: Pieces, lines: list[bytes], first: int) -> None:
        place = 0
        while place < len(lines):
            number = first + place
            if self._document is None:
                if not _opens_document(lines[place]):
                    self._read_line(pieces, number, lines[place])
                    place += 1
                    continue
                self._open_document(number)
            some = lines[place : place + _DOCUMENT_LINES]
            document = self._feed_document(pieces, b"\n".join(some) + b"\n")
            place += len(some)
            if document is not None:
                place = document.line - first
                if place < len(lines):
                    lines[place] = document.rest.split("\n", 1)[0].encode("utf-8", "surrogateescape")

    def _open_document(self, number: int) -> None:
        self._document = Document(number)
        self._decoder.reset()

    def _feed_document(self, pieces: Pieces, text: bytes, *, final: bool = False) -> Document | None:
        """Close the document, if it is complete."""
        document = self._document
        if document is None:
            return None
        self._sort(pieces, document.feed(self._decoder.decode(text, final), final=final))
        if document.is_over:
            self._document = None
            return document
        return None

    def _sort(self, pieces: Pieces, found: Iterable[Text | BadText]) -> None:
        for one in found:
            if isinstance(one, BadText):
                pieces.bad.append(one)
            else:
                self._read_line(pieces, one.line, one.content)

    def _read_unfinished(self, pieces: Pieces) -> None:
        """Prevent a line without end from filling the memory."""
        if self._document is None and len(self._rest) > LONGEST_VALUE:
            if not self._rest.strip(b"\x00"):  # the hole of a sparse file
                self._rest = b""
                return
            if not self._rest.lstrip().startswith(b"["):
                self._set_aside(pieces, self._next_line, f"longer than {LONGEST_VALUE // 1024**2} MiB", self._rest)
                self._rest, self._skips_line = b"", True
                return
            self._open_document(self._next_line)
        if self._document is not None and self._rest:
            self._is_amid_line = True
            document = self._feed_document(pieces, self._rest)
            self._rest = document.rest.encode("utf-8", "surrogateescape") if document else b""

    def _end(self, pieces: Pieces) -> None:
        pieces.lines += self._is_amid_line
        self._feed_document(pieces, b"", final=True)
        for begun in self._unfinished.values():
            self._set_aside(pieces, begun.line, "not JSON: the last part of this line is missing", begun.text)
        self._unfinished.clear()

    # A line ------------------------------------------------------------------------------------------------

    def _read_line(self, pieces: Pieces, number: int, line: bytes, depth: int = 0) -> None:
        line = line.strip(b" \t\r\n\x00\xef\xbb\xbf")
        if b"\x1b" in line:
            line = _ANSI.sub(b"", line)
        if not line:
            return
        if line.startswith(b"{") and line.endswith(b"}") and b'"flow":' in line:
            pieces.numbers.append(number)
            pieces.contents.append(line)
        elif line.startswith((b"{", b"[", b'"')):
            self.read_json(pieces, number, line, depth)
        else:
            self._read_not_json(pieces, number, line, depth, None)

    def _read_not_json(self, pieces: Pieces, number: int, line: bytes, depth: int, error: Exception | None) -> None:
        cri = _CRI.match(line)
        if cri:
            self._join(pieces, ("cri", cri[1].decode()), number, cri[3], is_part=cri[2] == b"P", depth=depth)
            return
        start = line.find(_USUAL, 1) if line.startswith(b"{") else line.find(b'{"', 1)
        if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
            self._sort(pieces, self._several_values(number, line))
            return
        if start > 0 and line.endswith(b"}") and depth < _DEEPEST and _is_json(line[start:]):
            if error and line.startswith(b"{"):
                self._set_aside(pieces, number, "not JSON: an incomplete line, with another one after it", line[:start])
            self._read_line(pieces, number, line[start:], depth + 1)
            return
        text = line.decode("utf-8", "replace")
        message = message_of_logfmt(text)
        if message and depth < _DEEPEST and _is_json(message.encode()) and "{" in message:
            self._read_line(pieces, number, str(json.loads(message)).encode("utf-8", "replace"), depth + 1)
            return
        self._set_aside(pieces, number, why_not_json(error) if error and not _is_foreign(text) else describe(text), line)

    def _several_values(self, number: int, line: bytes) -> list[Text | BadText]:
        document = Document(number)
        found = document.feed(line.decode("utf-8", "surrogateescape"), final=True)
        if document.is_over:
            found.append(BadText(number, "not JSON: unexpected text after the end of the flow", document.rest.encode("utf-8", "replace")))
        return found

    # A JSON value ------------------------------------------------------------------------------------------

    def _read_value(self, pieces: Pieces, number: int, value: Any, line: bytes, depth: int) -> None:
        if depth > _DEEPEST:
            self._set_aside(pieces, number, "not a flow: wrapped too deeply", line)
        elif isinstance(value, list):
            for one in value:
                self._read_value(pieces, number, one, line if len(value) == 1 else _as_line(one), depth + 1)
        elif isinstance(value, str) and "{" in value:
            self._read_line(pieces, number, value.encode("utf-8", "replace"), depth + 1)
        elif not isinstance(value, dict):
            self._set_aside(pieces, number, "not a flow: JSON of something other than an object", line)
        elif is_event(value):
            pieces.events.append((number, value))
        elif is_bare_flow(value):
            pieces.events.append((number, {"flow": value}))
        else:
            self._read_wrapped(pieces, number, value, line, depth)

    def _read_wrapped(self, pieces: Pieces, number: int, value: dict[str, Any], line: bytes, depth: int) -> None:
        texts = [(key, value[key]) for key in _MESSAGES if isinstance(value.get(key), str)]
        holder = next((value[key] for key in _MESSAGES if isinstance(value.get(key), dict) and holds_event(value[key])), None)
        if holder is not None:
            self._read_value(pieces, number, holder, line, depth + 1)
            return
        stream = str(value.get("stream", ""))
        chosen = next(((key, text) for key, text in texts if "{" in text or (key, stream) in self._unfinished), None)
        if chosen is None:
            path = path_to_event(value)
            how = f"; extract it first: jq {'-r' if path.startswith('-r') else '-c'} '{path.removeprefix('-r ')}' FILE" if path else ""
            what = "it is nested deeper in this JSON" if path else "has none of flow, lost_events, node_status, agent_event, debug_event"
            self._set_aside(pieces, number, f"not a flow: {what}{how}", line)
            return
        key, text = chosen
        is_part = value.get("logtag") == "P" or value.get("_partial") is True or value.get("partial_message") in (True, "true")
        # Docker's json-file does not mark parts: only the last one ends with a newline.
        if not is_part and key == "log" and "stream" in value and not text.endswith("\n"):
            begun = self._unfinished.get((key, stream))
            whole = text if begun is None else begun.text.decode("utf-8", "replace") + text
            is_part = whole.count("{") != whole.count("}")
        self._join(pieces, (key, stream), number, text.encode("utf-8", "replace"), is_part=is_part, depth=depth)

    def _join(self, pieces: Pieces, key: tuple[str, str], number: int, text: bytes, *, is_part: bool, depth: int) -> None:
        """Read a message, or store it until the rest of it arrives in later lines of the same stream."""
        begun = self._unfinished.pop(key, None)
        if begun is not None and text.startswith(_USUAL) and text.rstrip().endswith(b"}") and _is_json(text):
            self._set_aside(pieces, begun.line, "not JSON: the last part of this line is missing", begun.text)
        elif begun is not None:
            number, text = begun.line, begun.text + text
        if len(text) > LONGEST_VALUE:
            self._set_aside(pieces, number, f"longer than {LONGEST_VALUE // 1024**2} MiB", text)
        elif is_part:
            self._unfinished[key] = _Unfinished(number, text)
        elif depth > _DEEPEST:
            self._set_aside(pieces, number, "not a flow: wrapped too deeply", text)
        else:
            self._read_line(pieces, number, text, depth + 1)

    @staticmethod
    def _set_aside(pieces: Pieces, number: int, reason: str, line: bytes) -> None:
        pieces.bad.append(BadText(number, reason, line[:LONGEST_BAD_TEXT]))


def is_event(value: dict[str, Any]) -> bool:
    """Return whether an object has the structure of Hubble's events: a flow, a loss and so on under its own key."""
    return any(value.get(kind) is not None for kind in _KINDS & value.keys())


def is_bare_flow(value: dict[str, Any]) -> bool:
    """Return whether an object is a flow without an enclosing event."""
    names = _FLOW_NAMES & value.keys()
    ends = any(isinstance(value.get(end), dict) for end in ("source", "destination"))
    return len(names) >= 2 and (bool(_ONLY_OF_FLOWS & names) or (ends and len(names) * 2 > len(value)))


def holds_event(value: Any, depth: int = 0) -> bool:
    """Return whether a JSON value contains an event or a flow where this module looks for one."""
    if isinstance(value, str):
        return '"flow' in value or '"verdict' in value
    if not isinstance(value, dict) or depth > _DEEPEST:
        return False
    return is_event(value) or is_bare_flow(value) or any(holds_event(value[key], depth + 1) for key in _MESSAGES if key in value)


def path_to_event(value: Any, path: str = "", depth: int = 0) -> str:
    """Return jq's path to the first event in a JSON value, with `-r ` before it if the event is a string; empty if there is none."""
    if isinstance(value, str):
        return f"-r {path}" if path and '"flow"' in value and value.lstrip().startswith("{") else ""
    if depth > 2 * _DEEPEST:
        return ""
    if isinstance(value, dict):
        if path and (is_event(value) or is_bare_flow(value)):
            return path
        steps = [(one, f"{path}.{key}" if re.fullmatch(r"[A-Za-z_]\w{0,40}", key) else f'{path}["..."]') for key, one in value.items()]
    elif isinstance(value, list):
        steps = [(one, f"{path}[]" if path else ".[]") for one in value[-1:]]
    else:
        return ""
    return next((found for one, step in steps if (found := path_to_event(one, step, depth + 1))), "")


def _opens_document(line: bytes) -> bool:
    """Return whether a JSON value begins on a line and ends on a later one, or the line is only part of an array."""
    line = line.strip(b" \t\r\x00\xef\xbb\xbf")
    if line.startswith(b"{"):
        return line == b"{" or line.endswith((b",", b"{", b"["))
    return (line.startswith((b"[{", b"[ ")) and not line.endswith(b"]")) or line == b"["


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_foreign(text: str) -> bool:
    """Return whether text that begins like JSON has another known format."""
    return describe(text) != INCOMPLETE_JSON


def _as_line(value: Any) -> bytes:
    return json.dumps(value).encode()
