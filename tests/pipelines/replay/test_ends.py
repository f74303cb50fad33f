"""Ends of edges as the engine's sides: what is hidden or folded is unknown, and never taken for something else."""

from __future__ import annotations

from ipaddress import ip_network

from pipelines.policy.labels import LabelSet
from pipelines.policy.model import Missing
from pipelines.policy.peers import LabelPeer, cidr_peer
from pipelines.policy.selectors import Requirement, Selector
from pipelines.replay.ends import NOT_YOURS, End, LearnedNames, side_of

IN_NAMESPACE = Selector((Requirement("k8s", "io.kubernetes.pod.namespace", "In", ("shop",)),))
IS_WEB = Selector((Requirement("k8s", "app", "In", ("web",)),))
NOT_DEV = Selector((Requirement("k8s", "env", "NotIn", ("dev",)),))


def test_of_a_hidden_peer_the_namespace_is_known_and_nothing_else() -> None:
    side = side_of(End(cluster="c1", namespace="shop", workload="web", is_hidden=True))
    assert LabelPeer(IN_NAMESPACE).matches(side) is True
    for selector in (IS_WEB, NOT_DEV):
        match = LabelPeer(selector).matches(side)
        assert isinstance(match, Missing)
        assert match == NOT_YOURS
    other = side_of(End(cluster="c1", namespace="vault", is_hidden=True))
    assert LabelPeer(Selector((*IN_NAMESPACE.requirements, *IS_WEB.requirements))).matches(other) is False


def test_labels_that_were_not_stored_are_named_as_missing() -> None:
    side = side_of(End(cluster="c1", namespace="shop", workload="web"))
    assert LabelPeer(IS_WEB).matches(side) == "the labels of shop/web"
    assert side.subject is None
    assert side.enforced


def test_a_pod_of_another_cluster_is_judged_there() -> None:
    side = side_of(End(cluster="c1", cluster_name="c2", namespace="shop", workload="web", labels=("k8s:app=web",)))
    assert not side.enforced
    assert side.seen_as == LabelSet(["k8s:app=web"])


def test_a_range_matches_networks_around_it_and_not_those_beside_it() -> None:
    side = side_of(End(cluster="c1", entity="world", cidr="203.0.113.0/24"))
    assert cidr_peer(ip_network("203.0.0.0/16"), (), frozenset()).matches(side) is True
    assert cidr_peer(ip_network("198.51.100.0/24"), (), frozenset()).matches(side) is False
    assert isinstance(cidr_peer(ip_network("203.0.113.64/26"), (), frozenset()).matches(side), Missing)
    around, outside = ip_network("203.0.0.0/16"), ip_network("203.0.0.0/24")
    assert cidr_peer(around, (outside,), frozenset()).matches(side) is True
    assert isinstance(cidr_peer(around, (ip_network("203.0.113.7/32"),), frozenset()).matches(side), Missing)


def test_a_name_stands_for_the_addresses_it_had() -> None:
    rows = [
        {"cluster": "c1", "ip": "198.51.100.20", "name": "api.example"},
        {"cluster": "c1", "ip": "198.51.100.20", "name": "www.example"},
    ]
    side = side_of(End(cluster="c1", entity="world", dns_name="api.example"), learned=LearnedNames.read(rows))
    assert side.names == ("api.example",)
    assert side.possible_names == ("www.example",)
    assert cidr_peer(ip_network("198.51.100.0/24"), (), frozenset()).matches(side) is True
    unknown = side_of(End(cluster="c1", entity="world", dns_name="api.example"))
    assert isinstance(cidr_peer(ip_network("198.51.100.0/24"), (), frozenset()).matches(unknown), Missing)


def test_the_host_and_health_endpoints_are_enforced_and_other_nodes_are_not() -> None:
    assert side_of(End(cluster="c1", entity="host")).enforced
    assert side_of(End(cluster="c1", entity="health")).enforced
    for entity in ("remote-node", "world", "kube-apiserver"):
        assert not side_of(End(cluster="c1", entity=entity)).enforced
    assert side_of(End(cluster="c1", entity="host"), selects_nodes=True).subject is None


def test_an_end_of_which_nothing_is_known_is_not_taken_for_the_world() -> None:
    side = side_of(End(cluster="c1"))
    assert side.seen_as is None
    assert isinstance(cidr_peer(ip_network("0.0.0.0/0"), (), frozenset()).matches(side), Missing)
