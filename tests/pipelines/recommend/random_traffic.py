"""Random observed edges, for properties that hold for every recommendation."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import strategies as st
from traffic import BEGIN, DAYS, edge, entity, outside, pod

from pipelines.policy.model import Direction, Side
from pipelines.recommend.observed import End, ObservedEdge, Seen

WORKLOADS = ("web", "web-canary", "cart", "Job_1")
_LABELS = st.dictionaries(
    st.sampled_from(["app", "app.kubernetes.io/name", "track", "tier", "pod-template-hash", "helm.sh/chart", "app.kubernetes.io/version"]),
    st.sampled_from(["web", "cart", "stable", "v1.2", "a"]),
    max_size=3,
)
_ADDRESSES = st.sampled_from(["203.0.113.7", "203.0.113.8", "2001:db8::1", "2001:db8::2", "198.51.100.1"])


@st.composite
def pods(
    draw: st.DrawFn, namespaces: tuple[str, ...] = ("shop", "data", "kube-system"), clusters: tuple[str, ...] = ("", "", "east")
) -> End:
    """A pod of a few workloads; the same workload may have different labels at different times."""
    namespace, workload = draw(st.sampled_from(namespaces)), draw(st.sampled_from(WORKLOADS))
    cluster = draw(st.sampled_from(clusters))
    return pod(namespace, workload, cluster=cluster, labels=draw(_LABELS), hidden=draw(st.integers(0, 9)) == 0)


@st.composite
def outsides(draw: st.DrawFn) -> End:
    """An address outside of the cluster, its name, its range, or neither."""
    names = tuple(draw(st.lists(st.sampled_from(["api.example.com", "Cdn.example.org.", "x_y.example.net"]), max_size=2, unique=True)))
    if draw(st.booleans()):
        return outside(draw(_ADDRESSES), *names, inferred=draw(st.booleans()))
    return outside("", *names, range=draw(st.sampled_from(["", "203.0.113.0/24", "2001:db8::/64"])))


NODES = st.sampled_from([("host",), ("remote-node",), ("kube-apiserver", "remote-node"), ("health",), ("ingress",), ("unmanaged",)])


@st.composite
def ends(draw: st.DrawFn) -> End:
    """Any end."""
    which = draw(st.integers(0, 9))
    if which < 6:
        return draw(pods())
    if which < 8:
        return draw(outsides())
    return entity(*draw(NODES)) if which == 8 else End(Side("hidden"))


@st.composite
def edges(draw: st.DrawFn) -> ObservedEdge:
    """An edge with a pod of the namespace `shop` at one end."""
    mine, other = draw(pods(("shop",), ("",))), draw(ends())
    source, destination = (mine, other) if draw(st.booleans()) else (other, mine)
    protocol = draw(st.sampled_from(["TCP", "TCP", "UDP", "SCTP", "ICMPv4", "ICMPv6", ""]))
    port = draw(st.sampled_from([53, 80, 443, 5353, 8080, 33000, None])) if not protocol.startswith("ICMP") else None
    icmp_type = draw(st.sampled_from([0, 3, 8, 128, None])) if protocol.startswith("ICMP") else None
    days = draw(st.integers(1, 5))
    return edge(
        source,
        destination,
        port,
        protocol,
        flows=draw(st.integers(1, 50)),
        days=frozenset(sorted(DAYS)[:days]),
        last_seen=BEGIN + timedelta(days=days),
        verdict=draw(st.sampled_from(["FORWARDED", "FORWARDED", "FORWARDED", "REDIRECTED", "AUDIT", "DROPPED", "TRACED"])),
        seen_at=frozenset(draw(st.lists(st.sampled_from(list(Direction)), unique=True))),
        icmp_type=icmp_type,
        is_reply=draw(st.integers(0, 9)) == 0,
    )


traffic = st.lists(edges(), max_size=25)
windows = st.sampled_from([timedelta(minutes=3), timedelta(days=2), timedelta(days=40)]).map(lambda length: Seen(BEGIN, BEGIN + length))
