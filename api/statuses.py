"""What Hubble's clients ask besides flows: the server's status, its nodes, and namespaces. All of it as the caller may know it."""

from __future__ import annotations

import importlib.metadata
import time
from datetime import UTC, datetime, timedelta

from collectors.hubble_api.observer import observer_pb2
from collectors.hubble_api.relay import relay_pb2
from warehouse.access.principals import Principal
from warehouse.engine import Window
from warehouse.questions import flow_spans
from warehouse.questions.door import Door
from warehouse.questions.record_questions import Ledger, SizeOfLake
from warehouse.records.coverage import ALIVE, NodeCoverage
from warehouse.schema import FLOWS

LEAST_RATE = 1e-9
"""Told when no flows come: for a rate of zero `hubble status` divides all flows of the lake by the time that the server has run."""
RECENT = timedelta(hours=1)
"""How much of the past tells which nodes there are, and at which rate flows come."""
_BEGAN_NS = time.monotonic_ns()


def server_status(door: Door, principal: Principal) -> observer_pb2.ServerStatusResponse:
    """Return the status: the lake's flows for those who see everything, and what became of the nodes in the last hour."""
    found = _recent(door, principal)
    away = [node.node_name for node in found if not _is_connected(node)]
    status = observer_pb2.ServerStatusResponse(
        uptime_ns=time.monotonic_ns() - _BEGAN_NS,
        version=f"hindcast v{importlib.metadata.version('hindcast-flows')}",
        flows_rate=max(LEAST_RATE, sum(node.flows_received for node in found) / RECENT.total_seconds()),
        unavailable_nodes=away,
    )
    status.num_connected_nodes.value = len(found) - len(away)
    status.num_unavailable_nodes.value = len(away)
    if door.answer(principal, SizeOfLake()).files is not None:  # hidden from those who do not see everything
        status.num_flows = status.max_flows = status.seen_flows = door.lake.rows(FLOWS)
    return status


def nodes(door: Door, principal: Principal) -> observer_pb2.GetNodesResponse:
    """Return the nodes of the last hour."""
    made = observer_pb2.GetNodesResponse()
    for node in _recent(door, principal):
        state = relay_pb2.NODE_CONNECTED if _is_connected(node) else relay_pb2.NODE_UNAVAILABLE
        made.nodes.add(name=node.node_name, state=state, seen_flows=max(0, node.flows_received))
    return made


def namespaces(door: Door, principal: Principal) -> observer_pb2.GetNamespacesResponse:
    """Return the namespaces of the flows of the newest hour in the lake."""
    made = observer_pb2.GetNamespacesResponse()
    _, last = door.lake.span(FLOWS)
    if last is None:
        return made
    window = Window(since=last - RECENT, until=last + timedelta(seconds=1))
    for row in door.answer(principal, flow_spans.namespaces_of(window)).to_pylist():
        made.namespaces.add(cluster=row["cluster"], namespace=row["namespace"])
    return made


def _recent(door: Door, principal: Principal) -> list[NodeCoverage]:
    now = datetime.now(UTC)
    return list(door.answer(principal, Ledger(window=Window(since=now - RECENT, until=now))).coverage)


def _is_connected(node: NodeCoverage) -> bool:
    return node.last is not None and datetime.now(UTC) - node.last < ALIVE
