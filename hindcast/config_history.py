"""`hindcast config`: records the network configuration of clusters, and shows it as it was at any time.

Here are the group and the options that its commands share; each command has a module beside this one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from hindcast.lazy import Entry, group

config_history = group(
    Entry(
        "snapshot",
        "hindcast.config_snapshot:snapshot",
        "Read each cluster's API server (or folder of manifests) and record what has changed.",
        "hindcast config snapshot --cluster prod-eu-1 --watch",
    ),
    Entry(
        "history",
        "hindcast.config_versions:history",
        "Show every version of an object: when it was in force, who made it, and what changed.",
        "hindcast config history cnp shop/web --cluster prod-eu-1",
    ),
    Entry(
        "at",
        "hindcast.config_at:at",
        "Print the configuration that was in force at a time, as YAML that kubectl apply accepts.",
        "hindcast config at 2026-03-02T14:00Z --cluster prod-eu-1 --namespace shop | kubectl diff -f -",
    ),
    Entry(
        "diff",
        "hindcast.config_diff:diff",
        "Show semantic differences in the configuration between two times",
        "hindcast config diff 7d 0s --cluster prod-eu-1 --namespace shop",
    ),
    Entry(
        "compact",
        "hindcast.config_snapshot:compact",
        "Merge the many small files of configuration history into a few.",
        "hindcast config compact --cluster prod-eu-1",
    ),
    text="Record the clusters' network configuration, and show it as it was at any time.",
)

ClustersOption = Annotated[list[str] | None, typer.Option("--cluster", "-c", help="Only this cluster; repeatable.")]
NamespacesOption = Annotated[list[str] | None, typer.Option("--namespace", "-n", help="Only this namespace; repeatable.")]
KindsOption = Annotated[list[str] | None, typer.Option("--kind", "-k", help="Only this kind, e.g. cnp; repeatable.")]
RecordedOption = Annotated[
    str | None, typer.Option("--recorded", help="As the lake knew it at this time, without anything it learned later.")
]


def some(names: Sequence[str]) -> str:
    """Return the first few names, and how many more there are."""
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
