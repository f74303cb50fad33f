"""Posts messages as JSON to webhooks, generic or in Slack's form. A redirect is never followed; errors name only the host."""

from __future__ import annotations

import hashlib
import ipaddress
import json
import urllib.parse
import urllib.request
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import urllib3

from pipelines.evidence.delivery.message import Message
from warehouse import config
from warehouse.errors import ConfigError, DeliveryError, DeliveryRefusedError

_TRY_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_LONGEST_SLACK = 35_000
"""Characters; Slack refuses texts of more than 40,000."""


def post(target: config.Delivery, message: Message) -> None:
    """Post a message to a target with a webhook. Raises ConfigError, DeliveryError."""
    hook = target.webhook or target.slack
    if hook is None:
        raise ValueError(f"{target.name} has no webhook")
    body = _slack(message) if target.slack is not None else _generic(message)
    url = checked(hook.url(), "the webhook's address")
    send(url, body, bearer=hook.bearer(), ca=hook.ca, seconds=target.timeout.total_seconds())


def send(url: str, body: Any, *, bearer: str | None, ca: Path | None, seconds: float) -> None:
    """Post JSON to an address. Raises DeliveryError."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    host = urllib.parse.urlsplit(url).hostname or ""
    timeout = urllib3.Timeout(connect=seconds, read=seconds)
    pool = _pool(host, str(ca) if ca else None)
    content = json.dumps(body, ensure_ascii=False, default=str).encode()
    try:
        answer = pool.request(
            "POST", url, body=content, headers=headers, timeout=timeout, retries=False, redirect=False, preload_content=False
        )
        answer.close()
    except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
        raise DeliveryError(f"{host} cannot be reached: {_reason(error)}") from None
    finally:
        pool.clear()
    if answer.status in range(300, 400):
        raise DeliveryRefusedError(
            f"{host} answered {answer.status}: it redirects to another address, which is not followed; configure the address itself"
        )
    if not 200 <= answer.status < 300:
        failed = DeliveryError if answer.status in _TRY_AGAIN else DeliveryRefusedError
        raise failed(f"{host} answered {answer.status} {answer.reason or ''}".rstrip())


def checked(url: str, what: str) -> str:
    """Return an address. Raises ConfigError unless it begins with https://, or http:// on loopback."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(parts.hostname)):
        raise ConfigError(f"{what} must begin with https://; http:// is allowed for loopback only")
    return url


def _pool(host: str, ca: str | None) -> urllib3.PoolManager:
    proxy = None if _is_loopback(host) or urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https")
    return urllib3.ProxyManager(proxy, ca_certs=ca) if proxy else urllib3.PoolManager(ca_certs=ca)


def _reason(error: BaseException) -> str:
    """Return the kind of failure and, if the system says it, the reason; never the address."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return {"ReadTimeoutError": "it does not answer in time", "ConnectTimeoutError": "no connection in time"}.get(
        type(error).__name__, type(error).__name__
    )


def _generic(message: Message) -> Mapping[str, Any]:
    files = []
    for file in message.files:
        content = file.read()
        files.append({"name": file.name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()})
    return {
        **message.facts,
        "title": message.line,
        "text": message.text,
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "id": message.id,
        "files": files,
    }


def _slack(message: Message) -> Mapping[str, Any]:
    lines = [f"*{_escaped(message.line)}*", _escaped(message.text)]
    lines += [f"file: {_escaped(file.name)}" for file in message.files]
    return {"text": "\n".join(lines)[:_LONGEST_SLACK]}


def _escaped(text: str) -> str:
    """Escape what Slack would read as a link or a mention."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False
