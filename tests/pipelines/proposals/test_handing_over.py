"""Proposals handed over to a real Git repository: as a patch that applies, as a commit on a branch, and not at all when Git refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.proposals import handing_over, steps, store
from pipelines.proposals.model import Status
from warehouse import config
from warehouse.errors import ConfigError, ProposalError


def git(folder: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()


class Repository:
    """A bare repository, and a clone to look into it."""

    def __init__(self, folder: Path, files: dict[str, str]) -> None:
        self.bare, work = folder / "remote.git", folder / "work"
        git(folder, "init", "-q", "--bare", "-b", "main", str(self.bare))
        git(folder, "clone", "-q", str(self.bare), str(work))
        for name, text in {"README": "policies\n", **files}.items():
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_text(text)
        git(work, "checkout", "-q", "-B", "main")
        git(work, "add", "-A")
        git(work, "-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "-q", "-m", "first")
        git(work, "push", "-q", "origin", "main")
        self.work = work

    def branches(self) -> list[str]:
        return sorted(git(self.bare, "for-each-ref", "--format=%(refname:short)", "refs/heads").split())


PATH = "c1/shop/ciliumnetworkpolicy-web.yaml"


@pytest.fixture
def ready(office: Any, closed: str, policy: Any, tmp_path: Path) -> Any:
    """A proposal that changes a policy which is in force, approved; with a repository that holds what is in force."""
    repository = Repository(tmp_path, {PATH: policy({"app": "api"}, {"app": "batch"})})
    office.in_force(policy({"app": "api"}, {"app": "batch"}))
    office.configure(proposals={"git": {"repository": str(repository.bare)}})
    made = steps.approve(office.desk("ada"), office.propose("paula", closed, reason="only api\nneeds it").proposal)
    return office, repository, made


def test_an_approved_proposal_becomes_a_commit_on_a_branch_of_its_own(ready: Any, closed: str) -> None:
    office, repository, made = ready
    done = handing_over.hand_over_commit(office.desk("paula"), made)
    branch = f"hindcast/{made.id}"
    assert repository.branches() == [branch, "main"]
    git(repository.work, "fetch", "-q", "origin", branch)
    assert git(repository.work, "diff", "--name-only", "main", "FETCH_HEAD") == PATH
    assert yaml.safe_load(git(repository.work, "show", f"FETCH_HEAD:{PATH}")) == yaml.safe_load(closed)
    message = git(repository.work, "log", "-1", "--format=%an%n%B", "FETCH_HEAD")
    assert message.splitlines()[:2] == ["paula", "update CiliumNetworkPolicy shop/web"]
    assert "only api\nneeds it" in message
    assert f"Proposal: {made.id}\nProposed-by: paula\nApproved-by: ada" in message
    assert done.status(office.now) is Status.HANDED_OVER
    assert store.one(office.lake, made.id).entries[-1].about["commit"] == git(repository.work, "rev-parse", "FETCH_HEAD")


def test_a_remote_that_rejects_is_said_and_nothing_is_recorded_as_done(ready: Any) -> None:
    office, repository, made = ready
    hook = repository.bare / "hooks" / "pre-receive"
    hook.write_text("#!/bin/sh\necho 'branches need a ticket' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(ProposalError, match=r"git push failed, so nothing was handed over: .*branches need a ticket"):
        handing_over.hand_over_commit(office.desk("paula"), made)
    assert repository.branches() == ["main"]
    assert store.one(office.lake, made.id).status(office.desk("ada").now) is Status.READY
    hook.unlink()
    handing_over.hand_over_commit(office.desk("paula"), made)


def test_what_the_repository_already_holds_is_no_commit_and_other_content_is_not_overwritten(ready: Any, closed: str) -> None:
    office, repository, made = ready
    for text, message in (
        (f"{closed}---\n{closed.replace('name: web', 'name: other')}", "holds something else than"),
        (closed.replace("namespace: shop", "namespace: payroll"), "holds something else than CiliumNetworkPolicy shop/web"),
        ("kustomize: [\n", "cannot be read as YAML"),
        (closed, None),
    ):
        (repository.work / PATH).write_text(text if message else handing_over.as_yaml(made.objects[0].after))
        git(repository.work, "-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "-qam", "more")
        git(repository.work, "push", "-q", "origin", "main")
        with pytest.raises(ProposalError, match=message or "already holds what"):
            handing_over.hand_over_commit(office.desk("paula"), made)
    assert repository.branches() == ["main"]


def test_a_symbolic_link_does_not_lead_out_of_the_repository(ready: Any, tmp_path: Path) -> None:
    office, repository, made = ready
    (repository.work / PATH).unlink()
    (repository.work / "c1" / "shop").rmdir()
    (repository.work / "c1" / "shop").symlink_to(tmp_path / "outside")
    (tmp_path / "outside").mkdir()
    git(repository.work, "add", "-A")
    git(repository.work, "-c", "user.name=t", "-c", "user.email=t@t.invalid", "commit", "-qm", "link")
    git(repository.work, "push", "-q", "origin", "main")
    with pytest.raises(ProposalError, match="symbolic link"):
        handing_over.hand_over_commit(office.desk("paula"), made)
    assert not list((tmp_path / "outside").iterdir())


def test_a_repository_that_is_not_there_is_said(ready: Any) -> None:
    office, repository, made = ready
    office.configure(proposals={"git": {"repository": str(repository.bare) + "x"}})
    with pytest.raises(ProposalError, match=r"git clone failed, so nothing was handed over: .*does not exist"):
        handing_over.hand_over_commit(office.desk("paula"), made)
    office.configure()
    with pytest.raises(ProposalError, match=r"set proposals\.git\.repository"):
        handing_over.hand_over_commit(office.desk("paula"), made)


def test_a_patch_applies_to_what_is_in_force(ready: Any) -> None:
    office, repository, made = ready
    (repository.work / PATH).write_text(handing_over.as_yaml(made.objects[0].before))
    done, text = handing_over.hand_over_patch(office.desk("paula"), made)
    (repository.work / "web.patch").write_text(text)
    git(repository.work, "apply", "web.patch")
    assert yaml.safe_load((repository.work / PATH).read_text()) == made.objects[0].after
    with pytest.raises(ProposalError, match="it is handed-over"):
        handing_over.hand_over_patch(office.desk("paula"), done)


def test_patches_of_new_and_deleted_objects_apply(office: Any, policy: Any, tmp_path: Path) -> None:
    office.configure(proposals={"approval": "none"})
    git(tmp_path, "init", "-q", "tree")
    tree = tmp_path / "tree"
    new = office.propose("paula", policy({"app": "api"})).proposal
    (tree / "new.patch").write_text(handing_over.patch(new))
    git(tree, "apply", "new.patch")
    assert yaml.safe_load((tree / PATH).read_text()) == new.objects[0].after
    office.in_force(policy({"app": "api"}))
    gone = office.propose("paula", removed=(("CiliumNetworkPolicy", "shop", "web"),)).proposal
    (tree / PATH).write_text(handing_over.as_yaml(gone.objects[0].before))
    (tree / "gone.patch").write_text(handing_over.patch(gone))
    git(tree, "apply", "gone.patch")
    assert not (tree / PATH).exists()


def test_one_who_does_not_own_it_does_not_hand_it_over(ready: Any) -> None:
    office, _, made = ready
    with pytest.raises(ProposalError, match="not yours to hand over"):
        handing_over.hand_over_patch(office.desk("carla"), made)


@pytest.mark.parametrize(
    "git_section",
    [
        {"repository": "https://u:secret@example.com/x.git"},
        {"repository": "--upload-pack=touch /tmp/x"},
        {"repository": "x", "branch": "main"},
        {"repository": "x", "path": "../{name}"},
        {"repository": "x", "path": "{names}"},
    ],
)
def test_a_repository_that_is_not_safe_is_a_mistake_of_the_configuration(tmp_path: Path, git_section: dict[str, str]) -> None:
    file = tmp_path / "hindcast.yaml"
    file.write_text(yaml.safe_dump({"proposals": {"git": git_section}}))
    with pytest.raises(ConfigError) as wrong:
        config.load_config(file)
    assert f"{file}:" in str(wrong.value)
