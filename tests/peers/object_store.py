"""Runs an S3 server over a folder: versitygw, which refuses a second conditional put of the same name, and logs each request.

This file knows nothing of pytest or of Hindcast. Tests load it by its path.
"""

import collections.abc
import contextlib
import pathlib
import socket
import sys
import typing

running: typing.Any = sys.modules["hindcast_peers_running"]
KEY, SECRET = "key", "secret"


@contextlib.contextmanager
def s3_server(
    objects: pathlib.Path, folder: pathlib.Path, requests: pathlib.Path
) -> collections.abc.Iterator[str]:
    """Serve the folders below `objects` as buckets on loopback; gives `host:port`.

    Args:
        objects: a folder that exists, with one folder a bucket.
        folder: where the server's output goes.
        requests: a file that gets a line for each request that was answered.

    Raises:
        PeerMissing: it is not built.
        PeerFailed: it did not start.
    """

    class Server(running.Peer):  # type: ignore[misc]
        def ready(self) -> bool:
            with socket.socket() as probe:
                host, _, port = self.address.partition(":")
                return probe.connect_ex((host, int(port))) == 0

    address = running.free_address()
    program = str(running.program("versitygw"))
    command = [program, "--access", KEY, "--secret", SECRET, "--port", address]
    command += ["--access-log", str(requests), "posix", str(objects)]
    with running.running(Server(command, address=address, output=folder / "versitygw.log")):
        yield address
