"""Without sign-in the address says who looks, so nobody decides as anyone: only with the dashboard's code, or where it is configured."""

from __future__ import annotations

import datetime as dt
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from pipelines.objects.names import Key
from pipelines.proposals import store
from pipelines.proposals.model import Entry, Event, ProposedObject
from warehouse import config
from warehouse.errors import ConfigError
from warehouse.lake.tables import Lake
from warehouse.records import findings as records

Look = Callable[..., AppTest]
CODE = "0123456789abcdef"
KEY = "c1|allow_all/payments/CiliumNetworkPolicy/payments-ingress"
POLICY = {
    "apiVersion": "cilium.io/v2",
    "kind": "CiliumNetworkPolicy",
    "metadata": {"name": "web", "namespace": "payments"},
    "spec": {"endpointSelector": {}, "ingress": [{}]},
}


@pytest.fixture
def lake(filled: Path, configure: Callable[..., None]) -> Lake:
    """A lake with a finding and a proposal about payments that waits, and a configuration that lets nobody decide without sign-in."""
    configure(filled, clusters=[{"name": "c1"}], dashboard={})
    lake = Lake.open(config.load_config(filled / "hindcast.yaml").lake)
    now = dt.datetime.now(dt.UTC)
    kinds = {"kind": Kind.ALLOW_ALL, "severity": "high", "cluster": "c1", "subject": "CiliumNetworkPolicy/payments-ingress"}
    found = Finding(namespace="payments", summary="lets everything in", **kinds)  # type: ignore[arg-type]
    findings.keep(lake, [Audited(cluster="c1", kind=Kind.ALLOW_ALL, findings=(found,))], now=now, source="test")
    judged = ProposedObject(key=Key("CiliumNetworkPolicy", "payments", "web"), action="create", after=POLICY)
    about = {"checks": [], "risks": ["opens everything"], "needs": "the platform", "expires": "2099-01-01T00:00:00+00:00"}
    entry = Entry(number=1, event=Event.PROPOSED, time=now, actor="paula", about=about, objects=(judged,))
    store.append(lake, "abc123", "c1", "payments", entry)
    return lake


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


def test_nobody_decides_as_whom_the_address_names(lake: Lake, look: Look, said: Callable[[AppTest], str]) -> None:
    for user in ("ada", "paula"):
        app = look("proposals", user=user, proposal="abc123")
        assert not {"Approve", "Judge again", "Reject it", "Withdraw it"} & set(labels(app))
        assert "Nobody is signed in" in said(app)
        app = look("findings", user=user, last="1h", item=KEY)
        assert "Accept" not in labels(app)
        assert "Nobody is signed in" in said(app)
    assert not any(text.key == "code of the dashboard" for text in look("proposals", user="ada", proposal="abc123").text_input)


def test_whoever_started_the_dashboard_decides_with_its_code(
    lake: Lake, look: Look, said: Callable[[AppTest], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(config.DASHBOARD_CODE_VARIABLE, CODE)
    app = look("proposals", user="ada", proposal="abc123")
    app.text_input(key="code of the dashboard").set_value("fedcba9876543210").run()
    assert "That is not the code" in said(app)
    assert "Approve" not in labels(app)
    app.text_input(key="code of the dashboard").set_value(CODE).run()
    app.button[labels(app).index("Approve")].click().run()
    assert not app.exception
    approved = store.one(lake, "abc123")
    assert (approved.entries[-1].event, approved.entries[-1].actor) == (Event.APPROVED, "ada")
    assert approved.entries[-1].about["digest"] == approved.digest


def test_users_that_the_configuration_names_decide_and_the_page_says_so(
    lake: Lake, look: Look, said: Callable[[AppTest], str], configure: Callable[..., None], folder: Path
) -> None:
    configure(folder, clusters=[{"name": "c1"}], dashboard={"auth": {"decide_without_sign_in": ["paula"]}})
    assert "Approve" not in labels(look("proposals", user="ada", proposal="abc123"))
    app = look("findings", user="paula", last="1h", item=KEY)
    assert "everyone who reaches this page may decide as this user" in said(app)
    app.text_input(key="finding reason").set_value("replaced soon")
    app.button[labels(app).index("Accept")].click().run()
    (row,) = records.findings(lake).to_pylist()
    assert (row["state"], row["by"]) == ("acknowledged", "paula")


def test_a_click_on_approve_means_the_judgement_that_was_shown(
    lake: Lake, look: Look, configure: Callable[..., None], folder: Path
) -> None:
    configure(folder, clusters=[{"name": "c1"}], dashboard={"auth": {"decide_without_sign_in": ["ada"]}})
    app = look("proposals", user="ada", proposal="abc123")
    button = app.button[labels(app).index("Approve")]
    first = store.one(lake, "abc123").entries[0]
    wider = replace(first.objects[0], after={**POLICY, "spec": {"endpointSelector": {}, "ingress": [{}], "egress": [{}]}})
    store.append(lake, "abc123", "c1", "payments", replace(first, number=2, event=Event.JUDGED, objects=(wider,), run=""))
    app.session_state["answers"] = {}  # as after 45 seconds
    button.click().run()
    assert [entry.event for entry in store.one(lake, "abc123").entries] == [Event.PROPOSED, Event.JUDGED]


def test_the_switch_is_for_local_mode_alone(tmp_path: Path) -> None:
    proxy = {"mode": "proxy", "proxy": {"secret_env": "X"}, "decide_without_sign_in": ["ada"]}
    with pytest.raises(ConfigError, match="decide_without_sign_in is for mode: local"):
        config.parse_config(str({"dashboard": {"auth": proxy}}), source=tmp_path / "hindcast.yaml")


def test_the_code_is_printed_at_a_terminal_and_into_no_log(tmp_path: Path, free_port: Callable[[], int]) -> None:
    (tmp_path / "hindcast.yaml").write_text("{}")
    command = [sys.executable, "-m", "hindcast", "dashboard", "--config", str(tmp_path / "hindcast.yaml")]
    said = []
    for at_terminal in (True, False):
        ours, theirs = pty.openpty() if at_terminal else os.pipe()
        listen = ["--listen", f"127.0.0.1:{free_port()}"]
        running = subprocess.Popen([*command, *listen], stdout=theirs, stderr=subprocess.DEVNULL)
        os.close(theirs)
        text = ""
        deadline = time.monotonic() + 300
        while "http://" not in text or (at_terminal and "code" not in text):
            assert time.monotonic() < deadline
            text += os.read(ours, 4096).decode()
        running.terminate()
        running.wait(100)
        os.close(ours)
        said.append(text)
    assert re.search(r"until it is stopped: [0-9a-f]{16}\b", said[0])
    assert "code" not in said[1]
