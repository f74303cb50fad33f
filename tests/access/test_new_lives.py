"""A namespace that is deleted and made anew between two looks at the cluster: nothing of the new one is the old owner's."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipelines.configuration import kinds
from pipelines.configuration.recording import Look, Recorder, note_looks
from warehouse import config
from warehouse.access import grants
from warehouse.access.ownership import BindingVersion, NamespaceVersion, grants_of
from warehouse.access.principals import Principal, scope_of
from warehouse.lake.tables import Lake
from warehouse.schema import NAMESPACES, ROLE_BINDINGS

NOON = dt.datetime(2026, 3, 2, 12, tzinfo=dt.UTC)
MINUTE = dt.timedelta(minutes=1)
OWNERSHIP = config.Ownership.model_validate(
    {
        "sources": [{"kind": "label", "key": "team"}, {"kind": "role_bindings"}],
        "grants": [{"subject": "sel", "role": "namespace-owner", "selector": "team = red"}],
    }
)


def seen(kind: str, uid: str, manifest: dict[str, Any], created: dt.datetime, changed: dt.datetime | None) -> kinds.Observed:
    whole = {"apiVersion": "v1", "kind": kind, **manifest}
    observed = kinds.observed(whole, namespace="shop", uid=uid, created=created, changed=changed, manager="kubectl", status=None)
    return replace(observed, manifest=json.dumps(whole))


def namespace(uid: str, team: str, created: dt.datetime, changed: dt.datetime | None = None) -> kinds.Observed:
    return seen("Namespace", uid, {"metadata": {"name": "shop", "labels": {"team": team}}}, created, changed or created)


def binding(uid: str, user: str, created: dt.datetime) -> kinds.Observed:
    given = {
        "metadata": {"name": "owners", "namespace": "shop"},
        "roleRef": {"kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "User", "name": user}],
    }
    return seen("RoleBinding", uid, given, created, created)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path / "lake")))


def look(lake: Lake, at: dt.datetime, *objects: kinds.Observed) -> None:
    """One snapshot of a cluster that has just these objects."""
    recorder = Recorder(lake, "c1", source="snapshot", tables=(NAMESPACES, ROLE_BINDINGS))
    for one in objects:
        recorder.saw(one, at=at)
    for kind in ("Namespace", "RoleBinding"):
        recorder.missed_others(kind, [one.key for one in objects], at=at)
    recorder.commit(recorded=at)


def owns(lake: Lake, who: Principal, at: dt.datetime) -> bool:
    return scope_of(who, grants.in_force(lake, OWNERSHIP)).owns("c1", "shop", at)


RED, BLUE = Principal(user="ron", groups=frozenset({"red"})), Principal(user="bea", groups=frozenset({"blue"}))


def test_the_new_namespaces_creation_ends_the_old_ones_grants_however_late_it_was_looked_at(lake: Lake) -> None:
    """Made anew at 12:00, labelled for another team at 12:40, looked at at 12:45."""
    look(lake, NOON - 60 * MINUTE, namespace("u1", "red", NOON - 90 * MINUTE), binding("b1", "rita", NOON - 80 * MINUTE))
    assert owns(lake, RED, NOON + MINUTE)
    look(lake, NOON + 45 * MINUTE, namespace("u2", "blue", NOON, changed=NOON + 40 * MINUTE))
    for old in (RED, Principal(user="rita"), Principal(user="sel")):
        assert owns(lake, old, NOON - MINUTE), old
        for minute in (0, 1, 39, 41, 50):
            assert not owns(lake, old, NOON + minute * MINUTE), (old, minute)
    assert owns(lake, BLUE, NOON + 41 * MINUTE)
    assert not owns(lake, BLUE, NOON - MINUTE)


def test_a_binding_of_the_new_life_is_not_ended_with_the_old_one(lake: Lake) -> None:
    look(lake, NOON - 60 * MINUTE, namespace("u1", "red", NOON - 90 * MINUTE), binding("b1", "rita", NOON - 80 * MINUTE))
    again = (namespace("u2", "blue", NOON, changed=NOON + 40 * MINUTE), binding("b2", "nina", NOON + 5 * MINUTE))
    look(lake, NOON + 45 * MINUTE, *again)
    assert not owns(lake, Principal(user="rita"), NOON + MINUTE)
    assert owns(lake, Principal(user="nina"), NOON + 6 * MINUTE)
    assert not owns(lake, Principal(user="nina"), NOON - MINUTE)


def test_a_clock_that_is_wrong_ends_no_namespace_before_it_was_last_seen(lake: Lake) -> None:
    look(lake, NOON - 60 * MINUTE, namespace("u1", "red", NOON - 90 * MINUTE))
    at = NOON - 10 * MINUTE
    note_looks(lake, "c1", [Look(state="observed", kinds=("Namespace",))], source="snapshot", begin=at, end=at, recorded=at)
    look(lake, NOON + 45 * MINUTE, namespace("u2", "blue", NOON - 120 * MINUTE, changed=NOON + 40 * MINUTE))
    assert owns(lake, RED, NOON - 11 * MINUTE)
    assert not owns(lake, RED, NOON - 9 * MINUTE)


def test_what_is_taken_away_is_gone_at_the_next_question(lake: Lake) -> None:
    look(lake, NOON - 60 * MINUTE, namespace("u1", "red", NOON - 90 * MINUTE))
    assert owns(lake, RED, NOON + 10 * MINUTE)
    look(lake, NOON, namespace("u1", "blue", NOON - 90 * MINUTE, changed=NOON - MINUTE))
    assert not owns(lake, RED, NOON + 10 * MINUTE)
    assert owns(lake, BLUE, NOON + 10 * MINUTE)


def test_lives_that_were_recorded_as_overlapping_do_not_share_an_owner() -> None:
    versions = [
        NamespaceVersion(cluster="c1", name="shop", uid="u1", labels={"team": "red"}, valid_from=NOON, valid_to=NOON + 60 * MINUTE),
        NamespaceVersion(cluster="c1", name="shop", uid="u2", labels={"team": "blue"}, valid_from=NOON + 20 * MINUTE),
    ]
    bound = BindingVersion(cluster="c1", namespace="shop", name="b", role="edit", subjects=[("User", "rita", None)], valid_from=NOON)
    found = {grant.subject: grant for grant in grants_of(OWNERSHIP, versions, [bound])}
    for subject in ("group:red", "sel", "rita"):
        assert (found[subject].since, found[subject].until) == (NOON, NOON + 20 * MINUTE)
    assert (found["group:blue"].since, found["group:blue"].until) == (NOON + 20 * MINUTE, None)
