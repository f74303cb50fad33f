"""The metrics that a collector exposes to Prometheus. Counters are per cluster; nothing is labelled by namespace or pod."""

from __future__ import annotations

import contextlib

from prometheus_client import Counter, Gauge, Histogram

from collectors.hubble_api.flow import flow_pb2

_NEW = Counter("hindcast_flows_received", "Flows that were new", ["cluster"])
_DUPLICATE = Counter("hindcast_flows_duplicate", "Flows that were already stored: replays of relay and resumed streams", ["cluster"])
_LOST = Counter("hindcast_flows_lost", "Flows that Hubble reported as lost", ["cluster", "source"])
_REJECTED = Counter("hindcast_messages_rejected", "Messages that could not be read and were set aside", ["cluster"])
_OPENED = Counter("hindcast_streams_opened", "Streams that were opened", ["cluster"])
_CONNECTED = Gauge("hindcast_streams_connected", "Streams that are open now", ["cluster"])
_STANDING_BY = Gauge("hindcast_standing_by", "1 while another collector stores this cluster's flows", ["cluster"])
_LIVING = Gauge("hindcast_collectors", "Living collectors that share these clusters, with this one")
_HELD = Gauge("hindcast_clusters_collected", "Clusters, or parts of them, that this collector collects")
_INBOX = Gauge("hindcast_inbox_messages", "Messages received and not yet worked on", ["cluster"])
_LAST_FLOW = Gauge("hindcast_node_last_flow_timestamp_seconds", "Time of the last flow stored of a node", ["cluster", "node"])
_STORED = Counter("hindcast_flows_stored", "Flows committed to the lake", ["cluster"])
_SPOOL = Gauge("hindcast_spool_bytes", "Bytes of batches that wait for the lake")
_FLUSH = Histogram("hindcast_flush_seconds", "Time to write and commit a batch", buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30))
_FAILED = Counter("hindcast_flush_failures", "Flushes that the lake refused")


def flows_received(cluster: str, new: int, duplicates: int) -> None:
    """Count flows of one batch."""
    _NEW.labels(cluster).inc(new)
    _DUPLICATE.labels(cluster).inc(duplicates)


def flows_lost(cluster: str, source: int, count: int) -> None:
    """Count flows reported lost by a LostEvent."""
    name = flow_pb2.LostEventSource.Name(source) if source in flow_pb2.LostEventSource.values() else str(source)
    _LOST.labels(cluster, name).inc(count)


def messages_rejected(cluster: str, count: int) -> None:
    """Count messages set aside."""
    _REJECTED.labels(cluster).inc(count)


def streams_opened(cluster: str) -> None:
    """Count a stream."""
    _OPENED.labels(cluster).inc()


def streams(cluster: str, connected: int, *, standing_by: bool) -> None:
    """Show the streams of a cluster."""
    _CONNECTED.labels(cluster).set(connected)
    _STANDING_BY.labels(cluster).set(standing_by)


def shares(collectors: int, collected: int) -> None:
    """Show how the clusters are shared out."""
    _LIVING.set(collectors)
    _HELD.set(collected)


def inbox(cluster: str, messages: int) -> None:
    """Show how far the work is behind."""
    _INBOX.labels(cluster).set(messages)


def nodes(cluster: str, until_us: dict[str | None, int]) -> None:
    """Show each node's last stored flow."""
    for name, until in until_us.items():
        _LAST_FLOW.labels(cluster, name or "").set(until / 1e6)


def node_left(cluster: str, node: str | None) -> None:
    """Stop showing a node's last stored flow."""
    with contextlib.suppress(KeyError):  # none of its flows was stored
        _LAST_FLOW.remove(cluster, node or "")


def stored(cluster: str, flows: int) -> None:
    """Count flows committed."""
    _STORED.labels(cluster).inc(flows)


def flushed(seconds: float, *, failed: bool, spool_bytes: int) -> None:
    """Note a flush and the state of the spool."""
    _FLUSH.observe(seconds)
    _FAILED.inc(failed)
    _SPOOL.set(spool_bytes)
