"""The admission policy of `drift: block`: the API server refuses changes that others make to a blueprint's objects.

It matches objects by the blueprint's label, old or new, so removing the label is refused as well. Kubernetes does not allow
such a policy to guard itself: removing it is recorded as drift. It does no I/O.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from pipelines.objects.canonical import Manifest

API = "admissionregistration.k8s.io/v1"
CONTROLLERS = (
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
)
"""Kubernetes' own users, which delete the contents of a deleted namespace: without them the namespace would never disappear."""
_RESOURCES = {
    "networking.k8s.io": ["networkpolicies"],
    "cilium.io": ["ciliumnetworkpolicies", "ciliumclusterwidenetworkpolicies", "ciliumcidrgroups"],
    "policy.networking.k8s.io": ["adminnetworkpolicies", "baselineadminnetworkpolicies", "clusternetworkpolicies"],
}


def admission_objects(blueprint: str, accounts: Sequence[str], *, label: str) -> list[Manifest]:
    """Return the policy and its binding, for objects that have the blueprint's name in `label`."""
    name = f"hindcast-{blueprint}"
    allowed = json.dumps([*accounts, *CONTROLLERS])
    policy = {
        "apiVersion": API,
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": {},
                "objectSelector": {"matchLabels": {label: blueprint}},
                "resourceRules": [
                    {
                        "apiGroups": [group],
                        "apiVersions": ["*"],
                        "operations": ["CREATE", "UPDATE", "DELETE"],
                        "resources": resources,
                        "scope": "*",
                    }
                    for group, resources in _RESOURCES.items()
                ],
            },
            "validations": [
                {
                    "expression": f"request.userInfo.username in {allowed}",
                    "message": f"this object belongs to Hindcast's blueprint {blueprint}: change the blueprint, or ask for an exception",
                    "reason": "Forbidden",
                }
            ],
        },
    }
    binding = {
        "apiVersion": API,
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    return [policy, binding]
