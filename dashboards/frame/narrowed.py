"""The filter bar on pages that show more than flows: which objects and clusters it is about, and links that narrow it further."""

from __future__ import annotations

from collections.abc import Sequence

from dashboards.frame import filters, url_state
from warehouse.questions.conditions import Condition


def link(*more: Condition | str, **changed: str | Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the parameters of a link to what matches the bar and further conditions.

    Where any of the bar's conditions is enough, they cannot be combined with others, so the further ones take their place.
    """
    shown = filters.chips()
    added = [str(condition) for condition in more]
    if added and url_state.get("match") == "any" and len(shown) > 1:
        return url_state.link(f=added, match=None, both=None, **changed)
    return url_state.link(f=list(dict.fromkeys([*map(str, shown), *added])), **changed)


def is_about(cluster: str, namespace: str | None = None) -> bool:
    """Return whether the bar is about a cluster, and about objects of a namespace in it.

    Its conditions on clusters and on namespaces, of either end, count; the others say nothing about objects. Without a
    namespace, the whole cluster is meant.
    """
    active = [chip.condition for chip in filters.chips() if chip.is_on]
    for field, value in (("cluster", cluster), ("ns", namespace)):
        if value is None:
            continue
        about = [condition for condition in active if condition.field == field]
        wanted = [condition for condition in about if not condition.is_negative]
        if wanted and not any(condition.allows(value) for condition in wanted):
            return False
        if not all(condition.allows(value) for condition in about if condition.is_negative):
            return False
    return True
