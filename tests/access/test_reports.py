"""A report that is made for someone holds nothing that she could not query, whichever report and whoever she is."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipelines.evidence.reports import making
from pipelines.evidence.reports.asked import ReportOf
from warehouse import config
from warehouse.access.principals import Principal
from warehouse.errors import AccessDeniedError
from warehouse.questions.door import Door
from warehouse.questions.report_questions import ReportFiles, ReportsMade
from warehouse.records import versions
from warehouse.schema import DRIFT, POSTURE

OWN = """
title: All that there is
queries:
  flows: {sql: "SELECT * FROM flows"}
  edges: {question: edges}
  denials: {question: denials}
sections:
  - {id: flows, title: Flows, query: flows}
  - {id: edges, title: Edges, query: edges}
  - {id: denials, title: Denials, query: denials}
"""
ZONES = {"zones": [{"name": "money", "namespaces": ["pay*"]}], "allowed": [{"source": "other", "destination": "money", "ports": ["443"]}]}
REPORTS = {"fleet": "", "owner": "", "access": "", "changes": "", "segmentation": json.dumps(ZONES), "mine": OWN}


def tokens(what: Any) -> set[str]:
    return set(re.findall(r"\w+~\d+|uuid-\d+", str(what)))


def make(world: Any, name: str, who: str) -> making.Made:
    settings = config.Config(ownership=world.ownership())
    request = ReportOf(
        name=name,
        since=world.everything.since,
        until=world.everything.until,
        known=world.everything.until,
        subject=world.people[who],
        settings=REPORTS[name],
        source="mine.yaml" if name == "mine" else "",
    )
    return making.make(settings, world.lake, request, formats=("html", "csv", "json", "parquet"), stem="r", by="test")


@pytest.mark.parametrize("who", ["payments", "sina", "carl"])
@pytest.mark.parametrize("name", [name for name in REPORTS if name != "access"])
def test_a_report_holds_no_more_than_its_subject_may_see(name: str, who: str, world: Any) -> None:
    shown = [row for flow in world.flows if (row := world.oracle.shown(who, flow, "workload"))]
    held = [
        row
        for row in versions.between(world.lake, world.everything.since, world.everything.until).to_pylist()
        if versions.is_shown(row, world.door().scope(world.people[who]), world.everything.since, world.everything.until)
    ]
    at = world.everything.until

    def sees(row: dict[str, Any]) -> bool:
        named = row.get("namespace")
        return bool(world.oracle.owns(who, row["cluster"], named, at) if named else world.oracle.whole(who, row["cluster"], at))

    recorded = (*world.findings, *world.lake.read(DRIFT).to_pylist(), *world.lake.read(POSTURE).to_pylist())
    standing = [row for row in recorded if sees(row)]
    allowed = tokens([shown, held, standing]) | world.manifests(who, 0, 99)
    made = make(world, name, who)
    for file, content in made.files.items():
        told = pq.read_table(io.BytesIO(content)).to_pylist() if file.endswith(".parquet") else content.decode().replace("<wbr>", "")
        foreign = tokens(told) - allowed
        assert not foreign, (file, sorted(foreign)[:5])
    if name == "mine":
        assert {row["uuid"] for row in made.report.sections[0].rows.to_pylist()} == {row["uuid"] for row in shown}


@pytest.mark.parametrize("name", REPORTS)
def test_there_is_no_report_for_who_may_see_nothing(name: str, world: Any) -> None:
    with pytest.raises(AccessDeniedError):
        make(world, name, "eve")


def test_who_may_see_that_a_report_was_made_and_read_its_files(world: Any) -> None:
    made = {who: make(world, "owner", who) for who in ("payments", "red")} | {"operator": make(world, "fleet", "operator")}
    for one in made.values():
        making.record(world.lake, one)
    ids = {who: one.manifest["id"] for who, one in made.items()}
    allowed = {
        "ada": {"payments", "red", "operator"},
        "payments": {"payments"},
        "intern": set(),  # is in the group, but denied a part
        "red": {"red"},
        "blue": set(),
    }
    door = world.door()
    for who, expected in allowed.items():
        person = world.people[who]
        listed = {row["id"] for row in door.answer(person, ReportsMade()).rows.to_pylist()}
        assert listed == {ids[one] for one in expected}, who
        for one, number in ids.items():
            assert (door.answer(person, ReportFiles(id=number)) is not None) == (one in expected), (who, one)
    audrey = Principal(user="audrey")
    assert {row["id"] for row in door.answer(audrey, ReportsMade()).rows.to_pylist()} == set(ids.values())
    assert door.answer(audrey, ReportFiles(id=ids["operator"])) is None
    fewer = [grant for grant in world.ownership().grants if grant.subject != "group:payments"]
    changed = Door(
        world.lake, config.Ownership(grants=(*fewer, config.Grant(subject="group:payments", role="namespace-owner", namespaces=("shop",))))
    )
    assert changed.answer(world.people["payments"], ReportsMade()).rows.num_rows == 0  # not what she may see of it now
