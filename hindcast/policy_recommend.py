"""`hindcast policy recommend`: least-privilege policies from recorded traffic, each rule with its evidence."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hindcast.console import ConfigOption, LakeOption, messages
from hindcast.output import FileOption
from hindcast.policy_files import text_of, write_text
from hindcast.query_options import AsOption, GroupOption, moment, open_door, principal
from pipelines.recommend.manifests import PolicyKind
from warehouse.errors import ConfigError
from warehouse.wording import counted

if TYPE_CHECKING:
    from pipelines.recommend.merging import Merged
    from pipelines.replay.recommending import Recommended


class YamlFormat(StrEnum):
    """How policies are printed."""

    YAML = "yaml"
    JSON = "json"


def recommend(
    namespace: Annotated[str | None, typer.Argument(help="Namespace whose workloads get policies.")] = None,
    config_path: ConfigOption = None,
    lake_url: LakeOption = None,
    workload: Annotated[
        str | None, typer.Option("--workload", help="One workload, as NAMESPACE/NAME, instead of a whole namespace.")
    ] = None,
    cluster: Annotated[str | None, typer.Option("--cluster", help="The cluster; needed where the namespace is in several.")] = None,
    since: Annotated[str, typer.Option("--since", help="Age (90m, 30d) or time from which traffic is read.")] = "30d",
    until: Annotated[str | None, typer.Option("--until", help="Age or time; now by default.")] = None,
    kind: Annotated[PolicyKind, typer.Option("--kind", help="CiliumNetworkPolicy or the NetworkPolicy of Kubernetes.")] = PolicyKind.CILIUM,
    merge: Annotated[
        Path | None, typer.Option("--merge", help="File of policies to add to; its comments and order stay. --file writes elsewhere.")
    ] = None,
    one_offs: Annotated[bool, typer.Option("--include-one-off", help="Also allow what was seen on one day only, a few times.")] = False,
    output: Annotated[YamlFormat, typer.Option("--output", "-o", help="Output format.")] = YamlFormat.YAML,
    file: FileOption = None,
    user: AsOption = None,
    groups: GroupOption = None,
) -> None:
    """Recommend least-privilege policies for a namespace or workload from its recorded traffic.

    Each rule comes with its evidence, and the whole with what was not seen and with its own simulation. Exit code 1 if the
    policies would deny traffic that they were made from.
    """
    from pipelines.recommend import writing
    from pipelines.recommend.recommendation import Subject
    from pipelines.replay.in_force import History
    from pipelines.replay.observed_traffic import TrafficOf
    from pipelines.replay.recommending import recommended
    from warehouse.engine import Window

    now = datetime.now(UTC)
    space, name = _subject(namespace, workload)
    window = Window(since=moment(since, "--since", now=now), until=moment(until, "--until", now=now) if until else now)
    if merge is not None and output is YamlFormat.JSON:
        raise ConfigError("--merge writes YAML: leave out --output json")
    door, who = open_door(config_path, lake_url, "policy recommend"), principal(user, groups)
    wanted = TrafficOf(namespace=space, window=window, clusters=(cluster,) if cluster else ())
    found = recommended(History(door, who), wanted, Subject(space, name, kind, one_offs))
    if merge is not None:
        _write_merged(merge, file or merge, found)
    elif output is YamlFormat.JSON:
        data = {"cluster": found.cluster, **writing.as_data(found.recommendation)}
        write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", file)
    else:
        write_text(writing.as_yaml(found.recommendation), file)
    _report(found)


def _subject(namespace: str | None, workload: str | None) -> tuple[str, str]:
    """The namespace and the workload, which is empty for a whole namespace."""
    if (namespace is None) == (workload is None):
        raise ConfigError("name either a NAMESPACE or --workload NAMESPACE/NAME")
    if workload is None:
        return namespace or "", ""
    space, slash, name = workload.partition("/")
    if not slash or not space or not name:
        raise ConfigError(f"--workload: {workload!r} is not written as NAMESPACE/NAME")
    return space, name


def _write_merged(source: Path, target: Path, found: Recommended) -> None:
    merged = _merged(source, found)
    if target != source or merged.changes:
        write_text(merged.text, target)
    for change in merged.changes:
        messages.print(f"{target}: {change}", markup=False)
    if not merged.changes:
        messages.print(f"{source}: allows all of this traffic already; nothing was added")


def _merged(source: Path, found: Recommended) -> Merged:
    from pipelines.recommend.merging import merge

    return merge(text_of(source) if source.exists() else "", str(source), found.recommendation, found.settings)


def _report(found: Recommended) -> None:
    """Say how the simulation ended and what was not seen, and exit with 1 if something would be denied."""
    recommendation = found.recommendation
    check = recommendation.check
    messages.print(
        f"{found.cluster}: {counted(len(recommendation.policies), 'policy', 'policies')}; simulated on the traffic they were made from: "
        f"{counted(check.allowed, 'edge')} allowed, {len(check.newly_denied)} newly denied, {len(check.uncertain)} uncertain"
    )
    for note in recommendation.not_seen:
        messages.print(f"not seen: {note}", markup=False, style="yellow")
    if check.newly_denied:
        raise typer.Exit(1)
