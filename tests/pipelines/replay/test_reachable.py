"""Who may reach whom by the policies in force at a window's end, beside who did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from pipelines.replay import reachable as module
from pipelines.replay.in_force import History
from pipelines.replay.reachable import Reachable, Standing, reachable
from warehouse.access.principals import OPERATOR, Principal
from warehouse.engine import Window
from warehouse.schema import POLICY_VERSIONS, WORKLOADS

START = datetime(2026, 3, 2, tzinfo=UTC)
HOUR = timedelta(hours=1)
PAULA = Principal(user="paula")
WEB = {"endpointSelector": {"matchLabels": {"app": "web"}}}
FROM_SHOP = [{"fromEndpoints": [{}], "toPorts": [{"ports": [{"port": "80", "protocol": "TCP"}]}]}]
HTTP = ("TCP", 80)


def found(recorded: Any, who: Principal = OPERATOR) -> Reachable:
    """What is reachable on the day."""
    return reachable(History(recorded.door, who), Window(since=START, until=START + 24 * HOUR))


def test_without_configuration_history_nothing_is_called_allowed(recorded: Any, ends: Any) -> None:
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    result = found(recorded)
    assert not result.pairs
    assert not result.open_to_all
    assert "no configuration history is known of this window" in result.notes[-1]


def test_policies_that_were_not_read_lately_are_not_judged_by(recorded: Any, ends: Any) -> None:
    recorded.observed(-72, -48)
    recorded.policy("web", -72)
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    result = found(recorded)
    assert not result.pairs
    assert any("c1: not judged, because configuration history does not cover the window" in note for note in result.notes)


def test_what_is_allowed_was_used_or_not_and_what_is_denied_was_seen_or_is_left_out(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.version(POLICY_VERSIONS, "CiliumNetworkPolicy", "web", 0, spec={**WEB, "ingress": FROM_SHOP})
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    recorded.flow(ends.pod("ops", "scanner"), ends.pod("shop", "web"))
    recorded.flow(ends.pod("shop", "web"), ends.pod("shop", "db"), 5432)
    recorded.flow(ends.pod("ops", "backup"), ends.pod("shop", "db"), 5432)
    result = found(recorded)
    assert {pair: result.standing(pair) for pair in result.pairs} == {
        (("shop", "api"), ("shop", "web")): Standing.USED,
        (("ops", "scanner"), ("shop", "web")): Standing.REFUSED,
        (("shop", "db"), ("shop", "web")): Standing.UNUSED,
        (("shop", "web"), ("shop", "db")): Standing.USED,
        (("ops", "backup"), ("shop", "db")): Standing.USED,
    }
    assert result.pairs[("shop", "db"), ("shop", "web")] == {Standing.UNUSED: [HTTP]}
    assert ("shop", "db") in result.open_to_all
    assert ("shop", "web") not in result.open_to_all


def test_a_workload_that_exists_and_was_never_seen_is_judged_on_the_ports_it_names(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.version(POLICY_VERSIONS, "CiliumNetworkPolicy", "web", 0, spec={**WEB, "ingress": FROM_SHOP})
    ports = [{"name": "http", "containerPort": 80}]
    recorded.version(
        WORKLOADS, "PodLabels", "web", 0, spec={"workload": {"kind": "Deployment", "name": "web"}, "ports": ports},
        metadata={"name": "web", "namespace": "shop", "labels": {"app": "web"}},
    )  # fmt: skip
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "db"), 5432)
    result = found(recorded)
    assert result.pairs[("shop", "api"), ("shop", "web")] == {Standing.UNUSED: [HTTP]}


def test_an_owner_sees_pairs_of_her_namespaces_and_nothing_is_called_not_allowed(recorded: Any, ends: Any) -> None:
    recorded.observed(0, 24)
    recorded.version(POLICY_VERSIONS, "CiliumNetworkPolicy", "web", 0, spec={**WEB, "ingress": FROM_SHOP})
    recorded.flow(ends.pod("ops", "scanner"), ends.pod("shop", "web"))
    recorded.flow(ends.pod("ops", "scanner"), ends.pod("ops", "secret"))
    result = found(recorded, PAULA)
    assert result.pairs
    assert all(any(node[0] == "shop" for node in pair) for pair in result.pairs)
    assert {result.standing(pair) for pair in result.pairs} <= {Standing.SEEN, Standing.USED, Standing.UNCERTAIN, Standing.UNUSED}
    assert all(node[0] == "shop" for node in result.open_to_all)
    assert "secret" not in str(result)
    assert any("a cluster-wide policy may allow what yours deny" in note for note in result.notes)


def test_too_many_connections_are_not_judged_and_the_number_of_omitted_workloads_is_given(
    recorded: Any, ends: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded.observed(0, 24)
    recorded.version(POLICY_VERSIONS, "CiliumNetworkPolicy", "web", 0, spec={**WEB, "ingress": FROM_SHOP})
    recorded.flow(ends.pod("shop", "api"), ends.pod("shop", "web"))
    recorded.flow(ends.pod("shop", "web"), ends.pod("shop", "db"), 5432)
    monkeypatch.setattr(module, "MOST_JUDGED", 1)
    result = found(recorded)
    assert Standing.UNUSED not in {result.standing(pair) for pair in result.pairs}
    assert any(note.startswith("c1: workloads that are too many") for note in result.notes)
