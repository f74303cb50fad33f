"""Audit controls under their published ids, each evaluated over one cluster as configuration history knows it. No I/O.

Controls look at objects: which pods policies select and which directions they close. Only BP-EFFECT asks whether traffic passes in the
end; `pipelines.blueprints.effect` answers it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from pipelines.blueprints import control_checks, control_dns
from pipelines.blueprints.control_view import ClusterView, Finding
from pipelines.blueprints.drift import STALE_AFTER, Drift
from pipelines.blueprints.effect import NEEDED as EFFECT_NEEDS
from pipelines.blueprints.effect import Effect
from pipelines.blueprints.render import Wanted
from pipelines.blueprints.state import ClusterState
from pipelines.policy.policy_set import READERS

EXAMPLES = 20
"""How many failing objects a result names."""
_POLICIES = ("NetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy")


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a control for a cluster; columns of the table `posture`."""

    control: str
    status: str
    checked: int | None = None
    failing: tuple[str, ...] = ()
    detail: str | None = None

    @property
    def failed(self) -> int | None:
        return None if self.checked is None else len(self.failing)


@dataclass(frozen=True, kw_only=True)
class Control:
    """A control: its id, and the kinds it needs. Its question is in `warehouse.records.posture.REQUIREMENTS`."""

    id: str
    also: tuple[str, ...] = ()
    """Other ids it is published under."""
    kinds: tuple[str, ...] = ()
    wanted_kinds: Callable[[Wanted], Collection[str]] = lambda _wanted: ()
    """Further kinds it needs if blueprints require them."""
    evaluate: Callable[[ClusterView], Finding] | None = None
    unevaluated: str = ""
    """Why the control is not evaluated; empty if it is."""


CONTROLS: tuple[Control, ...] = (
    Control(
        id="C-0206",
        also=("CIS 5.3.2", "C-0054", "C-0049"),
        kinds=("Namespace", *_POLICIES),
        evaluate=control_checks.own_policy,
    ),
    Control(id="C-0260", kinds=("Namespace", "PodLabels", *_POLICIES), evaluate=control_checks.selected),
    Control(
        id="C-0030",
        also=("NSA",),
        kinds=("Namespace", "PodLabels", *_POLICIES),
        evaluate=control_checks.isolated,
    ),
    Control(id="C-0299", kinds=("Namespace", "PodLabels", *_POLICIES), evaluate=control_checks.dangling),
    Control(
        id="C-0205",
        also=("CIS 5.3.1",),
        kinds=("ConfigMap", "CiliumAgents"),
        evaluate=control_checks.enforcing,
    ),
    Control(
        id="C-0041",
        kinds=("PodLabels", "CiliumClusterwideNetworkPolicy"),
        evaluate=control_checks.host_network,
    ),
    Control(
        id="NSA-NP",
        kinds=("Namespace", "ConfigMap", "CiliumAgents", *_POLICIES),
        evaluate=control_checks.separation,
    ),
    Control(
        id="KYV-DD",
        kinds=("Namespace", *_POLICIES),
        evaluate=control_checks.default_deny,
    ),
    Control(
        id="KYV-DNS",
        kinds=("Namespace", "PodLabels", *_POLICIES),
        evaluate=control_dns.dns,
    ),
    Control(
        id="KYV-EMPTY",
        kinds=("Namespace", "NetworkPolicy"),
        evaluate=control_checks.empty_selector,
    ),
    Control(id="KYV-REQ", kinds=("Namespace", "Deployment", "NetworkPolicy"), evaluate=control_checks.deployments),
    Control(id="GK", unevaluated="gatekeeper's library has no template for network policies"),
    Control(
        id="BP-OBJ",
        kinds=("Namespace",),
        wanted_kinds=lambda wanted: {key.kind for key in wanted.objects},
        evaluate=control_checks.blueprint_objects,
    ),
    Control(
        id="BP-EFFECT",
        kinds=EFFECT_NEEDS,
        wanted_kinds=lambda wanted: {key.kind for key in wanted.objects if key.kind in READERS},
        evaluate=control_checks.effective,
    ),
    Control(id="BP-INVALID", kinds=("CiliumNetworkPolicy",), evaluate=control_checks.rejected),
    Control(id="BP-CILIUM", kinds=("ConfigMap",), evaluate=control_checks.cilium_settings),
)
"""Every control, in the order of the published catalogue."""


def evaluate(
    state: ClusterState,
    wanted: Wanted,
    drifts: Sequence[Drift],
    *,
    stale_after: timedelta = STALE_AFTER,
    controls: Iterable[Control] = CONTROLS,
    effect: Effect | None = None,
) -> list[Result]:
    """Return the result of each control. A control whose kinds were not observed recently is unknown, never passed.

    `effect` is what became of the blueprints' policies, if the caller has judged it already.
    """
    cluster = ClusterView(state, wanted, drifts, effect)
    out = []
    for control in controls:
        if control.evaluate is None:
            out.append(Result(control=control.id, status="not_evaluated", detail=control.unevaluated))
            continue
        kinds = dict.fromkeys([*control.kinds, *sorted(control.wanted_kinds(wanted))])
        unseen = [kind for kind in kinds if not state.knows(kind, within=stale_after)]
        if unseen:
            out.append(Result(control=control.id, status="unknown", detail=f"not seen lately: {', '.join(unseen)}"))
            continue
        found = control.evaluate(cluster)
        failing = tuple(sorted(found.failing))
        if found.status is not None:
            out.append(Result(control=control.id, status=found.status, detail=found.detail))
            continue
        out.append(
            Result(control=control.id, status="fail" if failing else "pass", checked=found.checked, failing=failing, detail=found.detail)
        )
    return out
