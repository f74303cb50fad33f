"""Proposals whose applying or rolling back is interrupted, or whose answers from a real API server are lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints import objects
from pipelines.proposals import applying, rolling_back, steps
from pipelines.proposals.model import Status
from tests.peers.proposal_place import Place
from warehouse import config
from warehouse.errors import ClusterUnreachableError, ProposalError

pytestmark = pytest.mark.peers


@pytest.fixture
def place(clusters: dict[str, Any], tmp_path: Path) -> Place:
    return Place(clusters["one"], tmp_path)


def lose_answers(monkeypatch: pytest.MonkeyPatch, after: Callable[[], None] = lambda: None) -> None:
    """Let the API server do what is asked of it, and every answer to a change be lost on its way."""
    apply, remove = objects.apply, objects.remove

    def lost(what: Callable[..., Any], *given: Any, dry_run: bool = False, **more: Any) -> Any:
        answer = what(*given, dry_run=dry_run, **more)
        if dry_run:
            return answer
        after()
        raise ClusterUnreachableError("the connection was reset")

    monkeypatch.setattr(objects, "apply", lambda *given, **more: lost(apply, *given, **more))
    monkeypatch.setattr(objects, "remove", lambda *given, **more: lost(remove, *given, **more))


def test_changes_whose_answers_were_lost_are_found_made_and_can_be_rolled_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch", name="web2")), yaml.safe_load(place.policy("batch", name="web3")))
    removed = (("CiliumNetworkPolicy", place.namespace, "web3"),)
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2"), removed=removed).proposal
    with monkeypatch.context() as patch:
        lose_answers(patch)
        applied = applying.apply(place.paula, made)
    assert applied.status(place.paula.now) is Status.APPLIED
    api = yaml.safe_load(place.policy("api"))["spec"]
    assert [place.spec("web"), place.spec("web2"), place.spec("web3")] == [api, api, None]
    rolling_back.roll_back(place.paula, place.again(made))
    batch = yaml.safe_load(place.policy("batch"))["spec"]
    assert [place.spec("web"), place.spec("web2"), place.spec("web3")] == [None, batch, batch]


def test_a_change_that_can_no_longer_be_read_is_said_to_be_unknown(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place.propose(place.paula, place.policy("api")).proposal

    def unread(*_: Any, **__: Any) -> Any:
        raise ClusterUnreachableError("no answer")

    with monkeypatch.context() as patch:
        lose_answers(patch, after=lambda: patch.setattr(objects, "read", unread))
        with pytest.raises(ClusterUnreachableError, match=r"reset; unknown whether CiliumNetworkPolicy .* was changed") as told:
            applying.apply(place.paula, made)
    assert "nothing was changed" not in str(told.value)
    assert place.again(made).entries[-1].detail == str(told.value)


def test_a_roll_back_whose_answers_were_lost_is_found_made_and_one_that_was_interrupted_goes_on(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.server.apply(yaml.safe_load(place.policy("batch")))
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2")).proposal
    applying.apply(place.paula, made)
    with monkeypatch.context() as patch:
        lose_answers(patch)
        back = rolling_back.roll_back(place.paula, place.again(made))
    assert back.status(place.paula.now) is Status.ROLLED_BACK
    assert (place.spec("web"), place.stored("web2")) == (yaml.safe_load(place.policy("batch"))["spec"], None)
    assert place.events(made)[-1][0] == "rolled_back"


def test_a_roll_back_that_was_interrupted_in_the_middle_goes_on_with_the_rest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupted(place, monkeypatch)
    applied = applying.apply(place.paula, left)
    restore, done = applying.restore, list[str]()

    class KilledError(BaseException):
        pass

    def killed(api: Any, one: Any, now: Any, *, dry_run: bool = False) -> Any:
        if not dry_run and done:
            raise KilledError
        done.extend([] if dry_run else [one.key.name])
        return restore(api, one, now, dry_run=dry_run)

    with monkeypatch.context() as patch:
        patch.setattr(applying, "restore", killed)
        with pytest.raises(KilledError):
            rolling_back.roll_back(place.paula, applied)
    batch = yaml.safe_load(place.policy("batch"))["spec"]
    assert done == ["web2"]
    assert place.spec("web2") == batch
    assert place.spec("web") != batch
    back = rolling_back.roll_back(place.paula, place.again(applied))
    assert (back.status(place.paula.now), place.spec("web")) == (Status.ROLLED_BACK, batch)


def test_applying_that_was_interrupted_is_taken_up_again(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    made = place.propose(place.paula, place.policy("api")).proposal

    class KilledError(BaseException):
        pass

    def killed(*_: Any, **__: Any) -> Any:
        raise KilledError

    with monkeypatch.context() as patch:
        add = steps.add
        patch.setattr(steps, "add", lambda *given, **more: killed() if given[2].value == "applied" else add(*given, **more))
        with pytest.raises(KilledError):
            applying.apply(place.paula, made)
    left = place.again(made)
    assert left.status(place.paula.now) is Status.APPLYING
    with pytest.raises(ProposalError, match="it is applying"):
        applying.apply(place.paula, left)
    monkeypatch.setattr(applying, "STUCK_AFTER", applying.timedelta(0))
    applied = applying.apply(place.paula, left)
    assert applied.status(place.paula.now) is Status.APPLIED
    assert applied.entries[-1].about == {"groups": ["shop-owners"]}, "as whom it is rolled back by a rule"
    rolling_back.roll_back(place.paula, place.again(made))
    assert place.stored() is None


def interrupted(place: Place, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A proposal of two objects; the process that applied it was killed after the first one."""
    place.server.apply(yaml.safe_load(place.policy("batch")), yaml.safe_load(place.policy("batch", name="web2")))
    made = place.propose(place.paula, place.policy("api"), place.policy("api", name="web2")).proposal
    change = applying._change

    class KilledError(BaseException):
        pass

    def killed(api: Any, one: Any) -> Any:
        if one.key.name == "web2":
            raise KilledError
        return change(api, one)

    with monkeypatch.context() as patch:
        patch.setattr(applying, "_change", killed)
        with pytest.raises(KilledError):
            applying.apply(place.paula, made)
    monkeypatch.setattr(applying, "STUCK_AFTER", applying.timedelta(0))
    assert place.spec("web") == yaml.safe_load(place.policy("api"))["spec"]
    return place.again(made)


def test_applying_that_was_interrupted_in_the_middle_goes_on_with_the_rest(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupted(place, monkeypatch)
    applied = applying.apply(place.paula, left)
    api, batch = (yaml.safe_load(place.policy(name))["spec"] for name in ("api", "batch"))
    assert [place.spec("web"), place.spec("web2")] == [api, api]
    assert applied.entries[-1].about == {"groups": ["shop-owners"]}, "as whom it is rolled back by a rule"
    rolling_back.roll_back(place.paula, place.again(left))
    assert [place.spec("web"), place.spec("web2")] == [batch, batch]


def test_applying_that_was_interrupted_and_cannot_go_on_is_put_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    left = interrupted(place, monkeypatch)
    place.server.apply(yaml.safe_load(place.policy("other", name="web2")))
    with pytest.raises(ProposalError, match=r"applying was interrupted, and .*web2 was changed after .*; put back: .*web"):
        applying.apply(place.paula, left)
    assert place.spec("web") == yaml.safe_load(place.policy("batch"))["spec"]
    assert place.spec("web2") == yaml.safe_load(place.policy("other"))["spec"]
    assert place.again(left).status(place.paula.now) is Status.READY


def test_an_api_server_that_does_not_answer_is_said_and_not_taken_for_consent(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    import pipelines.proposals.desk as desk_module

    monkeypatch.setattr(desk_module, "PATIENCE_SECONDS", 0.1)
    kubeconfig = json.loads(place.server.kubeconfig("proposer").read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:9"
    file = place.office.folder / "gone.kubeconfig"
    file.write_text(json.dumps(kubeconfig))
    settings = place.office.settings
    cluster = settings.clusters[0].model_copy(update={"proposer": config.Proposer(kubeconfig=file)})
    place.office.settings = settings.model_copy(update={"clusters": (cluster,)})
    made = place.propose(place.paula, place.policy("api"))
    assert any(check.is_met is None and "was not asked" in check.text for check in made.judged.checks)
    with pytest.raises(Exception, match="Connection refused"):
        applying.apply(place.paula, made.proposal)
    assert [event for event, _, _ in place.events(made.proposal)] == ["proposed"]
