"""Guard-rails: each forbids what it says and nothing else, and says which rule, where, and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines.blueprints import model
from pipelines.proposals.model import Status
from warehouse.errors import ConfigError

RAIL = {"name": "closed", "reason": "ask #network for an exception"}
INGRESS = {
    "everyone": {"fromEndpoints": [{"matchLabels": {"app": "api"}}, {"matchExpressions": []}]},
    "all": {"fromEntities": ["all"]},
    "cluster": {"fromEntities": ["cluster"]},
    "cart": {"fromEndpoints": [{"matchLabels": {"k8s:io.kubernetes.pod.namespace": "cart"}}]},
    "own": {"fromEndpoints": [{"matchLabels": {"app": "api"}}]},
    "any": {"fromCIDR": ["10.0.0.0/8", "0.0.0.0/0"]},
    "any6": {"fromCIDRSet": [{"cidr": "::/0", "except": ["fd00::/8"]}]},
    "range": {"fromCIDR": ["10.0.0.0/8"]},
}
EGRESS = {
    "world": {"toEntities": ["world"]},
    "any": {"toCIDR": ["0.0.0.0/0"]},
    "names": {"toFQDNs": [{"matchName": "api.example.com"}]},
    "ports": {"toPorts": [{"ports": [{"port": "443", "protocol": "TCP"}]}]},
}


def proposal(direction: str, rule: dict[str, Any]) -> str:
    spec = {"endpointSelector": {}, direction: [rule]}
    return yaml.safe_dump(
        {"apiVersion": "cilium.io/v2", "kind": "CiliumNetworkPolicy", "metadata": {"name": "web", "namespace": "shop"}, "spec": spec},
        sort_keys=False,
    )


@pytest.mark.parametrize(
    ("rail", "direction", "refused"),
    [
        ({"forbid": ["allow-all"]}, "ingress", {"all"}),
        ({"forbid": ["allow-all"]}, "egress", {"ports"}),
        ({"forbid": ["any-address"]}, "ingress", {"all", "any", "any6"}),
        ({"forbid": ["world-without-names"]}, "egress", {"world", "any", "ports"}),
        ({"forbid": ["other-namespaces"]}, "ingress", {"all", "cluster", "cart"}),
        ({"forbid": ["other-namespaces"], "allowed_namespaces": ["ca*"]}, "ingress", {"all", "cluster"}),
        ({"forbid_entities": ["cluster", "world"]}, "ingress", {"all", "cluster"}),
        ({"forbid_entities": ["all"]}, "ingress", {"all"}),
        ({"forbid_entities": ["world"]}, "egress", {"world", "ports"}),
    ],
)
def test_a_guard_rail_refuses_what_it_names_alone(office: Any, rail: dict[str, Any], direction: str, refused: set[str]) -> None:
    office.blueprint(RAIL | rail)
    rules = INGRESS if direction == "ingress" else EGRESS
    found = {name for name, rule in rules.items() if office.propose("paula", proposal(direction, rule)).is_refused}
    assert found == refused


def test_a_refusal_says_which_rail_of_which_blueprint_which_rule_and_why(office: Any) -> None:
    office.blueprint(RAIL | {"forbid": ["any-address"]})
    made = office.propose("paula", proposal("ingress", INGRESS["any"]))
    (check,) = made.judged.refusals
    assert (check.check, check.blueprint, check.path, check.line) == ("guard-rail", "base", "spec.ingress[0]", 9)
    assert check.text == (
        "CiliumNetworkPolicy shop/web spec.ingress[0] allows ingress from 0.0.0.0/0, which guard-rail closed of blueprint base forbids: "
        "ask #network for an exception"
    )
    assert made.proposal.status(office.now) is Status.REFUSED
    (row,) = office.rows(made.proposal)
    assert (row["event"], row["detail"]) == ("refused", check.text)


def test_a_guard_rail_is_for_the_namespaces_it_selects(office: Any) -> None:
    office.blueprint(RAIL | {"forbid": ["allow-all"], "select": {"exclude": ["sh*"]}})
    assert not office.propose("paula", proposal("ingress", INGRESS["all"])).is_refused
    office.blueprint(RAIL | {"forbid": ["allow-all"], "select": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}})
    assert office.propose("paula", proposal("ingress", INGRESS["all"])).is_refused


def test_deny_rules_and_rules_without_peers_are_not_refused(office: Any) -> None:
    office.blueprint(RAIL | {"forbid": ["allow-all", "any-address", "other-namespaces"], "forbid_entities": ["world"]})
    for direction, rule in (("ingressDeny", {"fromEntities": ["all"]}), ("ingress", {"fromEndpoints": []}), ("ingress", {})):
        text = proposal(direction, rule)
        assert not office.propose("paula", text).is_refused, text


@pytest.mark.parametrize(
    ("rail", "message"),
    [
        ({}, "forbids nothing"),
        ({"forbid": ["everything"]}, "guard_rails"),
        ({"forbid": ["allow-all"], "allowed_namespaces": ["a"]}, "only be used with"),
        ({"forbid": ["allow-all"], "reason": ""}, "reason"),
    ],
)
def test_a_guard_rail_that_says_nothing_is_a_mistake_with_its_line(tmp_path: Path, rail: dict[str, Any], message: str) -> None:
    file = tmp_path / "b.yaml"
    file.write_text(yaml.safe_dump({"blueprint": "v1", "name": "base", "version": "1.0.0", "clusters": {}, "guard_rails": [RAIL | rail]}))
    with pytest.raises(ConfigError, match=message) as wrong:
        model.load_file(file)
    assert "b.yaml:" in str(wrong.value)
