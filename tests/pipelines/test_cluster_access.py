"""How a cluster's API server is asked again, and when not: throttling, lists and watches that expired, answers that break off."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from pipelines.cluster_access import RESTARTS, ClusterAccess
from warehouse import config
from warehouse.errors import ClusterError, ClusterExpiredError, ClusterForbiddenError, ClusterUnreachableError

PATH = "/api/v1/namespaces"
EXPIRED = {"kind": "Status", "code": 410, "message": "The provided continue parameter is too old"}
Answer = tuple[int, dict[str, str], bytes]


def said(body: Any, status: int = 200, **headers: str) -> Answer:
    return status, {name.replace("_", "-"): value for name, value in headers.items()}, json.dumps(body).encode()


def page(*names: str, goes_on: str = "") -> Answer:
    return said({"items": [{"metadata": {"name": name}} for name in names], "metadata": {"resourceVersion": "9", "continue": goes_on}})


class Server:
    """A real HTTP server that gives the answers it is told, one a request, the last again and again."""

    def __init__(self, *answers: Answer) -> None:
        self.answers, self.asked, self.times = list(answers), list[str](), list[float]()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer()

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self._answer()

            def _answer(self) -> None:
                server.asked.append(self.path)
                server.times.append(time.monotonic())
                status, headers, body = server.answers.pop(0) if len(server.answers) > 1 else server.answers[0]
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def pauses(self) -> list[float]:
        """Seconds between requests."""
        return [after - before for before, after in zip(self.times, self.times[1:], strict=False)]


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., Any]:
    @contextmanager
    def serve(*answers: Answer, patience_seconds: float = 10.0) -> Iterator[tuple[ClusterAccess, Server]]:
        server = Server(*answers)
        thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        kubeconfig = tmp_path / "kubeconfig"
        kubeconfig.write_text(
            json.dumps(
                {
                    "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{server.http.server_port}"}}],
                    "users": [{"name": "u", "user": {"token": "s3cr3t"}}],
                    "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
                    "current-context": "x",
                }
            )
        )
        access = ClusterAccess(config.Kubernetes(kubeconfig=kubeconfig), cluster="c1", patience_seconds=patience_seconds)
        try:
            yield access, server
        finally:
            access.close()
            server.http.shutdown()
            server.http.server_close()
            thread.join()

    return serve


def names(access: ClusterAccess) -> list[str]:
    """What is known of a list at its end: a page that begins it forgets what came before."""
    found: list[str] = []
    for part in access.list_pages(PATH):
        found = [*([] if part.begins else found), *(item["metadata"]["name"] for item in part.items)]
    return found


@pytest.mark.slow
def test_a_throttled_request_is_retried_after_the_time_that_the_server_names(serving: Any) -> None:
    with serving(said({"message": "slow down"}, 429, Retry_After="1"), page("a")) as (access, server):
        assert names(access) == ["a"]
        assert len(server.asked) == 2
        assert 1.0 <= server.pauses[0] < 5


def test_throttled_requests_are_retried_at_growing_intervals_if_the_server_names_no_time(serving: Any) -> None:
    throttled = said({"message": "slow down"}, 429)
    with serving(throttled, throttled, throttled, page("a")) as (access, server):
        assert names(access) == ["a"]
        assert len(server.asked) == 4
        assert all(pause >= 0.1 for pause in server.pauses)
        assert server.pauses[2] > server.pauses[0]


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_never_answers_is_unreachable_in_time_and_its_words_are_reported(serving: Any, status: int) -> None:
    with serving(said({"message": "too many requests"}, status), patience_seconds=0.5) as (access, server):
        began = time.monotonic()
        with pytest.raises(ClusterUnreachableError, match=rf"c1.*{status}: too many requests"):
            names(access)
        assert time.monotonic() - began < 60
        assert len(server.asked) >= 2


def test_a_time_to_wait_that_is_longer_than_the_patience_is_not_waited_for(serving: Any) -> None:
    with serving(said({"message": "in an hour"}, 429, Retry_After="3600"), patience_seconds=1.0) as (access, server):
        began = time.monotonic()
        with pytest.raises(ClusterUnreachableError, match="in an hour"):
            names(access)
        assert time.monotonic() - began < 60
        assert len(server.asked) == 1


def test_a_time_to_wait_that_is_a_date_or_nonsense_is_no_error(serving: Any) -> None:
    for value in ("Wed, 21 Oct 2015 07:28:00 GMT", "-1", "soon"):
        with serving(said({}, 429, Retry_After=value), page("a")) as (access, _):
            assert names(access) == ["a"]


def test_a_write_that_is_slowed_down_is_not_made_again_unless_that_is_the_same(serving: Any) -> None:
    with serving(said({"message": "slow down"}, 429, Retry_After="0"), said({"kind": "Namespace"})) as (access, server):
        with pytest.raises(ClusterUnreachableError):
            access.request("POST", PATH, body={})
        assert len(server.asked) == 1
        assert access.request("POST", PATH, body={}, retry=True) == {"kind": "Namespace"}


def test_what_is_not_allowed_is_reported_at_once(serving: Any) -> None:
    with serving(said({"message": "namespaces is forbidden"}, 403)) as (access, server):
        with pytest.raises(ClusterForbiddenError, match="namespaces is forbidden"):
            names(access)
        assert len(server.asked) == 1


def test_a_list_that_expires_between_pages_is_begun_anew_and_holds_each_object_once(serving: Any) -> None:
    with serving(page("a", "b", goes_on="x"), said(EXPIRED, 410), page("a", goes_on="y"), page("c")) as (access, server):
        assert names(access) == ["a", "c"]
        assert ["continue=" in path for path in server.asked] == [False, True, False, True]


def test_a_list_that_expires_again_and_again_is_an_error_in_the_end(serving: Any) -> None:
    with serving(said(EXPIRED, 410)) as (access, server):
        with pytest.raises(ClusterExpiredError, match="too old"):
            names(access)
        assert len(server.asked) == RESTARTS + 1


def test_a_watch_from_a_version_that_is_too_old_says_so_whether_by_its_status_or_by_an_event(serving: Any) -> None:
    error = json.dumps({"type": "ERROR", "object": EXPIRED}).encode() + b"\n"
    good = json.dumps({"type": "ADDED", "object": {"metadata": {"name": "a", "resourceVersion": "10"}}}).encode() + b"\n"
    with serving(said(EXPIRED, 410)) as (access, _), pytest.raises(ClusterExpiredError):
        list(access.watch(PATH, "1"))
    with serving((200, {}, good + error)) as (access, _):
        events = access.watch(PATH, "1")
        assert next(events).resource_version == "10"
        with pytest.raises(ClusterExpiredError, match="too old"):
            next(events)


def test_a_watch_is_begun_again_where_the_server_slows_it_down(serving: Any) -> None:
    bookmark = json.dumps({"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "11"}}}).encode() + b"\n"
    with serving(said({}, 429, Retry_After="0"), (200, {}, bookmark)) as (access, _):
        assert [event.type for event in access.watch(PATH, "1")] == ["BOOKMARK"]


def test_an_answer_that_breaks_off_or_is_no_object_is_an_error_that_names_the_cluster(serving: Any) -> None:
    with serving((200, {"Content-Length": "100"}, b'{"items": [')) as (access, _), pytest.raises(ClusterUnreachableError, match="c1"):
        names(access)
    for body in (b"<html>", b"[]"):
        with serving((200, {}, body)) as (access, _), pytest.raises(ClusterError, match=r"c1.*is this an API server"):
            names(access)


def test_no_error_contains_the_token(serving: Any) -> None:
    with serving(said({"message": "no"}, 401)) as (access, _), pytest.raises(ClusterError) as told:
        names(access)
    assert "s3cr3t" not in str(told.value)
