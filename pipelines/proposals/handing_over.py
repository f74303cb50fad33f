"""Hands proposals over to those who change clusters through Git: as a patch, or as a commit on a branch of its own."""

from __future__ import annotations

import difflib
import os
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from pipelines.objects.canonical import Manifest
from pipelines.proposals import applying, rules, steps
from pipelines.proposals.desk import Desk
from pipelines.proposals.model import Event, Proposal, ProposedObject, Status
from warehouse import config
from warehouse.errors import ProposalError

GIT_SECONDS = 120
OF_CLUSTER = "_cluster"
"""Takes the place of the namespace in the paths of objects of a whole cluster."""
_DEFAULT_PATH = "{cluster}/{namespace}/{kind}-{name}.yaml"
_LAST_LINES = 5


def as_yaml(manifest: Manifest | None) -> str:
    """Return an object as a file holds it; empty without one."""
    if manifest is None:
        return ""
    return yaml.safe_dump(applying.plain(manifest), sort_keys=False, allow_unicode=True, width=120)


def patch(proposal: Proposal, path: str = _DEFAULT_PATH) -> str:
    """Return the changes of a proposal in the form that `git apply` and `patch -p1` read."""
    return "".join(_difference(proposal, one, path_of(proposal, one, path)) for one in proposal.objects)


def path_of(proposal: Proposal, one: ProposedObject, path: str) -> str:
    """Return the file of an object."""
    names = {"cluster": proposal.cluster, "namespace": one.key.namespace or OF_CLUSTER, "kind": one.key.kind.lower(), "name": one.key.name}
    return path.format(**names, proposal=proposal.id)


def _difference(proposal: Proposal, one: ProposedObject, path: str) -> str:
    before, after = (as_yaml(manifest).splitlines(keepends=True) for manifest in (one.before, one.after))
    old = f"a/{path}" if one.before is not None else "/dev/null"
    new = f"b/{path}" if one.after is not None else "/dev/null"
    head = f"diff --git a/{path} b/{path}\n"
    head += "new file mode 100644\n" if one.before is None else "deleted file mode 100644\n" if one.after is None else ""
    return head + "".join(difflib.unified_diff(before, after, old, new))


def hand_over_patch(desk: Desk, proposal: Proposal) -> tuple[Proposal, str]:
    """Return a ready proposal as a patch, and record that it was handed over. Raises ProposalError, LakeError."""
    _check(desk, proposal)
    git = desk.settings.proposals.git
    text = patch(proposal, git.path if git is not None else _DEFAULT_PATH)
    return steps.add(desk, proposal, Event.HANDED_OVER, about={"as": "patch"}), text


def hand_over_commit(desk: Desk, proposal: Proposal) -> Proposal:
    """Push a ready proposal as a commit on a new branch of the configured repository, and record it.

    The repository is cloned into a temporary folder, so that nothing is left of an attempt that fails.

    Raises ProposalError if it may not be handed over, there is no repository, or Git fails; LakeError.
    """
    _check(desk, proposal)
    git = desk.settings.proposals.git
    if git is None:
        raise ProposalError("the configuration names no repository: set proposals.git.repository, or hand the proposal over as a patch")

    def write(folder: Path) -> None:
        for one in proposal.objects:
            _write(folder, one, path_of(proposal, one, git.path))

    about = pushed(git, proposal.id, write, who=desk.who.user, message=_message(proposal))
    branch, commit = about["branch"], about["commit"]
    return steps.add(desk, proposal, Event.HANDED_OVER, about=about, detail=f"commit {commit} on branch {branch} of {git.repository}")


def pushed(git: config.Git, number: str, write: Callable[[Path], None], *, who: str, message: str) -> dict[str, str]:
    """Push what `write` writes into a clone as a commit on a new branch, and return what is recorded of it.

    Args:
        git: the repository.
        number: id of the proposal, or of the change, which names the branch.
        write: writes the files into the folder of the clone.
        who: the author of the commit.
        message: its message.

    Raises:
        ProposalError: the branch already holds what would be written, or Git fails.
    """
    branch = git.branch.format(proposal=number)
    with tempfile.TemporaryDirectory(prefix="hindcast-git-") as name:
        folder = Path(name) / "repository"
        _git(["clone", "--quiet", "--depth", "1", "--single-branch", "--branch", git.base, "--", git.repository, str(folder)])
        _git(["checkout", "--quiet", "-b", branch], folder)
        write(folder)
        _git(["add", "--all"], folder)
        if not _git(["status", "--porcelain"], folder):
            raise ProposalError(f"branch {git.base} of {git.repository} already holds what {number} changes")
        _commit(folder, who, message)
        commit = _git(["rev-parse", "HEAD"], folder)
        _git(["push", "--quiet", "origin", f"HEAD:refs/heads/{branch}"], folder)
    return {"as": "commit", "repository": git.repository, "branch": branch, "commit": commit}


def inside(folder: Path, path: str) -> Path:
    """Return a file of a clone. Raises ProposalError if its path leads out of the clone."""
    file = folder / path
    if not file.resolve().is_relative_to(folder.resolve()):
        raise ProposalError(f"{path} leads out of the repository through a symbolic link")
    return file


def _check(desk: Desk, proposal: Proposal) -> None:
    steps.check_status(proposal, desk, "handed over", Status.READY)
    rules.name_of(desk.who)
    if not rules.is_owner(desk.scope, proposal.cluster, proposal.namespace, desk.now):
        raise ProposalError(f"proposal {proposal.id} is not yours to hand over")


def _write(folder: Path, one: ProposedObject, path: str) -> None:
    """Write, or remove, the file of an object. A file that holds anything else is left alone."""
    file = inside(folder, path)
    if file.exists():
        _check_holds(file, path, one)
    if one.after is None:
        file.unlink(missing_ok=True)
        return
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(as_yaml(one.after), encoding="utf-8")


def _check_holds(file: Path, path: str, one: ProposedObject) -> None:
    try:
        documents = [document for document in yaml.safe_load_all(file.read_text(encoding="utf-8")) if document is not None]
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ProposalError(f"{path} in the repository cannot be read as YAML, so it is not overwritten: {error}") from error
    metadata = documents[0].get("metadata") if len(documents) == 1 and isinstance(documents[0], dict) else None
    if not isinstance(metadata, dict) or (documents[0].get("kind"), metadata.get("namespace"), metadata.get("name")) != one.key:
        raise ProposalError(f"{path} in the repository holds something else than {one.key}, so it is not overwritten")


def _message(proposal: Proposal) -> str:
    approved = f"\nApproved-by: {proposal.approval.actor}" if proposal.approval is not None else ""
    reason = str(proposal.judgement.about.get("reason") or "")
    return f"{proposal.title}\n\n{reason}\n\nProposal: {proposal.id}\nProposed-by: {proposal.author}{approved}\n"


def _commit(folder: Path, who: str, message: str) -> None:
    email = who if "@" in who else f"{who}@hindcast.invalid"
    identity = ["-c", f"user.name={who}", "-c", f"user.email={email}", "-c", "commit.gpgsign=false"]
    _git([*identity, "commit", "--quiet", "--no-verify", "--cleanup=whitespace", "-m", message], folder)


def _git(arguments: Sequence[str], folder: Path | None = None) -> str:
    """Run Git without a shell and return what it prints. Raises ProposalError with the end of what it says when it fails."""
    environment = config.environment(GIT_TERMINAL_PROMPT="0", GIT_ASKPASS=os.devnull, LC_ALL="C")
    command = ["git", "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, no shell
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=GIT_SECONDS, check=False
        )
    except FileNotFoundError as error:
        raise ProposalError("git is not installed here, so a proposal can only be handed over as a patch") from error
    except subprocess.TimeoutExpired as error:
        raise ProposalError(f"git {arguments[0]}: no answer within {GIT_SECONDS} s; nothing was handed over") from error
    if done.returncode:
        said = " ".join(line.strip() for line in (done.stderr or done.stdout).splitlines()[-_LAST_LINES:])
        step = next(argument for argument in arguments if not argument.startswith("-") and "=" not in argument)
        raise ProposalError(f"git {step} failed, so nothing was handed over: {said or f'exit code {done.returncode}'}")
    return done.stdout.strip()
