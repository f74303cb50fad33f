"""Compares Hindcast's engine with that of kube-network-policies, which reads the policies as their texts say.

    python -m tests.peers.policy_text_comparison --program PROGRAM --probes 20000
"""

import argparse
import pathlib
import random
import sys
import typing

from pipelines.policy.model import Direction
from pipelines.policy.settings import AgentSettings, Semantics
from pipelines.policy.verdict import Verdict, decide
from tests.peers import policy_generator, policy_world
from tests.peers.policy_comparison import Disagreement, Oracle, Probe, Report, Scenario, run_with
from tests.peers.policy_constructs import note_constructs

KINDS = ["NetworkPolicy", "NetworkPolicy", "ClusterNetworkPolicy"]
PROBES_A_SCENARIO = 60

OTHER_DIRECTION = "a NetworkPolicy of the other direction"
KNOWN_DIFFERENCES = {
    OTHER_DIRECTION: (
        "A pod that a NetworkPolicy selects for the other direction only is not isolated in this one, and the text of ClusterNetworkPolicy "
        "evaluates the Baseline tier for pods that are not selected. The engine ends at any NetworkPolicy that selects the pod, whatever "
        "its policyTypes (pkg/networkpolicy/networkpolicy.go, EvaluateIngress and EvaluateEgress)."
    ),
}
"""Where the engines differ for a reason: what, and why, with the source."""


def scenario(seed: int) -> Scenario:
    """The scenario of a seed: pods and addresses, and policies as the API server stores them."""
    chooser = random.Random(seed)
    dual_stack = chooser.random() < 0.25
    settings = AgentSettings(semantics=Semantics.KUBERNETES)
    ends = [end for end in policy_world.world(dual_stack=dual_stack) if end.number > 100 and "kube-apiserver" not in "".join(end.labels)]
    ends = [end for end in ends if not end.name.startswith("other/")]
    maker = policy_generator.Generator(seed, release=(1, 20), dual_stack=dual_stack, node_selectors=False)
    manifests = [stored(manifest, place) for place, manifest in enumerate(maker.policies(KINDS))]
    subjects = [end for end in ends if end.is_subject]
    probes = []
    for _ in range(PROBES_A_SCENARIO):
        subject = chooser.choice(subjects)
        peer = chooser.choice([end for end in ends if end is not subject])
        port = chooser.choice([*policy_generator.PORTS, 81, 1081])
        probes.append(Probe(subject, peer, chooser.choice(list(Direction)), chooser.choice(["TCP", "TCP", "UDP", "SCTP"]), port))
    return Scenario(seed, settings, dual_stack, ends, manifests, probes)


def stored(manifest: dict[str, typing.Any], place: int) -> dict[str, typing.Any]:
    """A policy as the API server stores it (without empty lists, with protocols), with a priority of its own, and without names."""
    spec = manifest["spec"]
    for key, peers in (("ingress", "from"), ("egress", "to")):
        if not spec.get(key):
            spec.pop(key, None)
        for rule in spec.get(key, []):
            if any("domainNames" in peer for peer in rule.get(peers, [])):
                rule[peers] = [{"namespaces": {}}]
            for port in rule.get("ports", []):
                port.setdefault("protocol", "TCP")
            for name in [name for name, value in rule.items() if value == []]:
                del rule[name]
    if "priority" in spec:
        spec["priority"] = place
    return manifest


def question(one: Scenario) -> dict[str, typing.Any]:
    """The scenario as the engine takes it."""
    pods = []
    for end in one.ends:
        if not end.is_subject:
            continue
        labels = dict(text.removeprefix("k8s:").split("=", 1) for text in end.labels if not text.startswith("k8s:io."))
        ports = [{"name": name, "protocol": protocol, "port": port} for (protocol, name), port in end.ports.items()]
        namespace, _, name = end.name.partition("/")
        pods.append({"namespace": namespace, "name": name, "labels": labels, "address": end.address, "ports": ports})
    namespaces = {name: {"kubernetes.io/metadata.name": name, **labels} for name, labels in policy_world.NAMESPACES.items()}
    probes = []
    for probe in one.probes:
        ends = (probe.peer, probe.subject) if probe.direction is Direction.INGRESS else (probe.subject, probe.peer)
        ingress = probe.direction is Direction.INGRESS
        addresses = {"source": ends[0].address, "destination": ends[1].address}
        probes.append({**addresses, "protocol": probe.protocol, "port": probe.port, "ingress": ingress})
    return {"namespaces": namespaces, "pods": pods, "policies": one.manifests, "probes": probes}


def is_known(one: Scenario, probe: Probe) -> bool:
    """Whether a disagreement is the listed one: a Baseline rule, and a NetworkPolicy that isolates in the other direction only."""
    policies = one.compile()
    labels = probe.subject.side().subject
    other = Direction.EGRESS if probe.direction is Direction.INGRESS else Direction.INGRESS
    assert labels is not None
    here = policies.applicable(probe.direction, labels)
    there = policies.applicable(other, labels)
    return bool(there.isolating) and not here.isolating


def compare(one: Scenario, oracle: Oracle, report: Report) -> None:
    """Ask both engines and note where they differ."""
    policies = one.compile()
    if policies.refusals:
        report.disagreements.append(Disagreement(one, None, f"refused: {policies.refusals[0]}"))
        return
    answer = oracle.ask(question(one))
    for probe, allowed in zip(one.probes, answer["allowed"], strict=True):
        ours = decide(policies, probe.direction, probe.connection())
        report.probes += 1
        note_constructs(report.constructs, ours, one.manifests, policies)
        if (ours.verdict is Verdict.ALLOWED) == allowed:
            continue
        if is_known(one, probe):
            report.known[OTHER_DIRECTION] += 1
            continue
        text = f"{probe.subject.name} {probe.direction.value} with {probe.peer.name} {probe.protocol} {probe.port}: "
        text += f"ours {ours.verdict.value} ({ours.reason}); theirs {'allowed' if allowed else 'denied'}"
        report.disagreements.append(Disagreement(one, probe, text))


def run(program: pathlib.Path, probes: int, seed: int, stop_after: int = 5) -> Report:
    """Compare until so many probes were asked, or so many disagreements were found."""
    return run_with(compare, scenario, program, probes, seed, stop_after)


def main(arguments: list[str]) -> int:
    """Run a comparison and print what it found; 1 when the engines differ."""
    parser = argparse.ArgumentParser(description="Compare policy engines by the texts.")
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--probes", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    report = run(options.program, options.probes, options.seed)
    for one in report.disagreements:
        print(one.text)
    print(report.summary())
    return 1 if report.disagreements else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
