"""Requests to a cluster's API server. The only module that imports the `kubernetes` client.

Answers are plain JSON objects: building the client's typed models would cost more time and memory than everything else, and
would drop fields the client does not know. What to request, and the use of the answers, do not belong here.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import threading
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client
from kubernetes import config as kubernetes_config
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt, stop_before_delay, wait_exponential

from warehouse import config
from warehouse.errors import (
    ClusterConflictError,
    ClusterError,
    ClusterExpiredError,
    ClusterForbiddenError,
    ClusterMissingError,
    ClusterRefusedError,
    ClusterUnreachableError,
    ConfigError,
)

PAGE_OBJECTS = 500
"""Number of objects requested at a time: a page of pods is then some megabytes."""
PATIENCE_SECONDS = 30.0
"""How long a request that may succeed later is retried."""
TIMEOUT_SECONDS = (5.0, 60.0)
"""The time limit for connecting, and for each read."""
WATCH_SECONDS = 240
"""The API server ends a watch after this time, and it is resumed."""
SILENCE_SECONDS = 90.0
"""The API server sends a bookmark every minute: a watch that is silent for longer is broken."""
POOL_CONNECTIONS = 32
"""The most connections that stay open: a watch for each kind, and other requests besides."""
RESTARTS = 3
"""How often a list that expired between two pages is restarted."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
_AGAIN = {429, 500, 502, 503, 504}
_REFUSALS = {
    401: ClusterRefusedError,
    403: ClusterForbiddenError,
    404: ClusterMissingError,
    409: ClusterConflictError,
    410: ClusterExpiredError,
}
_WRONG_FIELD = "failed to create typed patch object"
"""How an API server begins to refuse a field that the kind does not have, when it is applied: with the status 500."""
_TEXT_CHARACTERS = 500


class _PassingError(Exception):
    """A failure that may pass, with the time that the server asks to wait."""

    def __init__(self, failure: ClusterError, wanted_pause_seconds: float = 0.0) -> None:
        super().__init__(str(failure))
        self.failure, self.wanted_pause_seconds = failure, wanted_pause_seconds


_growing_pause = wait_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS)


def _pause_seconds(state: RetryCallState) -> float:
    """Return the pause before the next try: increasing, with jitter, and at least what the server asks for."""
    error = state.outcome.exception() if state.outcome is not None else None
    wanted = error.wanted_pause_seconds if isinstance(error, _PassingError) else 0.0
    return max(wanted, _growing_pause(state) * random.uniform(0.5, 1.0))


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a watch. `type` is ADDED, MODIFIED, DELETED or BOOKMARK; a bookmark has only a resource version."""

    type: str
    object: dict[str, Any]

    @property
    def resource_version(self) -> str:
        """The resource version from which a watch continues after this event."""
        return str(self.object["metadata"]["resourceVersion"])


_SYSTEM = "system:"
_HEADER_TEXT = re.compile(r"[\x21-\x7e]+([ ][\x21-\x7e]+)*")
"""What a header can carry unchanged: visible ASCII, with single spaces inside."""


@dataclass(frozen=True, kw_only=True)
class Impersonated:
    """The user, and the groups, as which requests are made; the API server checks whether the credentials allow that."""

    user: str
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ConfigError for a name that a header cannot carry, and for Kubernetes' own users and groups."""
        for what, name in (("user", self.user), *(("group", group) for group in self.groups)):
            if name.startswith(_SYSTEM):
                raise ConfigError(f"the {what} {name!r} is one of Kubernetes' own, which Hindcast never acts as")
            if not _HEADER_TEXT.fullmatch(name):
                raise ConfigError(f"the {what} {name!r} cannot be impersonated: a header can only carry visible ASCII characters")

    def added_to(self, headers: Mapping[str, str]) -> MutableMapping[str, str]:
        """Return the headers with those that impersonate."""
        found = urllib3.HTTPHeaderDict(headers)
        found["Impersonate-User"] = self.user
        for group in self.groups:
            found.add("Impersonate-Group", group)
        return found


class ClusterAccess:
    """The API server of one cluster, reached as the configuration says. Thread-safe."""

    def __init__(
        self,
        settings: config.Kubernetes,
        *,
        cluster: str,
        patience_seconds: float = PATIENCE_SECONDS,
        impersonated: Impersonated | None = None,
    ) -> None:
        """`impersonated` is the user as which every request is made, if not as the credentials' own.

        Raises ConfigError if the kubeconfig or the pod's own credentials cannot be used.
        """
        self.cluster = cluster
        self.patience_seconds = patience_seconds
        self._impersonated = impersonated
        self._lock = threading.Lock()
        self._client = _client(settings, cluster)

    def close(self) -> None:
        """Close the connections."""
        self._client.rest_client.close()

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        retry: bool | None = None,
    ) -> dict[str, Any]:
        """Send one request and return its JSON answer.

        Reads are retried while the server is unreachable, overloaded or throttling (429), for `patience_seconds`; writes are
        retried only if `retry` says that repeating them is harmless. Raises ClusterUnreachableError,
        ClusterRefusedError (401), ClusterForbiddenError (403), ClusterMissingError (404), ClusterConflictError (409),
        ClusterExpiredError (410), ClusterError.
        """
        with self._open(method, path, query or {}, body, content_type, method == "GET" if retry is None else retry) as response:
            return _object(response, self._place(method, path))

    def list_pages(self, path: str, *, page: int = PAGE_OBJECTS, query: Mapping[str, str] | None = None) -> Iterator[ListPage]:
        """Yield the objects of a list in pages, all of one state of the cluster.

        If the continuation token expires, the list is restarted: a page with `begins` means that all earlier pages must be
        discarded. Raises ClusterExpiredError if that happens repeatedly, else as `request`.
        """
        for attempt in Retrying(retry=retry_if_exception_type(ClusterExpiredError), stop=stop_after_attempt(RESTARTS + 1), reraise=True):
            with attempt:
                going_on: dict[str, str] = {}
                while True:
                    answer = self.request("GET", path, query={**(query or {}), "limit": str(page), **going_on})
                    about = answer.get("metadata") or {}
                    yield ListPage(
                        items=answer.get("items") or [], begins=not going_on, resource_version=str(about.get("resourceVersion", ""))
                    )
                    if not about.get("continue"):
                        return
                    going_on = {"continue": about["continue"]}

    def watch(
        self, path: str, resource_version: str, *, query: Mapping[str, str] | None = None, stop: Callable[[], bool] = lambda: False
    ) -> Iterator[Event]:
        """Yield events after a resource version until the server ends the watch (after some minutes; resume from the last event).

        `query` must be that of the list, since rights to watch may cover only what it selects.
        At least a bookmark arrives every minute.

        Raises ClusterExpiredError if the resource version is too old (list again); else as `request`. A broken connection is
        a ClusterUnreachableError.
        """
        asked = {
            **(query or {}),
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        place = self._place("watch", path)
        with self._open("GET", path, asked, None, "application/json", True, read_seconds=SILENCE_SECONDS) as response:
            try:
                for line in _lines(response):
                    if stop():
                        return
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        status = event["object"]
                        raise _REFUSALS.get(status.get("code"), ClusterError)(f"{place}: {status.get('message')}")
                    yield Event(type=event["type"], object=event["object"])
            except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
                raise ClusterUnreachableError(f"{place}: the connection broke: {error}") from error

    def _place(self, method: str, path: str) -> str:
        return f"cluster {self.cluster}: {method} {self._client.configuration.host}{path}"

    @contextlib.contextmanager
    def _open(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any,
        content_type: str,
        retry: bool,
        read_seconds: float = TIMEOUT_SECONDS[1],
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Return the response of a successful request; its body is not read yet."""
        response = self._answer(method, path, query, body, content_type, retry, read_seconds)
        try:
            yield response
        finally:
            response.close()  # a response that was read to its end has already returned its connection

    def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str, retry: bool, read_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        tries = Retrying(
            retry=retry_if_exception_type(_PassingError),
            wait=_pause_seconds,
            stop=stop_before_delay(self.patience_seconds) if retry else stop_after_attempt(1),
            reraise=True,
        )
        try:
            return tries(self._try, method, path, query, body, content_type, read_seconds)
        except _PassingError as passing:
            raise passing.failure from passing.failure.__cause__

    def _try(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str, read_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        """Try once. Raises _PassingError for failures that may pass, ClusterError for any other."""
        place = self._place(method, path)
        try:
            response = self._send(method, path, query, body, content_type, read_seconds)
        except urllib3.exceptions.HTTPError as error:
            failure = ClusterUnreachableError(f"{place}: {_reason(error)}")
            failure.__cause__ = error
            if isinstance(_root(error), urllib3.exceptions.SSLError):
                raise failure from error  # retrying does not repair a certificate
            raise _PassingError(failure) from error
        if response.status < 300:
            return response
        refused, wanted_pause = _failure(response, place), _retry_after_seconds(response)
        response.release_conn()
        if isinstance(refused, ClusterUnreachableError):
            raise _PassingError(refused, wanted_pause)
        raise refused

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str, read_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            with self._lock:  # credentials may be renewed while the request is built
                method, url, sent_headers, sent_body, _ = self._client.param_serialize(
                    method, path, query_params=list(query.items()), header_params=headers, body=body, auth_settings=["BearerToken"]
                )
            as_user = sent_headers if self._impersonated is None else self._impersonated.added_to(sent_headers)
            answer = self._client.call_api(
                method, url, header_params=as_user, body=sent_body, _request_timeout=(TIMEOUT_SECONDS[0], read_seconds)
            )
        except kubernetes_config.ConfigException as error:
            raise ClusterRefusedError(f"{self._place(method, path)}: the credentials cannot be renewed: {error}") from error
        except client.ApiException as error:  # the client wraps TLS errors in this
            if isinstance(error.__cause__ or error.__context__, urllib3.exceptions.HTTPError):
                raise (error.__cause__ or error.__context__) from error  # type: ignore[misc]
            raise ClusterUnreachableError(f"{self._place(method, path)}: {error.reason}") from error
        response: urllib3.BaseHTTPResponse = answer.response
        return response


@dataclass(frozen=True, kw_only=True)
class ListPage:
    """A page of a list. `begins` is true for the first page, also of a restarted list."""

    items: list[dict[str, Any]]
    begins: bool
    resource_version: str
    """The resource version from which a watch continues after the last page."""


def _client(settings: config.Kubernetes, cluster: str) -> client.ApiClient:
    configuration = client.Configuration()
    configuration.retries = False  # this module retries by itself
    configuration.connection_pool_maxsize = POOL_CONNECTIONS
    place = f"cluster {cluster}: kubernetes"
    try:
        if settings.in_cluster:
            kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            file = settings.kubeconfig
            if file is not None and not Path(file).is_file():
                raise ConfigError(f"{place}.kubeconfig: the file {file} does not exist")
            # Renewed tokens are not written back, because the file is the user's.
            kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=None if file is None else str(file),
                context=settings.context,
                client_configuration=configuration,
                persist_config=False,
            )
    except ConfigError:
        raise
    except Exception as error:  # the loader raises whatever YAML, base64, OpenSSL and the file system raise
        what = "in_cluster" if settings.in_cluster else f"kubeconfig {settings.kubeconfig or 'of this user'}"
        raise ConfigError(f"{place}: {what} cannot be used: {_reason(error)}") from error
    api = client.ApiClient(configuration)
    api.user_agent = "hindcast"
    return api


def _object(response: urllib3.BaseHTTPResponse, place: str) -> dict[str, Any]:
    try:
        value = json.loads(response.data)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise ClusterUnreachableError(f"{place}: the answer broke off: {error}") from error
    except ValueError as error:
        raise ClusterError(f"{place}: the answer is not JSON: {error}; is this an API server?") from error
    if not isinstance(value, dict):
        raise ClusterError(f"{place}: the answer is {type(value).__name__}, not an object; is this an API server?")
    return value


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """Yield complete lines of a streaming body; text after the last line end is dropped."""
    rest = b""
    for chunk in response.stream(None, decode_content=True) if not response.chunked else response.read_chunked():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)


def _failure(response: urllib3.BaseHTTPResponse, place: str) -> ClusterError:
    """Return the error for a response, with the server's message."""
    try:
        status = json.loads(response.data)
        message = status.get("message") or response.reason
    except (ValueError, AttributeError, urllib3.exceptions.HTTPError):
        message = response.reason
    if response.status == 401:
        message = f"{message}: the credentials are invalid or have expired"
    if response.status in _AGAIN and not str(message).startswith(_WRONG_FIELD):
        return ClusterUnreachableError(f"{place}: {response.status}: {str(message)[:_TEXT_CHARACTERS]}")
    return _REFUSALS.get(response.status, ClusterError)(f"{place}: {response.status}: {str(message)[:_TEXT_CHARACTERS]}")


def _retry_after_seconds(response: urllib3.BaseHTTPResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _root(error: BaseException) -> BaseException:
    """Return the original error of a chain of wrapped errors."""
    reason = getattr(error, "reason", None)
    return _root(reason) if isinstance(reason, BaseException) else error


def _reason(error: BaseException) -> str:
    return str(_root(error))[:_TEXT_CHARACTERS] or type(error).__name__
