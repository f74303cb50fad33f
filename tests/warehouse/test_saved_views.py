"""Views and queries that people save: theirs alone, unless they share them, and then no more than their words."""

import datetime as dt
from pathlib import Path
from typing import Any

import pytest

from warehouse import config
from warehouse.access.principals import Grant, Principal, Scope, scope_of
from warehouse.errors import AccessDeniedError, QueryError
from warehouse.lake.tables import Lake
from warehouse.records import saved_views
from warehouse.schema import SAVED_VIEWS

NOW = dt.datetime.now(dt.UTC)
ADA, CARLA, CARLOS, PAULA, NINA = (Principal(user=name) for name in ("ada", "carla", "carlos", "paula", "nina"))
GRANTS = [
    Grant(subject="ada", role="platform-admin", cluster="*", namespace=None, reason=""),
    Grant(subject="carlos", role="namespace-owner", cluster="eu-*", namespace="cart", reason=""),
    Grant(subject="carla", role="namespace-owner", cluster="eu-1", namespace="cart", reason=""),
    Grant(subject="paula", role="namespace-owner", cluster="*", namespace="payments", reason=""),
    Grant(subject="paula", role="namespace-owner", cluster="us-1", namespace="cart", reason=""),
]


def scope(who: Principal) -> Scope:
    return scope_of(who, GRANTS)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake.open(config.Lake(url=str(tmp_path)))


def names(lake: Lake, who: Principal, kind: saved_views.Kind = "view") -> list[str]:
    return [view.name for view in saved_views.listed(lake, who, scope(who), kind=kind, at=NOW)]


def save(lake: Lake, who: Principal, name: str, **more: Any) -> saved_views.SavedView:
    draft = saved_views.Draft(**{"kind": "view", "page": "flows", "state": "last=1d", "name": name, **more})
    return saved_views.save(lake, who, scope(who), draft)


def test_who_may_see_nothing_saves_and_is_shown_nothing(lake: Lake) -> None:
    save(lake, CARLOS, "for all", shared_with=["*"])
    with pytest.raises(AccessDeniedError):
        save(lake, NINA, "mine")
    assert names(lake, NINA) == []


def test_a_view_is_its_owners_alone_unless_it_is_shared(lake: Lake) -> None:
    save(lake, CARLOS, "mine")
    assert names(lake, CARLOS) == ["mine"]
    assert names(lake, CARLA) == names(lake, PAULA) == names(lake, ADA) == []


def test_what_is_shared_with_a_namespace_is_shown_to_its_owners_in_those_clusters_alone(lake: Lake) -> None:
    save(lake, CARLOS, "drops of cart", shared_with=["eu-*/cart"])
    assert names(lake, CARLA) == names(lake, ADA) == ["drops of cart"]
    assert names(lake, PAULA) == [], "her cart is another one, of another cluster"


def test_a_view_can_be_shared_only_with_owners_of_ones_own_namespaces(lake: Lake) -> None:
    with pytest.raises(AccessDeniedError, match=r"cannot share with .*payments"):
        save(lake, CARLOS, "look here", shared_with=["*/payments"])
    made = save(lake, CARLOS, "mine")
    with pytest.raises(AccessDeniedError, match=r"cannot share with .*payments"):
        saved_views.change(lake, CARLOS, scope(CARLOS), made.id, shared_with=["*/payments"])
    assert names(lake, PAULA) == []


def test_a_denial_and_a_grant_that_has_ended_take_a_shared_view_away(lake: Lake) -> None:
    save(lake, CARLOS, "drops of cart", shared_with=["eu-*/cart"])
    over = Grant(subject="carla", role="namespace-owner", cluster="eu-1", namespace="cart", until=NOW, reason="")
    shut = Grant(subject="carla", role="namespace-owner", cluster="*", namespace="cart", is_denial=True, reason="")
    for grants in ([over], [*GRANTS, shut]):
        assert not saved_views.listed(lake, CARLA, scope_of(CARLA, grants), kind="view", at=NOW)


def test_only_its_owner_renames_and_shares_a_view_and_an_administrator_may_delete_what_is_shared(lake: Lake) -> None:
    made = save(lake, CARLOS, "drops", shared_with=["*"])
    hidden = save(lake, CARLOS, "hidden")
    for who in (CARLA, ADA):
        with pytest.raises((AccessDeniedError, QueryError)):
            saved_views.change(lake, who, scope(who), made.id, name="other")
    for who, view in ((CARLA, made), (ADA, hidden), (CARLA, hidden)):
        with pytest.raises(QueryError):
            saved_views.change(lake, who, scope(who), view.id, deleted=True)
    saved_views.change(lake, CARLOS, scope(CARLOS), made.id, name="  drops   of cart ")
    assert names(lake, CARLA) == ["drops of cart"]
    saved_views.change(lake, ADA, scope(ADA), made.id, deleted=True)
    assert names(lake, CARLA) == []
    with pytest.raises(QueryError, match="no longer exists"):
        saved_views.change(lake, CARLOS, scope(CARLOS), made.id, name="again")


def test_saving_under_the_same_name_replaces_ones_own_and_no_one_elses(lake: Lake) -> None:
    save(lake, CARLOS, "drops", state="last=1h", shared_with=["*"])
    save(lake, CARLA, "drops", state="last=2h")
    save(lake, CARLOS, "drops", state="last=1w")
    save(lake, CARLOS, "drops", kind="query", state="SELECT 1")
    (mine,) = saved_views.listed(lake, CARLOS, scope(CARLOS), kind="view", at=NOW)
    assert (mine.state, mine.shared_with) == ("last=1w", ())
    assert names(lake, CARLA) == ["drops"]
    assert names(lake, CARLOS, "query") == ["drops"]


def test_two_views_do_not_come_to_one_name(lake: Lake) -> None:
    save(lake, CARLOS, "drops")
    other = save(lake, CARLOS, "talkers")
    with pytest.raises(QueryError, match="another one"):
        saved_views.change(lake, CARLOS, scope(CARLOS), other.id, name="drops")


@pytest.mark.parametrize("name", ["", " \n ", "x" * 81, "a\x00b"])
def test_a_name_that_cannot_be_is_refused(lake: Lake, name: str) -> None:
    with pytest.raises(QueryError, match="name"):
        save(lake, CARLOS, name)
    assert lake.rows(SAVED_VIEWS) == 0


def test_what_is_too_long_is_refused(lake: Lake) -> None:
    with pytest.raises(QueryError, match=r"20,001 characters"):
        save(lake, CARLOS, "long", state="x" * 20_001)


def test_two_processes_save_side_by_side(lake: Lake, tmp_path: Path) -> None:
    other = Lake.open(config.Lake(url=str(tmp_path)))
    save(lake, CARLOS, "one")
    save(other, CARLOS, "two")
    made = save(lake, CARLOS, "three")
    saved_views.change(other, CARLOS, scope(CARLOS), made.id, deleted=True)
    assert names(lake, CARLOS) == names(other, CARLOS) == ["one", "two"]


def test_who_sees_everything_shares_with_the_owners_of_any_one_namespace(lake: Lake) -> None:
    save(lake, ADA, "drops of cart", shared_with=["*/cart"])
    assert "drops of cart" in names(lake, CARLOS)
    for wrong in ("cart", "*/", "/cart", "*/two words"):
        with pytest.raises(AccessDeniedError):
            save(lake, ADA, "other", shared_with=[wrong])
