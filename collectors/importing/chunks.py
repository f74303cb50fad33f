"""Converts the text of a file into chunks of encoded flows with their line numbers, and collects text that is not a flow.

Lines as exporters write them are read in bulk. If a bulk cannot be read, it is halved until few lines are left; those are
parsed and cleaned one by one, and the flows among them are read in bulk again.
"""

from __future__ import annotations

import collections
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from collectors.importing import cleaning, json_lines
from collectors.importing.documents import LONGEST_BAD_TEXT, BadText
from collectors.importing.sources import READ_ERRORS, Readable
from collectors.importing.wrappings import Pieces, Unwrapper

BLOCK_BYTES = 16 * 1024**2
_READ_BYTES = 128 * 1024
FEW_LINES = 200
"""Batches of at most this many lines are read line by line when one of them is unusual."""
_WORTH_A_BULK = 20

_Lines = tuple[list[int], list[bytes]]


@dataclass(kw_only=True)
class Chunk:
    """The contents of one block of a file's text."""

    blocks: list[bytes] = field(default_factory=list)
    """The text itself."""
    messages: pa.BinaryArray = field(default_factory=lambda: pa.array([], pa.binary()))
    """Encoded Flow messages."""
    lines: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """The line number of each flow."""
    losses: list[tuple[int, dict[str, Any], str, str | None]] = field(default_factory=list)
    """Lost events: line, content in protobuf's JSON form, node and time of the enclosing event."""
    bad: list[BadText] = field(default_factory=list)
    unknown: collections.Counter[str] = field(default_factory=collections.Counter)
    other: int = 0
    line_count: int = 0


def read_chunks(stream: Readable, redact: Callable[[Any], Any]) -> Iterator[Chunk]:
    """Yield the chunks of a text. `redact` removes secrets from JSON values that are stored. Before an error, yields what was read."""
    unwrapper, bulk = Unwrapper(), json_lines.Reader()
    failure: Exception | None = None
    while True:
        parts: list[bytes] = []
        try:
            left = BLOCK_BYTES
            while left > 0 and (part := stream.read(min(_READ_BYTES, BLOCK_BYTES))):
                parts.append(part)
                left -= len(part)
        except READ_ERRORS as error:
            failure = error
        block = b"".join(parts)
        pieces = unwrapper.feed(block, final=not block and failure is None)
        yield _Encoder(unwrapper, bulk, redact).encode(pieces, block)
        if failure:
            raise failure
        if not block:
            return


class _Encoder:
    """Builds one chunk."""

    def __init__(self, unwrapper: Unwrapper, bulk: json_lines.Reader, redact: Callable[[Any], Any]) -> None:
        self._unwrapper = unwrapper
        self._bulk = bulk
        self._redact = redact
        self._chunk = Chunk()
        self._parts: list[pa.BinaryArray] = []
        self._numbers: list[npt.NDArray[np.int64]] = []

    def encode(self, pieces: Pieces, block: bytes) -> Chunk:
        chunk = self._chunk
        chunk.blocks, chunk.line_count, chunk.bad = [block], pieces.lines, pieces.bad
        while pieces.contents or pieces.events:
            left = self._in_bulk(pieces.numbers, pieces.contents)
            parsed = Pieces(events=pieces.events, bad=chunk.bad)
            for number, content in zip(*left, strict=True):
                self._unwrapper.read_json(parsed, number, content)
            self._read_events(parsed)
            pieces = Pieces(numbers=parsed.numbers, contents=parsed.contents)  # flows found within those lines
        chunk.bad.sort(key=lambda bad: bad.line)
        if self._parts:
            chunk.messages = pa.concat_arrays(self._parts)
            chunk.lines = np.concatenate(self._numbers)
        return chunk

    def _in_bulk(self, numbers: Sequence[int], lines: Sequence[bytes]) -> _Lines:
        """Read lines in bulk; return those that have to be read one by one."""
        left: _Lines = [], []
        waiting = [(numbers, lines)] if lines else []
        while waiting:
            numbers, lines = waiting.pop()
            encoded = self._bulk.encode(lines)
            if encoded is not None:
                places = np.array(encoded.places, np.int64)
                self._parts.append(encoded.messages)
                self._numbers.append(np.array(numbers, np.int64)[places])
                self._chunk.unknown.update(encoded.unknown)
                for place in encoded.left:
                    left[0].append(numbers[place])
                    left[1].append(lines[place])
            elif len(lines) > FEW_LINES:
                middle = len(lines) // 2
                waiting += [(numbers[middle:], lines[middle:]), (numbers[:middle], lines[:middle])]
            else:
                left[0].extend(numbers)
                left[1].extend(lines)
        return left

    def _read_events(self, pieces: Pieces) -> None:
        """Clean parsed events and encode their flows."""
        numbers, flows = [], []
        for number, event in pieces.events:
            try:
                clean = cleaning.clean_event(event, self._redact)
            except (cleaning.MalformedError, RecursionError) as error:
                self._set_aside(number, event, str(error) if isinstance(error, cleaning.MalformedError) else "nested too deeply")
                continue
            self._chunk.unknown.update(clean.unknown)
            if clean.kind == "flow":
                numbers.append(number)
                flows.append(clean)
            elif clean.kind == "lost_events":
                self._chunk.losses.append((number, clean.content, clean.node_name, clean.time))
            else:
                self._chunk.other += 1
        rare = [place for place, clean in enumerate(flows) if clean.extensions or len(flows) < _WORTH_A_BULK]
        usual = sorted(set(range(len(flows))) - set(rare))
        left = self._in_bulk([numbers[place] for place in usual], [cleaning.to_line(flows[place]) for place in usual])
        for number, line in zip(*left, strict=True):
            self._encode_one(number, cleaning.CleanEvent(kind="flow", content=json.loads(line)["flow"]))
        for place in rare:
            self._encode_one(numbers[place], flows[place])

    def _encode_one(self, number: int, clean: cleaning.CleanEvent) -> None:
        try:
            message = cleaning.encode_flow(clean)
        except cleaning.MalformedError as error:
            self._set_aside(number, {"flow": clean.content}, str(error))
            return
        self._parts.append(pa.array([message], pa.binary()))
        self._numbers.append(np.array([number], np.int64))

    def _set_aside(self, number: int, event: dict[str, Any], reason: str) -> None:
        try:
            content = json.dumps(event, ensure_ascii=False).encode("utf-8", "backslashreplace")
        except RecursionError:
            content = b""
        self._chunk.bad.append(BadText(number, reason, content[:LONGEST_BAD_TEXT]))
