"""The nodes a cluster knows of, as the Peer service reports them: the present ones first, then every change."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

from collectors.hubble_api.peer import peer_pb2

WAIT_SECONDS = 0.05  # how soon a waiting listener notices that it was stopped


def server_name(name: str) -> str:
    """Return the TLS name of the node `cluster/node`: dots of either part become dashes."""
    cluster, _, node = name.rpartition("/")
    return f"{node.replace('.', '-')}.{(cluster or 'default').replace('.', '-')}.hubble-grpc.cilium.io"


class Peers:
    """A list of nodes that many nodes may share; listeners receive every change in order."""

    def __init__(self) -> None:
        self._history: list[peer_pb2.ChangeNotification] = []
        self._present: dict[str, peer_pb2.ChangeNotification] = {}
        self._changed = threading.Condition()

    def put(self, name: str, address: str, tls: bool = False) -> None:
        """Add a node, or change its address."""
        with self._changed:
            kind = peer_pb2.PEER_UPDATED if name in self._present else peer_pb2.PEER_ADDED
            change = peer_pb2.ChangeNotification(name=name, address=address, type=kind)
            if tls:
                change.tls.server_name = server_name(name)
            self._present[name] = change
            self._publish(change)

    def remove(self, name: str) -> None:
        """Remove a node; raises KeyError if it does not exist."""
        with self._changed:
            change = peer_pb2.ChangeNotification()
            change.CopyFrom(self._present.pop(name))
            change.type = peer_pb2.PEER_DELETED
            self._publish(change)

    def _publish(self, change: peer_pb2.ChangeNotification) -> None:
        self._history.append(change)
        self._changed.notify_all()

    def changes(self, stopped: Callable[[], bool]) -> Iterator[peer_pb2.ChangeNotification]:
        """Yield every present node as PEER_ADDED, then the changes, until `stopped` returns true."""
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
                change = self._history[position]
                position += 1
            yield change
