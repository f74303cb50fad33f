"""The page Findings: each sees the findings of what they own, and owners accept and reopen them with a reason and an end."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.records import findings as records

Look = Callable[..., AppTest]
Said = Callable[[AppTest], str]
AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
KEY = "c1|allow_all/payments/CiliumNetworkPolicy/payments-ingress"


def finding(namespace: str | None, severity: str = "high") -> Finding:
    kinds = {"kind": Kind.ALLOW_ALL, "severity": severity, "cluster": "c1", "subject": f"CiliumNetworkPolicy/{namespace}-ingress"}
    return Finding(namespace=namespace, summary=f"{namespace} lets everything in", **kinds)  # type: ignore[arg-type]


@pytest.fixture
def audited(folder: Path, configure: Callable[..., None]) -> Lake:
    """A lake in which an audit found something in two namespaces, three days ago, and something that was fixed since."""
    lake = Lake.open(config.load_config(folder / "hindcast.yaml").lake)
    now = dt.datetime.now(dt.UTC)
    found = [finding("payments"), finding("cart", "low")]
    for age, more in ((3, [finding("payments-old")]), (2, [])):
        audit = Audited(cluster="c1", kind=Kind.ALLOW_ALL, findings=tuple(found + more))
        findings.keep(lake, [audit], now=now - dt.timedelta(days=age), source="test")
    return lake


def subjects(app: AppTest) -> list[str]:
    return [str(name) for name in app.dataframe[0].value["Object"]] if app.dataframe else []


def test_the_page_is_not_there_before_anything_was_found(folder: Path, look: Look, said: Said) -> None:
    assert "Findings" not in said(look("findings", user="ada"))


def test_each_sees_the_findings_of_what_they_own(audited: Lake, look: Look, said: Said) -> None:
    app = look("findings", user="ada", last="1h")
    assert subjects(app) == ["CiliumNetworkPolicy/payments-ingress", "CiliumNetworkPolicy/cart-ingress"]
    assert list(app.dataframe[0].value["Owner"]) == ["paula", "group:checkout"]
    assert subjects(look("findings", user="paula", last="1h")) == ["CiliumNetworkPolicy/payments-ingress"]
    assert "No findings" in said(look("findings", user="nina", last="1h"))


def test_filters_are_in_the_address(audited: Lake, look: Look) -> None:
    assert subjects(look("findings", user="ada", last="1h", **{"of-severity": "low"})) == ["CiliumNetworkPolicy/cart-ingress"]
    assert subjects(look("findings", user="ada", last="1h", state="closed")) == ["CiliumNetworkPolicy/payments-old-ingress"]
    assert len(subjects(look("findings", user="ada", last="1h", state="all"))) == 3


def test_an_owner_accepts_with_a_reason_and_an_end_and_reopens(audited: Lake, look: Look, said: Said) -> None:
    app = look("findings", user="paula", last="1h", item=KEY)
    app.button[[button.label for button in app.button].index("Accept")].click().run()
    assert "a finding is accepted with a reason" in app.error[0].value
    app.text_input(key="finding reason").set_value("replaced in release 12")
    app.button[[button.label for button in app.button].index("Accept")].click().run()
    assert not app.exception
    (row,) = [row for row in records.findings(audited).to_pylist() if row["namespace"] == "payments"]
    assert (row["state"], row["by"], row["reason"]) == ("acknowledged", "paula", "replaced in release 12")
    app = look("findings", user="paula", last="1h", state="acknowledged", item=KEY)
    assert "Accepted by paula" in said(app)
    app.button(key="reopen finding").click().run()
    (row,) = [row for row in records.findings(audited).to_pylist() if row["namespace"] == "payments"]
    assert (row["state"], row["by"]) == ("open", "paula")


def test_an_auditor_reads_and_does_not_decide(audited: Lake, folder: Path, configure: Callable[..., None], look: Look, said: Said) -> None:
    configure(folder, ownership={"grants": [{"subject": "otto", "role": "auditor"}]})
    app = look("findings", user="otto", last="1h", item="c1|CiliumNetworkPolicy/payments-ingress")
    assert len(subjects(app)) == 2
    assert "Accept" not in [button.label for button in app.button]


@pytest.mark.browser
def test_an_owner_accepts_a_finding_in_a_browser(
    audited: Lake, folder: Path, serve: Callable[..., str], visitor: Callable[..., Page]
) -> None:
    address = serve(lake={"url": str(folder / "lake")})
    page, failed = visitor(), list[str]()
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{address}/findings?user=paula&last=1h")
    expect(page.get_by_text("Choose a finding for its evidence")).to_be_visible()
    table = page.get_by_test_id("stDataFrame").first
    table.hover()
    table.click(position={"x": 330, "y": 50})
    expect(page.get_by_role("paragraph").filter(has_text="payments lets everything in")).to_be_visible()
    page.get_by_role("textbox", name="Reason").fill("replaced in release 12")
    page.get_by_role("button", name="Accept", exact=False).last.click()
    expect(page.get_by_text("None with these filters.")).to_be_visible()
    page.get_by_role("radio", name="Accepted").click()
    page.wait_for_url("**state=acknowledged**")
    expect(page.get_by_test_id("stDataFrame").first).to_be_visible()
    if AXE.exists():
        page.goto(f"{address}/findings?user=paula&last=1h&state=acknowledged&item={quote(KEY)}")
        expect(page.get_by_text("Accepted by paula")).to_be_visible()
        page.wait_for_timeout(600)
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
        assert not [(fault["id"], fault["nodes"][0]["html"][:200]) for fault in found if fault["impact"] in ("serious", "critical")]
    page.screenshot(path=str(folder / "findings.png"), full_page=True)
    (row,) = [row for row in records.findings(audited).to_pylist() if row["namespace"] == "payments"]
    assert (row["state"], row["by"], failed) == ("acknowledged", "paula", [])
