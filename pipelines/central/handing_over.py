"""Hands the changed file of a blueprint over to Git: a commit on a branch of its own, for whoever owns the blueprints' repository."""

from __future__ import annotations

from pathlib import Path

from pipelines.central import acting, rights
from pipelines.central.model import Change
from pipelines.proposals import handing_over
from pipelines.proposals.desk import Desk
from warehouse.errors import ProposalError


def commit(desk: Desk, change: Change) -> Change:
    """Push the changed file as a commit on a new branch of the configured repository, and record it.

    A file of the repository that is not the one which was changed is not overwritten.

    Raises ProposalError if no file was changed, there is no repository, the file there is another one, or Git fails; AccessDeniedError,
    LakeError.
    """
    git = desk.settings.proposals.git
    if change.is_at_once:
        raise ProposalError(f"change {change.id} was published from files as they are, so there is no changed file to hand over")
    if git is None:
        raise ProposalError("the configuration names no repository: set proposals.git.repository, or take the file as it is")
    rights.check(desk, change.clusters, change.blueprint)
    path = git.blueprint_path.format(file=change.source.name, name=change.blueprint)

    def write(folder: Path) -> None:
        file = handing_over.inside(folder, path)
        held = file.read_text(encoding="utf-8") if file.exists() else ""
        if held not in (change.text_before, change.text):
            raise ProposalError(f"{path} in the repository is not the file that was changed, so it is not overwritten: change it by hand")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(change.text, encoding="utf-8")

    who = rights.actor(desk)
    clusters = ", ".join(change.clusters)
    message = (
        f"blueprint {change.blueprint} {change.version}\n\n{change.reason}\n\nFor: {clusters}\nChange: {change.id}\nBy: {change.author}\n"
    )
    about = handing_over.pushed(git, change.id, write, who=who, message=message)
    return acting.handed_over(desk, change, about, f"commit {about['commit']} on branch {about['branch']} of {git.repository}")
