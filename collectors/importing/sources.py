"""Finds the files to import and opens them as streams of UTF-8 text, whatever their names.

Compression (gzip, zstd, bzip2, xz) and encoding (UTF-8, UTF-16, UTF-32) are detected from a file's first bytes. Other formats
are refused with their name and a command that makes them readable. Interpreting the text does not belong here.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import os
import re
import stat
import sys
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa

from warehouse.errors import ImportFailedError

STANDARD_INPUT = "-"
READ_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)
"""The exceptions raised when a damaged compressed file is read."""
_HEAD_BYTES = 512
_BUFFER_BYTES = 128 * 1024
_NESTED_COMPRESSIONS = 3
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz"}
_REFUSED = (
    (0, b"PK\x03\x04", "is a ZIP archive", "unzip -p {file} | hindcast import ... -"),
    (257, b"ustar", "is a tar archive", "tar -xOf {file} | hindcast import ... -"),
    (0, b"7z\xbc\xaf\x27\x1c", "is a 7z archive", "7z x -so {file} | hindcast import ... -"),
    (0, b"\x04\x22\x4d\x18", "is compressed with lz4", "lz4 -dc {file} | hindcast import ... -"),
    (0, b"\x1f\x9d", "is compressed with compress", "zcat {file} | hindcast import ... -"),
    (0, b"\xff\x06\x00\x00sNaPpY", "is compressed with snappy", "snzip -dc {file} | hindcast import ... -"),
    (0, b"PAR1", "is a Parquet file", ""),
    (0, b"SQLite format 3\x00", "is an SQLite database", ""),
    (0, b"\xd4\xc3\xb2\xa1", "is a packet capture, which holds no flows of Hubble", ""),
    (0, b"\xa1\xb2\xc3\xd4", "is a packet capture, which holds no flows of Hubble", ""),
    (0, b"\x0a\x0d\x0d\x0a", "is a packet capture, which holds no flows of Hubble", ""),
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark has the same beginning
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_UNMARKED = (
    (re.compile(rb"[\x09-\x7e]\x00\x00\x00[\x09-\x7e]\x00\x00\x00"), "utf-32-le"),
    (re.compile(rb"\x00\x00\x00[\x09-\x7e]\x00\x00\x00[\x09-\x7e]"), "utf-32-be"),
    (re.compile(rb"[\x09-\x7e]\x00[\x09-\x7e]\x00"), "utf-16-le"),
    (re.compile(rb"\x00[\x09-\x7e]\x00[\x09-\x7e]"), "utf-16-be"),
)
_COMPRESSED_NAME = re.compile(r"\.(?:gz|zst|zstd|bz2|xz)$", re.IGNORECASE)
_ROTATED_NAME = re.compile(r"^(?P<base>.+?)(?:[.-](?P<date>\d{8}(?:[-_.T]?\d+)?)|\.(?P<number>\d{1,6}))$")


class Readable(Protocol):
    """A stream of bytes."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes; none at the end."""


@dataclass(frozen=True, kw_only=True)
class Unread:
    """A file or folder that is not read, and the reason."""

    source: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Found:
    """The files to import, in the order in which they were written as far as their names show it, and what is not read."""

    files: tuple[Path | str, ...]
    unread: tuple[Unread, ...]


def find_files(paths: Sequence[Path | str], *, leave_out: Sequence[Path] = ()) -> Found:
    """Find the files that paths name: files, folders with all files below them, `-` for standard input.

    What cannot be read is in `unread`: a missing path, an empty folder, a broken link, a folder without permission,
    a table of a lake. Files of `leave_out` (such as the quarantine) are skipped in folders.
    """
    files: list[Path | str] = []
    unread: list[Unread] = []
    passed_over = {path.resolve() for path in leave_out}
    for path in paths:
        if path == STANDARD_INPUT:
            files.append(STANDARD_INPUT)
        elif Path(path).is_dir():
            inside, refused = _find_below(Path(path), passed_over)
            if not inside and not refused:
                refused = [Unread(source=str(path), reason="there is no file in this folder")]
            files += inside
            unread += refused
        elif Path(path).exists():
            files.append(Path(path))
        else:
            what = "is a link to a file that is not there" if Path(path).is_symlink() else "there is no such file or folder"
            unread.append(Unread(source=str(path), reason=what))
    return Found(files=tuple(files), unread=tuple(unread))


def _find_below(folder: Path, passed_over: set[Path]) -> tuple[list[Path], list[Unread]]:
    unread: list[Unread] = []

    def note(error: OSError) -> None:
        unread.append(Unread(source=str(error.filename), reason=f"cannot be listed: {error.strerror}"))

    files: list[Path] = []
    for parent, below, names in os.walk(folder, onerror=note):
        if "_delta_log" in below:
            unread.append(Unread(source=parent, reason="is a table of a lake, not a folder of exporter files"))
            below.clear()
            continue
        for name in names:
            path = Path(parent) / name
            try:
                mode = path.stat().st_mode
            except OSError:
                unread.append(Unread(source=str(path), reason="is a link to a file that is not there"))
                continue
            if not stat.S_ISREG(mode):
                unread.append(Unread(source=str(path), reason="is not a regular file (name it to have it read)"))
            elif path.resolve() not in passed_over:
                files.append(path)
        unread += [
            Unread(source=str(path), reason="is a link to a folder: name it to have it read")
            for path in (Path(parent) / name for name in below)
            if path.is_symlink()
        ]
    return sorted(files, key=_order), unread


def _order(path: Path) -> tuple[str, str, int, str, int, str]:
    """Sort the files of a rotated set from the oldest to the one being written."""
    name = _COMPRESSED_NAME.sub("", path.name)
    rotated = _ROTATED_NAME.match(name)
    if rotated is None:
        return str(path.parent), name, 2, "", 0, path.name
    if rotated["date"]:
        return str(path.parent), rotated["base"], 1, rotated["date"], 0, path.name
    return str(path.parent), rotated["base"], 1, "", -int(rotated["number"]), path.name


@contextmanager
def open_text(path: Path | str) -> Iterator[Readable]:
    """Open the text of a file (or standard input) as UTF-8, decompressed.

    Raises ImportFailedError if it cannot be opened or has an unsupported format; reading raises one of READ_ERRORS.
    """
    with ExitStack() as stack:
        try:
            stream: Readable = sys.stdin.buffer if path == STANDARD_INPUT else stack.enter_context(Path(path).open("rb"))
            text = _as_utf8(*_decompressed(stream, path), path)
        except READ_ERRORS as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            raise ImportFailedError(f"{path}: cannot be read: {why}") from error
        yield text


def _decompressed(stream: Readable, path: Path | str) -> tuple[bytes, Readable]:
    """Return the first bytes of the content, and a stream of all of it."""
    for _ in range(_NESTED_COMPRESSIONS):
        head = _read_head(stream)
        for place, magic, what, command in _REFUSED:
            if head[place:].startswith(magic):
                advice = f"; unpack it first: {command.format(file=path)}" if command else ""
                raise ImportFailedError(f"{path}: {what}{advice}")
        whole: Any = io.BufferedReader(_Rejoined(head, stream), _BUFFER_BYTES)
        kind = next((kind for magic, kind in _COMPRESSIONS.items() if head.startswith(magic)), None)
        if kind is None:
            if isinstance(stream, io.BufferedReader) and stream.seekable():
                stream.seek(0)
                return head, stream
            return head, whole
        stream = _decompressor(kind, whole)
    raise ImportFailedError(f"{path}: is compressed more than {_NESTED_COMPRESSIONS} times; unpack it first")


def _decompressor(kind: str, stream: Any) -> Readable:
    match kind:
        case "gzip":
            return cast(Readable, gzip.GzipFile(fileobj=stream))
        case "bzip2":
            return bz2.BZ2File(stream)
        case "xz":
            return lzma.LZMAFile(stream)
        case _:
            zstd: Readable = pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")
            return zstd


def _read_head(stream: Readable) -> bytes:
    head = b""
    while len(head) < _HEAD_BYTES and (more := stream.read(_HEAD_BYTES - len(head))):
        head += more
    return head


def _as_utf8(head: bytes, stream: Readable, path: Path | str) -> Readable:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            stream.read(len(mark))
            return stream if encoding == "utf-8" else _Recoded(stream, encoding)
    for pattern, encoding in _UNMARKED:
        if pattern.match(head):
            return _Recoded(stream, encoding)
    # Log rotation by copying leaves zero bytes at the beginning of the file, which do not indicate binary content.
    if re.search(rb"[\x00-\x06\x0e-\x1a]", head.lstrip(b"\x00")):
        raise ImportFailedError(f"{path}: is a binary file, not text")
    return stream


class _Rejoined(io.RawIOBase):
    """A stream that first returns the bytes that were already read from it."""

    def __init__(self, head: bytes, stream: Readable) -> None:
        super().__init__()
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._head[: len(buffer)] or self._stream.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(data)] = data
        return len(data)


class _Recoded:
    """Return the text of a stream in another encoding as UTF-8; invalid parts become U+FFFD."""

    def __init__(self, stream: Readable, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="replace")

    def read(self, size: int, /) -> bytes:
        while True:
            data = self._stream.read(size)
            text = self._decoder.decode(data, final=not data)
            if text or not data:
                return text.encode()
