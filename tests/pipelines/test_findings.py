"""Findings of audits open, stay and close; what was not evaluated does neither, and a second run writes nothing."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from pipelines.evidence.findings import Kept
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.errors import AccessDeniedError, CommitConflictError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.record_questions import Findings
from warehouse.records.findings import open_findings
from warehouse.schema import FINDINGS

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def finding(name: str, *, cluster: str = "c1", namespace: str | None = "shop", severity: str = "low", summary: str = "too wide") -> Finding:
    return Finding(
        kind=Kind.ALLOW_ALL,
        severity=severity,  # type: ignore[arg-type]
        cluster=cluster,
        namespace=namespace,
        subject=f"CiliumNetworkPolicy/{name}",
        place="1a",
        summary=summary,
        detail={"path": "spec.ingress[0]"},
    )


def audited(*found: Finding, cluster: str = "c1", not_evaluated: str = "", undecided: tuple[str, ...] = ()) -> Audited:
    reasons = dict.fromkeys(undecided, "labels are not known")
    return Audited(cluster=cluster, kind=Kind.ALLOW_ALL, findings=found, not_evaluated=not_evaluated, undecided=reasons)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path / "lake")))


def keep(lake: Lake, *results: Audited, after: int, configured: set[str] | None = None) -> Kept:
    return findings.keep(lake, results, now=NOW + after * HOUR, source="test", configured=configured)


def test_a_lake_without_findings_has_none_open_and_an_audit_without_findings_writes_nothing(lake: Lake) -> None:
    assert open_findings(lake).num_rows == 0
    assert keep(lake, audited(), after=0) == Kept()
    assert lake.read(FINDINGS).num_rows == 0


def test_a_finding_opens_stays_changes_and_closes(lake: Lake) -> None:
    assert keep(lake, audited(finding("a"), finding("b")), after=0) == Kept(opened=2)
    assert keep(lake, audited(finding("a"), finding("b")), after=1) == Kept()
    assert lake.read(FINDINGS).num_rows == 2
    assert keep(lake, audited(finding("a", severity="high"), finding("b")), after=2) == Kept(changed=1)
    assert keep(lake, audited(finding("a", severity="high")), after=3) == Kept(closed=1)
    (row,) = open_findings(lake).to_pylist()
    assert (row["subject"], row["severity"], row["since"], row["time"]) == ("CiliumNetworkPolicy/a", "high", NOW, NOW + 2 * HOUR)
    assert keep(lake, audited(finding("a", severity="high"), finding("b")), after=4) == Kept(opened=1)
    assert {row["since"] for row in open_findings(lake).to_pylist()} == {NOW, NOW + 4 * HOUR}
    assert [row["subject"] for row in open_findings(lake, at=NOW + 3 * HOUR).to_pylist()] == ["CiliumNetworkPolicy/a"]


def test_what_was_not_evaluated_or_not_decided_neither_opens_nor_closes(lake: Lake) -> None:
    keep(lake, audited(finding("a"), finding("b")), after=0)
    assert keep(lake, audited(not_evaluated="configuration is not covered"), after=1) == Kept()
    assert keep(lake, audited(undecided=(finding("a").key,)), after=2) == Kept(closed=1)
    assert keep(lake, audited(cluster="c2"), after=3) == Kept()
    assert [row["subject"] for row in open_findings(lake).to_pylist()] == ["CiliumNetworkPolicy/a"]


def test_findings_of_a_cluster_that_left_the_configuration_are_closed_and_say_so(lake: Lake) -> None:
    keep(lake, audited(finding("a")), audited(finding("x", cluster="c2"), cluster="c2"), after=0)
    assert keep(lake, audited(finding("a")), after=1, configured={"c1"}) == Kept(closed=1)
    last = max(lake.read(FINDINGS).to_pylist(), key=lambda row: row["time"])
    assert "not in the configuration any more" in last["summary"]


def test_an_audit_of_an_earlier_time_is_refused_and_changes_nothing(lake: Lake) -> None:
    keep(lake, audited(finding("a")), after=5)
    with pytest.raises(CommitConflictError):
        keep(lake, audited(finding("b")), after=1)
    assert [row["subject"] for row in open_findings(lake).to_pylist()] == ["CiliumNetworkPolicy/a"]


def test_findings_that_only_happen_are_not_open(lake: Lake) -> None:
    findings.record(lake, kind="erased", severity="info", summary="gone", source="test", now=NOW)
    keep(lake, audited(finding("a")), after=0)
    assert [row["kind"] for row in open_findings(lake).to_pylist()] == ["allow_all"]


def test_an_owner_sees_the_open_findings_of_her_namespaces_and_nobody_else_sees_any(lake: Lake) -> None:
    grants = [{"subject": "paula", "role": "namespace-owner", "namespaces": ["shop"]}, {"subject": "audrey", "role": "auditor"}]
    door = Door(lake, config.Ownership.model_validate({"grants": grants}), purpose="test")
    keep(lake, audited(finding("a"), finding("b", namespace="vault"), finding("c", namespace=None)), after=0)

    def seen(who: Principal) -> list[tuple[str, str | None]]:
        return [(row["subject"][-1], row["key"] and row["key"][:9]) for row in door.answer(who, Findings()).rows.to_pylist()]

    assert sorted(seen(OPERATOR)) == [("a", "allow_all"), ("b", "allow_all"), ("c", "allow_all")]
    assert seen(Principal(user="paula")) == [("a", "allow_all")]
    assert sorted(seen(Principal(user="audrey"))) == [("a", None), ("b", None), ("c", None)]
    with pytest.raises(AccessDeniedError):
        seen(Principal(user="mallory"))
