"""Proposals of policy changes by owners: who must approve, how changes reach a cluster, and what is watched afterwards."""

from __future__ import annotations

import string
from datetime import timedelta
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationInfo, field_validator

from warehouse.config.values import Duration, Section

_OF_GIT = frozenset({"cluster", "namespace", "kind", "name", "proposal"})
_OF_BLUEPRINT = frozenset({"file", "name"})


def _check_fields(text: str, allowed: frozenset[str], what: str) -> None:
    try:
        used = {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}
    except ValueError as error:
        raise ValueError(f"{what}: {error}") from error
    if used - allowed:
        listed = ", ".join(f"{{{name}}}" for name in sorted(allowed))
        raise ValueError(f"{what} {text!r}: {{{sorted(used - allowed)[0]}}} is not known; there are {listed}")


class Git(Section):
    """A Git repository to which approved proposals are handed over as a commit on a branch of their own."""

    repository: str = Field(min_length=1)
    """Its address or folder, as for `git clone`. Credentials are Git's own: an SSH key or a credential helper, never in the address."""
    base: str = Field(default="main", min_length=1)
    """The branch that the commit is based on."""
    branch: str = "hindcast/{proposal}"
    """The branch that is pushed; it must not exist yet. `{proposal}` is the proposal's id."""
    path: str = "{cluster}/{namespace}/{kind}-{name}.yaml"
    """The file of an object; objects of a whole cluster have the namespace `_cluster`."""
    blueprint_path: str = "blueprints/{file}"
    """The file of a blueprint that was edited centrally; `{file}` is the name of its file here, `{name}` the blueprint's."""

    @field_validator("repository")
    @classmethod
    def _has_no_password(cls, value: str) -> str:
        if value.startswith("-"):
            raise ValueError(f"{value!r} begins with a dash, which is no address of a repository")
        if urlsplit(value).password is not None:
            raise ValueError("the address holds a password: let Git read it from a credential helper")
        return value

    @field_validator("branch")
    @classmethod
    def _branch_names_the_proposal(cls, value: str) -> str:
        _check_fields(value, frozenset({"proposal"}), "branch")
        if "{proposal}" not in value:
            raise ValueError("branch must contain {proposal}, so that each proposal has a branch of its own")
        return value

    @field_validator("path", "blueprint_path")
    @classmethod
    def _path_stays_inside(cls, value: str, info: ValidationInfo) -> str:
        is_object = info.field_name == "path"
        _check_fields(value, _OF_GIT if is_object else _OF_BLUEPRINT, str(info.field_name))
        named = ("{name}",) if is_object else ("{file}", "{name}")
        if value.startswith("/") or ".." in value.split("/") or not any(name in value for name in named):
            raise ValueError(f"{info.field_name} must be below the repository's top folder and contain {' or '.join(named)}")
        return value


class Proposals(Section):
    """Changes of policies that owners propose."""

    approval: Literal["none", "another-owner", "platform-when-risky", "always"] = "platform-when-risky"
    """Who must approve: nobody; another owner of the namespace; a platform-admin if the simulation denies something, cannot tell, or
    opens traffic with others; a platform-admin always. Nobody approves her own proposal."""
    approval_expires: Duration = timedelta(days=3)
    """How long an approval counts; a proposal that needs none may be applied for as long after it was judged."""
    simulate: Duration = timedelta(days=14)
    """How much recorded traffic a proposal is tried on."""
    watch: Duration = timedelta(hours=1)
    """How long after a change the drops that it causes are looked for."""
    roll_back_at: int | None = Field(default=None, gt=0)
    """Number of flows dropped because of a change at which it is rolled back without being asked; never if unset."""
    user: str = "{user}"
    """The user as which the API server is asked, e.g. `oidc:{user}`, as the cluster names the user that signs in to Hindcast."""
    group: str = "{group}"
    """Likewise for each of the user's groups."""
    git: Git | None = None

    @field_validator("user", "group")
    @classmethod
    def _names_someone(cls, value: str, info: object) -> str:
        field = str(getattr(info, "field_name", ""))
        _check_fields(value, frozenset({field}), field)
        if f"{{{field}}}" not in value:
            raise ValueError(f"{field} must contain {{{field}}}")
        return value
