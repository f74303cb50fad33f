"""Least-privilege policies for a namespace or workload from its history: the policies, their evidence, and what was not seen."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import streamlit as st

from dashboards.frame import clock, head, navigation, summary, theme, url_state
from dashboards.sql_page import running
from dashboards.visit import Visit, not_future
from dashboards.whatif import editing
from pipelines.policy.model import Direction
from pipelines.recommend import writing
from pipelines.recommend.manifests import PolicyKind, WrittenPolicy
from pipelines.recommend.observed import Evidence
from pipelines.recommend.recommendation import Recommendation, Subject
from pipelines.replay.in_force import History
from pipelines.replay.observed_traffic import TrafficOf
from pipelines.replay.recommending import Recommended, recommended
from warehouse.engine import Window
from warehouse.errors import CancelledError, ConfigError, QueryError
from warehouse.questions import edges_in_time
from warehouse.questions.flow_filter import FlowFilter
from warehouse.wording import counted

JOB = "recommend"
_KINDS = {PolicyKind.CILIUM.value: "CiliumNetworkPolicy", PolicyKind.KUBERNETES.value: "NetworkPolicy"}
_SHOWN_APART = 200


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Recommend")
    if visit.door.scope(visit.who).is_empty:
        summary.denied(visit)
        return
    workloads = _workloads(visit)
    if not workloads:
        summary.empty(
            "No traffic of your namespaces",
            f"None was recorded in {clock.span(visit.time.since, visit.time.until)}, and policies are made from traffic alone.",
            "person_off",
        )
        return
    _controls(visit, workloads)
    namespace = url_state.get("of")
    if namespace not in workloads:
        summary.empty(
            "For which namespace?", "Choose one above: its policies are made from what its workloads did in the window.", "auto_awesome"
        )
        return
    found = _found(visit, namespace)
    if found is not None:
        _result(found)


def _workloads(visit: Visit) -> dict[str, list[str]]:
    """The workloads with traffic by namespace, of the namespaces that are the principal's own."""
    until = max(visit.time.since, not_future(visit.time.until))
    answer = visit.answer(edges_in_time.edges_in_time(FlowFilter(since=visit.time.since, until=until)))
    may, found = editing.owns(visit), dict[str, set[str]]()
    for side in ("source", "destination"):
        pairs = zip(answer.rows[f"{side}_namespace"].to_pylist(), answer.rows[f"{side}_name"].to_pylist(), strict=True)
        for namespace, name in set(pairs):
            if namespace and may(namespace):
                found.setdefault(namespace, set()).update([name] if name else [])
    return {namespace: sorted(names) for namespace, names in sorted(found.items())}


def _controls(visit: Visit, workloads: dict[str, list[str]]) -> None:
    """Whose policies, of which kind."""
    namespace = url_state.get("of")
    clusters = visit.door.clusters(visit.who)
    with st.container(horizontal=True, vertical_alignment="bottom", wrap=True):
        _choice("Namespace", list(workloads), "of", "Choose one", clears="workload")
        if names := workloads.get(namespace):
            _choice("Workload", names, "workload", "All of them")
        if len(clusters) > 1:
            _choice("Cluster", clusters, "in", "Choose one")
        url_state.choose(st.segmented_control, "Kind", _KINDS, "kind", PolicyKind.CILIUM.value)
        st.session_state["one-offs"] = url_state.get("oneoffs") == "1"
        st.toggle(
            "Rules for one-off traffic", key="one-offs",
            on_change=lambda: url_state.put("oneoffs", "1" if st.session_state["one-offs"] else None),
            help="Traffic that was seen on one day only, a few times, gets no rule unless you ask for it",
        )  # fmt: skip


def _choice(label: str, options: Sequence[str], name: str, placeholder: str, *, clears: str = "") -> None:
    key = f"recommend {name}"

    def changed() -> None:
        url_state.put(name, st.session_state[key])
        if clears:
            url_state.put(clears, None)

    st.session_state[key] = url_state.get(name) if url_state.get(name) in options else None
    st.selectbox(label, list(options), index=None, key=key, placeholder=placeholder, on_change=changed, width=220)


def _found(visit: Visit, namespace: str) -> Recommended | None:
    """The recommendation; None while it is made, or where none can be, which is then said."""
    kind = PolicyKind(url_state.chosen("kind", _KINDS, PolicyKind.CILIUM.value))
    subject = Subject(namespace, url_state.get("workload"), kind, url_state.get("oneoffs") == "1")
    until = max(visit.time.since, not_future(visit.time.until))
    wanted = TrafficOf(namespace=namespace, window=Window(since=visit.time.since, until=until), clusters=tuple(url_state.get_all("in")))
    door, who = visit.door, visit.who

    def work(cancelled: threading.Event) -> Recommended:
        found = recommended(History(door, who, cancelled), wanted, subject)
        if cancelled.is_set():
            raise CancelledError("cancelled")
        return found

    key = (visit.who, visit.door.scope(visit.who), subject, wanted.clusters, visit.time.since, visit.time.until)
    try:
        return running.answer(JOB, key, work, advice="A shorter window reads less.")
    except CancelledError:
        st.info("Cancelled.", icon=":material/stop_circle:")
        running.leave(JOB)
    except (ConfigError, QueryError) as error:
        st.warning(theme.plain(str(error).replace("with --cluster", "above")), icon=":material/help:")
    return None


def _result(found: Recommended) -> None:
    recommendation = found.recommendation
    _verdict(found)
    if recommendation.not_seen:
        with st.container(border=True, key="not seen"):
            st.markdown(":material/visibility_off: **What was not seen**, so that no rule allows it")
            for note in recommendation.not_seen:
                st.caption(theme.plain(note))
    if not recommendation.policies:
        summary.empty("No policy", "The traffic of this window gives none; what is above says why.", "policy")
        return
    text = writing.as_yaml(recommendation)
    with st.container(horizontal=True, vertical_alignment="center", wrap=True):
        subject = recommendation.subject
        name = "-".join(filter(None, (found.cluster, subject.namespace, subject.workload)))
        st.download_button(
            "Download all", text, file_name=f"{name}-policies.yaml", mime="application/yaml", icon=":material/download:",
            on_click="ignore", key="download policies", type="primary",
        )  # fmt: skip
        if navigation.exists("what-if"):
            query = url_state.link(policy=editing.part_of(text), in_=found.cluster)
            navigation.link("what-if", "Open all in What-if", query=query, icon="experiment")
        st.caption("A policy that is too long for a link opens in this session only.")
    for policy in recommendation.policies:
        _policy(found, recommendation, policy)
    _apart(recommendation)


def _verdict(found: Recommended) -> None:
    """What the policies would do to the traffic that they were made from."""
    check, seen = found.recommendation.check, found.recommendation.seen
    good = not check.newly_denied and not check.refusals
    icon, colour = ("verified", "green") if good else ("warning", "orange")
    observed = "coverage not recorded" if seen.covered is None else f"**{theme.percent(seen.covered)}** of node-time observed"
    policies = len(found.recommendation.policies)
    tried = (
        f"**{counted(check.allowed, 'edge')}** allowed, **{len(check.newly_denied)}** newly denied, **{len(check.uncertain)}** uncertain"
    )
    st.markdown(
        f":{colour}[:material/{icon}:] **{counted(policies, 'policy', 'policies')}** for {found.cluster}; "
        f"tried on the traffic that made them: {tried}; {observed}."
    )
    for one in (*check.newly_denied, *check.uncertain)[:5]:
        st.caption(theme.plain(f"{one.edge.text}: {one.reason}"))
    for refusal in check.refusals:
        st.error(str(refusal), icon=":material/block:")


def _policy(found: Recommended, recommendation: Recommendation, policy: WrittenPolicy) -> None:
    notes = recommendation.notes.get(policy.name, ())
    text = writing.policy_as_yaml(policy, notes)
    with st.container(border=True):
        with st.container(horizontal=True, vertical_alignment="center", wrap=True):
            st.markdown(f"**{policy.name}**", width="content")
            st.caption(", ".join(policy.workloads))
            st.space("stretch")
            if navigation.exists("what-if"):
                query = url_state.link(policy=editing.part_of(text), in_=found.cluster)
                navigation.link("what-if", "Open in What-if", query=query, icon="experiment")
        evidence, written = st.tabs(["Evidence", "YAML"])
        with evidence:
            st.dataframe(
                _evidence(policy),
                hide_index=True,
                row_height=28,
                alt=f"Rules of {policy.name} and the traffic they were made from",
                key=f"evidence {policy.name}",
                column_config={
                    "Flows": st.column_config.NumberColumn(format="compact", width=70),
                    "First seen": clock.column("First seen", "DD MMM HH:mm", width=120),
                    "Last seen": clock.column("Last seen", "DD MMM HH:mm", width=120),
                },
            )
            for note in notes:
                st.caption(theme.plain(note))
        with written:
            st.code(text, language="yaml", wrap_lines=True)


def _evidence(policy: WrittenPolicy) -> list[dict[str, Any]]:
    rows = []
    for rule in policy.rules:
        evidence = Evidence.of({id(edge): edge for _, one in rule.ports for edge in one.edges}.values())
        rows.append(
            {
                "Rule": f"{'from' if rule.direction is Direction.INGRESS else 'to'} {rule.draft.peer.text}",
                "Ports": ", ".join(str(port) for port, _ in rule.ports),
                "Flows": evidence.flows,
                "First seen": evidence.first_seen,
                "Last seen": evidence.last_seen,
                "Days seen": len(evidence.days),
                "Inferred": "; ".join(rule.notes),
            }
        )
    return rows


def _apart(recommendation: Recommendation) -> None:
    """Traffic that got no rule."""
    if not recommendation.apart:
        return
    with st.expander(f"Traffic without a rule ({counted(len(recommendation.apart), 'edge')})", icon=":material/filter_alt_off:"):
        rows = [{"Edge": one.edge.text, "Flows": one.edge.flows, "Why": one.reason.value} for one in recommendation.apart[:_SHOWN_APART]]
        st.dataframe(rows, hide_index=True, row_height=28, alt="Traffic without a rule", key="set apart")
