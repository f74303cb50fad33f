"""A report as OSCAL: the same UUIDs whenever it is made, one for each part, and a document that OSCAL's own tool reads."""

from __future__ import annotations

import datetime as dt
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.evidence.reports import making, verifying
from pipelines.evidence.reports.asked import ReportOf
from warehouse import config

START = dt.datetime(2026, 3, 2, tzinfo=dt.UTC)
UV = Path(sys.executable).with_name("uv")
ZONES = {"zones": [{"name": "pay", "namespaces": ["pay"]}], "allowed": []}
READ = """
import pathlib, sys
from trestle.oscal.assessment_results import AssessmentResults
for name in sys.argv[1:]:
    print(AssessmentResults.oscal_read(pathlib.Path(name)).uuid)
"""


def make(fleet: Any, name: str = "fleet") -> making.Made:
    settings = fleet.settings.model_copy(update={"reports": config.Reports.model_validate({"segmentation": ZONES})})
    more, _ = making.settings_of(settings, name)
    request = ReportOf(name=name, since=START, until=START + dt.timedelta(days=2), known=START + dt.timedelta(days=3), settings=more)
    return making.make(settings, fleet.lake, request, formats=("html", "csv", "oscal"), stem=name, by="test", made=request.known)


def test_of_an_empty_lake_there_is_no_finding_and_no_empty_list(empty_fleet: Any) -> None:
    text = make(empty_fleet).files["fleet.oscal.json"].decode()
    assert "findings" not in json.loads(text)["assessment-results"]["results"][0]
    assert "[]" not in text


def test_every_part_has_a_uuid_of_its_own_that_stays(read_fleet: Any) -> None:
    text = make(read_fleet).files["fleet.oscal.json"].decode()
    assert text == make(read_fleet).files["fleet.oscal.json"].decode()
    ids = re.findall(r'"uuid": "([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 20
    result = json.loads(text)["assessment-results"]["results"][0]
    states = {(one["target"]["target-id"], one["target"]["status"]["state"]) for one in result["findings"]}
    assert states == {("C-0206", "not-satisfied"), ("C-0260", "satisfied")}
    described = {one["title"]: one["description"] for one in result["observations"]}
    assert described["Drift from blueprints 1"] == "spec.ingress differs <script>"


def test_it_is_verified_with_the_other_files(read_fleet: Any, tmp_path: Path) -> None:
    report = make(read_fleet)
    making.write(report, tmp_path)
    making.record(read_fleet.lake, report)
    assert verifying.verify(read_fleet.settings, read_fleet.lake, tmp_path / "fleet.html").differences == ()
    document = tmp_path / "fleet.oscal.json"
    document.write_text(document.read_text().replace("not-satisfied", "satisfied"))
    assert "fleet.oscal.json was changed" in verifying.verify(read_fleet.settings, read_fleet.lake, tmp_path / "fleet.html").differences[0]


@pytest.mark.installs
@pytest.mark.skipif(not UV.exists(), reason="installs with uv, which cannot be installed here")
def test_compliance_trestle_reads_it_without_error(read_fleet: Any, tmp_path: Path) -> None:
    """It is installed into an environment of its own: it brings twenty packages and pins others."""
    names = ("fleet", "owner", "segmentation", "access", "changes")
    for name in names:
        making.write(make(read_fleet, name), tmp_path)
    subprocess.run([UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "env"], check=True, timeout=600)
    python = tmp_path / "env" / "bin" / "python"
    install = [UV, "pip", "install", "--quiet", "--python", python, "compliance-trestle==5.2.0"]
    subprocess.run(install, check=True, timeout=900)
    files = [tmp_path / f"{name}.oscal.json" for name in names]
    done = subprocess.run([python, "-c", READ, *files], capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split() == [json.loads(file.read_text())["assessment-results"]["uuid"] for file in files]
