"""Who can reach a workload by policy, against who did. Pure.

The dashboard's map calls `exposure` for *Observed / Allowed / Both*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from pipelines.policy.bulk import CODES, BulkJudge, Connections
from pipelines.policy.model import Side
from pipelines.policy.policy_set import PolicySet
from pipelines.policy.verdict import Verdict

Port = tuple[str, int]
"""Protocol and number."""


class Reached(StrEnum):
    """How policy and traffic agree on a connection."""

    OBSERVED = "observed"
    """It was seen, and the policies deny it or may deny it."""
    ALLOWED = "allowed"
    """The policies allow it, and it was not seen."""
    BOTH = "both"
    """The policies allow it, and it was seen."""
    UNCERTAIN = "uncertain"
    """It was not seen, and it is not known whether the policies allow it."""


@dataclass(frozen=True)
class Exposure:
    """One peer and port by which a workload was or can be reached."""

    target: int
    """Index of the workload among the targets."""
    peer: int
    """Index of the peer among the peers."""
    port: Port
    reached: Reached
    verdict: Verdict
    """At both ends: allowed, denied or uncertain."""
    flows: int = 0


def exposure(
    policies: PolicySet,
    targets: Sequence[Side],
    peers: Sequence[Side],
    ports: Sequence[Sequence[Port]],
    seen: Mapping[tuple[int, int, Port], int],
) -> list[Exposure]:
    """Return by whom each target can be reached and was reached, in the order of targets, peers and ports.

    Args:
        policies: the policies in force.
        targets: the workloads that are asked about.
        peers: the ends that may open connections: workloads, entities and addresses.
        ports: for each target, the ports on which it may be reached, such as those seen there and those that its rules name.
        seen: flows of connections that reached the target, by target, peer and port; a port that is not in `ports` is judged too.
    """
    asked_about = [target for target in range(len(targets)) if ports[target]]
    wanted = {(target, peer, port) for target in asked_about for peer in range(len(peers)) for port in ports[target]} | seen.keys()
    asked = sorted(wanted)
    if not asked:
        return []
    protocols = tuple(sorted({port[0] for _, _, port in asked}))
    columns = zip(*((len(targets) + peer, target, protocols.index(port[0]), port[1]) for target, peer, port in asked), strict=True)
    source, destination, protocol, number = (np.array(column, np.int64) for column in columns)
    judge = BulkJudge(policies, [*targets, *peers])
    codes = judge.judge(Connections(source, destination, protocol, number, protocols)).both
    found = []
    for place, code in zip(asked, codes, strict=True):
        verdict, flows = CODES[code], seen.get(place, 0)
        if verdict is Verdict.ALLOWED:
            found.append(Exposure(*place, Reached.BOTH if flows else Reached.ALLOWED, verdict, flows))
        elif flows:
            found.append(Exposure(*place, Reached.OBSERVED, verdict, flows))
        elif verdict is Verdict.UNCERTAIN:
            found.append(Exposure(*place, Reached.UNCERTAIN, verdict))
    return found
