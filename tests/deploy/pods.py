"""Runs containers of rendered pods as kubelet would, on a machine without kubelet: in a mount namespace of their own, with the root
file system read-only, the pod's volumes at their paths, the pod's user, no capabilities, and a service account's token if the pod
mounts one. Commands find this tree's environment where an image would have its own.

What differs from a cluster: the network is this machine's, so each port of the configuration is replaced by a free one.
"""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TOKEN_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
HOST = ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/dev", "/proc", "/etc/ssl", "/etc/passwd", "/etc/hosts", "/etc/nsswitch.conf")
"""What of the host the containers see, besides this tree and its Python."""


def can_run() -> bool:
    """Whether this machine lets us make mount namespaces."""
    return os.geteuid() == 0 and subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


@dataclass
class Node:
    """What keeps the volumes of pods, and reads their ConfigMaps and Secrets from the API server."""

    server: Any
    folder: Path
    ports: dict[int, int] = field(default_factory=dict)
    """Port of the configuration -> free port of this machine."""

    def volume(self, name: str) -> Path:
        """The folder of a claim, whichever pod uses it."""
        folder = self.folder / "volumes" / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def read(self, kind: str, namespace: str, name: str) -> dict[str, bytes]:
        """The files of a ConfigMap or Secret."""
        data = self.server.request("GET", f"/api/v1/namespaces/{namespace}/{kind}/{name}").get("data", {})
        return {key: base64.b64decode(text) if kind == "secrets" else self.with_ports(text).encode() for key, text in data.items()}

    def with_ports(self, text: str) -> str:
        """The text with this machine's ports."""
        for port, own in self.ports.items():
            text = text.replace(f":{port}", f":{own}")
        return text


class Container:
    """One container of a pod; `pod` is a pod or a pod template."""

    def __init__(self, node: Node, pod: dict[str, Any], *, namespace: str, name: str, claims: str = "pod-0") -> None:
        """`claims` is the name of the pod, of which the claims of a StatefulSet's volumes are named."""
        self.node, self.namespace, self.claims = node, namespace, claims
        self.spec = pod["spec"]
        self.container = next(each for each in [*self.spec.get("initContainers", []), *self.spec["containers"]] if each["name"] == name)
        self.folder = node.folder / f"{claims}-{name}"
        self.output = self.folder / "output"
        (self.folder / "root").mkdir(parents=True, exist_ok=True)
        self._mounts = self._make_mounts()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start its command; the output goes to `output`."""
        with self.output.open("ab") as output:
            command = self._command([*self.container["command"], *self.container.get("args", [])])
            self._process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
        return self._process

    def stop(self) -> int:
        """Send SIGTERM and return the exit code, within the pod's grace period."""
        assert self._process is not None
        self._process.terminate()
        try:
            return self._process.wait(10 * self.spec.get("terminationGracePeriodSeconds", 30))
        finally:
            self._process.kill()

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the container: its own unless one is given."""
        given = list(command) or [*self.container["command"], *self.container.get("args", [])]
        return subprocess.run(self._command(given), capture_output=True, text=True, timeout=600, check=False)

    def printed(self) -> str:
        """What it has printed so far."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def _command(self, command: list[str]) -> list[str]:
        security = {**self.spec["securityContext"], **self.container["securityContext"]}
        script = ["set -e", f"root={shlex.quote(str(self.folder / 'root'))}", "mount -t tmpfs tmpfs $root"]
        for source, target, read_only in self._mounts:
            made = f"mkdir -p $root{target}" if source.is_dir() else f"mkdir -p $(dirname $root{target}); touch $root{target}"
            script += [made, f"mount --rbind {shlex.quote(str(source))} $root{target}"]
            script += [f"mount -o remount,bind,ro $root{target}"] if read_only else []
        script += ["mount -o remount,ro $root"] if security["readOnlyRootFilesystem"] else []
        user, group = security["runAsUser"], security["runAsGroup"]
        limits = f"--reuid {user} --regid {group} --groups {security['fsGroup']} --inh-caps=-all --bounding-set=-all --no-new-privs"
        environment = shlex.join(f"{name}={value}" for name, value in self._environment().items())
        command = [self.node.with_ports(part) for part in command]
        script += [f"exec chroot $root setpriv {limits} env -i {environment} {shlex.join(command)}"]
        return ["unshare", "--mount", "--propagation", "private", "sh", "-c", "\n".join(script)]

    def _environment(self) -> dict[str, str]:
        found = {"PATH": f"{ROOT / '.venv' / 'bin'}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}
        host, _, port = self.node.server.address.rpartition(":")
        found |= {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
        for each in self.container.get("env", []):
            if "value" in each:
                found[each["name"]] = each["value"]
            else:
                place = each["valueFrom"]["secretKeyRef"]
                found[each["name"]] = self.node.read("secrets", self.namespace, place["name"])[place["key"]].decode()
        return found

    def _make_mounts(self) -> list[tuple[Path, str, bool]]:
        """Where each folder or file is, where the container sees it, and whether it may only be read there."""
        mounts = [(Path(place), place, True) for place in HOST if Path(place).exists()]
        mounts = [(source, place, read_only and place not in ("/dev", "/proc")) for source, place, read_only in mounts]
        mounts += [(place, str(place), True) for place in {ROOT, Path(sys.base_prefix)} if not place.is_relative_to("/usr")]
        volumes = {volume["name"]: self._volume(volume) for volume in self.spec.get("volumes", [])}
        for mount in self.container["volumeMounts"]:
            source = volumes.get(mount["name"]) or self.node.volume(f"{mount['name']}-{self.claims}")
            self._owned(source)
            source = source / mount["subPath"] if "subPath" in mount else source
            mounts.append((source, mount["mountPath"], mount.get("readOnly", False)))
        if self.spec.get("automountServiceAccountToken"):
            mounts.append((self._token(), TOKEN_FOLDER, True))
        return mounts

    def _volume(self, volume: dict[str, Any]) -> Path:
        if "persistentVolumeClaim" in volume:
            return self.node.volume(volume["persistentVolumeClaim"]["claimName"])
        folder = self.folder / volume["name"]
        folder.mkdir(exist_ok=True)
        files: dict[str, bytes] = {}
        if "configMap" in volume:
            files = self.node.read("configmaps", self.namespace, volume["configMap"]["name"])
        elif "secret" in volume:
            files = self.node.read("secrets", self.namespace, volume["secret"]["secretName"])
        for name, content in files.items():
            (folder / name).write_bytes(content)
            (folder / name).chmod(0o440)
        return folder

    def _owned(self, folder: Path) -> None:
        """Give a volume to the pod's fsGroup, as kubelet does."""
        for path in (folder, *folder.iterdir()):
            os.chown(path, self.spec["securityContext"]["runAsUser"], self.spec["securityContext"]["fsGroup"])

    def _token(self) -> Path:
        account = self.spec["serviceAccountName"]
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/{account}/token"
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        folder = self.folder / "token"
        folder.mkdir(exist_ok=True)
        (folder / "token").write_text(self.node.server.request("POST", path, wanted)["status"]["token"])
        (folder / "ca.crt").write_bytes(self.node.server.authority.read_bytes())
        (folder / "namespace").write_text(self.namespace)
        return folder
