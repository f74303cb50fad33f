"""Object storage that holds a lake: the settings of its client, the proof that it keeps commits apart, and what its errors mean.

Two processes that commit to a table at once write the same name, and the store must refuse the second. A store that overwrites
instead would lose the first one's rows, so it is refused before anything is written to it.
"""

from __future__ import annotations

import contextlib
import re
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from xml.sax import saxutils

import pyarrow.fs as pafs
from deltalake.fs import DeltaStorageHandler

from warehouse import config
from warehouse.errors import ConfigError, LakeError

DEFAULTS = {"connect_timeout": "5s", "timeout": "30s", "retry_timeout": "30s"}
"""Limits of a request that `lake.options` does not set. Requests are repeated for `retry_timeout` in all; the collector then turns to
its spool, so waiting longer would only keep it from reading its streams."""
_CLIENT = re.compile(r"allow_http|allow_invalid_certificates|connect_timeout|timeout|pool_.*|proxy_.*|http1_only|http2_.*|user_agent")
_RETRIES = re.compile(r"max_retries|retry_timeout|backoff_config\..*")
_LOCKS = "aws_s3_locking_provider"
_DELTA_ONLY = re.compile(r"aws_s3_allow_unsafe_rename|aws_s3_locking_provider|delta_dynamo.*|dynamo.*|conditional_put|copy_if_not_exists")
_PREFIXES = re.compile(r"^(aws|azure|google)_")
_ESCAPES = re.compile(r"\x1b\[\d+m")
_CODE = re.compile(r"<Code>(.*?)</Code>(?:.*?<Message>(.*?)</Message>)?", re.DOTALL)
_KEY = "the access key is not known to this store: correct AWS_ACCESS_KEY_ID, or AWS_ENDPOINT_URL"
_REGION = "the bucket lies in another region: correct AWS_REGION in lake.options"
_ADVICE = {
    "NoSuchBucket": "create the bucket, or correct lake.url",
    "InvalidAccessKeyId": _KEY,
    "XAdminUserNotFound": _KEY,
    "SignatureDoesNotMatch": "the secret key does not belong to the access key: correct AWS_SECRET_ACCESS_KEY",
    "ExpiredToken": "the credentials have expired: renew them",
    "AccessDenied": "these credentials lack a right: reading, writing, listing and deleting below lake.url are needed",
    "RequestTimeTooSkewed": "the clock of this machine and that of the store differ by too much: set this machine's clock (NTP)",
    "AuthorizationHeaderMalformed": _REGION,
    "PermanentRedirect": _REGION,
    "IllegalLocationConstraintException": _REGION,
    "SlowDown": "the store asks for fewer requests: it was tried again until retry_timeout",
}
_RETRY_NAMES: Mapping[str, Callable[[str], Any]] = {"max_retries": int, "retry_timeout": config.parse_duration}
_proven: set[tuple[str, str]] = set()


def resolved(options: Mapping[str, str]) -> dict[str, str]:
    """Return options of an object store with the secrets that `env:NAME` (a variable) and `file:PATH` refer to. Raises ConfigError."""
    found = {}
    for name, value in options.items():
        kind, _, where = value.partition(":")
        if kind == "env":
            value = config.read_secret(None, where)
        elif kind == "file":
            value = config.read_secret(Path(where), None)
        found[name] = value
    return found


def with_limits(options: Mapping[str, str]) -> dict[str, str]:
    """Return options with the limits of DEFAULTS, unless they set their own."""
    named = {name.lower() for name in options}
    return {name: value for name, value in DEFAULTS.items() if name not in named} | dict(options)


def require_conditional_puts(url: str, options: Mapping[str, str]) -> None:
    """Raise ConfigError unless the store refuses to overwrite an object that must be new; a process proves it once for a store.

    Nothing can be proven with credentials that may not write; then nothing can be committed either. Raises LakeError if the store
    cannot be used.
    """
    names = {name.lower() for name in options}
    where = (url, options.get("AWS_ENDPOINT_URL", ""))
    if where in _proven or _LOCKS in names or "://" not in url or url.startswith("file://"):
        return
    from obstore import exceptions  # only lakes in object storage need it

    path = f"_hindcast/{uuid.uuid4().hex}"
    try:
        objects, is_kept = _client(url, options), False
        try:
            for content in (b"first", b"second"):
                objects.put(path, content, mode="create")
        except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
            is_kept = True  # also if it is the first: its answer was lost, and it was tried again
        with contextlib.suppress(exceptions.BaseError, OSError):
            objects.delete(path)
    except exceptions.PermissionDeniedError:
        return
    except (exceptions.BaseError, OSError, ValueError) as error:
        raise LakeError(f"the lake at {url} cannot be used: {explained(error)}") from error
    if not is_kept:
        raise ConfigError(
            f"the lake at {url} cannot be used: this store ignores conditional puts (If-None-Match: *) and overwrote an object that must "
            "be new. Two processes that commit at once would lose flows. Use a store with conditional puts, or a newer version of it"
        )
    _proven.add(where)


def explained(error: BaseException) -> str:
    """Return what an error of the object store says, in one line: its code, its message, and what to do about it."""
    text = _ESCAPES.sub("", str(error))
    found = _CODE.search(text)
    if found is not None:
        code, message = found[1], saxutils.unescape(found[2] or "", {"&#34;": '"', "&#39;": "'", "&quot;": '"'})
        said = f"the store answered {code}" + (f": {message.strip().rstrip('.')}" if message else "")
        return f"{said}. {advice[0].upper()}{advice[1:]}" if (advice := _ADVICE.get(code)) else said
    text = re.sub(r"\s*(↳\s*)?\s+", " ", text).strip()
    if "169.254.169.254" in text or "169.254.170.2" in text or "metadata.google.internal" in text:
        return (
            "no credentials were found: give them in lake.options (env:NAME or file:PATH), in the environment's variables, or by the "
            f"identity of the pod or machine ({text})"
        )
    said = text.partition(" Debug source:")[0]  # what follows says the same in the notation of the client's code
    if "Connect" in text or "dns error" in text:
        return f"{said}. Is the store running, and is AWS_ENDPOINT_URL its address?"
    return said


def files(url: str, options: Mapping[str, str]) -> pafs.FileSystem:
    """Return the file system of the files below an address. Raises ConfigError for options that the store's client does not know."""
    if url.startswith("file://"):
        return pafs.PyFileSystem(DeltaStorageHandler(url, dict(options)))
    from warehouse.lake.object_files import ObjectFiles  # only lakes in object storage need it

    return pafs.PyFileSystem(ObjectFiles(_client(url, options)))


def _client(url: str, options: Mapping[str, str]) -> Any:
    """Return a client with the options that deltalake takes, which names all kinds of them alike."""
    from obstore import exceptions, store

    from_url: Any = store.from_url  # its types name every option of every store
    client: dict[str, Any] = {}
    retries: dict[str, Any] = {}
    settings: dict[str, str] = {}
    for name, value in options.items():
        lower = name.lower()
        plain = _PREFIXES.sub("", lower)
        if plain.startswith("endpoint") and not re.fullmatch(r"https?://[\w.:\[\]-]+(/[\w./-]*)?", value):
            raise ConfigError(f"lake.options.{name} of {url}: {value!r} is not an address like https://host:port")
        if _CLIENT.fullmatch(plain):
            client[plain] = value
        elif plain in _RETRY_NAMES:
            retries[plain] = _RETRY_NAMES[plain](value)
        elif not (_RETRIES.fullmatch(plain) or _DELTA_ONLY.fullmatch(lower)):
            settings[lower] = value
    try:
        return from_url(url, config=settings, client_options=client, retry_config=retries or None)
    except (exceptions.BaseError, ValueError) as error:
        raise ConfigError(f"lake.options of {url}: {explained(error)}") from error
