"""`hindcast policy propose` and `policy proposals`: from files to a patch, exit codes, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from hindcast.cli import app
from tests.modules import load
from warehouse.errors import ConfigError

office_module = load(Path(__file__).parents[1] / "pipelines" / "proposals" / "conftest.py")


@pytest.fixture
def office(tmp_path: Path) -> Any:
    made = office_module.Office(tmp_path)
    made.flows("shop/batch", "shop/web", times=5)
    (tmp_path / "web.yaml").write_text(office_module.CLOSED)
    return made


def run(office: Any, *arguments: str, user: str = "paula", given: str = "") -> Any:
    asked = ["--as", user] if user else []
    return CliRunner().invoke(app, ["policy", *arguments, "--config", str(office.file), *asked], input=given)


def test_from_a_file_to_a_patch(office: Any, tmp_path: Path) -> None:
    done = run(office, "propose", str(tmp_path / "web.yaml"), "--cluster", "c1", "--reason", "only api")
    assert done.exit_code == 0, done.output
    proposal, status, *_ = done.stdout.split()
    assert status == "waiting"
    (listed,) = [json.loads(line) for line in run(office, "proposals", "list", "--output", "json", user="ada").stdout.splitlines()]
    assert (listed["id"], listed["status"], listed["author"], listed["needs"]) == (proposal, "waiting", "paula", "the platform")
    shown = run(office, "proposals", "show", proposal, user="ada").stdout
    assert "newly_denied: shop/batch to shop/web 80/TCP, 5 flows" in shown
    assert "proposed by paula: only api" in shown
    told = json.loads(run(office, "proposals", "show", proposal, "-o", "json", user="ada").stdout)
    assert told["edges"][0]["flows"] == 5
    judged = told["judged"]
    refused = run(office, "proposals", "hand-over", proposal)
    assert (refused.exit_code, "waits for the approval of the platform" in str(refused.exception)) == (1, True)
    missed = run(office, "proposals", "approve", proposal, "--judged", "another", user="ada")
    assert missed.exit_code == 1, "an approval names the judgement that was looked at"
    assert run(office, "proposals", "approve", proposal, "--judged", judged, user="ada").stdout.split()[1] == "ready"
    patch = run(office, "proposals", "hand-over", proposal)
    assert patch.stdout.startswith("diff --git a/c1/shop/ciliumnetworkpolicy-web.yaml b/")
    again = run(office, "proposals", "reject", proposal, "--reason", "x", user="ada")
    assert "it is handed-over" in str(again.exception)


def test_a_refused_proposal_has_the_exit_code_of_failures(office: Any, tmp_path: Path) -> None:
    wrong = office_module.CLOSED.replace("fromEndpoints: [{matchLabels: {app: api}}]", "fromCIDR: [x]")
    done = run(office, "propose", "-", "--cluster", "c1", given=wrong)
    assert done.exit_code == 1
    assert done.stdout.split()[1] == "refused"
    assert "line 7" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["propose", "--cluster", "c1"], "there is nothing to propose"),
        (["propose", "FILE", "--cluster", "c9"], "no cluster of the configuration is named 'c9'; there are: c1"),
        (["propose", "nowhere.yaml", "--cluster", "c1"], "nowhere.yaml: cannot be read"),
        (["propose", "--remove", "Secret shop/x", "--cluster", "c1"], "'Secret' is not a kind of policy"),
        (["proposals", "show", "nope"], "no proposal nope that you may see"),
        (["proposals", "approve", "nope", "--judged", "x"], "no proposal nope that you may see"),
        (["proposals", "watch", "nope"], "no proposal nope that you may see"),
    ],
)
def test_what_is_wrong_is_said(office: Any, tmp_path: Path, arguments: list[str], message: str) -> None:
    done = run(office, *(str(tmp_path / "web.yaml") if one == "FILE" else one for one in arguments))
    assert done.exit_code != 0
    assert message in str(done.exception)


def test_a_proposal_of_others_is_not_shown_and_not_acted_on(office: Any, tmp_path: Path) -> None:
    proposal = run(office, "propose", str(tmp_path / "web.yaml"), "--cluster", "c1").stdout.split()[0]
    for command in (
        ["show"],
        ["approve", "--judged", "x"],
        ["reject", "--reason", "x"],
        ["apply"],
        ["roll-back"],
        ["hand-over"],
        ["judge"],
        ["watch"],
    ):
        done = run(office, "proposals", command[0], proposal, *command[1:], user="carla")
        assert done.exit_code == 1, command
        assert "that you may see" in str(done.exception), command
    assert run(office, "proposals", "list", "--output", "json", user="carla").stdout == ""


def test_watching_without_anything_to_watch_ends_well(office: Any) -> None:
    done = run(office, "proposals", "watch", user="")
    assert (done.exit_code, done.stdout) == (0, "")


def test_a_proposal_that_cannot_be_judged_is_not_said_to_drop_nothing(office: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watching = load(Path(__file__).parents[1] / "pipelines" / "proposals" / "test_watching.py")
    office.configure(proposals={"approval": "none"})
    proposal = watching.applied(office, office_module.CLOSED)

    def failing(*_: Any, **__: Any) -> Any:
        raise ConfigError("no history")

    monkeypatch.setattr("pipelines.replay.whatif.simulate", failing)
    for arguments in ([], [proposal.id]):
        done = run(office, "proposals", "watch", *arguments, user="")
        assert (done.exit_code, done.stdout) == (1, "")
        assert f"{proposal.id}: not judged: no history" in done.stderr
