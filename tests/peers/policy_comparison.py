"""Compares Hindcast's policy engine with Cilium's on random policies and probes, and counts what decided.

    python -m tests.peers.policy_comparison --probes 20000 --release 1.20 --seed 1
"""

import argparse
import collections
import dataclasses
import ipaddress
import json
import pathlib
import random
import subprocess
import sys
import typing

from pipelines.policy.model import Connection, Direction
from pipelines.policy.policy_set import PolicySet, compile_policies
from pipelines.policy.reading import CidrGroup, Document, Surroundings
from pipelines.policy.refusals import AGENT
from pipelines.policy.settings import AgentSettings, release_of
from pipelines.policy.verdict import Verdict, decide
from tests.peers import policy_generator, policy_world
from tests.peers.policy_constructs import note_constructs

GROUPS = [{"name": "partners", "labels": {"kind": "vpn"}, "cidrs": ["203.0.113.0/25", "198.51.100.0/28"]}]
PROBES_A_SCENARIO = 60
KINDS = ["NetworkPolicy", "CiliumNetworkPolicy", "CiliumNetworkPolicy", "CiliumClusterwideNetworkPolicy"]


class Oracle:
    """A running program that answers questions, one JSON line each."""

    def __init__(self, program: pathlib.Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Oracle":
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def ask(self, question: dict[str, typing.Any]) -> dict[str, typing.Any]:
        """The answer to a question; an AssertionError where the program could not answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        assert not answer.get("error"), answer["error"]
        return answer


@dataclasses.dataclass
class Probe:
    """A connection and the end whose policies are asked."""

    subject: policy_world.End
    peer: policy_world.End
    direction: Direction
    protocol: str
    port: int

    def connection(self) -> Connection:
        """As Hindcast's engine takes it."""
        ends = (self.peer, self.subject) if self.direction is Direction.INGRESS else (self.subject, self.peer)
        icmp = self.protocol.startswith("ICMP")
        return Connection(ends[0].side(), ends[1].side(), self.protocol, None if icmp else self.port, self.port if icmp else None)

    def question(self) -> dict[str, typing.Any]:
        """As the oracle takes it."""
        return {
            "subject": self.subject.number,
            "peer": self.peer.number,
            "ingress": self.direction is Direction.INGRESS,
            "protocol": policy_world.PROTOCOLS[self.protocol],
            "port": self.port,
        }


@dataclasses.dataclass
class Scenario:
    """Policies, settings and probes from one seed."""

    seed: int
    settings: AgentSettings
    dual_stack: bool
    ends: list[policy_world.End]
    manifests: list[dict[str, typing.Any]]
    probes: list[Probe]

    def compile(self) -> PolicySet:
        """The policies, compiled by Hindcast's engine."""
        groups = {one["name"]: CidrGroup(one["labels"], tuple(ipaddress.ip_network(text) for text in one["cidrs"])) for one in GROUPS}
        ports: dict[tuple[str, str], set[int]] = {}
        for end in self.ends:
            for name, number in end.ports.items():
                ports.setdefault(name, set()).add(number)
        known = Surroundings(groups, (), {name: frozenset(numbers) for name, numbers in ports.items()})
        return compile_policies([Document(one) for one in self.manifests], self.settings, known)

    def question(self, manifests: list[dict[str, typing.Any]]) -> dict[str, typing.Any]:
        """The scenario as the oracle takes it."""
        settings = {
            "policy_mode": self.settings.enable_policy,
            "cidr_match_mode": sorted(self.settings.policy_cidr_match_mode),
            "allow_localhost": self.settings.allow_localhost,
            "host_firewall": self.settings.enable_host_firewall,
            "node_selectors": self.settings.enable_node_selector_labels,
            "ipv4": True,
            "ipv6": self.dual_stack,
        }
        return {
            "cluster_name": "default",
            "any_cluster": self.settings.local_cluster is None,
            "settings": settings,
            "policies": manifests,
            "groups": GROUPS,
            "identities": [end.identity() for end in self.ends],
            "probes": [probe.question() for probe in self.probes],
        }


def scenario(seed: int, release: str, kinds: list[str]) -> Scenario:
    """The scenario of a seed."""
    chooser = random.Random(seed)
    dual_stack = chooser.random() < 0.25
    node_selectors = chooser.random() < 0.1
    settings = AgentSettings(
        release=release_of(release),
        enable_policy=chooser.choice(["default"] * 8 + ["always", "never"]),
        policy_cidr_match_mode=frozenset(
            chooser.choice([[]] * 8 + [["nodes"], ["nodes", "pods"] if release_of(release).version >= (1, 20) else []])
        ),
        policy_default_local_cluster=chooser.choice([None, None, None, False]),
        allow_localhost=chooser.random() < 0.85,
        enable_host_firewall=chooser.random() < 0.9,
        enable_node_selector_labels=node_selectors,
    )
    ends = policy_world.world(dual_stack=dual_stack, modes=settings.policy_cidr_match_mode)
    maker = policy_generator.Generator(seed, release=settings.release.version, dual_stack=dual_stack, node_selectors=node_selectors)
    manifests = maker.policies(kinds)
    subjects = [end for end in ends if end.is_subject]
    probes = []
    for _ in range(PROBES_A_SCENARIO):
        subject = chooser.choice(subjects)
        peer = chooser.choice([end for end in ends if end is not subject])
        protocol = chooser.choice(["TCP"] * 6 + ["UDP", "UDP", "SCTP", "ICMPv4", "ICMPv6"])
        port = chooser.choice([8, 13, 128]) if protocol.startswith("ICMP") else chooser.choice([*policy_generator.PORTS, 81, 1081])
        probes.append(Probe(subject, peer, chooser.choice(list(Direction)), protocol, port))
    return Scenario(seed, settings, dual_stack, ends, manifests, probes)


@dataclasses.dataclass
class Disagreement:
    """A probe or refusal on which the two engines differ."""

    scenario: Scenario
    probe: Probe | None
    text: str


@dataclasses.dataclass
class Report:
    """What a run compared."""

    probes: int = 0
    uncertain: int = 0
    refusals: int = 0
    disagreements: list[Disagreement] = dataclasses.field(default_factory=list)
    constructs: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    known: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    """Disagreements that are listed with their reason."""

    def summary(self) -> str:
        """What was compared, and how often each construct decided a verdict."""
        counts = ", ".join(f"{word} {count}" for word, count in sorted(self.constructs.items(), key=lambda pair: (-pair[1], pair[0])))
        return (
            f"{self.probes} probes, {self.uncertain} uncertain, {self.refusals} refused policies, "
            f"{len(self.disagreements)} disagreements, known ones {dict(self.known)}\ndecided by: {counts}"
        )


def compare(one: Scenario, oracle: Oracle, report: Report) -> None:
    """Ask both engines and note where they differ."""
    policies = one.compile()
    refused = {refusal.name: refusal for refusal in policies.refusals}
    sent = [manifest for manifest in one.manifests if not (name := refused.get(manifest["metadata"]["name"])) or name.by == AGENT]
    answer = oracle.ask(one.question(sent))
    for index, manifest in enumerate(sent):
        name = manifest["metadata"]["name"]
        theirs = answer["refused"].get(str(index))
        report.refusals += theirs is not None
        if (theirs is not None) != (name in refused):
            ours = str(refused[name]) if name in refused else "taken"
            report.disagreements.append(Disagreement(one, None, f"policy {name}: ours: {ours}; theirs: {theirs or 'taken'}"))
            return
    for probe, theirs in zip(one.probes, answer["verdicts"], strict=True):
        if theirs.get("error"):
            report.disagreements.append(Disagreement(one, probe, f"oracle: {theirs['error']}"))
            return
        ours = decide(policies, probe.direction, probe.connection())
        report.probes += 1
        note_constructs(report.constructs, ours, one.manifests, policies)
        if ours.verdict is Verdict.UNCERTAIN:
            report.uncertain += 1
        elif (ours.verdict is Verdict.ALLOWED) != theirs["allowed"]:
            said = "allowed" if theirs["allowed"] else "denied"
            text = f"{probe.subject.name} {probe.direction.value} with {probe.peer.name} {probe.protocol} {probe.port}: "
            text += f"ours {ours.verdict.value} ({ours.reason}); theirs {said} by {theirs['rules']!r} matched={theirs['matched']}"
            report.disagreements.append(Disagreement(one, probe, text))


Comparing = typing.Callable[[Scenario, Oracle, Report], None]


def shrink_with(compare: Comparing, one: Scenario, probe: Probe | None, oracle: Oracle) -> Scenario:
    """A smaller scenario on which the engines still differ: parts are left out as long as they do."""
    probes = [probe] if probe else one.probes
    found = dataclasses.replace(one, probes=probes)
    again = True
    while again:
        again = False
        for smaller in smaller_scenarios(found):
            report = Report()
            try:
                compare(smaller, oracle, report)
            except (AssertionError, ValueError, KeyError):
                continue
            if report.disagreements:
                found, again = smaller, True
                break
    return found


def smaller_scenarios(one: Scenario) -> typing.Iterator[Scenario]:
    """The scenario without one policy, or with one part of a policy left out."""
    for index, manifest in enumerate(one.manifests):
        rest = one.manifests[:index] + one.manifests[index + 1 :]
        if rest:
            yield dataclasses.replace(one, manifests=rest)
        for smaller in smaller_values(manifest):
            if smaller.get("metadata") == manifest["metadata"] and smaller.get("kind") == manifest["kind"]:
                yield dataclasses.replace(one, manifests=[*one.manifests[:index], smaller, *one.manifests[index + 1 :]])


def smaller_values(value: typing.Any) -> typing.Iterator[typing.Any]:
    """The value with one item or key left out anywhere."""
    if isinstance(value, dict):
        for key, below in value.items():
            yield {name: item for name, item in value.items() if name != key}
            for smaller in smaller_values(below):
                yield {**value, key: smaller}
    elif isinstance(value, list):
        for index, below in enumerate(value):
            yield value[:index] + value[index + 1 :]
            for smaller in smaller_values(below):
                yield [*value[:index], smaller, *value[index + 1 :]]


def run(program: pathlib.Path, release: str, probes: int, seed: int, kinds: list[str] | None = None, stop_after: int = 10) -> Report:
    """Compare with one of Cilium's engines until so many probes were asked, or so many disagreements were found."""
    return run_with(compare, lambda number: scenario(number, release, kinds or KINDS), program, probes, seed, stop_after)


def run_with(
    compare: Comparing, make: typing.Callable[[int], Scenario], program: pathlib.Path, probes: int, seed: int, stop_after: int
) -> Report:
    """Compare scenarios of one seed after the other; disagreements are made small."""
    report = Report()
    with Oracle(program) as oracle:
        while report.probes < probes and len(report.disagreements) < stop_after:
            compare(make(seed), oracle, report)
            seed += 1
        for one in report.disagreements[:stop_after]:
            small = shrink_with(compare, one.scenario, one.probe, oracle)
            one.text += f"\n  seed {small.seed} {small.settings}\n  {json.dumps(small.manifests)}"
    return report


def main(arguments: list[str]) -> int:
    """Run a comparison and print what it found; 1 when the engines differ."""
    parser = argparse.ArgumentParser(description="Compare policy engines.")
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--release", default="1.20")
    parser.add_argument("--probes", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kinds", nargs="*")
    parser.add_argument("--stop-after", type=int, default=10)
    options = parser.parse_args(arguments)
    report = run(options.program, options.release, options.probes, options.seed, options.kinds, options.stop_after)
    for one in report.disagreements:
        print(one.text)
    print(report.summary())
    return 1 if report.disagreements else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
