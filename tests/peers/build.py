"""Builds the real peers of the tests from released Go modules and Python packages into a cache of the user.

    python3 tests/peers/build.py [all | PEER ...]

Each peer is a folder beside this file with a Go module: one with `tool` lines has those programs
built, any other is a program itself. A build is kept under the checksum of the folder's go.mod,
go.sum and Go sources and of Go's version, so building again costs nothing until one of them
changes. Old builds are left alone; the cache may be deleted whenever no test runs.

Only the standard library is used. Tests ask `peer_path`.
"""

import argparse
import dataclasses
import functools
import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROGRESS_SECONDS = 10
LAST_LINES = 40


@dataclasses.dataclass(frozen=True)
class Peer:
    """What the module in one folder builds."""

    programs: tuple[str, ...]
    """File names of the programs, each unique among all peers."""

    tools: bool = False
    """Whether the programs are the module's `tool` lines, rather than one package."""

    package: str = "."
    """The package of the program, without `tools`; the module itself unless given."""

    folder: str = ""
    """The module's folder, where two peers are built from one; else the peer's own name."""

    flags: tuple[str, ...] = ()
    """Further flags of `go build`, such as another go.mod."""

    extra: bool = False
    """Whether only `make peers-all` builds it: what shares little with the others costs minutes of its own."""

    absent: tuple[str, ...] = ()
    """Files that the released module of the first tool needs to be built but does not hold, as `MODULE FILE`. They are made empty."""

    ldflags: str = "-s -w"
    """Flags of Go's linker. The default leaves debugging tables out: a fifth less to keep."""


PEERS = {
    "hubble": Peer(programs=("hubble", "hubble-relay"), tools=True),
    "hubble-node": Peer(programs=("hubble-node",)),
    # Its package is called server, which would be the program's name as a tool.
    "etcd": Peer(programs=("etcd",), package="go.etcd.io/etcd/server/v3"),
    # Without its version the API server calls itself v0.0.0-master, which helm's charts refuse.
    "kubernetes": Peer(
        programs=("kube-apiserver", "kubectl"),
        tools=True,
        ldflags="-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3",
    ),
    "helm": Peer(programs=("helm",), tools=True),
    "cilium-policy": Peer(programs=("cilium-policy",)),
    "cilium-policy-1.19": Peer(
        programs=("cilium-policy-1.19",),
        folder="cilium-policy",
        flags=("-modfile=go-1.19.mod", "-tags=cilium119"),
        extra=True,
    ),
    "kube-network-policies": Peer(programs=("kube-network-policies-engine",)),
    "versitygw": Peer(programs=("versitygw",), tools=True),
    # The released module is without its web pages, which are built apart and embedded; the API does without them.
    "alertmanager": Peer(
        programs=("alertmanager",),
        tools=True,
        absent=(
            "github.com/prometheus/alertmanager ui/app/dist/elm/index.html",
            "github.com/prometheus/alertmanager ui/app/dist/mantine/index.html",
        ),
    ),
    "promtool": Peer(programs=("promtool",), tools=True, extra=True),
}
"""The peers by folder, in the order they are built."""
ENVIRONMENTS = ("moto",)
"""The peers that are Python programs: a folder with a requirements.lock for each, whose program is the interpreter of an
environment of its own, so that what they need does not mix with what Hindcast needs."""

JARS = {"flight-sql-jdbc": "org.apache.arrow:flight-sql-jdbc-driver:18.3.0"}
"""Java libraries that are fetched, by the name of the folder that uses them."""


class BuildFailed(Exception):
    """The compiler failed; the message holds its last lines."""


def cache_folder() -> pathlib.Path:
    """The folder that holds all builds; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(base) / "hindcast-peers"


@functools.cache
def go_version() -> str | None:
    """Go's version such as `go1.26.8`; None when there is no usable `go`."""
    go = shutil.which("go")
    if go is None:
        return None
    answer = subprocess.run([go, "env", "GOVERSION"], cwd=HERE, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


def build_folder(folder: str) -> pathlib.Path | None:
    """Where the build of the folder's present content is or would be; None without Go."""
    version = go_version()
    if version is None:
        return None
    peer = PEERS[folder]
    checksum = hashlib.sha256(" ".join([version, peer.ldflags, *peer.flags]).encode())
    sources = [path for path in (HERE / (peer.folder or folder)).iterdir() if path.suffix in {".mod", ".sum", ".go"}]
    for path in sorted(sources):
        content = path.read_bytes()
        checksum.update(f"\n{path.name} {len(content)}\n".encode() + content)
    return cache_folder() / f"{folder}-{checksum.hexdigest()}"


def peer_path(name: str) -> pathlib.Path | None:
    """The program called name, or None when it is not built from the present content.

    Args:
        name: a program such as `hubble-relay`; an unknown one is a KeyError.
    """
    folders = {program: folder for folder, peer in PEERS.items() for program in peer.programs}
    built = build_folder(folders[name])
    if built is None or not (built / name).exists():
        return None
    return built / name


def environment_path(name: str) -> pathlib.Path | None:
    """The interpreter of a peer that is a Python program, or None when its environment is not made from the present lock."""
    python = _environment(name) / "bin" / "python"
    return python if python.exists() else None


def _environment(name: str) -> pathlib.Path:
    lock = (HERE / name / "requirements.lock").read_bytes()
    return cache_folder() / f"{name}-{hashlib.sha256(sys.version.encode() + lock).hexdigest()}"


def build_environment(name: str) -> None:
    """Make the environment of a peer that is a Python program unless it is there already, whole or not at all."""
    made = _environment(name)
    if environment_path(name):
        say(f"{name}: already built")
        return
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{name}.", dir=made.parent) as scratch:
        start = time.monotonic()
        for command in (
            [sys.executable, "-m", "venv", f"{scratch}/made"],
            [f"{scratch}/made/bin/python", "-m", "pip", "install", "-q", "--require-hashes", "-r", str(HERE / name / "requirements.lock")],
        ):
            ended = subprocess.run(command, capture_output=True, text=True, check=False)
            if ended.returncode:
                raise BuildFailed(f"{name}: {' '.join(command)}:\n{(ended.stdout + ended.stderr)[-4000:]}")
        try:
            pathlib.Path(scratch, "made").rename(made)  # its interpreter finds its packages beside itself, wherever that is
        except OSError:
            if not made.exists():
                raise
    say(f"{name}: built in {time.monotonic() - start:.0f} s")


def build(folder: str) -> None:
    """Build one peer unless it is there already, telling a watching person how it goes.

    The build appears in the cache whole or not at all; of two at once, the first to end stays.
    """
    built = build_folder(folder)
    if built is None:
        raise BuildFailed("no usable go command")
    if built.exists():
        say(f"{folder}: already built")
        return
    built.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"{folder}.", dir=built.parent) as scratch:
        programs = pathlib.Path(scratch, "programs")
        programs.mkdir()
        compile_programs(folder, programs=programs, log=pathlib.Path(scratch, "log"))
        try:
            programs.rename(built)
        except OSError:
            if not built.exists():
                raise


def completed(peer: Peer, folder: pathlib.Path, scratch: pathlib.Path) -> list[str]:
    """Copy the modules that lack files into scratch and add those; the flags that make Go build the copies."""
    if not peer.absent:
        return []
    shutil.copy(folder / "go.sum", scratch / "go.sum")
    modfile = (folder / "go.mod").read_text()
    for module in {line.split()[0] for line in peer.absent}:
        subprocess.run(["go", "mod", "download", module], cwd=folder, check=True, capture_output=True)
        found = subprocess.run(
            ["go", "list", "-m", "-f", "{{.Dir}}", module], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()
        copy = scratch / module.rpartition("/")[2]
        shutil.copytree(found, copy, copy_function=shutil.copyfile)
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        modfile += f"\nreplace {module} => {copy}\n"
        for line in peer.absent:
            if line.split()[0] == module:
                (copy / line.split()[1]).parent.mkdir(parents=True, exist_ok=True)
                (copy / line.split()[1]).touch()
    (scratch / "go.mod").write_text(modfile)
    return [f"-modfile={scratch / 'go.mod'}"]


def compile_programs(folder: str, *, programs: pathlib.Path, log: pathlib.Path) -> None:
    """Run the compiler, its output going to log, and print its progress."""
    peer = PEERS[folder]
    flags = [*peer.flags, *completed(peer, HERE / (peer.folder or folder), log.parent)]
    command = ["go", "build", "-v", "-buildvcs=false", *flags, "-ldflags", peer.ldflags]
    if peer.tools:
        command += ["-o", f"{programs}{os.sep}", "tool"]
    else:
        command += ["-o", str(programs / peer.programs[0]), peer.package]
    say(f"{folder}: building {', '.join(peer.programs)}; the first time takes some minutes")
    start = time.monotonic()
    with log.open("wb") as output:
        compiler = subprocess.Popen(command, cwd=HERE / (peer.folder or folder), stdout=output, stderr=output)
    try:
        while True:
            try:
                code = compiler.wait(timeout=PROGRESS_SECONDS)
                break
            except subprocess.TimeoutExpired:
                lines = log.read_text(errors="replace").splitlines()
                packages = sum(not is_message(line) for line in lines)
                say(f"{folder}: {time.monotonic() - start:.0f} s, {packages} packages compiled")
    finally:
        compiler.terminate()
        compiler.wait()
    missing = [program for program in peer.programs if not (programs / program).exists()]
    if code != 0 or missing:
        lines = log.read_text(errors="replace").splitlines()
        messages = [line for line in lines if is_message(line)][-LAST_LINES:]
        what = f"not built: {', '.join(missing)}" if code == 0 else f"go ended with {code}"
        raise BuildFailed("\n".join([f"{folder}: {what}", *messages]))
    say(f"{folder}: built in {time.monotonic() - start:.0f} s")


def jar_path(name: str) -> pathlib.Path:
    """Where a library of JARS is once it has been fetched."""
    artifact, version = JARS[name].split(":")[1:]
    return cache_folder() / "jars" / f"{artifact}-{version}.jar"


def fetch(name: str) -> None:
    """Fetch a library of JARS with Maven unless it is there already."""
    path = jar_path(name)
    if path.exists():
        return say(f"{name}: already fetched")
    if shutil.which("mvn") is None:
        return say(f"{name}: mvn is not installed, and tests that need it skip")
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        copy = ["mvn", "--quiet", "--batch-mode", "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"]
        ended = subprocess.run([*copy, f"-Dartifact={JARS[name]}", f"-DoutputDirectory={scratch}"], capture_output=True, text=True)
        if ended.returncode:
            raise BuildFailed("\n".join([f"{name}: mvn ended with {ended.returncode}", *ended.stdout.splitlines()[-LAST_LINES:]]))
        pathlib.Path(scratch, path.name).replace(path)
    say(f"{name}: fetched")


def is_message(line: str) -> bool:
    """Whether a line of `go build -v` is more than the name of a package or a download."""
    return not re.fullmatch(r"[\w.~/-]+|go: downloading .*", line)


def say(line: str) -> None:
    """Print a line at once, also into a pipe."""
    print(line, flush=True)


def main(arguments: list[str]) -> int:
    """Build the wanted peers and print where they are; 0 also without Go, 1 when one fails."""
    parser = argparse.ArgumentParser(description="Build the real peers of the tests.")
    usual = {name for name, peer in PEERS.items() if not peer.extra}
    usual |= {*JARS, *ENVIRONMENTS}
    known = ", ".join([*PEERS, *JARS, *ENVIRONMENTS])
    parser.add_argument("peers", nargs="*", help=f"all, {known}; by default without the extra ones")
    wanted = set(parser.parse_args(arguments).peers) or usual
    if unknown := wanted - {"all", *PEERS, *JARS, *ENVIRONMENTS}:
        parser.error(f"no such peer: {', '.join(sorted(unknown))}")
    try:
        for name in JARS:
            if wanted & {"all", name}:
                fetch(name)
        for name in ENVIRONMENTS:
            if wanted & {"all", name}:
                build_environment(name)
    except BuildFailed as failure:
        print(failure, file=sys.stderr)
        return 1
    if go_version() is None:
        say("go is not installed: the real peers cannot be built, and tests that need them skip")
        return 0
    for folder, peer in PEERS.items():
        if "all" not in wanted and folder not in wanted:
            continue
        try:
            build(folder)
        except BuildFailed as failure:
            print(failure, file=sys.stderr)
            return 1
        for program in peer.programs:
            say(f"  {peer_path(program)}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
