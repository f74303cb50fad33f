"""What one may see, and why; and what of the other side is shown."""

from __future__ import annotations

from functools import partial

import streamlit as st

from dashboards.access import identity, own_tokens
from dashboards.frame import clock, export, head, ownership, summary
from dashboards.visit import Visit
from warehouse.access.principals import Grant
from warehouse.engine import Limits, Window
from warehouse.questions.record_questions import AccessLog
from warehouse.wording import counted

LIMIT = 1_000

_DETAIL = {
    "full": "Everything of the other side is shown.",
    "workload": "Of the other side you see namespace and workload, not its pods, addresses, labels, DNS names, L7 records or policies.",
    "namespace": "Of the other side you see the namespace alone.",
    "hidden": "Of the other side you see nothing, not even its namespace.",
}


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Access")
    scope = visit.door.scope(visit.who)
    st.subheader(f"What {identity.name(visit.who)} may see", anchor=False)
    if scope.is_empty:
        st.write("Nothing: no grant names you or a group of yours. Ask for one in the configuration's `ownership.grants`.")
        return
    rows = [_row(grant) for grant in (*scope.denials, *scope.grants)]
    st.dataframe(
        rows,
        hide_index=True,
        row_height=30,
        height=min(420, 37 + 30 * len(rows)),
        placeholder="–",  # noqa: RUF001 - stands for nothing
        alt="Grants and denials",
        column_config={
            "Effect": st.column_config.MultiselectColumn(options=["✓ may see", "✕ may not see"], color=["green", "#A63A12"], width=120),
            "From": clock.column("From", "YYYY-MM-DD HH:mm"),
            "Until": clock.column("Until", "YYYY-MM-DD HH:mm"),
            "Why": st.column_config.TextColumn(width=320),
        },
    )
    st.caption(
        "Looked up anew for every question, as of the time of each flow: what you owned then is yours to see, what you did not is not."
    )
    if not scope.everything:
        st.subheader("The other side", anchor=False)
        st.write(_DETAIL[visit.door.peer_detail])
        st.caption(f"peer_detail: {visit.door.peer_detail}, set by the platform. What has no namespace is nobody's, and shown.")
    own_tokens.draw(visit)
    _looks(visit)


def _looks(visit: Visit) -> None:
    """Who looked at what is the principal's, as the access log tells."""
    window = Window(since=visit.time.since, until=visit.time.until)
    answer = visit.door.answer(visit.who, AccessLog(window=window, limits=Limits(rows=LIMIT)))
    rows = answer.rows.to_pylist()
    st.subheader("Who asked what" if visit.door.scope(visit.who).everything else "Who looked at yours", anchor=False)
    span = clock.span(visit.time.since, visit.time.until)
    st.caption(f"**{counted(len(rows), 'question')}** in {span}{summary.cut(answer, 'questions')} · from the access log")
    if not rows:
        return
    shown = [
        {
            "Time": row["time"],
            "Who": row["principal"],
            "Outcome": [row["outcome"]],
            "Question": row["question"],
            "Where": row["purpose"],
            "Rows": row["rows"],
            "Could see": ", ".join(row["namespaces"] or ()),
            "Conditions or SQL": row["text"] or row["detail"] or "",
        }
        for row in rows
    ]
    st.dataframe(
        shown,
        hide_index=True,
        row_height=28,
        height=min(420, 37 + 28 * len(shown)),
        placeholder="–",  # noqa: RUF001 - stands for nothing
        alt="Questions, newest first",
        column_config={
            "Time": clock.column("Time", "DD MMM HH:mm:ss", width=140),
            "Outcome": st.column_config.MultiselectColumn(
                options=["answered", "denied", "failed", "stopped"], color=["green", "#A63A12", "yellow", "yellow"], width=100
            ),
        },
    )
    export.button(visit, "CSV", "access", partial(export.encode, answer.rows, "CSV", is_cut=answer.cut), key="export access")


def _row(grant: Grant) -> dict[str, object]:
    return {
        "Effect": ["✕ may not see" if grant.is_denial else "✓ may see"],
        "Cluster": grant.cluster,
        "Namespace": grant.namespace or "all",
        "Role": "" if grant.is_denial else grant.role,
        "Through": grant.subject,
        "From": grant.since,
        "Until": grant.until,
        "Why": ownership.in_words(grant.reason),
    }
