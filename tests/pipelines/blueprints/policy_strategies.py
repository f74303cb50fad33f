"""Random policies for hypothesis. Tests load this file by its path, since tests are no package."""

from typing import Any

from hypothesis import strategies as st

NAMES = st.sampled_from(["app", "web", "db", "team", "tier"])
LABELS = st.dictionaries(NAMES, NAMES, max_size=2)
EXPRESSION = st.fixed_dictionaries(
    {"key": NAMES, "operator": st.sampled_from(["In", "NotIn"]), "values": st.lists(NAMES, min_size=1, max_size=3, unique=True)}
)
SELECTOR = st.fixed_dictionaries({}, optional={"matchLabels": LABELS, "matchExpressions": st.lists(EXPRESSION, max_size=2)})
PEER = st.one_of(
    st.fixed_dictionaries({"podSelector": SELECTOR}, optional={"namespaceSelector": SELECTOR}),
    st.fixed_dictionaries(
        {"ipBlock": st.fixed_dictionaries({"cidr": st.just("10.0.0.0/8")}, optional={"except": st.just(["10.1.0.0/16", "10.2.0.0/16"])})}
    ),
)
PORT = st.fixed_dictionaries({}, optional={"port": st.integers(1, 65535), "protocol": st.sampled_from(["TCP", "UDP", "SCTP"])})


def rules(peers: str) -> st.SearchStrategy[Any]:
    return st.lists(
        st.fixed_dictionaries({}, optional={peers: st.lists(PEER, max_size=3), "ports": st.lists(PORT, max_size=3)}), max_size=3
    )


NETWORK_POLICY = st.fixed_dictionaries(
    {"podSelector": SELECTOR},
    optional={
        "policyTypes": st.lists(st.sampled_from(["Ingress", "Egress"]), unique=True, max_size=2),
        "ingress": rules("from"),
        "egress": rules("to"),
    },
).map(lambda spec: manifest("NetworkPolicy", spec))

CILIUM_PORTS = st.lists(
    st.fixed_dictionaries(
        {
            "ports": st.lists(
                st.fixed_dictionaries(
                    {"port": st.integers(1, 9999).map(str)}, optional={"protocol": st.sampled_from(["TCP", "UDP", "ANY"])}
                ),
                min_size=1,
                max_size=3,
            )
        }
    ),
    max_size=2,
)


def cilium_rules(direction: str) -> st.SearchStrategy[Any]:
    peers = {
        f"{direction}Endpoints": st.lists(SELECTOR, max_size=2),
        f"{direction}Entities": st.lists(st.sampled_from(["world", "host", "cluster"]), unique=True, max_size=3),
        f"{direction}CIDR": st.lists(st.sampled_from(["10.0.0.0/8", "192.0.2.0/24"]), unique=True, max_size=2),
    }
    return st.lists(st.fixed_dictionaries({}, optional={**peers, "toPorts": CILIUM_PORTS}), min_size=1, max_size=3)


CILIUM_POLICY = st.fixed_dictionaries(
    {"endpointSelector": SELECTOR, "ingress": cilium_rules("from")},
    optional={
        "egress": cilium_rules("to"),
        "egressDeny": cilium_rules("to"),
        "enableDefaultDeny": st.fixed_dictionaries({}, optional={"ingress": st.booleans(), "egress": st.booleans()}),
    },
).map(lambda spec: manifest("CiliumNetworkPolicy", spec))


def manifest(kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    group = "networking.k8s.io/v1" if kind == "NetworkPolicy" else "cilium.io/v2"
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "p", "namespace": "app", "labels": {"owner": "x"}}, "spec": spec}
