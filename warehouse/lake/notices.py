"""Small named texts beside the tables: each is written by one process only, and read by all of them.

They are no table: nothing is kept of an older text, and nothing of them is in a log. What they say does not belong here.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.fs as pafs
from deltalake.exceptions import DeltaError

from warehouse import config
from warehouse.errors import LakeError
from warehouse.lake import remote

_FAILURES = (DeltaError, OSError, ValueError, pa.ArrowException)
_UNFINISHED = ".unfinished"


class Notices:
    """The texts in one folder of a lake that exists. Opens nothing until it is used; may be shared by threads."""

    def __init__(self, settings: config.Lake, folder: str) -> None:
        """`folder` is a name that no table has. Raises ConfigError if an option names a variable or a file that is not there."""
        self._is_local = settings.is_local
        url = str(Path(settings.url).absolute()) if settings.is_local else settings.url.rstrip("/")
        self._address = f"{url}/{folder}"
        self._options = remote.resolved(settings.options)
        self._opened: pafs.FileSystem | None = None

    def write(self, name: str, text: str) -> None:
        """Write a text, or replace it; a reader sees the old one or the new one. Raises LakeError."""
        try:
            target = name if not self._is_local else name + _UNFINISHED
            # Without a buffer of its own pyarrow hands deltalake an object that it does not take.
            with self._filesystem.open_output_stream(target, buffer_size=1 << 20) as stream:
                stream.write(text.encode())
            if target != name:
                self._filesystem.move(target, name)
        except _FAILURES as error:
            raise self._error(f"{name} cannot be written", error) from error

    def read(self) -> dict[str, str]:
        """Return every text by its name. Raises LakeError."""
        texts: dict[str, str] = {}
        try:
            found = self._filesystem.get_file_info(pafs.FileSelector("", allow_not_found=True))
            for info in found:
                if info.type == pafs.FileType.File and not info.base_name.endswith(_UNFINISHED):
                    try:
                        with self._filesystem.open_input_stream(info.path) as stream:
                            texts[info.base_name] = stream.read().decode("utf-8", "replace")
                    except FileNotFoundError:
                        continue  # removed since it was listed
        except _FAILURES as error:
            raise self._error("they cannot be read", error) from error
        return texts

    def remove(self, name: str) -> None:
        """Delete a text; one that is not there is fine. Raises LakeError."""
        try:
            self._filesystem.delete_file(name)
        except FileNotFoundError:
            return
        except _FAILURES as error:
            raise self._error(f"{name} cannot be deleted", error) from error

    @property
    def _filesystem(self) -> pafs.FileSystem:
        if self._opened is None:
            if self._is_local:
                Path(self._address).mkdir(exist_ok=True)  # not its parents: where the lake is not, no folder may be in its place
                self._opened = pafs.SubTreeFileSystem(self._address, pafs.LocalFileSystem())
            else:
                self._opened = remote.files(self._address, remote.with_limits(self._options))
        return self._opened

    def _error(self, what: str, error: BaseException) -> LakeError:
        return LakeError(f"notices at {self._address}: {what}: {error}")
