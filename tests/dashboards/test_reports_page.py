"""The page Reports: who sees which report, what verifying said, and a report opened in its frame."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pipelines.evidence.reports import making, records, subjects
from pipelines.evidence.reports.asked import ReportOf
from warehouse import config
from warehouse.lake.tables import Lake

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]


@pytest.fixture
def reported(filled: Path) -> dict[str, str]:
    """Ids of a report for the platform, which was verified, and of one for paula."""
    settings = config.load_config(filled / "hindcast.yaml")
    lake, now = Lake.open(settings.lake), dt.datetime.now(dt.UTC)
    ids = {}
    for name, who in (("fleet", None), ("owner", "paula")):
        subject = subjects.subject_of(settings, lake, who)
        request = ReportOf(name=name, since=now - dt.timedelta(hours=1), until=now, known=now, subject=subject)
        made = making.make(settings, lake, request, formats=("html", "csv"), stem=name, by="test")
        making.record(lake, made)
        ids[name] = made.manifest["id"]
        if name == "fleet":
            records.record_verified(lake, made.manifest, ("section Volume: 3 rows then, 2 now",), by="test")
    return ids


def test_where_no_report_was_made_there_is_no_page(filled: Path, look: Look, said: Said) -> None:
    assert "Reports" not in said(look("reports", user="ada"))


def test_an_owner_sees_hers_alone_and_opens_it(reported: dict[str, str], look: Look, said: Said) -> None:
    app = look("reports", user="paula", report=reported["owner"])
    assert list(app.dataframe[0].value["For"]) == ["paula"]
    assert "Report for paula" in said(app)
    assert "Not verified" in said(app)
    assert "No report that you may read" in said(look("reports", user="nina"))


def test_a_report_of_others_is_not_opened_by_its_address(reported: dict[str, str], look: Look, said: Said) -> None:
    assert "Fleet report" not in said(look("reports", user="paula", report=reported["fleet"]))


def test_an_administrator_sees_all_what_verifying_said_and_the_schedule(reported: dict[str, str], look: Look, said: Said) -> None:
    app = look("reports", user="ada", report=reported["fleet"])
    assert set(app.dataframe[0].value["For"]) == {"paula", "the platform"}
    assert "Differs" in said(app)
    assert "section Volume: 3 rows then, 2 now" in said(app)
    assert list(app.dataframe[1].value["Name"]) == ["weekly"]
