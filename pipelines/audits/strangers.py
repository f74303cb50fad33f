"""Ends that no policy is about: whoever lets them in lets everyone in. Pure."""

from __future__ import annotations

from pipelines.policy.labels import CLUSTER, KUBERNETES, NAMESPACE_LABELS, POD_NAMESPACE, LabelSet
from pipelines.policy.model import Side
from pipelines.policy.topology import world_side

_NAMESPACE = "a-namespace-that-no-policy-names"
WORLD = tuple(
    world_side(address, (), dual_stack=dual_stack) for address in ("198.51.100.77", "2001:db8:ffff::77") for dual_stack in (False, True)
)
"""Addresses outside of the cluster, as clusters with one and with two families of addresses label them."""
UNUSUAL_PORT = 49_151
"""A port that stands for every port."""


def stranger_pod(cluster_name: str) -> Side:
    """A pod without labels, in a namespace without labels of its own."""
    labels = LabelSet(
        (
            f"{KUBERNETES}:{POD_NAMESPACE}={_NAMESPACE}",
            f"{KUBERNETES}:{NAMESPACE_LABELS}.kubernetes.io/metadata.name={_NAMESPACE}",
            f"{KUBERNETES}:{CLUSTER}={cluster_name}",
        )
    )
    return Side("a pod of any namespace", subject=labels, seen_as=labels, named_ports={})
