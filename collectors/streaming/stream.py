"""The stream of one address: a thread that reads messages into an inbox, and one that requests the nodes' states.

A stream reconnects forever, also after the orderly end that relay gives a stream when it has no node; it backs off with
jitter; and it stops reading while the inbox is full, so that Hubble counts what is lost. Messages are not decoded here.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from collectors.hubble_api.observer import observer_pb2
from collectors.streaming.client import Client, flows_request
from collectors.streaming.messages import Messages
from collectors.streaming.transport import Call
from warehouse import config
from warehouse.errors import HindcastError, StreamError, StreamRefusedError

INBOX_MESSAGES, INBOX_BYTES = 8_000, 6 * 1024**2
"""An inbox that holds more than this is full."""
FIRST_POLL_SECONDS = 0.2
"""How soon after a stream was opened its nodes' states are asked for."""
BACKOFF_SECONDS = (0.5, 30.0)
LASTED_SECONDS = 10.0
"""After a stream that lasted this long the next attempt comes soon."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Arrived:
    """Messages that arrived together. `at` is microseconds since 1970, by this machine's clock."""

    at: int
    messages: Messages


@dataclass(frozen=True, slots=True)
class Opened:
    """A stream was opened; its first message follows."""

    at: int


@dataclass(frozen=True, slots=True)
class Ended:
    """The stream ended, or could not be opened."""

    at: int
    reason: str


@dataclass(frozen=True, slots=True)
class Polled:
    """The nodes that the address listed when it was asked."""

    at: int
    nodes: tuple[observer_pb2.Node, ...]


Item = Arrived | Opened | Ended | Polled


def now_us() -> int:
    """Return the current time in microseconds since 1970."""
    return time.time_ns() // 1000


class Stream:
    """The stream of one address. Only one thread may call `take`; everything else may be called from any thread."""

    def __init__(
        self,
        cluster: str,
        hubble: config.Hubble,
        address: str,
        since_ns: Callable[[], int],
        wake: threading.Event,
        *,
        inbox_bytes: int = INBOX_BYTES,
    ) -> None:
        """`since_ns` says where to resume whenever a stream begins; `wake` is set when there is work.

        An inbox with more than `inbox_bytes` is full.
        """
        self.address = address
        self.connected = False
        self.problem: str | None = "not connected yet"
        """Why there is no stream; None while there is one."""
        self._cluster = cluster
        self._hubble = hubble
        self._since_ns = since_ns
        self._wake = wake
        self._inbox: deque[Item] = deque()
        self._inbox_bytes = inbox_bytes
        self._put, self._taken = _Count(), _Count()  # each is changed by one thread: the reading one, and the one that calls `take`
        self._room = threading.Event()
        self._stopping = threading.Event()
        self._opened = threading.Event()
        """Set while there is a stream, and when it is stopped."""
        self._call: Call | None = None
        self._client: Client | None = None
        self._last_message = time.monotonic()
        self._reopen = False
        self._threads = [
            threading.Thread(target=target, name=f"{name} {cluster} {address}", daemon=True)
            for name, target in (("stream", self._keep_up), ("nodes", self._poll))
        ]

    def start(self) -> None:
        """Start connecting."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Break the stream and wait until nothing more is put into the inbox."""
        self._stopping.set()
        self._opened.set()
        self._room.set()
        self._cancel()
        self._threads[0].join(5)

    def reopen(self, reason: str) -> None:
        """Break the stream and open it again at once."""
        _log.warning("stream is opened anew", cluster=self._cluster, address=self.address, reason=reason)
        self._reopen = True
        self._cancel()

    def take(self) -> list[Item]:
        """Empty the inbox and return its items in the order received."""
        inbox = self._inbox
        items = [inbox.popleft() for _ in range(len(inbox))]
        for item in items:
            if isinstance(item, Arrived):
                self._taken.add(item.messages)
        self._room.set()
        return items

    @property
    def waiting(self) -> int:
        """The number of messages in the inbox."""
        return self._put.messages - self._taken.messages

    @property
    def waiting_bytes(self) -> int:
        """The size of the messages in the inbox."""
        return self._put.bytes - self._taken.bytes

    @property
    def idle_seconds(self) -> float:
        """The time since the last message arrived, in seconds."""
        return time.monotonic() - self._last_message

    @property
    def is_filling(self) -> bool:
        """Whether the inbox is half full."""
        return self.waiting > INBOX_MESSAGES // 2 or self.waiting_bytes > self._inbox_bytes // 2

    @property
    def _is_full(self) -> bool:
        return self.waiting > INBOX_MESSAGES or self.waiting_bytes > self._inbox_bytes

    def _cancel(self) -> None:
        call = self._call
        if call is not None:
            call.cancel()

    def _keep_up(self) -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            reason = self._read_one_stream()
            if self._stopping.is_set():
                break
            self._opened.clear()
            self.connected, self.problem = False, reason
            self._inbox.append(Ended(now_us(), reason))
            self._wake.set()
            if self._reopen:
                self._reopen, failures = False, 0
                continue
            failures = 1 if time.monotonic() - began > LASTED_SECONDS else failures + 1
            least, most = BACKOFF_SECONDS
            self._stopping.wait(min(most, least * 2 ** min(failures - 1, 10)) * random.uniform(0.5, 1.0))

    def _read_one_stream(self) -> str:
        """Read until the stream ends; return the reason."""
        client: Client | None = None
        try:
            client = Client(self._hubble, self.address)
            self._call = client.follow(flows_request(self._hubble, self._since_ns()))
            self._client, self._last_message = client, time.monotonic()
            if self._stopping.is_set():
                self._cancel()
            self._read(self._call)
            reason = f"{self.address}: ended in good order, as relay does when it has no node"
            _log.info("stream ended", cluster=self._cluster, reason=reason)
        except HindcastError as error:
            reason = str(error)
            if not self._stopping.is_set() and not self._reopen:
                say = _log.error if isinstance(error, StreamRefusedError) or not isinstance(error, StreamError) else _log.warning
                say("stream broke", cluster=self._cluster, reason=reason)
        finally:
            self._client = self._call = None
            if client is not None:
                client.close()
        return reason

    def _read(self, call: Call) -> None:
        for messages in call:
            if not self.connected:
                self._inbox.append(Opened(now_us()))
                self.connected, self.problem = True, None
                self._opened.set()
                _log.info("stream opened", cluster=self._cluster, address=self.address)
            self._put.add(messages)
            self._inbox.append(Arrived(now_us(), messages))
            self._last_message = time.monotonic()
            if self.is_filling:
                self._wake.set()
            if self._is_full:
                self._wait_for_room()

    def _wait_for_room(self) -> None:
        while self._is_full and not self._stopping.is_set() and not self._reopen:
            self._room.clear()
            self._room.wait(0.1)
            self._last_message = time.monotonic()

    def _poll(self) -> None:
        silent_after, poll_every = self._hubble.silent_after.total_seconds(), self._hubble.poll_every.total_seconds()
        was_open = False
        while self._opened.wait() and not self._stopping.wait(poll_every if was_open else FIRST_POLL_SECONDS):
            client, was_open = self._client, self.connected
            if client is None or not was_open:
                continue
            try:
                self._inbox.append(Polled(now_us(), client.nodes()))
            except (HindcastError, ValueError) as error:  # ValueError: the channel was closed meanwhile
                _log.debug("nodes' states are not known", cluster=self._cluster, address=self.address, reason=str(error))
            if self.idle_seconds > silent_after and self.connected:
                self.reopen(f"nothing came for {silent_after:.0f} s")


class _Count:
    """Counts messages and their bytes."""

    def __init__(self) -> None:
        self.messages = self.bytes = 0

    def add(self, messages: Messages) -> None:
        self.messages += len(messages)
        self.bytes += len(messages.data)


def stop_all(streams: list[Stream]) -> None:
    """Stop several streams at the same time."""
    threads: list[Any] = [threading.Thread(target=stream.stop) for stream in streams]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
