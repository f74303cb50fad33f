"""Effective drift: other policies that open what a blueprint's policies close, or close what they open. Pure.

A blueprint's policies close something if, alone, they deny it. It is opened if an end that no policy is about is let in: a pod of any
namespace, or any address outside of the cluster. So a rule for named clients opens nothing that a default deny is there to close.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address

from pipelines.audits.strangers import UNUSUAL_PORT, WORLD, stranger_pod
from pipelines.audits.workloads import Workload
from pipelines.policy.model import Action, Connection, Direction, Origin, Rule, Side
from pipelines.policy.peers import CidrPeer, NamePeer, Peer, UnknownPeer
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.ports import ICMP, PortMatch
from pipelines.policy.topology import world_side
from pipelines.policy.verdict import Decision, Verdict, decide

PolicyName = tuple[str, str, str]
"""Kind, namespace and name, as in `Origin`."""
_PEERS_TRIED = 20
"""How many workloads that a blueprint's rule admits are tried against a rule that denies."""


@dataclass(frozen=True)
class Defeat:
    """A rule that defeats a blueprint's policies at one workload."""

    rule: Rule
    workload: Workload
    against: tuple[Origin, ...]
    """The blueprint's rules that are without effect."""
    connection: Connection
    """One connection whose verdict is another one than by the blueprint alone."""

    @property
    def opens(self) -> bool:
        """Whether the rule opens what the blueprint closes; else it closes what the blueprint opens."""
        return self.rule.action is not Action.DENY

    @property
    def peer(self) -> str:
        """The other end of the connection as people call it."""
        side = self.connection.peer(self.rule.direction)
        return "every address outside of the cluster" if side.address is not None and self.opens else side.name


@dataclass
class Defeats:
    """What was found, and what could not be judged."""

    found: list[Defeat] = field(default_factory=list)
    undecided: dict[PolicyName, str] = field(default_factory=dict)
    """Policies whose effect is not known, with what is missing."""


def may_defeat(policies: PolicySet) -> bool:
    """Whether any rule could defeat a blueprint, wherever it stands: it denies, passes on, or lets a stranger in."""
    strangers = (*WORLD, stranger_pod(policies.settings.cluster_name))
    return any(rule.action is not Action.ALLOW or _unknown(rule) or _admitted(rule, strangers) for rule in policies.rules)


def defeats(blueprint: PolicySet, whole: PolicySet, others: Collection[PolicyName], workloads: Sequence[Workload]) -> Defeats:
    """Return where other policies defeat a blueprint's.

    Args:
        blueprint: the blueprint's policies alone.
        whole: the same with all other policies of the cluster.
        others: which of them are not the blueprint's.
        workloads: those that exist.
    """
    judge = _Judge(blueprint, whole, workloads)
    for rule in whole.rules:
        if _name(rule) in others and not rule.selects_nodes and rule.ports != ():
            judge.judge(rule)
    return judge.result


def _name(rule: Rule) -> PolicyName:
    return rule.origin.kind, rule.origin.namespace, rule.origin.name


class _Judge:
    def __init__(self, blueprint: PolicySet, whole: PolicySet, workloads: Sequence[Workload]) -> None:
        self._blueprint, self._whole, self._workloads = blueprint, whole, workloads
        self._strangers = (*WORLD, stranger_pod(whole.settings.cluster_name))
        self.result = Defeats()

    def judge(self, rule: Rule) -> None:
        """Try a rule at each workload that it selects."""
        admitted = _admitted(rule, self._strangers)
        for workload in self._workloads:
            if not rule.subject.matches(workload.labels):
                continue
            if rule.action is not Action.DENY:
                if _unknown(rule) and self._closes(rule.direction, workload):
                    self.result.undecided[_name(rule)] = "the CiliumCIDRGroups of the cluster"
                self._try(rule, workload, _connections(rule, workload, admitted), Verdict.DENIED, Verdict.ALLOWED)
            else:
                connections = (
                    connection
                    for own in self._blueprint.applicable(rule.direction, workload.labels).rules
                    if own.action is Action.ALLOW
                    for connection in _connections(own, workload, self._peers(own, rule))
                )
                self._try(rule, workload, connections, Verdict.ALLOWED, Verdict.DENIED)

    def _closes(self, direction: Direction, workload: Workload) -> bool:
        return bool(self._blueprint.applicable(direction, workload.labels).isolating)

    def _peers(self, own: Rule, rule: Rule) -> list[Side]:
        """Ends that a blueprint's rule is about and that another rule may deny."""
        tried = [*(side for peer in own.peers or () for side in _examples(peer)), *self._strangers]
        tried += [workload.side() for workload in self._workloads]
        return _admitted(rule, _admitted(own, tried))[:_PEERS_TRIED]

    def _try(self, rule: Rule, workload: Workload, connections: Iterator[Connection], alone: Verdict, together: Verdict) -> None:
        for connection in connections:
            before = decide(self._blueprint, rule.direction, connection)
            if before.verdict is not alone or (alone is Verdict.ALLOWED and not before.rules):
                continue
            after = decide(self._whole, rule.direction, connection)
            if after.verdict is together and self._is_due_to(rule, after):
                self.result.found.append(Defeat(rule, workload, before.rules, connection))
                return
            if after.verdict is Verdict.UNCERTAIN:
                self.result.undecided.setdefault(_name(rule), ", ".join(after.missing))

    @staticmethod
    def _is_due_to(rule: Rule, decision: Decision) -> bool:
        return rule.action is Action.PASS or rule.origin in decision.rules


def _unknown(rule: Rule) -> bool:
    """Whether a rule names groups of addresses that nobody knows, so that it may stand for every address."""
    return rule.action is Action.ALLOW and any(isinstance(one, UnknownPeer) and "CiliumCIDRGroup" in one.what for one in rule.peers or ())


def _admitted(rule: Rule, sides: Sequence[Side]) -> list[Side]:
    return [side for side in sides if rule.peers is None or any(peer.matches(side) is True for peer in rule.peers)]


def _examples(peer: Peer) -> Iterator[Side]:
    """Addresses that a peer stands for, where it names any."""
    if isinstance(peer, CidrPeer):
        for dual_stack in (False, True):
            yield world_side(str(peer.network.network_address), (), dual_stack=dual_stack)
    elif isinstance(peer, NamePeer) and "*" not in peer.pattern.text:
        for side in WORLD:
            yield replace(side, name=peer.pattern.text, address=ip_address("198.51.100.78"), names=(peer.pattern.text,))


def _connections(rule: Rule, workload: Workload, peers: Sequence[Side]) -> Iterator[Connection]:
    """Connections between a workload and ends that a rule matches, on the first port of each of its ranges."""
    ports = rule.ports if rule.ports is not None else (PortMatch("TCP"),)
    for peer in peers:
        source, destination = (peer, workload.side()) if rule.direction is Direction.INGRESS else (workload.side(), peer)
        for port in ports:
            number = port.first if (port.first, port.last) != (0, 65535) else UNUSUAL_PORT
            if port.name:
                named = (destination.named_ports or {}).get((port.protocol, port.name))
                if named is None:
                    continue
                number = named
            is_icmp = port.protocol in ICMP.values()
            yield Connection(source, destination, port.protocol, None if is_icmp else number, number if is_icmp else None)
