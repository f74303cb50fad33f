"""The pages Proposals, Reports, Findings and Alerts, in words and in a real browser, wide and narrow, with what each of them can hold."""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow as pa
import pytest
from playwright.sync_api import Page, expect
from streamlit.testing.v1 import AppTest

from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from pipelines.evidence.reports import making
from pipelines.evidence.reports.asked import ReportOf
from pipelines.objects.names import Key
from pipelines.proposals import store
from pipelines.proposals.model import Entry, Event, ProposedObject
from warehouse import config
from warehouse.lake.tables import Lake
from warehouse.schema import ALERTS, DELIVERIES, PROPOSED_EDGES
from warehouse.schema.alerts import EVALUATED

AXE = Path(sys.prefix) / "axe" / "node_modules" / "axe-core" / "axe.min.js"
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)
HOUR, MINUTE = dt.timedelta(hours=1), dt.timedelta(minutes=1)
GRANTS = [
    {"subject": "ada", "role": "platform-admin"},
    {"subject": "paula", "role": "namespace-owner", "namespaces": ["payments"]},
    {"subject": "group:shop", "role": "namespace-owner", "namespaces": ["shop"]},
]
SILENCE = {"match": "alertname=NightlyDrops", "since": str(NOW - HOUR), "until": str(NOW + 9 * HOUR), "reason": "the migration of payments"}
SECTIONS = {
    "clusters": [{"name": "c1"}],
    "ownership": {"grants": GRANTS},
    "dashboard": {"auth": {"decide_without_sign_in": ["ada"]}},
    "alerts": {"silences": [SILENCE]},
}
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "web", "namespace": "payments"},
    "spec": {"endpointSelector": {"matchLabels": {"app": "web"}}, "ingress": [{"fromEndpoints": [{"matchLabels": {"app": "api"}}]}]},
}
KEY = "c1|allow_all/payments/CiliumNetworkPolicy/payments-ingress"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A lake with a report, findings, a proposal, alerts and deliveries; its address, and the report's id."""
    folder = tmp_path_factory.mktemp("evidence")
    lake = Lake.open(config.Lake(url=str(folder / "lake")))
    rows = [
        Finding(namespace=name, severity=severity, subject=f"CiliumNetworkPolicy/{name}-ingress", **KINDS)
        for name, severity in (("payments", "high"), ("shop", "low"))
    ]
    findings.keep(lake, [Audited(cluster="c1", kind=Kind.ALLOW_ALL, findings=tuple(rows))], now=NOW - 50 * HOUR, source="test")
    settings = config.Config(lake=config.Lake(url=str(folder / "lake")))
    request = ReportOf(name="fleet", since=NOW - HOUR, until=NOW, known=NOW)
    made = making.make(settings, lake, request, formats=("html", "csv"), stem="fleet", by="test")
    making.record(lake, made)
    _proposal(lake)
    _put(lake, ALERTS, _alerts(), {EVALUATED: int((NOW - 40 * MINUTE).timestamp() * 1_000_000)})
    sent = {"kind": "webhook", "source": "dag alert_rules", "tries": 1}
    told = [
        {"message": "a", "target": "pager", "title": "[firing] DropsSpike: payments in c1", "made_for": "operator", "outcome": "delivered"},
        {"message": "a", "target": "shop", "title": "[firing] DropsSpike: payments in c1", "made_for": "operator", "outcome": "denied",
         "detail": "group:shop, who reads at shop, may not see everything in a message made with the rights of operator"},
        {"message": "b", "target": "shop", "title": "1 alert rule of group:shop cannot be evaluated", "made_for": "group:shop",
         "outcome": "failed", "tries": 3, "detail": "hooks.example answered 503"},
    ]  # fmt: skip
    _put(lake, DELIVERIES, [sent | {"time": NOW - place * HOUR / 4} | one for place, one in enumerate(told)])
    return {"url": str(folder / "lake"), "report": made.manifest["id"]}


KINDS: dict[str, Any] = {"kind": Kind.ALLOW_ALL, "cluster": "c1", "summary": "lets everything in"}


def _proposal(lake: Lake) -> None:
    about = {
        "checks": [{"check": "schema", "is_met": True, "text": "the policy engine accepts every field"}],
        "risks": ["it would have denied 5 flows on 1 edge"],
        "needs": "the platform",
        "expires": str(NOW + 99 * HOUR),
        "reason": "only api needs it",
        "simulation": {
            "since": str(NOW - 99 * HOUR), "until": str(NOW), "confidence": 1.0, "coverage": {"c1": 0.98}, "as_seen_by": "paula",
            "changes": {name: {"flows": 5 * (name == "newly_denied"), "edges": int(name == "newly_denied")} for name in
                        ("newly_denied", "newly_allowed", "uncertain", "unchanged")},
        },
    }  # fmt: skip
    changed = ProposedObject(key=Key("CiliumNetworkPolicy", "payments", "web"), action="create", after=POLICY)
    entry = Entry(number=1, event=Event.PROPOSED, time=NOW - HOUR, actor="paula", about=about, objects=(changed,))
    store.append(lake, "abc123", "c1", "payments", entry)
    edge = {"cluster": "c1", "time": NOW - HOUR, "proposal": "abc123", "judgement": 1, "change": "newly_denied"}
    edge |= {"source_namespace": "payments", "source_workload_name": "batch", "destination_namespace": "payments"}
    edge |= {"destination_workload_name": "web", "destination_port": 80, "l4_protocol": "TCP", "flows": 5, "reason": "no rule allows it"}
    _put(
        lake, PROPOSED_EDGES, [edge | {"verdict_before": "allowed", "verdict_after": "denied", "first_seen": NOW - HOUR, "last_seen": NOW}]
    )


def _alerts() -> list[dict[str, Any]]:
    def row(alert: str, state: str, made_for: str = "operator", **more: Any) -> dict[str, Any]:
        labels = {"cluster": "c1", **more.pop("labels", {})}
        texts = {"labels": json.dumps(labels), "annotations": json.dumps(more.pop("annotations", {}))}
        return {"time": NOW, "alert": alert, "rule": alert, "state": state, "made_for": made_for, **texts, **more}

    spike = {"alertname": "DropsSpike", "namespace": "payments", "severity": "high"}
    fired = {"since": NOW - HOUR, "fired": NOW - HOUR / 2, "owners_from": NOW - 900 * HOUR, "value": 300.0}
    said = {"summary": "300 drops in payments in ten minutes; usual at this hour: 12"}
    return [
        row("traffic/DropsSpike", "evaluated"),
        row("group:shop/g/Cheap", "failed", "group:shop", detail="shop.yaml:7: g/Cheap: Table with name flowz does not exist!"),
        row("observation/CoverageLow", "not_covered", detail="c1: 0% of 2026-11-29 10:00 to 10:10 UTC was observed, less than 90%"),
        row("1f", "firing", rule="traffic/DropsSpike", labels=spike, annotations=said, link="/flows?from=2026-11-29T10%3A00%3A00Z&"
            "until=2026-11-29T11%3A00%3A00Z&f=cluster%3Dc1&f=ns%3Dpayments&verdict=DROPPED", **fired),
        row("2f", "pending", rule="traffic/NightlyDrops", labels={"alertname": "NightlyDrops", "severity": "low"}, since=NOW),
        row("3f", "resolved", "group:shop", rule="group:shop/g/Own", labels={"alertname": "Own", "owner": "group:shop"}, **fired
            | {"owners_from": None}),
    ]  # fmt: skip


def _put(lake: Lake, table: Any, rows: list[dict[str, Any]], transactions: dict[str, int] | None = None) -> None:
    rows = [{"date": row["time"].date(), **row} for row in rows]
    lake.commit(
        table, lake.write_files(table, pa.Table.from_pylist(rows, schema=table.schema)), transactions=transactions or {}, metadata={}
    )


@pytest.fixture
def shown(evidence: dict[str, str], folder: Path, configure: Callable[..., None], look: Callable[..., AppTest]) -> Callable[..., AppTest]:
    """Opens the page Alerts as a person."""
    configure(folder, lake={"url": evidence["url"]}, **SECTIONS)
    return lambda user, **query: look("alerts", user=user, last="6h", **query)


def test_an_administrator_sees_rules_alerts_silences_and_deliveries(shown: Callable[..., AppTest], said: Callable[[AppTest], str]) -> None:
    app = shown("ada", item="1f", show="all")
    alerts, rules, silences, sent = (table.value for table in app.dataframe)
    assert "**1** firing · **1** pending · **3 rules**, **1** of them wrong" in said(app)
    assert sorted(alerts["Alert"]) == ["DropsSpike", "NightlyDrops", "Own"]
    assert dict(zip(alerts["Alert"], alerts["Silent"], strict=True))["NightlyDrops"] == "the migration of payments"
    assert next(iter(rules["Rule"])) == "group:shop/g/Cheap", "what is wrong comes first"
    assert next(iter(rules["Owner"])) == "group:shop"
    assert "flowz does not exist" in next(iter(rules["What is wrong"]))
    assert list(silences["State"]) == ["now"]
    assert sorted(sent["To"]) == ["pager", "shop", "shop"]
    assert "300 drops in payments in ten minutes" in said(app)


def test_lists_of_alerts_say_when_the_rules_were_not_evaluated_lately(shown: Callable[..., AppTest]) -> None:
    (warning,) = shown("ada").warning
    assert "what happened since is not in these lists" in warning.value
    then = (NOW - 35 * MINUTE).strftime("%Y-%m-%dT%H:%M:%SZ")
    assert not shown("ada", from_="2026-01-01T00:00:00Z", until=then).warning


def test_an_owner_sees_what_is_hers_alone(shown: Callable[..., AppTest], said: Callable[[AppTest], str]) -> None:
    app = shown("paula", show="all")
    (alerts,) = (table.value for table in app.dataframe)
    assert list(alerts["Alert"]) == ["DropsSpike"]
    assert "None of the rules is yours to see" in said(app)
    assert "Nothing that you may see was sent" in said(app)
    app = shown("group:shop", show="all")
    alerts, rules, sent = (table.value for table in app.dataframe)
    assert (list(alerts["Alert"]), list(rules["Rule"])) == (["Own"], ["group:shop/g/Cheap"])
    assert list(sent["What"]) == ["1 alert rule of group:shop cannot be evaluated"]


def test_before_any_rule_was_evaluated_the_page_says_how_to_begin(shown: Callable[..., AppTest], said: Callable[[AppTest], str]) -> None:
    assert "No alert rules" in said(shown("ada", from_="2026-01-01T00:00:00Z", until="2026-01-02T00:00:00Z"))


@pytest.fixture(scope="module")
def address(evidence: dict[str, str], serve: Callable[..., str]) -> str:
    return serve(lake={"url": evidence["url"]}, **SECTIONS)


@pytest.mark.browser
@pytest.mark.parametrize("width", [1440, 800])
def test_pages_of_evidence_draw_without_faults_wide_and_narrow(
    width: int, address: str, evidence: dict[str, str], visitor: Callable[..., Page], tmp_path: Path
) -> None:
    page = visitor(viewport={"width": width, "height": 900})
    failed: list[str] = []
    page.on("pageerror", lambda error: failed.append(str(error)))
    faults: dict[str, list[str]] = {}
    for name, state, text in (
        ("proposals", "show=all", "All that you may see"),
        ("proposals", "proposal=abc123", "Tried on recorded traffic"),
        ("reports", f"report={evidence['report']}", "Download the page"),
        ("findings", f"item={quote(KEY)}", "lets everything in"),
        ("alerts", "item=1f", "The view that shows it"),
    ):
        page.goto(f"{address}/{name}?user=ada&last=6h&{state}")
        expect(page.get_by_text(text, exact=False).first).to_be_visible()
        page.wait_for_timeout(900)
        assert page.get_by_test_id("stException").count() == 0
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than {width} pixels"
        page.screenshot(path=str(tmp_path / f"{name}-{state[:4]}-{width}.png"), full_page=True)
        if AXE.exists():
            page.evaluate(f"window.axe ? null : (() => {{ {AXE.read_text()} }})()")
            found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")["violations"]
            serious = [one for one in found if one["impact"] in ("serious", "critical")]
            if serious:
                faults[f"{name}?{state}"] = [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in serious]
    assert not faults, json.dumps(faults, indent=1)
    assert not failed


@pytest.mark.browser
def test_an_alert_leads_to_the_view_that_shows_it(address: str, visitor: Callable[..., Page]) -> None:
    page = visitor()
    page.goto(f"{address}/alerts?user=paula&last=6h&show=all")
    table = page.get_by_test_id("stDataFrame").first
    table.hover()
    table.click(position={"x": 330, "y": 50})
    page.wait_for_url("**item=1f**")
    page.get_by_role("link", name="The view that shows it").click()
    page.wait_for_url("**/flows?**")
    for part in ("from=2026-11-29T10%3A00%3A00Z", "f=ns%3Dpayments", "verdict=DROPPED"):
        assert part in page.url
