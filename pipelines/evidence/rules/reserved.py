"""Labels that say what an alert is about, whose it is and how severe it is. Others act on them, so rule files cannot set them freely. Pure.

`alertname`, `cluster`, `namespace` and `owner` are set by Hindcast: from the rule's name, from the rows that were evaluated, and from the
subject whose file it is. What a rule of a subject says of them that is not hers is kept under another name, as Prometheus does with
labels that clash, and leads nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pipelines.evidence.rules.model import Rule

ALERT, CLUSTER, NAMESPACE, OWNER, SEVERITY = "alertname", "cluster", "namespace", "owner", "severity"
NEVER_COLUMNS = (ALERT, OWNER)
"""Labels that no column of a row may set."""
NEVER_LABELS = (ALERT, CLUSTER, NAMESPACE, OWNER)
"""Labels that a rule's section `labels` may not set."""
Owns = Callable[[str | None, str | None], bool]
"""Whether a rule's subject owns a namespace of a cluster, or without a namespace sees anything of the cluster."""
EXPORTED = "exported_"
"""Begins the name under which a value is kept that a rule may not give to a reserved label."""


def settled(rule: Rule, labels: Mapping[str, str], owns: Owns) -> dict[str, str]:
    """Return the labels of an alert, given those of its row and of the rule's section `labels`, with the reserved ones set right."""
    found = {**labels, ALERT: rule.text.alert}
    if rule.subject is None:
        return found
    cluster, namespace = found.get(CLUSTER), found.get(NAMESPACE)
    if namespace is not None and not owns(cluster, namespace):
        _export(found, NAMESPACE)
    if cluster is not None and not owns(cluster, None):
        _export(found, CLUSTER)
    if SEVERITY in found and not may_have(rule, found[SEVERITY]):
        _export(found, SEVERITY)
    return {**found, OWNER: rule.subject}


def may_have(rule: Rule, severity: str) -> bool:
    """Whether a rule's alerts may have a severity: any if it was evaluated by a built-in."""
    return rule.severities is None or severity in rule.severities or (rule.call is not None and SEVERITY in rule.call.labels)


def _export(labels: dict[str, str], name: str) -> None:
    labels[EXPORTED + name] = labels.pop(name)
