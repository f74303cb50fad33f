"""What is delivered: a message with its files, and the audience it may be shown to. Pure."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from warehouse.access.principals import Principal

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._ -]{0,199}")


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who may see everything in a message."""

    made_for: Principal
    """The principal with whose rights the message was made; the operator for one that was made without limits."""
    about: tuple[tuple[str, str], ...] = ()
    """(cluster, namespace): the owner of any one of these may see all of the message, too. Give it only if that is true of its text."""
    times: tuple[datetime, ...] = ()
    """The times that the message is about, at all of which that namespace must be owned; now if there are none."""

    @property
    def name(self) -> str:
        """The principal, for the log."""
        return self.made_for.user or ", ".join(sorted(self.made_for.subjects))


@dataclass(frozen=True, kw_only=True)
class File:
    """A file that goes with a message."""

    name: str
    """Its name, without folders."""
    content: bytes | Path
    """The bytes, or the local file that holds them."""
    media_type: str = "application/octet-stream"

    def __post_init__(self) -> None:
        """Refuse names that could lead out of a folder, or into the headers of an e-mail."""
        if not _FILE_NAME.fullmatch(self.name):
            raise ValueError(f"{self.name!r} cannot be the name of a file that is delivered")

    def read(self) -> bytes:
        """Return the bytes. Raises OSError."""
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()


@dataclass(frozen=True, kw_only=True)
class Message:
    """One message."""

    title: str
    text: str
    """Plain text."""
    audience: Audience
    files: tuple[File, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """More about it for programs, as JSON: keys that a generic webhook gets besides title, text, time, id and files."""
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    """What stays the same if the message is sent again."""
    tells: tuple[str, ...] = ()
    """Ids of what it tells, if it bundles several things: each of them has arrived once the message has."""

    @property
    def line(self) -> str:
        """The title as one line, for headers."""
        return " ".join(self.title.split())
