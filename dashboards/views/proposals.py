"""Proposals: changes of policies that owners ask for, what they would do, who must approve them, and how they reach a cluster."""

from __future__ import annotations

from dashboards.frame import head, summary, url_state
from dashboards.proposals import acting, listing, making, shown
from dashboards.visit import Visit
from pipelines.proposals import store
from pipelines.proposals.model import Proposal
from warehouse.questions.proposal_questions import ProposalEvents


def page(visit: Visit) -> None:
    """Draw the page. Raises HindcastError."""
    head.draw(visit, "Proposals", with_time=False)
    if visit.door.scope(visit.who).is_empty:
        summary.denied(visit)
        return
    wanted = url_state.get("proposal")
    proposals = _visible(visit)
    found = next((one for one in proposals if one.id == wanted), None)
    if found is not None:
        shown.draw(visit, found)
        return
    acting.told()
    if wanted:
        summary.empty(
            "No such proposal", "There is none of this id that you may see.", "link_off", ("All proposals", lambda: acting.go_to(None))
        )
        return
    if url_state.get("policy") or url_state.get_all("without"):
        making.card(visit)
        return
    listing.draw(visit, proposals)


def _visible(visit: Visit) -> list[Proposal]:
    answer = visit.answer(ProposalEvents())
    visit.answers.remove(answer)
    return store.proposals_of(answer.rows)
