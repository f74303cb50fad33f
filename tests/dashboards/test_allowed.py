"""What the policies allow on the map: from judged connections to edges, marks and numbers."""

from datetime import UTC, datetime, timedelta

import pytest

from dashboards.edges import allowed
from dashboards.edges.edges import OUTSIDE, Edge, End
from pipelines.audits.exposure import Port, Reached
from pipelines.policy.verdict import Verdict
from pipelines.replay.reachable import Judged, Node, Reachable, Standing, standing_of
from warehouse.questions.conditions import Condition
from warehouse.questions.flow_filter import FlowFilter

UNTIL = datetime(2026, 5, 1, tzinfo=UTC)
WANTED = FlowFilter(since=UNTIL - timedelta(hours=2), until=UNTIL)
WEB, API, DB, WORLD = ("shop", "web"), ("shop", "api"), ("data", "db"), ("", "world")
HTTP, SQL = ("TCP", 80), ("TCP", 5432)


def end(node: Node) -> End:
    """The end that stands for a node."""
    return End(node[0] or OUTSIDE, node[1])


def seen(source: Node, destination: Node) -> Edge:
    """An edge with traffic."""
    return Edge(
        source=end(source), destination=end(destination), port="", clusters=("c1",), flows=3, denied=0, audited=0, reason=None,
        first=WANTED.since, last=UNTIL, first_denied=None, buckets=(3,),
    )  # fmt: skip


def judged(source: Node, destination: Node, port: Port, reached: Reached, verdict: Verdict = Verdict.ALLOWED) -> Judged:
    """A connection that was judged."""
    return Judged((source, destination), port, reached, verdict)


def reachable(*connections: Judged) -> Reachable:
    """Those connections, of one cluster."""
    found = Reachable()
    found.add("c1", connections)
    return found


def test_unknown_ends_give_no_edge_and_are_listed() -> None:
    unknown = reachable(judged(WEB, DB, SQL, Reached.UNCERTAIN, Verdict.UNCERTAIN))
    drawn = allowed.overlay([seen(WEB, API)], [], unknown, WANTED)
    assert drawn.found == [seen(WEB, API)]
    assert drawn.standing(drawn.found[0]) is Standing.SEEN, "an edge that was not judged is not called allowed"
    assert drawn.notes == ("pairs that are left out, because it is not known whether the policies allow them: 1",)


@pytest.mark.parametrize(
    ("reached", "verdict", "standing"),
    [
        (Reached.OBSERVED, Verdict.DENIED, Standing.REFUSED),
        (Reached.OBSERVED, Verdict.UNCERTAIN, Standing.SEEN),
        (Reached.BOTH, Verdict.ALLOWED, Standing.USED),
        (Reached.ALLOWED, Verdict.ALLOWED, Standing.UNUSED),
        (Reached.UNCERTAIN, Verdict.UNCERTAIN, Standing.UNCERTAIN),
    ],
)
def test_a_connection_stands_as_traffic_and_policies_say(reached: Reached, verdict: Verdict, standing: Standing) -> None:
    assert standing_of(reached, verdict) is standing


def test_an_allowed_pair_without_traffic_becomes_an_edge_without_flows() -> None:
    found = reachable(judged(WEB, API, HTTP, Reached.BOTH), judged(WEB, DB, SQL, Reached.ALLOWED), judged(API, DB, SQL, Reached.ALLOWED))
    drawn = allowed.overlay([seen(WEB, API)], [], found, WANTED)
    assert [(str(edge), edge.flows) for edge in drawn.found] == [
        ("shop/web → shop/api", 3),
        ("shop/api → data/db", 0),
        ("shop/web → data/db", 0),
    ]
    assert [edge.port for edge in drawn.with_ports] == ["5432/TCP", "5432/TCP"]
    assert drawn.counts(drawn.found) == ["**1** allowed and used", "**2** allowed and not used", "**0** observed and not allowed"]
    assert drawn.marks[end(WEB), end(DB)].words == "allowed by policy and never seen in the window: 5432/TCP"


def test_a_pair_that_was_seen_on_one_port_and_is_denied_there_is_marked_whatever_else_is_allowed() -> None:
    found = reachable(judged(WEB, API, HTTP, Reached.BOTH), judged(WEB, API, SQL, Reached.OBSERVED, Verdict.DENIED))
    drawn = allowed.overlay([seen(WEB, API)], [], found, WANTED)
    assert drawn.standing(drawn.found[0]) is Standing.REFUSED
    assert "passed before a policy changed, or the policies on record do not explain" in drawn.notes[0]
    assert drawn.seen_in(allowed.ALLOWED, drawn.found) == []
    assert drawn.seen_in(allowed.BOTH, drawn.found) == drawn.found


def test_a_port_that_was_seen_does_not_count_as_unused_too() -> None:
    found = reachable(judged(WEB, API, HTTP, Reached.ALLOWED), judged(WEB, API, HTTP, Reached.OBSERVED, Verdict.DENIED))
    assert found.pairs[WEB, API] == {Standing.REFUSED: [HTTP]}


def test_a_filter_on_a_namespace_holds_for_what_is_allowed_too_and_others_are_named() -> None:
    found = reachable(
        judged(WEB, API, HTTP, Reached.ALLOWED), judged(API, DB, SQL, Reached.ALLOWED), judged(WORLD, API, HTTP, Reached.ALLOWED)
    )
    found.open_to_all |= {WEB, DB}
    conditions = (Condition(field="ns", operator="=", values=("data",)), Condition(field="port", operator="=", values=("80",)))
    drawn = allowed.overlay([], [], found, FlowFilter(since=WANTED.since, until=UNTIL, conditions=conditions))
    assert list(map(str, drawn.found)) == ["shop/api → data/db"]
    assert drawn.open_to_all == (end(DB),)
    assert "narrow what was observed" in drawn.notes[-1]


def test_too_many_allowed_pairs_with_a_workload_that_everyone_reaches_are_folded_into_a_list() -> None:
    callers = [("shop", f"web-{number}") for number in range(allowed.FOLD_FROM + 1)]
    found = reachable(*(judged(caller, DB, SQL, Reached.ALLOWED) for caller in callers), judged(callers[0], API, HTTP, Reached.ALLOWED))
    found.callers |= {*callers, DB}
    drawn = allowed.overlay([], [], found, WANTED)
    assert list(map(str, drawn.found)) == ["shop/web-0 → shop/api"]
    assert drawn.open_to_all == (end(DB),)
    few = reachable(judged(WEB, DB, SQL, Reached.ALLOWED))
    few.callers |= {WEB, DB}
    assert list(map(str, allowed.overlay([], [], few, WANTED).found)) == ["shop/web → data/db"]
