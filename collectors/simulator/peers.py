"""The nodes a cluster knows of, as the Peer service tells them: those there are, then every change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from collectors.hubble_api.peer import peer_pb2

WAIT_SECONDS = 0.05  # how soon a waiting listener notices that it was stopped


def server_name(name: str) -> str:
    """The TLS name of the node `cluster/node`: dots of either part become dashes."""
    cluster, _, node = name.rpartition("/")
    return f"{node.replace('.', '-')}.{(cluster or 'default').replace('.', '-')}.hubble-grpc.cilium.io"


class Peers:
    """A list of nodes that many nodes may share; listeners see every change in order."""

    def __init__(self) -> None:
        self._history: list[peer_pb2.ChangeNotification] = []
        self._present: dict[str, peer_pb2.ChangeNotification] = {}
        self._changed = threading.Condition()

    def put(self, name: str, address: str, tls: bool = False) -> None:
        """A node joined, or changed its address."""
        with self._changed:
            kind = peer_pb2.PEER_UPDATED if name in self._present else peer_pb2.PEER_ADDED
            told = peer_pb2.ChangeNotification(name=name, address=address, type=kind)
            if tls:
                told.tls.server_name = server_name(name)
            self._present[name] = told
            self._tell(told)

    def remove(self, name: str) -> None:
        """A node left; KeyError when it was never there."""
        with self._changed:
            told = peer_pb2.ChangeNotification()
            told.CopyFrom(self._present.pop(name))
            told.type = peer_pb2.PEER_DELETED
            self._tell(told)

    def _tell(self, told: peer_pb2.ChangeNotification) -> None:
        self._history.append(told)
        self._changed.notify_all()

    def changes(self, stopped: Callable[[], bool]) -> Iterator[peer_pb2.ChangeNotification]:
        """Every present node as PEER_ADDED, then what changes, until `stopped` says so."""
        with self._changed:
            position = len(self._history)
            present = list(self._present.values())
        for known in present:
            added = peer_pb2.ChangeNotification()
            added.CopyFrom(known)
            added.type = peer_pb2.PEER_ADDED
            yield added
        while not stopped():
            with self._changed:
                if position >= len(self._history):
                    self._changed.wait(WAIT_SECONDS)
                    continue
                told = self._history[position]
                position += 1
            yield told
