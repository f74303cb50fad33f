"""Runs the configured command that renders a folder of manifests, without a shell and with a time limit."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import IO

from warehouse.errors import ConfigError

MAX_OUTPUT_BYTES = 256 * 1024 * 1024
FOLDER = "{folder}"
"""A placeholder in arguments for the absolute path of the folder."""
_SHOWN_CHARACTERS = 2_000


def render(command: Sequence[str], folder: Path, time_limit: timedelta) -> str:
    """Run the command in the folder and return its output.

    Raises ConfigError with the end of its standard error if it fails, takes too long or writes too much.
    """
    arguments = [argument.replace(FOLDER, str(folder.resolve())) for argument in command]
    what = f"render: {shlex.join(command)}"
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            # A session of its own, so that the command's child processes end with it.
            process = subprocess.Popen(  # noqa: S603 - the administrator's own command, and no shell
                arguments, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=errors, start_new_session=True
            )
        except OSError as error:
            raise ConfigError(f"{what}: cannot run {arguments[0]}: {error.strerror}; is it installed and on the PATH?") from error
        try:
            code = process.wait(time_limit.total_seconds())
        except subprocess.TimeoutExpired as error:
            raise ConfigError(f"{what}: did not finish within {time_limit.total_seconds():g} s{_error_output(errors)}") from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if code != 0:
            raise ConfigError(f"{what}: failed with exit code {code}{_error_output(errors)}")
        size = output.seek(0, os.SEEK_END)
        if size > MAX_OUTPUT_BYTES:
            raise ConfigError(f"{what}: wrote {size:,} bytes, but at most {MAX_OUTPUT_BYTES:,} are read")
        output.seek(0)
        try:
            return output.read().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{what}: its output is not UTF-8: {error.reason} at byte {error.start}") from error


def _error_output(errors: IO[bytes]) -> str:
    """Return the end of the command's standard error, as part of an error message."""
    errors.seek(max(errors.seek(0, os.SEEK_END) - 4 * _SHOWN_CHARACTERS, 0))
    text = errors.read().decode("utf-8", "replace").strip()[-_SHOWN_CHARACTERS:]
    return f": {text}" if text else "; it wrote nothing to its standard error"
