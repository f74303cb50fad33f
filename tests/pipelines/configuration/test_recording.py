"""What began and what ended is written once, with the times that can be known."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.configuration import kinds
from pipelines.configuration.care import compact_configuration
from pipelines.configuration.recording import Change, Recorder
from warehouse import engine, table_views
from warehouse.engine import Limits, Window
from warehouse.errors import CommitConflictError
from warehouse.records import versions
from warehouse.schema import POLICY_VERSIONS

HOUR = timedelta(hours=1)
Policy = Callable[..., dict[str, Any]]


def managed(text: str, manager: str = "argocd", **more: Any) -> dict[str, Any]:
    return {"managedFields": [{"manager": manager, "operation": "Apply", "time": text, **more}]}


def test_an_empty_cluster_has_no_versions_and_asking_is_no_error(history: Any, noon: datetime) -> None:
    assert history.look(noon) == 0
    assert history.at(noon) == []


def test_a_second_look_at_the_same_state_writes_no_version(history: Any, policy: Policy, noon: datetime) -> None:
    assert history.look(noon, policy()) == 1
    rows = history.stored_rows()
    again = policy(resourceVersion="8", generation=3, **managed("2026-03-02T11:00:00Z"))
    assert history.look(noon + HOUR, again) == 0
    assert history.stored_rows() == rows


def test_a_change_ends_one_version_and_begins_the_next_at_the_same_time(history: Any, policy: Policy, noon: datetime) -> None:
    history.look(noon, policy(**managed("2026-03-02T09:00:00Z")))
    history.look(noon + HOUR, policy(port=443, **managed("2026-03-02T12:30:00Z", "kubectl-edit")))
    first, second = history.all()
    assert (first["valid_from"], first["valid_from_source"], first["changed_by"]) == (noon - 3 * HOUR, "managed_fields", "argocd")
    assert first["valid_to"] == second["valid_from"] == noon + HOUR / 2
    assert (first["ended_how"], first["ended_by"]) == ("changed", "kubectl-edit")
    assert (second["valid_to"], second["changed_by"]) == (None, "kubectl-edit")
    assert [row["manifest"]["spec"]["ingress"][0]["ports"][0]["port"] for row in history.at(noon)] == [80]
    assert [row["manifest"]["spec"]["ingress"][0]["ports"][0]["port"] for row in history.at(noon + HOUR)] == [443]


def test_what_is_gone_ended_and_is_not_in_force_afterwards(history: Any, policy: Policy, noon: datetime) -> None:
    history.look(noon, policy(), policy("other"))
    assert history.look(noon + HOUR, policy("other")) == 1
    assert [row["name"] for row in history.at(noon + HOUR)] == ["other"]
    assert [row["name"] for row in history.at(noon)] == ["other", "web"]
    gone = next(row for row in history.all() if row["name"] == "web")
    assert (gone["valid_to"], gone["ended_how"], gone["valid_to_source"]) == (noon + HOUR, "deleted", "snapshot")


def test_what_was_made_anew_under_the_same_name_is_a_new_life_even_if_it_is_equal(history: Any, policy: Policy, noon: datetime) -> None:
    history.look(noon, policy(creationTimestamp="2026-03-01T00:00:00Z"))
    assert history.look(noon + HOUR, policy(uid="u2", creationTimestamp="2026-03-02T12:20:00Z")) == 2
    first, second = history.all()
    assert (first["uid"], second["uid"]) == ("u1", "u2")
    assert first["ended_how"] == "recreated"
    assert second["valid_from"] == datetime(2026, 3, 2, 12, 20, tzinfo=UTC)
    assert second["valid_from_source"] == "created"


def test_a_status_alone_makes_a_version(history: Any, noon: datetime) -> None:
    def cnp(valid: str) -> dict[str, Any]:
        condition = {"type": "Valid", "status": valid, "message": "no", "lastTransitionTime": datetime.now(UTC).isoformat()}
        return {
            "apiVersion": "cilium.io/v2",
            "kind": "CiliumNetworkPolicy",
            "metadata": {"name": "a", "namespace": "shop", "uid": "u"},
            "spec": {},
            "status": {"conditions": [condition]},
        }

    assert history.look(noon, cnp("True")) == 1
    assert history.look(noon + HOUR, cnp("True")) == 0
    assert history.look(noon + 2 * HOUR, cnp("False")) == 2
    assert '"status":"False"' in history.at(noon + 2 * HOUR)[0]["status"]


@pytest.mark.parametrize("told", ["2026-03-02T10:00:00Z", "2031-01-01T00:00:00Z"])
def test_a_change_reported_outside_of_the_time_between_two_looks_began_within_it(
    history: Any, policy: Policy, noon: datetime, told: str
) -> None:
    history.look(noon, policy())
    history.look(noon + HOUR, policy(port=443, **managed(told)))
    version = history.all()[-1]
    assert noon <= version["valid_from"] <= noon + HOUR


def test_a_change_in_the_same_second_as_the_look_before_it_comes_after_it(history: Any, policy: Policy, noon: datetime) -> None:
    at = noon + timedelta(milliseconds=300)
    history.look(at, policy(**managed("2026-03-02T12:00:00Z")))
    history.look(at + timedelta(milliseconds=300), policy(port=443, **managed("2026-03-02T12:00:00Z")))
    first, second = history.all()
    assert first["valid_from"] < first["valid_to"] == second["valid_from"] <= at + timedelta(milliseconds=300)


def test_without_managed_fields_a_change_began_when_it_was_seen(history: Any, policy: Policy, noon: datetime) -> None:
    history.look(noon, policy(creationTimestamp="2026-01-01T00:00:00Z"))
    history.look(noon + HOUR, policy(port=443, creationTimestamp="2026-01-01T00:00:00Z"))
    first, second = history.all()
    assert (first["valid_from"], first["valid_from_source"]) == (datetime(2026, 1, 1, tzinfo=UTC), "created")
    assert (second["valid_from"], second["valid_from_source"]) == (noon + HOUR, "snapshot")


def test_a_change_of_the_status_is_not_taken_for_one_of_the_object() -> None:
    fields = [
        {"manager": "argocd", "operation": "Apply", "time": "2026-03-02T09:00:00Z"},
        {"manager": "cilium-agent", "operation": "Update", "time": "2026-03-02T11:00:00Z", "subresource": "status"},
        {"manager": "odd", "operation": "Update"},
    ]
    assert kinds.last_change({"managedFields": fields}) == (datetime(2026, 3, 2, 9, tzinfo=UTC), "argocd")


def test_the_audit_log_knows_better_than_the_object(history: Any, policy: Policy, noon: datetime) -> None:
    def find(kind: str, namespace: str | None, name: str, earliest: Any, latest: datetime, deletion: bool) -> Change | None:
        assert (kind, namespace, name) == ("NetworkPolicy", "shop", "web")
        return Change(at=latest - timedelta(seconds=1), by="eve", source="audit") if deletion else None

    history.look(noon, policy())
    history.look(noon + HOUR, find_change=find)
    (version,) = history.all()
    assert (version["ended_by"], version["valid_to_source"]) == ("eve", "audit")
    assert version["valid_to"] == noon + HOUR - timedelta(seconds=1)


def test_of_two_that_look_at_a_cluster_at_once_the_second_gets_a_conflict(history: Any, policy: Policy, noon: datetime) -> None:
    first, second = (Recorder(history.lake, "c1", source="snapshot") for _ in range(2))
    for recorder in (first, second):
        seen = kinds.observe(kinds.BY_NAME["NetworkPolicy"], policy())
        assert seen is not None
        recorder.saw(seen, at=noon)
    first.commit(recorded=noon)
    with pytest.raises(CommitConflictError):
        second.commit(recorded=noon)
    assert len(history.all()) == 1


def test_versions_that_begin_and_end_between_two_commits_are_stored_whole(history: Any, policy: Policy, noon: datetime) -> None:
    recorder = Recorder(history.lake, "c1", source="watch")
    for number in range(3):
        seen = kinds.observe(kinds.BY_NAME["NetworkPolicy"], policy(port=number + 1))
        assert seen is not None
        recorder.saw(seen, at=noon + timedelta(seconds=number))
    recorder.missed(("NetworkPolicy", "shop", "web"), at=noon + timedelta(seconds=3), source="watch")
    assert recorder.commit(recorded=noon + HOUR) == 3
    found = history.all()
    assert [row["ended_how"] for row in found] == ["changed", "changed", "deleted"]
    assert [one["valid_to"] == other["valid_from"] for one, other in itertools.pairwise(found)] == [True, True]
    assert history.stored_rows() == 3
    assert Recorder(history.lake, "c1", source="watch").knows("NetworkPolicy") == []


def test_a_life_that_begins_in_the_second_in_which_the_one_before_ended_comes_after_it(
    history: Any, policy: Policy, noon: datetime
) -> None:
    recorder = Recorder(history.lake, "c1", source="watch")
    for number, uid in enumerate(["u1", "u2"]):
        at = noon + timedelta(milliseconds=100 * number)
        seen = kinds.observe(kinds.BY_NAME["NetworkPolicy"], policy(uid=uid, **managed("2026-03-02T12:00:00Z")))
        assert seen is not None
        recorder.saw(seen, at=at)
        recorder.missed(seen.key, at=at + timedelta(milliseconds=50), source="watch")
    recorder.commit(recorded=noon)
    first, second = history.all()
    assert first["valid_to"] == second["valid_from"] < second["valid_to"]


def test_what_the_lake_knew_at_an_earlier_time_is_returned_without_what_it_learned_later(
    history: Any, policy: Policy, noon: datetime
) -> None:
    history.look(noon, policy(**managed("2026-03-02T09:00:00Z")))
    history.look(noon + HOUR, policy(port=443, **managed("2026-03-02T12:01:00Z")))
    history.look(noon + 2 * HOUR)
    for compacted in (False, True):
        if compacted:
            compact_configuration(history.lake, loose_files=1)
        assert [row["manifest"]["spec"]["ingress"][0]["ports"][0]["port"] for row in history.at(noon + HOUR / 2)] == [443]
        (then,) = history.at(noon + HOUR / 2, recorded=noon + HOUR / 2)
        assert then["manifest"]["spec"]["ingress"][0]["ports"][0]["port"] == 80
        assert (then["valid_to"], then["ended_how"], then["ended_by"]) == (None, None, None)
        assert history.at(noon + HOUR, recorded=noon - HOUR) == []


def test_clusters_do_not_touch_each_other(history: Any, policy: Policy, noon: datetime) -> None:
    history.look(noon, policy())
    history.look(noon, policy(), cluster="c2")
    history.look(noon + HOUR, cluster="c2")
    assert [row["cluster"] for row in history.at(noon + HOUR)] == ["c1"]


def test_versions_of_a_namespace_include_its_objects_and_not_those_of_the_whole_cluster(
    history: Any, policy: Policy, noon: datetime
) -> None:
    def namespace(name: str) -> dict[str, Any]:
        return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "uid": name}}

    ccnp = {"apiVersion": "cilium.io/v2", "kind": "CiliumClusterwideNetworkPolicy", "metadata": {"name": "all", "uid": "x"}, "spec": {}}
    history.look(noon, policy(), policy(namespace="bank"), namespace("shop"), namespace("bank"), ccnp)
    assert [(row["kind"], row["name"]) for row in history.at(noon, namespaces=["shop"])] == [
        ("Namespace", "shop"),
        ("NetworkPolicy", "web"),
    ]


def test_the_engine_s_view_has_each_version_once(history: Any, policy: Policy, noon: datetime) -> None:
    history.look(noon, policy())
    history.look(noon + HOUR, policy(port=443))
    with engine.connect(Limits()) as connection:
        table_views.add_view(connection, history.lake, POLICY_VERSIONS, Window(since=noon + 2 * HOUR))
        rows, _ = engine.run(connection, "SELECT valid_to IS NULL AS open FROM policies ORDER BY valid_from", (), Limits())
    assert rows["open"].to_pylist() == [False, True]


def test_compaction_leaves_few_files_a_second_run_does_nothing_and_history_goes_on(history: Any, policy: Policy, noon: datetime) -> None:
    for day in range(0, 70, 7):
        history.look(noon + timedelta(days=day), policy(port=day + 1), policy("still"))
    before = history.all()
    versions_tidied, ledger = compact_configuration(history.lake)
    assert (versions_tidied.table, versions_tidied.files_before, versions_tidied.files_after) == ("policies", 10, 4)
    assert (ledger.table, ledger.files_before, ledger.files_after) == ("config_coverage", 10, 3)
    names = sorted(file.name for file in history.lake.contents(POLICY_VERSIONS))
    assert [name[:14] for name in names] == ["closed-2026-03", "closed-2026-04", "closed-2026-05", names[-1][:14]]
    assert names[-1].startswith("open-")
    assert history.all() == before
    assert history.stored_rows() == 11
    assert compact_configuration(history.lake) == []
    history.look(noon + timedelta(days=71), policy("still"))
    assert [row["name"] for row in history.at(noon + timedelta(days=71))] == ["still"]
    assert [row["name"] for row in history.at(noon + timedelta(days=70))] == ["still", "web"]


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    states=st.lists(st.dictionaries(st.sampled_from("abc"), st.integers(1, 3), max_size=3), min_size=1, max_size=6),
    compact=st.sets(st.integers(0, 5)),
)
def test_any_history_of_states_is_returned_as_it_was(
    new_history: Callable[[], Any], policy: Policy, noon: datetime, states: list[dict[str, int]], compact: set[int]
) -> None:
    history = new_history()
    for index, state in enumerate(states):
        history.look(noon + index * 20 * 24 * HOUR, *(policy(name, port=port) for name, port in state.items()))
        if index in compact:
            compact_configuration(history.lake, loose_files=1)
    for index, state in enumerate(states):
        found = history.at(noon + index * 20 * 24 * HOUR)
        assert {row["name"]: row["manifest"]["spec"]["ingress"][0]["ports"][0]["port"] for row in found} == state
        known = history.at(noon + 9999 * HOUR, recorded=noon + index * 20 * 24 * HOUR)
        assert {row["name"]: row["manifest"]["spec"]["ingress"][0]["ports"][0]["port"] for row in known} == state


def test_a_closed_file_s_month_bounds_when_its_versions_ended(tmp_path: Path) -> None:
    from warehouse.lake.files import StoredFile

    for name, end in (
        ("closed-2026-12-x.parquet", datetime(2027, 1, 1, tzinfo=UTC)),
        ("closed-2026-03-x.parquet", datetime(2026, 4, 1, tzinfo=UTC)),
    ):
        file = StoredFile(path=f"cluster=c/{name}", partition={"cluster": "c"}, size=1, rows=1, first=None, last=None)
        assert versions._month_end(file) == end


def test_a_cluster_that_moves_to_its_api_server_has_its_uids_from_then_on(history: Any, policy: Any, noon: datetime) -> None:
    """Otherwise an object that is deleted and made anew after the move would pass for the same one."""
    from_manifests = policy()
    del from_manifests["metadata"]["uid"]
    hour = timedelta(hours=1)
    history.look(noon, from_manifests)
    history.look(noon + hour, policy(uid="X"))
    history.look(noon + 2 * hour, policy(uid="X"))
    history.look(noon + 3 * hour, policy(uid="Y"))
    assert [(row["uid"], row["ended_how"]) for row in history.all()] == [(None, "changed"), ("X", "recreated"), ("Y", None)]
