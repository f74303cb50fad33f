"""Files and folders of policies, as the commands of `hindcast policy` read them."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from hindcast.console import messages
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.policy.reading import Document

_SUFFIXES = (".yaml", ".yml", ".json")


def read_policies(path: Path) -> list[Document]:
    """Return the manifests in a file, or in all YAML and JSON files below a folder.

    In a folder, Helm templates and files without manifests are skipped; a message counts them.

    Raises:
        ConfigError: nothing can be read there, or a file is neither YAML nor JSON.
    """
    from pipelines.policy.documents import read_documents

    if not path.is_dir():
        return read_documents(text_of(path), str(path))
    found: list[Document] = []
    passed_over: Counter[tuple[str, str]] = Counter()
    for file in files_of(path):
        text = text_of(file)
        try:
            found.extend(read_documents(text, str(file)))
        except ConfigError:
            if "{{" in text:
                passed_over["template of Helm, to be rendered first", "templates of Helm, to be rendered first"] += 1
            elif not _mentions_a_kind(text):
                passed_over["file without manifests", "files without manifests"] += 1
            else:
                raise
    for (one, many), count in passed_over.items():
        messages.print(f"{path}: passed over {counted(count, one, many)}", markup=False, style="yellow")
    return found


def _mentions_a_kind(text: str) -> bool:
    return any(line.startswith(("kind:", '"kind"', "{")) for line in text.splitlines())


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or all YAML and JSON files below a folder. Raises ConfigError for a folder without any."""
    if not path.is_dir():
        return [path]
    found = sorted(one for one in path.rglob("*") if one.suffix in _SUFFIXES and one.is_file())
    if not found:
        raise ConfigError(f"{path}: the folder has no {', '.join(_SUFFIXES)} file")
    return found


def text_of(path: Path) -> str:
    """Return the text of a file. Raises ConfigError if it cannot be read, or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text") from error


def write_text(text: str, file: Path | None) -> None:
    """Write text to a file, or to standard output. Raises ConfigError if the file cannot be written."""
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--file {file}: cannot be written: {error.strerror}") from error
