"""The card in which a policy that came from What-if is proposed for a cluster."""

from __future__ import annotations

import streamlit as st

from dashboards.access import deciding
from dashboards.frame import summary, url_state
from dashboards.proposals import acting
from dashboards.visit import Visit
from dashboards.whatif import draft, editing
from pipelines.policy.reading import Document
from pipelines.proposals import reading, steps
from warehouse.errors import ConfigError


def card(visit: Visit) -> None:
    """Draw it. Raises HindcastError."""
    text, removed = editing.asked(), [tuple(one.split("|", 2)) for one in url_state.get_all("without")]
    found = draft.read(text, editing.owns(visit)) if text else draft.Draft()
    if not found.documents and not removed:
        summary.empty("Nothing to propose", "The link holds no policy. Write one in What-if, and propose it from there.", "edit_note")
        return
    desk = acting.desk_of(visit)
    clusters = [one.name for one in visit.settings.clusters if desk.scope.sees_cluster(one.name)]
    with st.container(border=True, key="new proposal"):
        st.subheader("New proposal", anchor=False)
        for document in found.documents:
            st.markdown(f":material/edit: {document.kind} **{'/'.join(filter(None, document.identity[1:]))}**")
        for kind, namespace, name in removed:
            st.markdown(f":material/delete: {kind} **{'/'.join(filter(None, (namespace, name)))}** is deleted")
        for problem in found.problems:
            st.markdown(f":material/block: line **{problem.line}**: {problem.text}")
        if not clusters:
            st.caption("No cluster of the configuration is yours to propose for.")
            return
        deciding.explain(visit)
        if not deciding.is_possible(visit):
            return
        asked = url_state.get("in")
        st.selectbox("Cluster", clusters, index=clusters.index(asked) if asked in clusters else 0, key="propose cluster", width=260)
        st.text_input("Why", key="propose reason", placeholder="For those who approve it", max_chars=steps.LONGEST_REASON)
        if st.button(
            "Propose", type="primary", icon=":material/send:", key="propose", disabled=any(one.is_error for one in found.problems)
        ):
            with st.spinner("Checking, and replaying recorded traffic"):
                _propose(visit, found.documents, removed)  # type: ignore[arg-type]
            st.rerun()
    if text:
        st.code(text, language="yaml", wrap_lines=True)


def _propose(visit: Visit, documents: tuple[Document, ...], removed: list[tuple[str, str, str]]) -> None:
    desk = acting.desk_of(visit)
    made: list[steps.Made] = []

    def step() -> None:
        groups = reading.read(documents, removed)
        if len(groups) > 1:
            spaces = ", ".join(group[0].key.namespace or "the whole cluster" for group in groups)
            raise ConfigError(f"a proposal is about one namespace, and these policies are of {spaces}: propose them one by one")
        made.append(steps.propose(desk, st.session_state["propose cluster"], groups[0], st.session_state.get("propose reason", "")))

    if acting.do(visit, step, "Proposed: checked, and tried on recorded traffic."):
        acting.go_to(made[0].proposal.id)
