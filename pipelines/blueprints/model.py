"""A blueprint: the wanted network configuration of its clusters. These are the models of its YAML file; `render` applies them.

Keys are snake_case, except for parts that Kubernetes names itself. Only `load` reads files.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.version import InvalidVersion, Version
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, WithJsonSchema, model_validator

from pipelines.blueprints.guard_rails import GuardRail
from pipelines.blueprints.selectors import Part, Pattern, Selection, matches_any
from pipelines.blueprints.template_parts import Template
from pipelines.blueprints.templates import ClusterTemplate, NamespaceTemplate
from warehouse.config.documents import Document, parse_document, read_document
from warehouse.errors import ConfigError

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]{0,48}[a-z0-9])?$")]
SYSTEM_NAMESPACES = ("kube-system", "kube-public", "kube-node-lease", "cilium", "cilium-secrets")


def _version(text: str) -> str:
    try:
        Version(text)
    except InvalidVersion as error:
        raise ValueError(f"{text!r} is not a version such as 1.4.0") from error
    return text


def _version_range(text: str) -> str:
    try:
        SpecifierSet(text)
    except InvalidSpecifier as error:
        raise ValueError(f"{text!r} is not a version range: separate bounds with commas, such as '>=1.19,<1.21'") from error
    return text


def _end_of_day(value: Any) -> Any:
    """A date means the end of that day; a time without a zone is UTC."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if len(value) > 10 else date.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{value!r} is neither a date like 2027-01-31 nor a time like 2027-01-31T12:00:00Z") from error
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=UTC)
    if isinstance(value, date):
        return datetime.combine(value, time.max, UTC)
    return value


class Helm(Part):
    """Cilium's Helm chart: published with the real `helm`, which waits until Cilium is ready."""

    chart: str = Field(min_length=1, description="folder or .tgz (relative to the blueprint), oci:// reference, or repository/chart")
    version: str | None = Field(default=None, description="version of the chart; of a folder, its own")
    release: Name = "cilium"
    namespace: Name = "kube-system"
    values: dict[str, Any] = Field(default={}, description="values of the chart")
    timeout: Annotated[str, StringConstraints(pattern=r"^\d+[smh]$")] = Field(default="10m", description="how long helm waits")


class Cilium(Part):
    """Requirements on Cilium itself."""

    version: Annotated[str, AfterValidator(_version_range)] | None = Field(default=None, description="range of versions, e.g. >=1.19,<1.21")
    settings: dict[str, str] = Field(
        default={}, description="keys of the ConfigMap kube-system/cilium-config and the values they must have"
    )
    helm: Helm | None = None

    @model_validator(mode="before")
    @classmethod
    def _settings_are_text(cls, value: Any) -> Any:
        """A ConfigMap contains strings; YAML's true and 1 are written as Cilium writes them."""
        if isinstance(value, dict) and isinstance(value.get("settings"), dict):
            plain = {key: str(one).lower() if isinstance(one, bool | int) else one for key, one in value["settings"].items()}
            return {**value, "settings": plain}
        return value


class NamespaceRule(Part):
    """Policies for namespaces."""

    select: Selection = Field(default=Selection(), description="namespaces it is for; all when absent, but for `exclude`")
    exclude: tuple[Pattern, ...] = Field(default=SYSTEM_NAMESPACES, description="namespaces left out")
    locked: bool = Field(default=False, description="a policy that no blueprint wants is drift here")
    policies: tuple[NamespaceTemplate, ...] = ()

    def selects(self, namespace: str, labels: dict[str, str]) -> bool:
        """Return whether the entry applies to the namespace."""
        return not matches_any(namespace, self.exclude) and self.select.selects(namespace, labels)

    @model_validator(mode="after")
    def _does_something(self) -> Self:
        if not self.policies and not self.locked:
            raise ValueError("has neither policies nor locked: true, so it does nothing")
        return self


class Waiver(Part):
    """An owner's permission for a policy to be absent from a namespace, for a limited time."""

    namespace: Pattern
    clusters: tuple[Pattern, ...] = ("*",)
    policies: tuple[Pattern, ...] = Field(min_length=1, description="templates, or names of objects, which may hold * and ?")
    granted_by: str = Field(min_length=1, description="an owner of the namespace in Hindcast's configuration: a user, or group:NAME")
    reason: str = Field(min_length=1)
    expires: Annotated[datetime, BeforeValidator(_end_of_day), WithJsonSchema({"type": "string"})] = Field(
        description="a date (until its end, UTC) or a time"
    )

    def covers(self, cluster: str, namespace: str | None, names: Iterable[str], *, now: datetime) -> bool:
        """Return whether the policy with these names (its template's, its object's) may be absent at this time."""
        return (
            namespace is not None
            and now < self.expires
            and matches_any(cluster, self.clusters)
            and matches_any(namespace, [self.namespace])
            and any(matches_any(name, self.policies) for name in names)
        )


class Revert(Part):
    """Limits for reverting drifted objects."""

    max_per_hour: int = Field(default=20, gt=0, description="objects put back in one cluster in an hour; the rest is reported and waits")


class Block(Part):
    """Who may still change objects while others' changes are refused."""

    accounts: tuple[str, ...] = Field(
        min_length=1, description="users that may change the blueprint's objects: Hindcast's own, first of all"
    )


class Blueprint(Part):
    """The wanted network configuration of its clusters."""

    blueprint: Literal["v1"] = Field(description="version of this format")
    name: Name
    version: Annotated[str, AfterValidator(_version)] = Field(description="version of this blueprint, yours to raise")
    description: str = ""
    clusters: Selection = Field(description="clusters it is for: by name, and by the labels Hindcast's configuration gives them")
    canary: tuple[Pattern, ...] = Field(default=(), description="clusters that are published to first, in this order")
    cilium: Cilium = Cilium()
    cluster_policies: tuple[ClusterTemplate, ...] = ()
    namespaces: tuple[NamespaceRule, ...] = ()
    exceptions: tuple[Waiver, ...] = ()
    guard_rails: tuple[GuardRail, ...] = Field(default=(), description="what the policies that owners propose may not contain")
    drift: Literal["notify", "block", "revert"] = Field(
        default="notify",
        description="notify records drift; block also publishes an admission policy that refuses others' changes; revert puts objects back",
    )
    revert: Revert = Revert()
    block: Block | None = Field(default=None, description="who may still change objects; needed for drift: block")

    @model_validator(mode="after")
    def _names_are_unique(self) -> Self:
        _refuse_repeated("cluster_policies", self.cluster_policies)
        for index, rule in enumerate(self.namespaces):
            _refuse_repeated(f"namespaces.{index}.policies", rule.policies)
        names = [rail.name for rail in self.guard_rails]
        for index, name in enumerate(names):
            if name in names[:index]:
                raise ValueError(f"guard_rails.{index}: another guard-rail is named {name!r}: give each a name of its own")
        if (self.drift == "block") != (self.block is not None):
            raise ValueError("drift: block and block.accounts must be set together: list the accounts that may change the objects")
        return self


def _refuse_repeated(where: str, policies: Sequence[Template]) -> None:
    seen: set[tuple[str, str]] = set()
    for policy in policies:
        manifest = policy.manifest("BLUEPRINT", None)
        key = (str(manifest["kind"]), policy.object_name("BLUEPRINT"))
        if key in seen:
            raise ValueError(f"{where}: two entries make the {key[0]} {key[1]!r}: give one of them a name")
        seen.add(key)


@dataclass(frozen=True, kw_only=True)
class BlueprintFile:
    """A blueprint with the file it was read from."""

    blueprint: Blueprint
    document: Document

    @property
    def source(self) -> Path:
        return self.document.source


_EXPECTED = "a mapping: a blueprint"


def load_file(source: Path) -> BlueprintFile:
    """Read one blueprint. Raises ConfigError with a line for each mistake."""
    document = read_document(source, expected=_EXPECTED)
    return BlueprintFile(blueprint=document.build(Blueprint), document=document)


def parse(text: str, source: Path) -> BlueprintFile:
    """Parse the text of the file `source`, whatever that file holds now. Raises ConfigError with a line for each mistake."""
    document = parse_document(text, source=source, expected=_EXPECTED)
    return BlueprintFile(blueprint=document.build(Blueprint), document=document)


def load(patterns: Iterable[Path]) -> list[BlueprintFile]:
    """Read the blueprints named by paths, which may contain * and ?. Raises ConfigError with every mistake of every file."""
    files: list[BlueprintFile] = []
    mistakes: list[str] = []
    for pattern in patterns:
        found = [Path(name) for name in sorted(glob.glob(str(pattern)))]  # noqa: PTH207 (Path.glob takes no absolute pattern)
        if not found:
            mistakes.append(f"{pattern}: there is no such file")
        for source in found:
            try:
                files.append(load_file(source))
            except ConfigError as error:
                mistakes.append(str(error))
    for index, file in enumerate(files):
        twin = next((other for other in files[:index] if other.blueprint.name == file.blueprint.name and other.source != file.source), None)
        if twin:
            mistakes.append(f"{file.document.where(['name'])}: the name {file.blueprint.name!r} is also used by {twin.source}")
    if mistakes:
        raise ConfigError("\n".join(mistakes))
    return list({file.source.resolve(): file for file in files}.values())


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a blueprint's file, for editors."""
    schema = Blueprint.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Hindcast blueprint"}
