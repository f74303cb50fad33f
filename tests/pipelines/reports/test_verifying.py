"""A report says the same whenever it is made again, and verifying it finds every change and says why."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.evidence.reports import making, records, subjects, verifying
from pipelines.evidence.reports.asked import ReportOf
from pipelines.maintenance import erasure, retention
from pipelines.maintenance.compaction import compact_closed_hours
from pipelines.maintenance.rollup import roll_up_closed_hours
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.schema import FLOWS, REPORTS

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
FORMATS = ("html", "csv", "json", "parquet")


def made(fleet: Any, name: str = "fleet", **more: Any) -> Path:
    """A report of both days, written and recorded; gives its page."""
    request = ReportOf(name=name, since=START, until=START + 2 * DAY, known=START + 2 * DAY + HOUR, **more)
    report = making.make(fleet.settings, fleet.lake, request, formats=FORMATS, stem="weekly", by="test", made=request.known)
    making.write(report, fleet.folder / "out")
    making.record(fleet.lake, report)
    return Path(fleet.folder / "out" / "weekly.html")


def differences(fleet: Any, page: Path) -> str:
    return "\n".join(verifying.verify(fleet.settings, fleet.lake, page).differences)


def test_a_file_that_is_no_report_is_refused(fleet: Any, tmp_path: Path) -> None:
    other = tmp_path / "other.html"
    other.write_text("<p>nothing</p>")
    with pytest.raises(ConfigError, match=r"other\.html: has no manifest of a report"):
        verifying.verify(fleet.settings, fleet.lake, other)
    with pytest.raises(ConfigError, match=r"absent\.html: cannot be read"):
        verifying.verify(fleet.settings, fleet.lake, tmp_path / "absent.html")


def test_a_page_that_was_changed_by_hand_differs(fleet: Any) -> None:
    page = made(fleet)
    page.write_text(page.read_text().replace("Never evaluated", "Well evaluated"))
    assert differences(fleet, page) == "weekly.html was changed after it was made\nweekly.html is not what the lake's content gives"


def test_a_data_file_that_was_changed_or_is_missing_is_named(fleet: Any) -> None:
    page = made(fleet)
    (page.parent / "weekly.drops.csv").write_text("nothing\n")
    (page.parent / "weekly.volume.parquet").unlink()
    assert differences(fleet, page) == "weekly.drops.csv was changed after it was made\nweekly.volume.parquet is missing"


def test_a_manifest_that_was_changed_with_its_page_is_found_by_the_record(fleet: Any) -> None:
    page = made(fleet)
    for path in (page, page.parent / "weekly.manifest.json"):
        path.write_text(path.read_text().replace('"made_by":"test"', '"made_by":"boss"'))
    assert differences(fleet, page) == "the manifest is not the one that was recorded when the report was made"


def test_nothing_that_an_unknown_manifest_asks_for_is_made(fleet: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page = made(fleet)
    built: list[Any] = []
    monkeypatch.setattr(making, "build", lambda *arguments: built.append(arguments))
    beside = page.parent / "weekly.manifest.json"
    text, recorded = beside.read_text(), json.loads(beside.read_text())
    recorded["asked"] |= {"report": "mine", "source": "mine.yaml", "settings": "queries: {all: {sql: FROM flows}}"}
    for forged, said in (
        (json.dumps(recorded), "the manifest is not the one that was recorded when the report was made"),
        (text.replace(recorded["id"], "another"), "the lake has no record that this report was made"),
    ):
        beside.write_text(forged)
        verdict = verifying.verify(fleet.settings, fleet.lake, beside)
        assert (verdict.differences, verdict.is_identical, verdict.is_recorded) == ((said,), False, False)
    assert built == []


def test_a_report_is_identical_again_and_after_more_data_compaction_and_vacuum(fleet: Any) -> None:
    page = made(fleet)
    assert differences(fleet, page) == ""
    fleet.flow("shop/web", "pay/api", at=START + 5 * HOUR, times=7, recorded=3 * DAY)  # an old flow that came late
    fleet.observed("us", START + DAY, recorded=START + 4 * DAY)
    fleet.policy("late", START + 3 * HOUR)
    assert differences(fleet, page).startswith("section") is False
    fleet.flow("shop/web", "pay/api", at=START + 3 * DAY)
    compact_closed_hours(fleet.lake, now=START + 5 * DAY)
    kept = {file.path for file in fleet.lake.contents(FLOWS)}
    stored = fleet.folder / "lake" / "flows"
    for path in stored.rglob("*.parquet"):
        if "_delta_log" not in str(path) and str(path.relative_to(stored)) not in kept:
            path.unlink()
    assert differences(fleet, page) == ""
    assert verifying.verify(fleet.settings, fleet.lake, page.parent / "weekly.manifest.json").is_identical


def sources(page: Path) -> set[str]:
    """Where edges and volume of a report came from."""
    manifest = json.loads((page.parent / "weekly.manifest.json").read_text())
    return {query["source"] for query in manifest["queries"] if query["question"] in ("two_windows", "timeline")}


PAYMENTS = subjects.principal_of("group:payments")


def test_an_owners_report_that_was_made_from_flows_is_the_same_from_rollups(fleet: Any) -> None:
    page = made(fleet, "owner", subject=PAYMENTS)
    assert sources(page) == {"flows"}
    roll_up_closed_hours(fleet.lake, fleet.settings.rollups, now=START + 5 * DAY)
    assert differences(fleet, page) == ""


def test_an_owners_report_that_was_made_from_rollups_is_the_same_whatever_comes_late(fleet: Any) -> None:
    roll_up_closed_hours(fleet.lake, fleet.settings.rollups, now=START + 5 * DAY)
    page = made(fleet, "owner", subject=PAYMENTS)
    assert sources(page) == {"edges_1h"}, "whole hours that were known by then are not read again from the flows"

    late = {"at": START + DAY + HOUR, "recorded": 3 * DAY}
    fleet.flow("shop/web", "pay/api", times=7, **late)
    fleet.flow("shop/late", "pay/api", times=2, verdict="DROPPED", **late)
    assert differences(fleet, page) == ""
    roll_up_closed_hours(fleet.lake, fleet.settings.rollups, now=START + 5 * DAY)
    assert differences(fleet, page) == "", "a stored hour that holds more than was known then is not used"
    compact_closed_hours(fleet.lake, now=START + 5 * DAY)
    roll_up_closed_hours(fleet.lake, fleet.settings.rollups, now=START + 5 * DAY)
    assert differences(fleet, page) == ""
    made(fleet, "owner", subject=PAYMENTS)
    assert sources(page) == {"edges_1h and flows"}


def test_after_an_erasure_it_says_which_rows_are_gone_and_by_which_finding(fleet: Any) -> None:
    page = made(fleet)
    request = erasure.Request(cluster="eu", namespace="pay", reason="contract ended", asked_by="dpo")
    erasure.erase(fleet.lake, request, (), now=START + 3 * DAY)
    said = differences(fleet, page)
    assert "section Volume: " in said
    assert "erasure: finding erased of " in said
    assert "about eu/pay" in said
    assert "(reason: contract ended)" in said


def test_an_owner_is_not_told_of_the_erasures_and_clusters_of_others(fleet: Any) -> None:
    from warehouse.access.principals import Principal

    page = made(fleet, subject=Principal(user="group:payments", groups=frozenset({"payments"})))
    request = erasure.Request(cluster="eu", namespace="shop", reason="a secret reason", asked_by="dpo")
    erasure.erase(fleet.lake, request, (), now=START + 3 * DAY)
    retention.retain(fleet.lake, config.Retention(flows=dt.timedelta(days=1)), now=START + 2 * DAY + HOUR)
    said = differences(fleet, page)
    assert "\nrows were removed\n" in said
    assert "removed rows of eu 2026-03-02" in said
    assert not [word for word in ("eu/shop", "secret", "us ") if word in said]
    erasure.erase(fleet.lake, erasure.Request(cluster="eu", namespace="pay", reason="ended", asked_by="dpo"), (), now=START + 4 * DAY)
    assert "about eu/pay" in differences(fleet, page)


def test_after_retention_it_says_which_days_are_gone_by_which_commit(fleet: Any) -> None:
    page = made(fleet)
    keep = config.Retention(flows=dt.timedelta(days=1))
    retention.retain(fleet.lake, keep, now=START + 2 * DAY + HOUR)
    said = differences(fleet, page)
    assert "section Volume: " in said
    assert "retention: version " in said
    assert "removed rows of eu 2026-03-02" in said


def test_a_grant_that_changed_is_told(fleet: Any) -> None:
    from warehouse.access.principals import Principal

    page = made(fleet, subject=Principal(user="group:payments", groups=frozenset({"payments"})))
    assert differences(fleet, page) == ""
    fleet.configured(ownership={"grants": [{"subject": "group:payments", "role": "namespace-owner", "namespaces": ["shop"]}]})
    assert "what group:payments may see of the window is not what it was" in differences(fleet, page)
    payments = {"subject": "group:payments", "role": "namespace-owner", "clusters": ["eu"], "namespaces": ["pay"]}
    fleet.configured(ownership={"grants": [payments], "peer_detail": "full"})
    assert "what group:payments may see of the window is not what it was" in differences(fleet, page)
    fleet.configured(ownership={"grants": [{"subject": "ada", "role": "platform-admin"}]})
    assert "group:payments may see nothing any more" in differences(fleet, page)


def test_what_was_made_and_what_verifying_said_is_in_the_table(fleet: Any) -> None:
    page = made(fleet)
    verdict = verifying.verify(fleet.settings, fleet.lake, page)
    records.record_verified(fleet.lake, verdict.manifest, ("one", "two"), by="auditor")
    first, second = fleet.lake.read(REPORTS).sort_by("time").to_pylist()
    assert (first["event"], second["event"]) == ("made", "differs")
    assert first["id"] == second["id"] == json.loads(first["manifest"])["id"]
    assert second["detail"] == "one\ntwo"
    assert first["made_for"] is None
    assert first["files"].startswith(b"PK")
