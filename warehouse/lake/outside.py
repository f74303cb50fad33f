"""Folders and object storage outside the lake's tables, where files are put for others to read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow.fs as pafs

from warehouse.errors import LakeError
from warehouse.lake import remote
from warehouse.lake.handles import FAILURES


def put(url: str, options: Mapping[str, str], files: Mapping[str, bytes]) -> None:
    """Write files below a folder or a prefix of object storage, given by their paths below it; each appears whole or not at all.

    Options of the form env:NAME and file:PATH are read from there. Raises LakeError naming the address and the file, and ConfigError if
    a variable is not set.
    """
    known = remote.resolved(options)
    for path, content in files.items():
        try:
            if "://" in url:
                _upload(remote.files(url, known), path, content)
            else:
                _write(Path(url, path), content)
        except FAILURES as error:
            raise LakeError(f"{url}: {path} cannot be written: {remote.explained(error)}") from error


def _upload(filesystem: pafs.FileSystem, path: str, content: bytes) -> None:
    with filesystem.open_output_stream(path) as stream:
        stream.write(content)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(content)
    part.replace(path)
