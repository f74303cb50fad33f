"""Puts messages into a folder or object storage: a subfolder for each, with its text and its files."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

from pipelines.evidence.delivery.message import Message
from warehouse import config
from warehouse.errors import DeliveryError, LakeError
from warehouse.lake import outside


def put(target: config.Delivery, message: Message, *, now: datetime) -> None:
    """Write a message below a target's folder, the file message.json last. Raises ConfigError, DeliveryError.

    The subfolder is named by the day, the title and the message's id, so a message that is sent again replaces its own files.
    """
    folder = target.folder
    if folder is None:
        raise ValueError(f"{target.name} has no folder")
    name = f"{now.astimezone(UTC):%Y-%m-%d}-{_slug(message.line)}-{_slug(message.id)[:12]}"
    try:
        files = {f"{name}/{file.name}": file.read() for file in message.files}
    except OSError as error:
        raise DeliveryError(f"a file of the message cannot be read: {error}") from error
    described = {**message.facts, "title": message.line, "text": message.text, "time": now.isoformat(), "id": message.id}
    described["files"] = [file.name for file in message.files]
    files[f"{name}/message.json"] = (json.dumps(described, indent=2, ensure_ascii=False, default=str) + "\n").encode()
    try:
        outside.put(folder.url, folder.options, files)
    except LakeError as error:
        raise DeliveryError(str(error)) from error


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.casefold()).strip("-")[:60] or "message"
