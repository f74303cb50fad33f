"""Whom a report is made for: turns a name that a person gives into the principal whose ownership the report stays within."""

from __future__ import annotations

from collections.abc import Iterable

from warehouse import config
from warehouse.access import grants
from warehouse.access.principals import OPERATOR, Principal
from warehouse.errors import ConfigError
from warehouse.lake.tables import Lake

GROUP = "group:"


def principal_of(name: str, groups: Iterable[str] = ()) -> Principal:
    """Return the principal of a user, or of `group:NAME`, which stands for any member of the group."""
    if name.startswith(GROUP):
        return Principal(user=name, groups=frozenset({name.removeprefix(GROUP), *groups}))
    return Principal(user=name, groups=frozenset(groups))


def subject_of(settings: config.Config, lake: Lake, name: str | None, groups: Iterable[str] = ()) -> Principal:
    """Return the subject of a report: the operator without a name. A name without a grant of its own may be that of a group.

    Raises ConfigError if no grant names the subject, LakeError.
    """
    if name is None:
        return OPERATOR
    subjects = {grant.subject for grant in grants.in_force(lake, settings.ownership) if not grant.is_denial}
    for asked in (principal_of(name, groups), principal_of(GROUP + name, groups)):
        if asked.subjects & subjects:
            return asked
    known = ", ".join(sorted(subjects)[:10]) or "none"
    raise ConfigError(f"--for {name}: no grant names this user or group, so a report would be empty; subjects with grants are: {known}")
