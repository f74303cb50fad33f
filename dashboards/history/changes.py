"""Changes of the configuration between two times, beside the differences of flows that they may explain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import streamlit as st

from dashboards.edges.comparison import Difference
from dashboards.frame import clock, navigation, theme, url_state
from dashboards.history import manifests
from dashboards.visit import Visit
from warehouse.engine import Window
from warehouse.questions.record_questions import Configuration
from warehouse.schema import CLUSTER_SETTINGS, POLICY_VERSIONS, WORKLOADS, Table

SHOWN = 5
SAME = timedelta(minutes=10)
_TABLES = (POLICY_VERSIONS, CLUSTER_SETTINGS)
WITH_DEPLOYMENTS = (*_TABLES, WORKLOADS)
"""Policies, settings, and workloads, whose versions are deployments."""
_NO_DEPLOYMENTS = ("PodLabels", "Node")
"""Kinds beside the workloads that change with them, or on their own, and are nobody's deployment."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """A version that began, or one that ended without another, and the one before it."""

    at: datetime
    after: Mapping[str, Any] | None
    before: Mapping[str, Any] | None
    clusters: tuple[str, ...] = ()
    """Where the same was done within SAME of it."""

    @property
    def version(self) -> Mapping[str, Any]:
        """The version that tells what it is about."""
        found = self.after or self.before
        if found is None:
            raise ValueError("a change has a version before or after it")
        return found

    @property
    def what(self) -> str:
        """In a word."""
        return "created" if self.before is None else "deleted" if self.after is None else "changed"


def between(visit: Visit, since: datetime, until: datetime, *, tables: Sequence[Table] = _TABLES) -> list[Change] | None:
    """The changes in tables of versions, newest first; None where no configuration history is recorded. Raises LakeError."""
    if not is_recorded(visit):
        return None
    window = Window(since=since, until=until)
    objects: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in versions(visit, window, tables=tables):
        if row["kind"] in _NO_DEPLOYMENTS:
            continue
        objects.setdefault((row["cluster"], row["kind"], row["namespace"], row["name"]), []).append(row)
    found: list[Change] = []
    for listed in objects.values():
        listed.sort(key=lambda row: row["valid_from"])
        for place, row in enumerate(listed):
            if since <= row["valid_from"] < until and not (place == 0 and row["valid_from_source"] == "snapshot"):
                found.append(Change(at=row["valid_from"], after=row, before=listed[place - 1] if place else None))
            if row["ended_how"] == "deleted" and row["valid_to"] < until:
                found.append(Change(at=row["valid_to"], after=None, before=row))
    return _joined(sorted(found, key=lambda change: change.at, reverse=True))


def versions(visit: Visit, window: Window, *, tables: Sequence[Table] = _TABLES) -> list[Mapping[str, Any]]:
    """Versions of objects, unless `tables` says others of policies and Cilium's settings, in force in a window. Raises LakeError."""
    answer = visit.answer(Configuration(window=window, tables=tuple(tables)))
    visit.answers.remove(answer)
    found: list[Mapping[str, Any]] = answer.rows.to_pylist()
    return found


def is_recorded(visit: Visit) -> bool:
    """Whether the lake holds any configuration history."""
    return bool({table.name for table in _TABLES} & visit.recorded())


def sentence(change: Change) -> str:
    """`after cart/cart-ingress was changed by mallory@… at 29 Nov 01:10`, as Markdown."""
    return f"after {manifests.object_name(change.version)} was {change.what} by {_by(change)} at {clock.minute(change.at)}"


def _by(change: Change) -> str:
    return manifests.who(change.version) if change.after else theme.no_link(change.version["ended_by"] or "somebody unknown")


def _joined(found: Sequence[Change]) -> list[Change]:
    """Changes, those that did the same to the same object of several clusters as one."""
    groups: list[list[Change]] = []
    for change in found:
        same = (group for group in groups if _content(group[0]) == _content(change) and group[0].at - change.at < SAME)
        group = next(same, None)
        if group is None:
            groups.append([change])
        else:
            group.append(change)
    return [replace(group[-1], clusters=tuple(sorted({change.version["cluster"] for change in group}))) for group in groups]


def _content(change: Change) -> tuple[Any, ...]:
    version = change.version
    hashes = (change.before["hash"] if change.before else None, change.after["hash"] if change.after else None)
    return (version["kind"], version["namespace"], version["name"], *hashes)


def explained(change: Change, differences: Sequence[Difference]) -> list[Difference]:
    """Differences that came after a change in a namespace that is one of their ends'."""
    namespace = change.version["namespace"]
    found = []
    for difference in differences:
        edge = difference.edge
        touched = namespace is None or namespace in (edge.source.namespace, edge.destination.namespace)
        shown = difference.b.first_denied or difference.b.first if difference.b else None
        if touched and set(change.clusters) & set(edge.clusters) and (shown is None or shown >= change.at):
            found.append(difference)
    return found


def draw(listed: Sequence[Change], differences: Sequence[Difference]) -> None:
    """The card."""
    with st.container(border=True, key="changes"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.subheader("Configuration changes", anchor=False, width="content")
            st.space("stretch")
            st.badge(str(len(listed)), color="gray")
        if not listed:
            st.caption("None is recorded between the start of A and the end of B.")
        flips = [difference for difference in differences if difference.kind in ("flip", "new", "vanished")]
        by_weight = sorted(listed, key=lambda change: -len(explained(change, flips)))  # the newest first among equals
        for change in by_weight[:SHOWN]:
            version = change.version
            with st.container(gap=None):
                st.markdown(f"**{manifests.object_name(version)}**")
                st.caption(f"{clock.second(change.at)} · {', '.join(change.clusters)}")
                st.caption(f"{version['kind']} {change.what} · by {_by(change)}")
            found = explained(change, flips)
            with st.container(horizontal=True, vertical_alignment="center", wrap=True):
                if found:
                    st.badge(
                        f"may explain {len(found)}",
                        icon=":material/link:",
                        color="red",
                        help=", ".join(str(each.edge) for each in found[:5]),
                    )
                else:
                    st.badge("no difference after it", color="gray")
                if "Polic" in version["kind"]:
                    navigation.link("policies", "Open", query=url_state.link(find=version["name"], show="changed"), icon="north_east")
            if change.before and change.after:
                with st.expander("What changed"):
                    manifests.draw_difference(manifests.as_yaml(change.before), manifests.as_yaml(change.after))
        if len(listed) > SHOWN:
            navigation.link("policies", f"{len(listed) - SHOWN} more", query=url_state.link(show="changed"))
