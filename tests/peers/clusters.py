"""Runs real Kubernetes API servers for tests: several clusters on one etcd, with RBAC and Cilium's CRDs.

There is no kubelet and no controller: pods, owners and readiness are what a test writes, and a namespace that is
deleted stays terminating unless it is empty of what needs a controller. Everything listens on loopback only.

This file knows nothing of pytest or of Hindcast.
"""

import collections.abc
import contextlib
import json
import pathlib
import ssl
import subprocess
import typing
import urllib.error
import urllib.request

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.peers import certificates, running

ADMIN = "admin"
"""May do everything."""
READER = "reader"
"""A user without any right but what every user has, until a test binds some."""
PUBLISHER = "publisher"
"""Another one."""
PROPOSER = "proposer"
"""Whose token applies proposals: it may impersonate, and a test checks that it may do nothing else."""
CRDS = ("ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies", "ciliumcidrgroups")


class Etcd(running.Peer):  # type: ignore[misc]
    """etcd, on which the clusters stand."""

    def ready(self) -> bool:
        """Whether it answers."""
        with contextlib.suppress(OSError):
            return "true" in self.ask("GET", "/health")
        return False

    def ask(self, method: str, path: str, body: typing.Any = None) -> str:
        """The answer of its HTTP gateway."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://{self.address}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=50) as answer:
            text: str = answer.read().decode()
            return text

    def compact(self) -> None:
        """Forget every revision but the newest, so that what reads an older one is told that it is gone."""
        held = json.loads(self.ask("POST", "/v3/kv/range", {"key": "AA=="}))
        revision = held["header"]["revision"]
        self.ask("POST", "/v3/kv/compaction", {"revision": revision, "physical": True})


class ApiServer(running.Peer):  # type: ignore[misc]
    """A cluster: its kube-apiserver.

    Attributes:
        folder: holds its certificates, kubeconfigs and output.
        audit_log: the file in which it notes every write.
    """

    def __init__(self, command: list[str], *, address: str, folder: pathlib.Path) -> None:
        super().__init__(command, address=address, output=folder / "kube-apiserver.log")
        self.folder = folder
        self.audit_log = folder / "audit.log"
        self.certificates: typing.Any = None

    @property
    def authority(self) -> pathlib.Path:
        """The certificate that clients have to trust."""
        return self.folder / "tls" / "ca.pem"

    def ready(self) -> bool:
        """Whether it says so itself."""
        context = ssl.create_default_context(cafile=str(self.authority))
        request = urllib.request.Request(f"https://{self.address}/readyz", headers={"Authorization": f"Bearer {ADMIN}-token"})
        with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=50, context=context) as answer:
            return bool(answer.status == 200)
        return False

    def start(self, *more: str) -> None:
        """Start it and wait until it is ready, which takes 3 s on an idle machine."""
        super().start(*more)
        self.wait_for(self.ready, what="being ready")

    def kubeconfig(
        self, user: str = ADMIN, *, token: str | None = None, certificate: tuple[pathlib.Path, pathlib.Path] | None = None
    ) -> pathlib.Path:
        """A kubeconfig for a user of this file, or one with another token or a client certificate and key."""
        credentials: dict[str, str] = {"token": token or f"{user}-token"}
        if certificate is not None:
            credentials = {"client-certificate": str(certificate[0]), "client-key": str(certificate[1])}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "c", "cluster": {"server": f"https://{self.address}", "certificate-authority": str(self.authority)}}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": user, "context": {"cluster": "c", "user": user}}],
            "current-context": user,
        }
        path = self.folder / f"{user}.kubeconfig"
        path.write_text(json.dumps(document))
        return path

    def kubectl(self, *arguments: str, user: str = ADMIN, input: typing.Any = None, check: bool = True) -> str:
        """What kubectl prints; `input` is text, or objects to be written as its standard input.

        Raises subprocess.CalledProcessError, with both outputs in its notes.
        """
        text = input if isinstance(input, str) or input is None else json.dumps(as_list(input))
        command = [str(running.program("kubectl")), "--kubeconfig", str(self.kubeconfig(user)), *arguments]
        environment = {"HOME": str(self.folder), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, input=text or "", capture_output=True, text=True, timeout=900, check=False, env=environment)
        if check and done.returncode:
            raise AssertionError(f"kubectl {' '.join(arguments)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout + ("" if check else done.stderr)

    def apply(self, *objects: dict[str, typing.Any], manager: str = "kubectl", user: str = ADMIN) -> None:
        """Server-side apply of objects."""
        self.kubectl("apply", "--server-side", "--force-conflicts", f"--field-manager={manager}", "-f", "-", user=user, input=list(objects))

    def request(self, method: str, path: str, body: typing.Any = None) -> dict[str, typing.Any]:
        """One request as admin, much faster than kubectl; raises urllib.error.HTTPError."""
        context = ssl.create_default_context(cafile=str(self.authority))
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {ADMIN}-token", "Content-Type": "application/json"}
        request = urllib.request.Request(f"https://{self.address}{path}", data=data, method=method, headers=headers)
        with urllib.request.urlopen(request, timeout=300, context=context) as answer:
            answered: dict[str, typing.Any] = json.load(answer)
            return answered


def as_list(objects: typing.Any) -> dict[str, typing.Any]:
    """Objects as one List, the form kubectl reads in one go."""
    return {"apiVersion": "v1", "kind": "List", "items": objects if isinstance(objects, list) else [objects]}


def authority(server: ApiServer) -> typing.Any:
    """The authority whose client certificates a cluster takes; their common name is the user's."""
    made: certificates.Certificates = server.certificates
    return made


def cilium_folder() -> pathlib.Path:
    """The folder of the Cilium module, with its CRDs and its Helm chart.

    Raises running.PeerMissing without Go or when the module is not on this machine.
    """
    here = pathlib.Path(__file__).parent / "hubble"
    try:
        command = ["go", "list", "-m", "-f", "{{.Dir}}", "github.com/cilium/cilium"]
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError as error:
        raise running.PeerMissing("Go is not installed") from error
    folder = pathlib.Path(answer.stdout.strip() or "/nowhere")
    if not folder.is_dir():
        raise running.PeerMissing("the Cilium module is not on this machine: run make peers")
    return folder


def open_reports_crds() -> list[pathlib.Path]:
    """The files of the CRDs of openreports.io, from its released Go module, which is downloaded if it is not on this machine.

    Raises running.PeerMissing where that is not possible.
    """
    here = pathlib.Path(__file__).parent / "openreports"
    try:
        command = ["go", "mod", "download", "-json", "github.com/openreports/reports-api"]
        answer = subprocess.run(command, cwd=here, capture_output=True, text=True, timeout=600, check=False)
    except FileNotFoundError as error:
        raise running.PeerMissing("Go is not installed") from error
    if answer.returncode:
        raise running.PeerMissing(f"the module of openreports.io cannot be had: {answer.stdout}{answer.stderr}")
    return sorted((pathlib.Path(json.loads(answer.stdout)["Dir"]) / "config" / "crd").glob("openreports.io_*.yaml"))


@contextlib.contextmanager
def etcd(folder: pathlib.Path) -> collections.abc.Iterator[Etcd]:
    """Run etcd in a folder."""
    address = running.free_address()
    peer_url = f"http://{running.free_address()}"
    command = [str(running.program("etcd")), "--name", "one", "--data-dir", str(folder / "data"), "--unsafe-no-fsync"]
    command += ["--listen-client-urls", f"http://{address}", "--advertise-client-urls", f"http://{address}"]
    command += ["--listen-peer-urls", peer_url, "--initial-advertise-peer-urls", peer_url, "--initial-cluster", f"one={peer_url}"]
    with running.running(Etcd(command, address=address, output=folder / "etcd.log")) as peer:
        yield peer


@contextlib.contextmanager
def cluster(
    folder: pathlib.Path, store: Etcd, *, name: str, cilium: bool = True, more: collections.abc.Sequence[str] = ()
) -> collections.abc.Iterator[ApiServer]:
    """Run a cluster whose objects are below a prefix of its own in `store`; it ends before etcd does.

    Args:
        folder: for its files; it is made.
        store: the etcd, which must outlive the block.
        name: of the cluster, unique in `store`.
        cilium: whether Cilium's CRDs are installed.
        more: further flags of kube-apiserver.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tls = certificates.authority(folder / "tls", nodes=())
    certificate, key = tls.issue("kube-apiserver", addresses=["127.0.0.1"])
    signing = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    (folder / "sa.key").write_bytes(
        signing.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    tokens = [f"{ADMIN}-token,{ADMIN},{ADMIN},system:masters", *(f"{user}-token,{user},{user}" for user in (READER, PUBLISHER, PROPOSER))]
    (folder / "tokens.csv").write_text("\n".join(tokens) + "\n")
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]}, {"level": "None"}],
    }
    (folder / "audit-policy.yaml").write_text(json.dumps(policy))
    address = running.free_address()
    command = [
        str(running.program("kube-apiserver")),
        f"--etcd-servers=http://{store.address}",
        f"--etcd-prefix=/{name}",
        "--service-account-issuer=https://kubernetes.invalid",
        f"--service-account-key-file={folder / 'sa.key'}",
        f"--service-account-signing-key-file={folder / 'sa.key'}",
        f"--token-auth-file={folder / 'tokens.csv'}",
        f"--client-ca-file={tls.ca}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--audit-policy-file={folder / 'audit-policy.yaml'}",
        f"--audit-log-path={folder / 'audit.log'}",
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        f"--secure-port={address.rpartition(':')[2]}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",  # Cilium's DaemonSet asks for it
        *more,
    ]
    server = ApiServer(command, address=address, folder=folder)
    server.certificates = tls
    with running.running(server):
        if cilium:
            crds = cilium_folder() / "pkg" / "k8s" / "apis" / "cilium.io" / "client" / "crds" / "v2"
            files = [argument for crd in CRDS for argument in ("-f", str(crds / f"{crd}.yaml"))]
            server.kubectl("apply", "--server-side", *files)
            names = [f"crd/{crd}.cilium.io" for crd in CRDS]
            server.kubectl("wait", "--for=condition=Established", "--timeout=300s", *names)
        yield server
