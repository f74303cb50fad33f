"""Requests to a cluster's API server. The one module that imports the `kubernetes` client.

Answers are plain JSON objects: building the client's typed models would cost more time and memory than all else, and
would drop fields the client does not know. What is asked for and what becomes of it is other modules' work.
"""

from __future__ import annotations

import contextlib
import json
import random
import threading
from collections.abc import Callable, Iterator, Mapping
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
"""Objects asked for at a time: a page of pods is then some megabytes."""
PATIENCE_SECONDS = 30.0
"""How long a request that may succeed later is tried again."""
TIMEOUT_SECONDS = (5.0, 60.0)
"""For connecting, and for each read."""
WATCH_SECONDS = 240
"""After this the API server ends a watch, and it is resumed."""
SILENCE_SECONDS = 90.0
"""The API server sends a bookmark every minute: a watch that is silent for longer is dead."""
POOL_CONNECTIONS = 32
"""Kept open at most: a watch of each kind, and requests beside them."""
RESTARTS = 3
"""How often a list that expired between two pages is begun anew."""
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.2, 5.0
_AGAIN = {429, 500, 502, 503, 504}
_REFUSALS = {
    401: ClusterRefusedError,
    403: ClusterForbiddenError,
    404: ClusterMissingError,
    409: ClusterConflictError,
    410: ClusterExpiredError,
}
_TEXT_CHARACTERS = 500


class _PassingError(Exception):
    """A failure that may pass, and how long the server asks to wait."""

    def __init__(self, failure: ClusterError, wanted_pause_seconds: float = 0.0) -> None:
        super().__init__(str(failure))
        self.failure, self.wanted_pause_seconds = failure, wanted_pause_seconds


_growing_pause = wait_exponential(multiplier=_FIRST_PAUSE_SECONDS, max=_LONGEST_PAUSE_SECONDS)


def _pause_seconds(state: RetryCallState) -> float:
    """The pause before the next try: growing with chance in it, and at least what the server asks for."""
    error = state.outcome.exception() if state.outcome is not None else None
    wanted = error.wanted_pause_seconds if isinstance(error, _PassingError) else 0.0
    return max(wanted, _growing_pause(state) * random.uniform(0.5, 1.0))


@dataclass(frozen=True, kw_only=True)
class Event:
    """One event of a watch. `type` is ADDED, MODIFIED, DELETED or BOOKMARK; of a bookmark only the resource version counts."""

    type: str
    object: dict[str, Any]

    @property
    def resource_version(self) -> str:
        """Where to go on from after this event."""
        return str(self.object["metadata"]["resourceVersion"])


class ClusterAccess:
    """The API server of one cluster, as the configuration says to reach it. Threads may share it."""

    def __init__(self, settings: config.Kubernetes, *, cluster: str, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Raises ConfigError if the kubeconfig or the pod's own credentials cannot be used."""
        self.cluster = cluster
        self.patience_seconds = patience_seconds
        self._lock = threading.Lock()
        self._client = _client(settings, cluster)

    def close(self) -> None:
        """Close its connections."""
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
        """The JSON answer to one request.

        Reads are tried again while the server is away, overloaded or slowed down on purpose (429), for `patience_seconds`;
        writes are not unless `retry` says that doing it twice is the same as once. Raises ClusterUnreachableError,
        ClusterRefusedError (401), ClusterForbiddenError (403), ClusterMissingError (404), ClusterConflictError (409),
        ClusterExpiredError (410), ClusterError.
        """
        with self._open(method, path, query or {}, body, content_type, method == "GET" if retry is None else retry) as response:
            return _object(response, self._place(method, path))

    def list_pages(self, path: str, *, page: int = PAGE_OBJECTS, query: Mapping[str, str] | None = None) -> Iterator[ListPage]:
        """The objects of a list, in pages; all are of one state of the cluster.

        When what a page goes on from has expired, the list is begun anew: a page with `begins` says to forget what came
        before. Raises ClusterExpiredError if that happens again and again, else as `request`.
        """
        for attempt in range(RESTARTS + 1):
            going_on: dict[str, str] = {}
            try:
                while True:
                    answer = self.request("GET", path, query={**(query or {}), "limit": str(page), **going_on})
                    about = answer.get("metadata") or {}
                    yield ListPage(
                        items=answer.get("items") or [], begins=not going_on, resource_version=str(about.get("resourceVersion", ""))
                    )
                    if not about.get("continue"):
                        return
                    going_on = {"continue": about["continue"]}
            except ClusterExpiredError:
                if attempt == RESTARTS:
                    raise

    def watch(self, path: str, resource_version: str, *, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Events after a resource version, until the server ends the watch (after some minutes; go on from the last event).

        Something comes every minute, a bookmark if nothing else.

        Raises ClusterExpiredError if the version is too old to go on from: list again; else as `request`. A connection
        that breaks is ClusterUnreachableError.
        """
        query = {
            "watch": "true",
            "resourceVersion": resource_version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        place = self._place("watch", path)
        with self._open("GET", path, query, None, "application/json", True, read_seconds=SILENCE_SECONDS) as response:
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
        """The answer to a request that succeeded, its body not yet read."""
        response = self._answer(method, path, query, body, content_type, retry, read_seconds)
        try:
            yield response
        finally:
            response.close()  # one that was read to its end has given its connection back already

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
        """One try. Raises _PassingError for what may succeed later, ClusterError for anything else."""
        place = self._place(method, path)
        try:
            response = self._send(method, path, query, body, content_type, read_seconds)
        except urllib3.exceptions.HTTPError as error:
            failure = ClusterUnreachableError(f"{place}: {_reason(error)}")
            failure.__cause__ = error
            if isinstance(_root(error), urllib3.exceptions.SSLError):
                raise failure from error  # a certificate does not get better by waiting
            raise _PassingError(failure) from error
        if response.status < 300:
            return response
        refused, wanted_pause = _failure(response, place), _retry_after_seconds(response)
        response.release_conn()
        if response.status in _AGAIN:
            raise _PassingError(refused, wanted_pause)
        raise refused

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str, read_seconds: float
    ) -> urllib3.BaseHTTPResponse:
        headers = {"Accept": "application/json"}
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            with self._lock:  # credentials may be renewed while the request is put together
                method, url, sent_headers, sent_body, _ = self._client.param_serialize(
                    method, path, query_params=list(query.items()), header_params=headers, body=body, auth_settings=["BearerToken"]
                )
            answer = self._client.call_api(
                method, url, header_params=sent_headers, body=sent_body, _request_timeout=(TIMEOUT_SECONDS[0], read_seconds)
            )
        except kubernetes_config.ConfigException as error:
            raise ClusterRefusedError(f"{self._place(method, path)}: the credentials cannot be renewed: {error}") from error
        except client.ApiException as error:  # the client's own wrapping of what went wrong in TLS
            if isinstance(error.__cause__ or error.__context__, urllib3.exceptions.HTTPError):
                raise (error.__cause__ or error.__context__) from error  # type: ignore[misc]
            raise ClusterUnreachableError(f"{self._place(method, path)}: {error.reason}") from error
        response: urllib3.BaseHTTPResponse = answer.response
        return response


@dataclass(frozen=True, kw_only=True)
class ListPage:
    """A page of a list. `begins` is true of the first, also of a list that was begun anew."""

    items: list[dict[str, Any]]
    begins: bool
    resource_version: str
    """Where a watch goes on from after the last page."""


def _client(settings: config.Kubernetes, cluster: str) -> client.ApiClient:
    configuration = client.Configuration()
    configuration.retries = False  # trying again is this module's
    configuration.connection_pool_maxsize = POOL_CONNECTIONS
    place = f"cluster {cluster}: kubernetes"
    try:
        if settings.in_cluster:
            kubernetes_config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
        else:
            file = settings.kubeconfig
            if file is not None and not Path(file).is_file():
                raise ConfigError(f"{place}.kubeconfig: there is no file {file}")
            # Renewed tokens are not written back: the file is the user's.
            kubernetes_config.load_kube_config(  # type: ignore[no-untyped-call]
                config_file=None if file is None else str(file),
                context=settings.context,
                client_configuration=configuration,
                persist_config=False,
            )
    except ConfigError:
        raise
    except Exception as error:  # the loader raises what YAML, base64, OpenSSL and the file system raise
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
    """Complete lines of a body that goes on; what has no end of line at the end is dropped."""
    rest = b""
    for chunk in response.stream(None, decode_content=True) if not response.chunked else response.read_chunked():
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line for line in lines if line)


def _failure(response: urllib3.BaseHTTPResponse, place: str) -> ClusterError:
    """The error an answer stands for, with what the server says of it."""
    try:
        status = json.loads(response.data)
        message = status.get("message") or response.reason
    except (ValueError, AttributeError, urllib3.exceptions.HTTPError):
        message = response.reason
    if response.status == 401:
        message = f"{message}: the credentials are not valid, or not any more"
    if response.status in _AGAIN:
        return ClusterUnreachableError(f"{place}: {response.status}: {str(message)[:_TEXT_CHARACTERS]}")
    return _REFUSALS.get(response.status, ClusterError)(f"{place}: {response.status}: {str(message)[:_TEXT_CHARACTERS]}")


def _retry_after_seconds(response: urllib3.BaseHTTPResponse) -> float:
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else 0.0


def _root(error: BaseException) -> BaseException:
    """What a chain of wrapped errors began with."""
    reason = getattr(error, "reason", None)
    return _root(reason) if isinstance(reason, BaseException) else error


def _reason(error: BaseException) -> str:
    return str(_root(error))[:_TEXT_CHARACTERS] or type(error).__name__
