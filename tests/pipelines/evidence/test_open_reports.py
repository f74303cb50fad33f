"""Reports in the form of OpenReports: what a finding is in one, what is said where nothing is known, and what does not fit."""

from __future__ import annotations

import datetime as dt
import json
from typing import Any

from pipelines.evidence.open_reports import reports

NOW = dt.datetime(2026, 6, 1, 12, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def finding(name: str = "legacy", **more: Any) -> dict[str, Any]:
    row = {
        "cluster": "c1", "time": NOW, "since": NOW - HOUR, "kind": "allow_all", "severity": "high", "namespace": "shop",
        "subject": f"CiliumNetworkPolicy/{name}", "summary": f"{name} allows everyone", "key": f"allow_all/shop/{name}",
        "state": "open", "by": None, "reason": None, "expires": None,
    }  # fmt: skip
    return row | more


def drift(**more: Any) -> dict[str, Any]:
    row = {
        "cluster": "c1", "time": NOW, "since": NOW - HOUR, "drift": "modified", "severity": "high", "namespace": "shop",
        "kind": "NetworkPolicy", "name": "base-deny", "blueprint": "base", "blueprint_version": "1.0.0", "control": "BP-OBJ",
        "changed_by": "eve", "summary": "spec.ingress differs",
    }  # fmt: skip
    return row | more


def made(findings: list[dict[str, Any]], drifts: list[dict[str, Any]] | None = None, **more: Any) -> list[dict[str, Any]]:
    known = {"evaluated": NOW, "is_audited": True, "now": NOW} | more
    return reports.of_cluster(findings, drifts or [], **known)


def test_where_nothing_was_evaluated_the_clusters_report_says_so_instead_of_looking_clean() -> None:
    (report,) = made([], evaluated=None, is_audited=False)
    assert (report["kind"], report["summary"]["skip"], report["summary"]["pass"]) == ("ClusterReport", 2, 0)
    assert {one["rule"] for one in report["results"]} == {"audits", "drift"}
    (stale,) = made([], evaluated=NOW - 72 * HOUR)
    assert (stale["results"][0]["result"], stale["summary"]["error"]) == ("error", 1)
    assert "2026-05-29 12:00 UTC" in stale["results"][0]["message"]


def test_a_cluster_without_findings_has_an_empty_report_and_no_namespace_has_one() -> None:
    (report,) = made([])
    assert report["results"] == []
    assert report["summary"] == {"pass": 0, "fail": 0, "warn": 0, "error": 0, "skip": 0}


def test_an_accepted_finding_is_skipped_and_says_why_and_until_when() -> None:
    row = finding(state="acknowledged", by="paula", reason="replaced in release 12", expires=NOW + HOUR)
    _, report = made([row])
    (result,) = report["results"]
    assert (result["result"], result["scored"], report["summary"]["skip"]) == ("skip", False, 1)
    assert result["message"].startswith("accepted until 2026-06-01 13:00 UTC by paula: replaced in release 12.")
    assert result["properties"]["accepted-until"] == "2026-06-01T13:00:00Z"


def test_findings_and_drift_of_a_namespace_are_in_its_report_with_object_time_id_and_link() -> None:
    whole, report = made([finding(), finding("mild", severity="low")], [drift()], dashboard_url="https://h.example/")
    assert whole["results"] == []
    assert (report["metadata"]["namespace"], report["scope"]["name"]) == ("shop", "shop")
    assert [(one["policy"], one["rule"], one["result"]) for one in report["results"]] == [
        ("base", "modified", "fail"), ("policy-audit", "allow_all", "fail"), ("policy-audit", "allow_all", "warn")
    ]  # fmt: skip
    of_drift, of_finding, _ = report["results"]
    assert of_drift["resources"] == [
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop", "name": "base-deny"}
    ]
    assert of_drift["properties"]["changed-by"] == "eve"
    assert of_finding["properties"]["link"] == "https://h.example/findings?item=c1%7Callow_all%2Fshop%2Flegacy&state=open"
    assert of_finding["timestamp"] == {"seconds": int((NOW - HOUR).timestamp()), "nanos": 0}


def test_a_cluster_that_does_not_report_could_not_be_evaluated() -> None:
    row = drift(drift="not_reporting", blueprint=None, namespace=None, kind=None, name=None, control=None)
    (report,) = made([], [row])
    assert [(one["policy"], one["result"]) for one in report["results"]] == [("evaluation", "error")]
    assert "resources" not in report["results"][0]


def test_what_does_not_fit_is_left_out_least_severe_first_and_counted() -> None:
    many = [finding(f"p{number}", severity="low", summary="x" * 2_000) for number in range(1_200)]
    _, report = made([*many, finding("worst", severity="critical")])
    assert len(json.dumps(report)) < 1_000_000
    left_out = int(report["metadata"]["annotations"][reports.LEFT_OUT])
    assert len(report["results"]) + left_out == 1_201
    assert report["results"][0]["severity"] == "critical"
    assert report["summary"]["warn"] == 1_200
