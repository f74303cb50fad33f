"""Findings are accepted with a reason and for a time, by owners alone; they are fixed by themselves, and every change is kept."""

from __future__ import annotations

import csv
import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from hindcast.cli import app
from pipelines.audits.finding import Audited, Finding, Kind
from pipelines.evidence import findings
from warehouse import config
from warehouse.access.principals import OPERATOR, Principal
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.questions.door import Door
from warehouse.questions.record_questions import FindingHistory, Findings
from warehouse.records import findings as stored

DAY = dt.timedelta(days=1)
BEGIN = dt.datetime.now(dt.UTC) - 10 * DAY
GRANTS = [
    {"subject": "anna", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["shop"]},
    {"subject": "ben", "role": "namespace-owner", "clusters": ["c1"], "namespaces": ["pay"]},
    {"subject": "carl", "role": "cluster-admin", "clusters": ["c1"]},
    {"subject": "audit", "role": "auditor"},
]
STATES = ("open", "acknowledged", "closed")


def finding(name: str, namespace: str | None = "shop", severity: str = "medium") -> Finding:
    kinds = {"kind": Kind.ALLOW_ALL, "severity": severity, "cluster": "c1", "subject": f"NetworkPolicy/{name}"}
    return Finding(namespace=namespace, summary=f"{name} allows everything", **kinds)  # type: ignore[arg-type]


class Audits:
    """A lake in which an audit ran once a day, and the door and the commands on it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "hindcast.yaml"
        self.path.write_text(json.dumps({"lake": {"url": "lake"}, "ownership": {"grants": GRANTS}}))
        self.settings = config.load_config(self.path)
        self.lake = Lake.open(self.settings.lake)
        self.door = Door(self.lake, self.settings.ownership)

    def run(self, day: int, *found: Finding) -> findings.Kept:
        result = Audited(cluster="c1", kind=Kind.ALLOW_ALL, findings=found)
        return findings.keep(self.lake, [result], now=BEGIN + day * DAY, source="test")

    def states(self, user: str | None = None, *, at: dt.datetime | None = None) -> dict[str, str]:
        who = Principal(user=user) if user else OPERATOR
        rows = self.door.answer(who, Findings(states=STATES, at=at)).rows.to_pylist()
        return {row["subject"].partition("/")[2]: row["state"] for row in rows}

    def accept(self, user: str, name: str = "a", *, reason: str = "soon gone", days: float = 30) -> None:
        rows = self.door.answer(OPERATOR, Findings(states=STATES)).rows.to_pylist()
        (row,) = [row for row in rows if row["subject"] == f"NetworkPolicy/{name}"]
        who = Principal(user=user)
        stored.accept(self.lake, who, self.door.scope(who), row, reason=reason, expires=dt.datetime.now(dt.UTC) + days * DAY, by=user)

    def command(self, *arguments: str) -> Result:
        return CliRunner().invoke(app, ["findings", *arguments, "--config", str(self.path)])


@pytest.fixture
def audits(tmp_path: Path) -> Audits:
    made = Audits(tmp_path)
    made.run(0, finding("a"), finding("b", "pay"), finding("c", None))
    return made


@pytest.mark.parametrize("user", ["ben", "audit", "nobody"])
def test_only_owners_accept_a_finding_of_a_namespace(audits: Audits, user: str) -> None:
    with pytest.raises(AccessDeniedError, match=f"{user} may not decide about findings in namespace shop"):
        audits.accept(user)
    assert audits.states() == {"a": "open", "b": "open", "c": "open"}


def test_a_finding_of_a_whole_cluster_is_accepted_by_its_administrator_alone(audits: Audits) -> None:
    with pytest.raises(AccessDeniedError, match="in the whole cluster c1"):
        audits.accept("anna", "c")
    audits.accept("carl", "c")
    assert audits.states()["c"] == "acknowledged"


@pytest.mark.parametrize(
    ("reason", "days", "wrong"), [(" ", 30, "with a reason"), ("x", -1, "in the future"), ("x", 400, "within 366 days")]
)
def test_there_is_no_acceptance_without_a_reason_and_an_end(audits: Audits, reason: str, days: float, wrong: str) -> None:
    with pytest.raises(QueryError, match=wrong):
        audits.accept("anna", reason=reason, days=days)


def test_an_accepted_finding_stays_accepted_while_audits_find_it_and_is_fixed_when_they_do_not(audits: Audits) -> None:
    audits.accept("anna")
    assert audits.states("anna") == {"a": "acknowledged"}
    assert audits.run(12, finding("a"), finding("b", "pay"), finding("c", None)) == findings.Kept()
    assert audits.run(13, finding("b", "pay"), finding("c", None)).closed == 1
    assert audits.states("anna", at=BEGIN + 14 * DAY) == {"a": "closed"}
    with pytest.raises(QueryError, match="no longer open"):
        audits.accept("anna")
    assert audits.run(14, finding("a"), finding("b", "pay"), finding("c", None)).opened == 1
    rows = audits.door.answer(Principal(user="anna"), FindingHistory(cluster="c1", key=finding("a").key)).rows.to_pylist()
    assert [(row["state"], row["by"], row["reason"]) for row in rows] == [
        ("open", None, None),
        ("acknowledged", "anna", "soon gone"),
        ("closed", None, None),
        ("open", None, None),
    ]


def test_closed_findings_are_shown_to_who_owned_the_namespace_then(audits: Audits) -> None:
    audits.run(1, finding("b", "pay"), finding("c", None))
    grants = [
        {"subject": "old", "role": "namespace-owner", "namespaces": ["shop"], "until": (BEGIN + 2 * DAY).isoformat()},
        {"subject": "new", "role": "namespace-owner", "namespaces": ["shop"], "since": (BEGIN + 2 * DAY).isoformat()},
    ]
    audits.door = Door(audits.lake, config.Ownership.model_validate({"grants": grants}))
    assert (audits.states("new"), audits.states("old")) == ({}, {"a": "closed"})
    audits.run(3, finding("a"), finding("b", "pay"), finding("c", None))
    assert (audits.states("new"), audits.states("old")) == ({"a": "open"}, {})


def test_an_acceptance_ends_and_the_next_audit_records_it(audits: Audits) -> None:
    audits.accept("anna", days=30)
    assert audits.states(at=BEGIN + 39 * DAY)["a"] == "acknowledged"
    assert audits.states(at=BEGIN + 41 * DAY)["a"] == "open"
    everything = (finding("a"), finding("b", "pay"), finding("c", None))
    assert (audits.run(41, *everything).changed, audits.run(42, *everything).changed) == (1, 0)


def test_an_accepted_finding_that_gets_more_severe_is_open_again(audits: Audits) -> None:
    audits.accept("anna")
    audits.run(12, finding("a", severity="low"))
    assert audits.states(at=BEGIN + 12 * DAY)["a"] == "acknowledged"
    audits.run(13, finding("a", severity="high"))
    assert audits.states(at=BEGIN + 13 * DAY)["a"] == "open"


def test_the_history_of_a_finding_is_shown_to_its_owners_alone(audits: Audits) -> None:
    question = FindingHistory(cluster="c1", key=finding("a").key)
    shown = {user: audits.door.answer(Principal(user=user), question).rows.num_rows for user in ("anna", "ben", "carl", "audit")}
    assert shown == {"anna": 1, "ben": 0, "carl": 1, "audit": 1}


def test_commands_list_accept_reopen_and_tell_the_history(audits: Audits, tmp_path: Path) -> None:
    key = finding("a").key
    done = audits.command("accept", key, "--until", "30d", "--reason", "soon gone", "--as", "ben")
    assert "no finding that you may see has the key" in str(done.exception)
    done = audits.command("accept", key, "--until", "soon", "--reason", "x")
    assert "--until: 'soon' is neither a length such as 30d nor a time" in str(done.exception)
    assert audits.command("accept", "allow_all/", "--until", "30d", "--reason", "x").exception is not None
    assert audits.command("accept", key, "--until", "30d").exit_code == 2
    assert audits.command("accept", key, "--until", "30d", "--reason", "soon gone", "--as", "anna").exit_code == 0
    assert audits.command("reopen", key, "--reason", "no", "--as", "anna").exit_code == 0
    assert "it is open already" in str(audits.command("reopen", key, "--as", "anna").exception)
    rows = [json.loads(line) for line in audits.command("history", key, "--output", "json").stdout.splitlines()]
    assert [(row["state"], row["by"], row["reason"]) for row in rows] == [
        ("open", None, None),
        ("acknowledged", "anna", "soon gone"),
        ("open", "anna", "no"),
    ]


@pytest.mark.parametrize("output", ["table", "json", "csv", "parquet"])
def test_findings_are_listed_in_every_form(audits: Audits, tmp_path: Path, output: str) -> None:
    file = tmp_path / f"findings.{output}"
    assert audits.command("list", "--namespace", "shop", "--state", "all", "--output", output, "--file", str(file)).exit_code == 0
    if output == "parquet":
        import pyarrow.parquet as pq

        rows: list[dict[str, Any]] = pq.read_table(file).to_pylist()
    elif output == "json":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    else:
        rows = list(csv.DictReader(file.open()))
    assert [(row["state"], row["subject"]) for row in rows] == [("open", "NetworkPolicy/a")]
