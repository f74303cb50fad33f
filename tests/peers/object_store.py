"""Runs S3 servers: versitygw over a folder, which also logs each request, and moto's, which holds its objects in memory.

This file knows nothing of pytest or of Hindcast.
"""

import collections.abc
import contextlib
import pathlib
import socket
import urllib.request

from tests.peers import running

KEY, SECRET = "key", "secret"


class Server(running.Peer):
    """A server that is ready once it takes connections."""

    def ready(self) -> bool:
        """Whether it does."""
        with socket.socket() as probe:
            host, _, port = self.address.partition(":")
            return probe.connect_ex((host, int(port))) == 0


@contextlib.contextmanager
def s3_server(
    objects: pathlib.Path, folder: pathlib.Path, requests: pathlib.Path
) -> collections.abc.Iterator[Server]:
    """Serve the folders below `objects` as buckets on loopback, with versitygw.

    Args:
        objects: a folder that exists, with one folder a bucket.
        folder: where the server's output goes.
        requests: a file that gets a line for each request that was answered.

    Raises:
        PeerMissing: it is not built.
        PeerFailed: it did not start.
    """

    address = running.free_address()
    program = str(running.program("versitygw"))
    command = [program, "--access", KEY, "--secret", SECRET, "--port", address]
    command += ["--access-log", str(requests), "posix", str(objects)]
    server = Server(command, address=address, output=folder / "versitygw.log")
    with running.running(server):
        yield server


@contextlib.contextmanager
def moto_server(folder: pathlib.Path, bucket: str) -> collections.abc.Iterator[Server]:
    """Serve a bucket that is empty on loopback, with moto.

    Raises:
        PeerMissing: its environment is not made.
        PeerFailed: it did not start.
    """
    address = running.free_address()
    host, _, port = address.partition(":")
    program = "import sys; from moto.server import main; main(sys.argv[1:])"
    command = [str(running.program("moto")), "-c", program, "-H", host, "-p", port]
    server = Server(command, address=address, output=folder / "moto.log")
    with running.running(server):
        with urllib.request.urlopen(
            urllib.request.Request(f"http://{address}/{bucket}", method="PUT")
        ):
            pass
        yield server
