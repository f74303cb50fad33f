"""CiliumNetworkPolicy and CiliumClusterwideNetworkPolicy: `spec`, `specs`, and the rules in them. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipelines.policy.cilium_peers import read_peers
from pipelines.policy.cilium_ports import read_icmps, read_ports
from pipelines.policy.labels import KUBERNETES, POD_NAMESPACE, RESERVED
from pipelines.policy.model import Action, Authentication, Direction, Rule
from pipelines.policy.peers import Peer
from pipelines.policy.ports import PortMatch
from pipelines.policy.reading import Reading
from pipelines.policy.refusals import AGENT, API_SERVER, Fields, Refused, check_selector
from pipelines.policy.selectors import Selector, SelectorDraft

KIND = "CiliumNetworkPolicy"
CLUSTERWIDE_KIND = "CiliumClusterwideNetworkPolicy"

_LISTS = (
    ("ingress", Direction.INGRESS, Action.ALLOW),
    ("ingressDeny", Direction.INGRESS, Action.DENY),
    ("egress", Direction.EGRESS, Action.ALLOW),
    ("egressDeny", Direction.EGRESS, Action.DENY),
)
_AUTHENTICATION_MODES = ("disabled", "required", "test-always-fail")


@dataclass(frozen=True)
class Spec:
    """A policy's `spec`, or one of its `specs`, while it is read."""

    reading: Reading
    fields: Fields
    subject: Selector
    selects_nodes: bool
    selects_init: bool
    """Whether the subject names pods that have no labels yet; peers are not limited to labelled pods then."""


def read(reading: Reading) -> list[Rule]:
    """The rules of one policy, namespaced or clusterwide.

    Raises:
        Refused: the API server or the agent would not take it.
    """
    manifest = Fields(reading.document.manifest, "")
    specs = [reading.spec] if manifest.has("spec") else []
    written = manifest.items("specs") or []
    for item, path in written:
        if not isinstance(item, Mapping):
            raise Refused(path.removeprefix("."), "must be a mapping", API_SERVER)
        specs.append(Fields(item, path.removeprefix(".")))
    if not specs:
        raise Refused("spec", "spec or specs must be specified", API_SERVER)
    return [rule for fields in specs for rule in _read_spec(reading, fields)]


def _read_spec(reading: Reading, fields: Fields) -> list[Rule]:
    lists = [key for key, _, _ in _LISTS]
    if not any(fields.has(key) for key in lists):
        raise Refused(fields.path, f"must have at least one of {', '.join(lists)}", API_SERVER)
    if not any(fields.items(key) for key in lists):
        raise Refused(fields.path, f"all of {', '.join(key for key in lists if fields.has(key))} are empty; at least one rule is needed")
    spec = _subject(reading, fields)
    defaults = fields.mapping("enableDefaultDeny")
    rules: list[Rule] = []
    for key, direction, action in _LISTS:
        wanted = defaults.boolean(direction.value)
        rules.extend(
            dataclasses.replace(rule, default_deny=wanted is not False)
            for index, item in enumerate(fields.mappings(key) or [])
            for rule in [_read_rule(spec, item, direction, action, index)]
        )
    return rules


def _subject(reading: Reading, fields: Fields) -> Spec:
    endpoints, nodes = fields.has("endpointSelector"), fields.has("nodeSelector")
    if endpoints == nodes:
        problem = "may not have both endpointSelector and nodeSelector" if endpoints else "must have endpointSelector or nodeSelector"
        raise Refused(fields.path, problem, API_SERVER)
    if nodes and reading.namespace:
        raise Refused(f"{fields.path}.nodeSelector", f"a {KIND} cannot select nodes; use a {CLUSTERWIDE_KIND}")
    selector = fields.mapping("nodeSelector" if nodes else "endpointSelector")
    draft = SelectorDraft.read(check_selector(selector, AGENT, with_source=True))
    selects_init = draft.names_key("init", RESERVED)
    if reading.namespace:
        draft.must_equal(KUBERNETES, POD_NAMESPACE, reading.namespace)
    return Spec(reading, fields, draft.build(), nodes, selects_init)


def _read_rule(spec: Spec, item: Fields, direction: Direction, action: Action, index: int) -> Rule:
    list_name = item.path[: item.path.rfind("[")].rpartition(".")[2]
    _check_requires(spec.reading, item)
    peers = read_peers(spec.reading, item, direction, selects_init=spec.selects_init, allows=action is Action.ALLOW)
    icmps = read_icmps(item)
    if item.items("icmps") and item.items("toPorts"):
        raise Refused(f"{item.path}.icmps", "may not be combined with toPorts; write a rule of its own for each")
    ports: list[PortMatch] | None = read_ports(spec.reading, item, direction, spec.selects_nodes, allows=action is Action.ALLOW)
    if icmps is not None:
        ports = icmps
    found: tuple[Peer, ...] | None = peers.peers
    if peers.everyone_with_ports and ports is not None:
        found = None
    return Rule(
        origin=spec.reading.origin(direction, index, f"{spec.fields.path}.{list_name}[{index}]"),
        direction=direction,
        action=action,
        subject=spec.subject,
        peers=found,
        ports=None if ports is None else spec.reading.agreed_ports(ports, direction),
        selects_nodes=spec.selects_nodes,
        authentication=_authentication(item) if action is Action.ALLOW else None,
    )


def _check_requires(reading: Reading, item: Fields) -> None:
    for key in ("fromRequires", "toRequires"):
        if item.items(key):
            if reading.settings.release.requires_must_be_empty:
                raise Refused(f"{item.path}.{key}", "must be empty since Cilium 1.19", API_SERVER)
            raise Refused(f"{item.path}.{key}", "is not supported; Cilium 1.19 removed it", API_SERVER)


def _authentication(item: Fields) -> Authentication | None:
    if not item.has("authentication"):
        return None
    mode: Any = item.mapping("authentication").text("mode")
    if mode not in _AUTHENTICATION_MODES:
        raise Refused(f"{item.path}.authentication.mode", f"{mode!r} is not one of {', '.join(_AUTHENTICATION_MODES)}", API_SERVER)
    return Authentication(mode)
