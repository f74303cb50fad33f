"""Which labels a policy selects pods by: identity-relevant, stable, and as few as tell the workload from others. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pipelines.policy.labels import KUBERNETES, SERVICE_ACCOUNT, LabelSet, parse_label
from pipelines.policy.topology import is_identity_relevant

Labels = tuple[tuple[str, str], ...]
"""Keys and values, sorted by key; keys without a source."""

_PREFERRED = ("app.kubernetes.io/name", "app.kubernetes.io/component", "app", "k8s-app", "component", "role", "tier", "name")
_CHANGING = re.compile(
    r"(?i)(^|[-._/])(version|chart|instance|hash|revision|release|heritage|managed-by|commit|sha|build|checksum|uid|"
    r"generation|index|job-name|pod-name|timestamp|date)($|[-._])"
)
"""Keys of labels that change from one release, installation or pod to the next."""
_CHANGING_VALUE = re.compile(r"v?\d+(\.\d+)+([-+.].*)?|(?=[0-9a-f]*\d)[0-9a-f]{8,}")
"""Values that look like a version or a hash."""
_INTERNAL = ("io.cilium.k8s.", "io.kubernetes.")


def stable_labels(labels: LabelSet) -> dict[str, str]:
    """The labels of a pod that a policy may select by.

    Left out are labels of the namespace and the agent's own, those outside of the agent's identity filter, and those that
    change with a release, an installation or a pod, such as version, chart, instance and hash.
    """
    found: dict[str, str] = {}
    for text in labels.texts:
        source, key, value = parse_label(text)
        if source != KUBERNETES or key.startswith(_INTERNAL) or not is_identity_relevant(key) or not value:
            continue
        if not _CHANGING.search(key) and not _CHANGING_VALUE.fullmatch(value):
            found[key] = value
    return found


def choose(own: Iterable[LabelSet], others: Iterable[LabelSet]) -> Labels:
    """The fewest stable labels that all of a workload's label sets have, and that tell them from the others.

    The usual names of applications come first. Where no label tells them apart, the selector matches some of the others as
    well. Empty when there is no stable label.
    """
    sets = list(own)
    common = set.intersection(*(set(stable_labels(one).items()) for one in sets)) if sets else set()
    candidates = sorted(common, key=lambda pair: (_PREFERRED.index(pair[0]) if pair[0] in _PREFERRED else len(_PREFERRED), pair))
    if not candidates:
        return ()
    chosen = [candidates.pop(0)]
    rest = [one for one in others if one not in sets and matches(chosen, one)]
    for pair in candidates:
        narrower = [one for one in rest if matches([pair], one)]
        if len(narrower) < len(rest):
            chosen.append(pair)
            rest = narrower
    return tuple(sorted(chosen))


def service_account(own: Iterable[LabelSet]) -> str:
    """The service account that all label sets share; empty when there is none."""
    found = {one.get(KUBERNETES, SERVICE_ACCOUNT) for one in own}
    return (found.pop() or "") if len(found) == 1 else ""


def matches(labels: Iterable[tuple[str, str]], found: LabelSet) -> bool:
    """Whether a label set has all of these labels."""
    return all(found.get("any", key) == value for key, value in labels)
