"""The model of guard-rails: what a blueprint forbids in the policies that owners propose. `pipelines.proposals` checks them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from pipelines.blueprints.selectors import Part, Pattern, Selection, matches_any

Forbidden = Literal["allow-all", "any-address", "world-without-names", "other-namespaces"]


class GuardRail(Part):
    """Something that a proposal may not contain in the namespaces that are selected."""

    name: Pattern = Field(description="its name, which a proposal that is refused says")
    reason: str = Field(min_length=1, description="why it is forbidden, and what to do instead: said to whoever proposes it")
    select: Selection = Field(default=Selection(), description="namespaces it is for; all when absent")
    forbid: tuple[Forbidden, ...] = Field(
        default=(),
        description="allow-all: a rule that allows everyone; any-address: every address outside, or ranges that together hold a public /8 "
        "(IPv6: /16) or more, whatever they except; world-without-names: egress to such addresses, or to every DNS name; "
        "other-namespaces: peers by labels of other namespaces, or entities that their pods may be, such as host",
    )
    allowed_namespaces: tuple[Pattern, ...] = Field(default=(), description="namespaces that other-namespaces does not forbid")
    forbid_entities: tuple[Pattern, ...] = Field(
        default=(), description="Cilium entities that may not be allowed, such as world or host, by name or as a part of others"
    )

    @model_validator(mode="after")
    def _forbids_something(self) -> Self:
        if not self.forbid and not self.forbid_entities:
            raise ValueError("forbids nothing: give forbid or forbid_entities")
        if self.allowed_namespaces and "other-namespaces" not in self.forbid:
            raise ValueError("allowed_namespaces can only be used with forbid: [other-namespaces]")
        return self

    def allows_namespace(self, name: str) -> bool:
        """Return whether a namespace may be named as a peer."""
        return matches_any(name, self.allowed_namespaces)
