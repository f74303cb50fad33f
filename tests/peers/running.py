"""Runs the real peers for tests: Hubble nodes, relay and the hubble command, with certificates.

Every process listens on 127.0.0.1 only, keeps its output in a folder of the test's and ends with
the `with` block that started it. A peer that was not built raises `PeerMissing`, which fixtures
turn into a skip. What the nodes do with flows is told in README.md beside this file.

This file knows nothing of pytest or of Hindcast.
"""

import collections.abc
import contextlib
import functools
import json
import pathlib
import signal
import socket
import subprocess
import time
import typing

from tests.peers import build
from tests.peers.certificates import RELAY_SERVER_NAME, Certificates

START_SECONDS = 300.0
"""How long a process may take to become ready: they need 0.1 s on an idle machine."""
STOP_SECONDS = 10.0
POLL_SECONDS = 0.02


class PeerMissing(Exception):
    """The program is not built; `make peers` builds it where Go is installed."""


class PeerFailed(Exception):
    """The process ended early or did not become ready; the message ends with its output."""


@functools.cache
def program(name: str) -> pathlib.Path:
    """The built program, such as `hubble-relay`; of a peer that is a Python program, the interpreter to run it with.

    Raises:
        PeerMissing: it is not built.
    """
    find = build.environment_path if name in build.ENVIRONMENTS else build.peer_path
    path: pathlib.Path | None = find(name)
    if path is None:
        raise PeerMissing(f"{name} is not built: run make peers")
    return path


def free_address() -> str:
    """A loopback `host:port` on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


class Peer:
    """A running process of a peer.

    Attributes:
        address: `host:port` of its gRPC server, the same after a restart.
        output: file with everything it printed, of all its runs.
        command: the program and its arguments.
    """

    def __init__(
        self, command: collections.abc.Sequence[str], *, address: str, output: pathlib.Path
    ) -> None:
        self.command = list(command)
        self.address = address
        self.output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._output_start = 0

    def start(self, *more: str) -> None:
        """Start the process and wait until it is ready.

        Args:
            more: arguments after the usual ones, for this run; the last of a repeated flag counts.

        Raises:
            PeerFailed: it ended, or was not ready within START_SECONDS.
        """
        self.output.parent.mkdir(parents=True, exist_ok=True)
        with self.output.open("ab") as output:
            self._output_start = output.tell()
            self._process = subprocess.Popen(
                [*self.command, *more], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        try:
            self.wait_for(self.ready, what="being ready")
        except BaseException:
            self.kill()
            raise

    def ready(self) -> bool:
        """Whether the process serves."""
        raise NotImplementedError

    def wait_for(
        self,
        condition: collections.abc.Callable[[], bool],
        *,
        what: str,
        timeout_seconds: float = START_SECONDS,
    ) -> None:
        """Wait until the condition holds while the process runs.

        Raises:
            PeerFailed: the time is over, or the process ended first.
        """
        deadline = time.monotonic() + timeout_seconds
        while not condition():
            ended = self._process is None or self._process.poll() is not None
            if ended and not condition():
                raise PeerFailed(
                    f"{self.command[0]} ended before {what}:\n{self.printed()[-4000:]}"
                )
            if time.monotonic() > deadline:
                raise PeerFailed(
                    f"{self.command[0]}: no {what} after {timeout_seconds} s:\n"
                    f"{self.printed()[-4000:]}"
                )
            time.sleep(POLL_SECONDS)

    def printed(self) -> str:
        """What the present run printed so far, both streams."""
        with self.output.open("rb") as output:
            output.seek(self._output_start)
            return output.read().decode(errors="replace")

    @property
    def pid(self) -> int | None:
        """The process's number; None when it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def kill(self) -> None:
        """End the process as `kill -9` does; nothing happens when it has ended."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask the process to end, and kill it when it has not within STOP_SECONDS."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Freeze the process: its connections stay open and silent."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def restart(self, *more: str) -> None:
        """Stop the process if it runs and start it again at the same address; see `start`."""
        self.stop()
        self.start(*more)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)  # a paused process ends only when it goes on
        try:
            process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class HubbleNode(Peer):
    """A node of Cilium's own Hubble code.

    Attributes:
        name: `cluster/node`.
        uuid_log: file with a line `uuid unix_ns` for each flow that ever entered the ring.
    """

    def __init__(
        self,
        command: collections.abc.Sequence[str],
        *,
        address: str,
        output: pathlib.Path,
        name: str,
        uuid_log: pathlib.Path,
    ) -> None:
        super().__init__(command, address=address, output=output)
        self.name = name
        self.uuid_log = uuid_log

    def ready(self) -> bool:
        """Whether it accepts connections; its first two flows are in the ring then."""
        return "\nready " in "\n" + self.printed()

    def wait_fed(self, *, timeout_seconds: float = 600.0) -> int:
        """Wait until all of `count` or of the file is fed; the number of flows of this run."""
        self.wait_for(
            lambda: "\nfed " in "\n" + self.printed(),
            what="being fed",
            timeout_seconds=timeout_seconds,
        )
        last = [line for line in self.printed().splitlines() if line.startswith("fed ")][-1]
        return int(last.removeprefix("fed "))

    def flows_logged(self) -> dict[str, int]:
        """Time in Unix nanoseconds by uuid of every flow that entered the ring, oldest first.

        The newest flow is among them, which no reader gets before another event follows it.
        """
        if not self.uuid_log.exists():
            return {}
        content = self.uuid_log.read_text()
        complete = content[: content.rfind("\n") + 1]
        pairs = (line.split() for line in complete.splitlines())
        return {uuid: int(unix_ns) for uuid, unix_ns in pairs}


class HubbleRelay(Peer):
    """A Hubble relay.

    Attributes:
        nodes: how many nodes must be connected for it to count as ready.
        client_arguments: what `run_hubble` needs to be let in, besides the address.
    """

    def __init__(
        self,
        command: collections.abc.Sequence[str],
        *,
        address: str,
        output: pathlib.Path,
        nodes: int,
        client_arguments: collections.abc.Sequence[str],
    ) -> None:
        super().__init__(command, address=address, output=output)
        self.nodes = nodes
        self.client_arguments = list(client_arguments)

    def ready(self) -> bool:
        """Whether it answers and as many nodes as wanted are connected."""
        return len(self.connected_nodes()) >= self.nodes and self._answered

    def connected_nodes(self) -> list[str]:
        """Names of the nodes it is connected to now; empty also when it does not answer."""
        asked = run_hubble(
            ["list", "nodes", "--server", self.address, *self.client_arguments, "-o", "json"]
        )
        self._answered = asked.returncode == 0
        nodes = (json.loads(asked.stdout) if self._answered else None) or []
        return [node["name"] for node in nodes if node.get("state") == "NODE_CONNECTED"]

    _answered = False














def write_flows(path: pathlib.Path, flows: collections.abc.Iterable[bytes]) -> pathlib.Path:
    """Write encoded `flow.Flow` messages as a file for `hubble_node`; returns the path."""
    with path.open("wb") as file:
        for flow in flows:
            file.write(len(flow).to_bytes(4, "little") + flow)
    return path


@contextlib.contextmanager
def hubble_node(
    folder: pathlib.Path,
    *,
    name: str = "test/node-1",
    address: str | None = None,
    flows: pathlib.Path | None = None,
    rate: float = 100.0,
    count: int = 0,
    ring: int = 4095,
    peers: collections.abc.Mapping[str, str] | pathlib.Path | None = None,
    tls: Certificates | None = None,
    more: collections.abc.Sequence[str] = (),
) -> collections.abc.Iterator[HubbleNode]:
    """Run a Hubble node, which goes on serving when everything is fed.

    Args:
        folder: for its output and its log of uuids, named after the node; it is made.
        name: `cluster/node`.
        address: where to listen; None takes a free one.
        flows: file to feed; None generates flows.
        rate: flows a second; 0 means as fast as the node takes them.
        count: flows to feed; 0 means the whole file, or for ever.
        ring: how many flows the ring holds, 2^n-1.
        peers: addresses by `cluster/node`, which the peer service announces; or a file with lines
            `cluster/node=host:port`, watched. None announces the node itself.
        tls: makes the node demand client certificates of that authority.
        more: further flags of hubble-node, see README.md.

    Raises:
        PeerMissing: hubble-node is not built.
        PeerFailed: it did not start.
    """
    address = address or free_address()
    stem = name.replace("/", "_")
    uuid_log = folder / f"{stem}.uuids"
    command = [str(program("hubble-node")), "--hold", "--listen", address, "--node-name", name]
    command += ["--rate", str(rate), "--count", str(count), "--ring", str(ring)]
    command += ["--uuid-log", str(uuid_log)]
    if flows is not None:
        command += ["--flows", str(flows)]
    if isinstance(peers, pathlib.Path):
        command += ["--peers", f"@{peers}"]
    elif peers is not None:
        command += ["--peers", ",".join(f"{peer}={where}" for peer, where in peers.items())]
    if tls is not None:
        certificate, key = tls.server(name)
        command += ["--tls-cert", str(certificate), "--tls-key", str(key)]
        command += ["--tls-client-ca", str(tls.ca)]
    node = HubbleNode(
        [*command, *more],
        address=address,
        output=folder / f"{stem}.log",
        name=name,
        uuid_log=uuid_log,
    )
    with running(node):
        yield node


@contextlib.contextmanager
def hubble_relay(
    folder: pathlib.Path,
    *,
    peer_service: str,
    nodes: int = 0,
    cluster: str = "test",
    address: str | None = None,
    retry_timeout: str = "1s",
    tls: Certificates | None = None,
    more: collections.abc.Sequence[str] = (),
) -> collections.abc.Iterator[HubbleRelay]:
    """Run a Hubble relay, ready once it is connected to as many nodes as asked.

    Args:
        folder: for its output, `relay.log`; it is made.
        peer_service: address of a node that announces the peers.
        nodes: how many nodes must be connected before the block begins, and at each restart.
        cluster: name of the cluster, from which comes the peer service's TLS name.
        address: where to listen; None takes a free one.
        retry_timeout: relay's pause before it connects to a lost node again, such as `1s`.
        tls: the relay presents and demands certificates of that authority, on both sides.
        more: further flags of `hubble-relay serve`.

    Raises:
        PeerMissing: hubble-relay or hubble is not built.
        PeerFailed: it did not start or did not reach the nodes.
    """
    address = address or free_address()
    command = [str(program("hubble-relay")), "serve", "--gops=false", "--cluster-name", cluster]
    command += ["--peer-service", peer_service, "--retry-timeout", retry_timeout]
    command += ["--listen-address", address, "--health-listen-address", free_address()]
    client_arguments: list[str] = []
    if tls is None:
        command += ["--disable-client-tls", "--disable-server-tls"]
    else:
        client_certificate, client_key = tls.client
        certificate, key = tls.files(RELAY_SERVER_NAME)
        command += ["--tls-hubble-server-ca-files", str(tls.ca)]
        command += ["--tls-hubble-client-cert-file", str(client_certificate)]
        command += ["--tls-hubble-client-key-file", str(client_key)]
        command += ["--tls-relay-server-cert-file", str(certificate)]
        command += ["--tls-relay-server-key-file", str(key)]
        command += ["--tls-relay-client-ca-files", str(tls.ca)]
        client_arguments = tls_arguments(tls, name=RELAY_SERVER_NAME)
    relay = HubbleRelay(
        [*command, *more],
        address=address,
        output=folder / "relay.log",
        nodes=nodes,
        client_arguments=client_arguments,
    )
    with running(relay):
        yield relay


def tls_arguments(tls: Certificates, *, name: str) -> list[str]:
    """The flags by which the hubble command shows the client's certificate to the server name."""
    certificate, key = tls.client
    return [
        *("--tls", "--tls-server-name", name, "--tls-ca-cert-files", str(tls.ca)),
        *("--tls-client-cert-file", str(certificate), "--tls-client-key-file", str(key)),
    ]


def run_hubble(
    arguments: collections.abc.Sequence[str], *, timeout_seconds: float = 300.0
) -> subprocess.CompletedProcess[str]:
    """Run Cilium's hubble command and return what it printed, whatever its exit code.

    Args:
        arguments: such as `["observe", "--server", node.address, "--last", "5", "-o", "jsonpb"]`.
        timeout_seconds: after which it is killed and subprocess.TimeoutExpired raised.

    Raises:
        PeerMissing: hubble is not built.
    """
    return subprocess.run(
        [str(program("hubble")), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )


RunningPeer = typing.TypeVar("RunningPeer", bound=Peer)


@contextlib.contextmanager
def running(peer: RunningPeer) -> collections.abc.Iterator[RunningPeer]:
    """Start the peer and stop it with the block, however that ends."""
    try:
        peer.start()
        yield peer
    finally:
        peer.stop()
