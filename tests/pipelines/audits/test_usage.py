"""Unused policies and rules: what decided is used, what may have decided is left open, and what recurs is not called dead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from audited_fleet import TCP_80, WEB, cnp, compiled, np_, workload

from pipelines.audits.finding import Audited, Kind, Policies
from pipelines.audits.usage import CONTRADICTED, Looked, Seen, Uses, unused
from pipelines.policy.model import Connection, Direction, Side
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import Document
from pipelines.policy.verdict import Verdict

UNTIL = datetime(2026, 6, 30, tzinfo=UTC)
DAY = timedelta(days=1)
WEB_SIDE, DB_SIDE = workload("shop", "web").side(), workload("shop", "db").side()
DB = {"matchLabels": {"app": "db"}}
TO_WEB = Connection(DB_SIDE, WEB_SIDE, "TCP", 80)


def seen(*days_before: float, recorded: Verdict | None = Verdict.ALLOWED, denied_at: Direction | None = None) -> Seen:
    moments = [UNTIL - days * DAY for days in days_before]
    hours = frozenset(int(moment.timestamp() // 3600) for moment in moments)
    return Seen(hours, max(moments), len(moments), recorded, denied_at)


class Judged:
    """Policies, and what was seen in a window of seven days and in the time before."""

    def __init__(self, *documents: Document) -> None:
        self.policies, self.manifests = compiled(*documents)
        self.now, self.before = Uses(), Uses()

    def see(self, connection: Connection, when: Seen, *, before: bool = False) -> Judged:
        (self.before if before else self.now).of(self.policies, self.manifests)(connection, when)
        return self

    def unused(self, *, stands: float = 90, known: float = 90, observed: float = 1.0) -> tuple[Audited, Audited]:
        names = {
            (rule.origin.kind, rule.origin.namespace, rule.origin.name, self.manifests.digest(rule)): UNTIL - stands * DAY
            for rule in self.policies.rules
        }
        looked = Looked(since=UNTIL - 7 * DAY, until=UNTIL, observed=observed, stands_since=names, known_since=UNTIL - known * DAY)
        return unused("c1", self.policies, self.manifests, self.now, self.before, looked)


ALLOW_DB = {"fromEndpoints": [DB], "toPorts": TCP_80}
ALLOW_WEB = {"fromEndpoints": [WEB]}
POLICY = cnp("web", {"endpointSelector": WEB, "ingress": [ALLOW_DB, ALLOW_WEB]})


def test_a_rule_that_allowed_is_used_and_the_other_one_of_its_policy_is_not() -> None:
    policies, rules = Judged(POLICY).see(TO_WEB, seen(1)).unused()
    assert not policies.findings
    assert [(one.kind, one.path, one.severity) for one in rules.findings] == [(Kind.UNUSED_RULE, "spec.ingress[1]", "low")]


def test_an_unused_policy_is_found_as_a_whole_with_since_when_it_stands_and_what_was_observed() -> None:
    policies, rules = Judged(POLICY).unused(stands=30, known=90, observed=0.25)
    assert not rules.findings
    (found,) = policies.findings
    assert (found.subject, found.severity) == ("CiliumNetworkPolicy/web", "info")
    assert found.detail["stands_since"] == UNTIL - 30 * DAY
    assert (found.detail["last_decisive"], found.detail["longest_gap_hours"], found.detail["observed"]) == (None, None, 0.25)


def test_what_a_default_deny_denies_uses_the_policy_and_not_its_allow_rules() -> None:
    denied = seen(1, recorded=Verdict.DENIED, denied_at=Direction.INGRESS)
    policies, rules = Judged(POLICY).see(Connection(DB_SIDE, WEB_SIDE, "TCP", 81), denied).unused()
    assert not policies.findings
    assert [one.path for one in rules.findings] == ["spec.ingress[0]", "spec.ingress[1]"]


def test_a_policy_that_only_isolates_is_never_called_unused() -> None:
    assert not any(one.findings or one.undecided for one in Judged(np_("deny", {"podSelector": {}})).unused())


def test_a_deny_rule_is_used_where_it_denied() -> None:
    deny = cnp("deny", {"endpointSelector": WEB, "ingressDeny": [{"fromEndpoints": [DB]}]})
    assert Judged(deny).unused()[0].findings
    used = Judged(deny).see(TO_WEB, seen(1, recorded=Verdict.DENIED, denied_at=Direction.INGRESS))
    assert not used.unused()[0].findings


def test_what_the_source_may_not_send_uses_no_rule_of_the_destination() -> None:
    closed = cnp("closed", {"endpointSelector": DB, "egress": [{}]})
    denied = seen(1, recorded=Verdict.DENIED, denied_at=Direction.EGRESS)
    policies, _ = Judged(POLICY, closed).see(TO_WEB, denied).unused()
    assert [one.subject for one in policies.findings] == ["CiliumNetworkPolicy/web"]


def test_where_replay_and_record_disagree_or_labels_are_hidden_nothing_is_decided() -> None:
    contradicted = Judged(POLICY).see(Connection(DB_SIDE, WEB_SIDE, "TCP", 81), seen(1))
    hidden = Judged(POLICY).see(Connection(Side("shop/x"), WEB_SIDE, "TCP", 80), seen(1))
    subject = Judged(POLICY).see(Connection(DB_SIDE, Side("shop/x"), "TCP", 80), seen(1))
    for judged, why in ((contradicted, CONTRADICTED), (hidden, "the labels of shop/x"), (subject, "the labels of shop/x")):
        policies, rules = judged.unused()
        assert not policies.findings
        assert not rules.findings
        assert set(policies.undecided.values()) == {f"not known: {why}"}


def test_a_rule_that_has_not_stood_for_the_window_is_not_judged_unless_history_does_not_go_back_further() -> None:
    assert list(Judged(POLICY).unused(stands=3, known=90)[0].undecided.values()) == ["it has not stood for the whole window"]
    assert Judged(POLICY).unused(stands=3, known=3)[0].findings


def test_a_monthly_job_is_not_called_dead_after_a_week_and_is_once_it_is_overdue() -> None:
    monthly = Judged(POLICY).see(TO_WEB, seen(40, 10), before=True)
    policies, _ = monthly.unused()
    assert not policies.findings
    assert set(policies.undecided.values()) == {"it recurs, and is not overdue"}
    overdue = Judged(POLICY).see(TO_WEB, seen(70, 40), before=True)
    (found,) = overdue.unused()[0].findings
    assert (found.detail["last_decisive"], found.detail["longest_gap_hours"]) == (UNTIL - 40 * DAY, 720)
    once = Judged(POLICY).see(TO_WEB, seen(10), before=True)
    assert once.unused()[0].findings


def test_a_refused_policy_can_never_decide_and_is_found() -> None:
    document = cnp("bad", {"endpointSelector": WEB, "ingress": []})
    policies = compile_policies([document])
    assert isinstance(policies, PolicySet)
    looked = Looked(since=UNTIL - DAY, until=UNTIL, observed=1.0, stands_since={}, known_since=UNTIL)
    audited, _ = unused("c1", policies, Policies([document]), Uses(), Uses(), looked)
    assert [(one.subject, one.severity) for one in audited.findings] == [("CiliumNetworkPolicy/bad", "medium")]
    assert "enforces nothing" in audited.findings[0].summary
