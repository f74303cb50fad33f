"""The files of a table in object storage, as a file system for pyarrow.

deltalake's own handler holds the interpreter while it waits for the store: threads that read streams, serve requests or download side
by side would stand still. obstore does not, and it asks less often: a small file is one request to write and one to read.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import obstore
import pyarrow as pa
import pyarrow.fs as pafs
from obstore import exceptions

WHOLE_BYTES = 16 * 1024**2
"""A file up to this size is read with one request; of a larger one only what is needed, READ_BYTES at a time."""
READ_BYTES = 4 * 1024**2
PART_BYTES = 8 * 1024**2
"""A file up to this size is written with one request, a larger one in parts of this size."""


class ObjectFiles(pafs.FileSystemHandler):  # type: ignore[misc]
    """Files below a prefix of a store. There are no folders, so none are created."""

    def __init__(self, objects: Any) -> None:
        """`objects` is a store of obstore."""
        self._objects = objects

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def get_type_name(self) -> str:
        """Return the name of this kind of file system."""
        return "object storage"

    def normalize_path(self, path: str) -> str:
        """Return a path as it is."""
        return path

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        """Return what is known of each of these files."""
        return [self._info(path) for path in paths]

    def get_file_info_selector(self, selector: pafs.FileSelector) -> list[pafs.FileInfo]:
        """Return the files below a prefix."""
        prefix = selector.base_dir.rstrip("/")
        with _as_os_errors():
            if selector.recursive:
                found = [meta for batch in obstore.list(self._objects, prefix or None) for meta in batch]
            else:
                found = list(obstore.list_with_delimiter(self._objects, prefix or None)["objects"])
        return [_described(meta["path"], meta["size"], meta["last_modified"]) for meta in found]

    def create_dir(self, path: str, recursive: bool) -> None:
        """Do nothing."""

    def delete_file(self, path: str) -> None:
        """Delete a file."""
        with _as_os_errors():
            obstore.delete(self._objects, path)

    def delete_dir(self, path: str) -> None:
        """Delete the files below a prefix."""
        with _as_os_errors():
            for batch in obstore.list(self._objects, path.rstrip("/")):
                obstore.delete(self._objects, [meta["path"] for meta in batch])

    def move(self, source: str, target: str) -> None:
        """Give a file another path: the store copies it, and it is deleted there."""
        with _as_os_errors():
            obstore.rename(self._objects, source, target)

    def open_input_stream(self, path: str) -> pa.NativeFile:
        """Open a file of which everything is read."""
        with _as_os_errors():
            return pa.BufferReader(pa.py_buffer(obstore.get(self._objects, path).bytes()))

    def open_input_file(self, path: str) -> pa.NativeFile:
        """Open a file of which some may be read."""
        with _as_os_errors():
            found = obstore.get(self._objects, path)
            if found.meta["size"] <= WHOLE_BYTES:
                return pa.BufferReader(pa.py_buffer(found.bytes()))
            return pa.PythonFile(_Download(obstore.open_reader(self._objects, path, buffer_size=READ_BYTES)), mode="r")

    def open_output_stream(self, path: str, metadata: dict[str, str] | None) -> pa.NativeFile:
        """Open a file to be written; it appears once it is closed."""
        return pa.PythonFile(_Upload(obstore.open_writer(self._objects, path, buffer_size=PART_BYTES)), mode="w")

    def _info(self, path: str) -> pafs.FileInfo:
        try:
            with _as_os_errors():
                meta = obstore.head(self._objects, path)
        except FileNotFoundError:
            return pafs.FileInfo(path, pafs.FileType.NotFound)
        return _described(path, meta["size"], meta["last_modified"])

    def _refuse(self, *_arguments: object) -> None:
        raise NotImplementedError("files of a table are written, read, moved and deleted, nothing else")

    delete_dir_contents = delete_root_dir_contents = copy_file = open_append_stream = _refuse


class _Download(io.RawIOBase):
    """A file that is read in pieces."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return int(self._reader.seek(offset, whence))

    def tell(self) -> int:
        return int(self._reader.tell())

    def size(self) -> int:
        return int(self._reader.size)

    def read(self, size: int = -1) -> bytes:
        with _as_os_errors():
            return bytes(self._reader.read(None if size < 0 else size))


class _Upload(io.RawIOBase):
    """A file that is being written."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        with _as_os_errors():
            return int(self._writer.write(bytes(content)))

    def close(self) -> None:
        if not self.closed:
            super().close()
            with _as_os_errors():
                self._writer.close()


@contextlib.contextmanager
def _as_os_errors() -> Iterator[None]:
    """Context in which errors of the store are raised as OSError, and FileNotFoundError for what does not exist."""
    try:
        yield
    except exceptions.NotFoundError as error:
        raise FileNotFoundError(str(error)) from error
    except exceptions.BaseError as error:
        raise OSError(str(error)) from error


def _described(path: str, size: int, modified: datetime) -> pafs.FileInfo:
    return pafs.FileInfo(path, pafs.FileType.File, size=size, mtime=modified)
